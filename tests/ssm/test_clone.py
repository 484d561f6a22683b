"""A planner carries a copy of a state forward; the state it was copied from never changes, nor what follows it."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.numba.jit import kernel
from emp.core.records import FORECAST
from emp.engine.choose import load_model
from emp.model.port import forecast
from emp.model.table import StateTable
from tests.ssm.nets import IMPLS, inputs, network, packed

SMALL = {"d_model": 16, "layers": 2, "d_state": 8, "headdim": 8, "attention_heads": 2, "window": 8}


@kernel
def carry(params, state, x, out):
    for t in range(x.shape[0]):
        forecast(params, state, 0, x[t], out[t])


@cache
def model(kind):
    """Parameters and size of the state."""
    built = load_model("linear") if kind == "linear" else packed(network(kind, **SMALL))
    return built.params, built.state_size


def steps(kind, state, n, seed):
    """Carry a state over n random inputs; return what was said."""
    out = np.zeros(n, FORECAST)
    carry(model(kind)[0], state, inputs(n, seed), out)
    return out.tobytes()


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["linear", *IMPLS]),
    before=st.integers(0, 60),
    ahead=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
    row=st.integers(0, 2),
)
def test_stepping_clones_leaves_the_table_bit_equal(kind, before, ahead, seed, row):
    table = StateTable(3, model(kind)[1], "a" * 64)
    untouched = StateTable(3, model(kind)[1], "a" * 64)
    for each in (table, untouched):
        for k in range(3):
            steps(kind, each.rows[k], before, seed + k)
    kept = table.rows.tobytes()
    for k, n in enumerate(ahead):
        clone = table.clone_state(row)
        assert not np.shares_memory(clone, table.rows)
        steps(kind, clone, n, seed + 100 + k)
        twin = table.clone_state(row)
        clone[:] = twin
        assert steps(kind, clone, n, seed) == steps(kind, twin, n, seed), "equal states go equal ways"
        assert table.rows.tobytes() == kept
    assert steps(kind, table.rows[row], 20, seed) == steps(kind, untouched.rows[row], 20, seed)
    assert table.rows.tobytes() == untouched.rows.tobytes()


@pytest.mark.parametrize("kind", IMPLS)
def test_a_step_does_change_the_state_it_is_given(kind):
    state = StateTable(1, model(kind)[1], "a" * 64).clone_state(0)
    steps(kind, state, 1, 0)
    assert state.any()
