"""The compiled step computes the trained network, without allocating, the same bits every time."""

import numpy as np
import pytest
import torch
from numba.core.runtime import _nrt_python as nrt

from emp.core.records import FORECAST
from emp.model.build_ssm import TEMPERATURE
from emp.model.calibration import ISOTONIC, QUARTILES
from emp.model.ssm_config import layout
from emp.model.table import StateTable
from emp.train.fit.calibration import apply_table, softmax
from emp.train.fit.rollout import serve_all
from emp.train.net.network import read_outputs
from tests.ssm.nets import IMPLS, calibration, inputs, network, packed

EVENTS = 10_000


def run(params, state, domain, x, out, raw):
    serve_all(params, state, domain, x, np.zeros(len(x), np.int64), out, raw)


def serve(built, x, state, domain=1):
    out, raw = np.zeros(len(x), FORECAST), np.zeros((len(x), 48), np.float32)
    run(built.params, state, domain, x, out, raw)
    return out, raw


def row(built):
    return StateTable(1, built.state_size, "0").rows[0]


@torch.no_grad()
def reference(net, x, state=None, domain=1):
    """Forecast fields of the torch network in double precision, and the state after."""
    net = net.double()
    start = None if state is None else torch.from_numpy(state[None].astype(np.float64))
    carried = net(torch.from_numpy(x[None].astype(np.float64)), start, torch.tensor([domain]))
    outputs, after = read_outputs(carried.raw[0]), carried.state
    kept = calibration()
    p = softmax(outputs.logits.numpy(), kept[TEMPERATURE][domain].astype(np.float64)[:, None])
    for h, table in enumerate(kept[ISOTONIC][domain]):
        p[:, h] = apply_table(table, p[:, h]) if table.any() else p[:, h]
    follow, rest = kept[QUARTILES][domain].astype(np.float64).T[..., None]
    q = follow * outputs.quantiles.numpy() + rest * np.array([-1.0, 0.0, 1.0])
    fields = {"p": p, "q": q, "mean": outputs.mean.numpy(), "big": outputs.big.numpy()}
    return fields, after[0].numpy()


def worst(got, want):
    """Largest error relative to the value, or to the output's usual size where the value is smaller."""
    return float((np.abs(got - want) / (np.abs(want) + want.std(axis=0))).max())


@pytest.mark.parametrize("impl", IMPLS)
def test_every_output_over_10000_events_is_that_of_the_network(impl):
    net = network(impl)
    built = packed(net)
    x, state = inputs(EVENTS), row(built)
    out, raw = serve(built, x, state)
    want, after = reference(net, x)
    for name in ("p", "q", "mean"):
        assert worst(out[name], want[name]) < 1e-4, name
    assert worst(raw[:, 42:], want["big"]) < 1e-4
    for name, part in layout(built.config).items():
        a, b = state[part.at : part.at + part.size], after[part.at : part.at + part.size]
        if name.endswith("phi"):
            a, b = np.exp(1j * a), np.exp(1j * b)
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max(), name


@pytest.mark.parametrize("impl", IMPLS)
def test_shared_heads_with_a_scale_and_an_offset_per_domain(impl):
    net = network(impl, heads_kind="shared", d_model=16, layers=2, d_state=8, headdim=16, features=24)
    built = packed(net)
    x = inputs(500)
    for domain in range(2):
        out, _ = serve(built, x, row(built), domain=domain)
        want, _ = reference(net, x, domain=domain)
        for name in ("p", "q", "mean"):
            assert worst(out[name], want[name]) < 1e-4, name


@pytest.mark.parametrize("impl", IMPLS)
def test_the_step_takes_over_a_state_from_training_at_any_event(impl):
    net = network(impl, seed=1)
    built = packed(net)
    x = inputs(777, seed=1)
    want, _ = reference(net, x)
    _, after = reference(net, x[:500])
    state = row(built)
    state[:] = after
    out, _ = serve(built, x[500:], state)
    assert worst(out["mean"], want["mean"][500:]) < 1e-4
    assert worst(out["p"], want["p"][500:]) < 1e-4


@pytest.mark.parametrize("impl", IMPLS)
def test_quantiles_never_cross_and_probabilities_sum_to_one(impl):
    built = packed(network(impl, seed=2))
    out, _ = serve(built, 5.0 * inputs(2000, seed=2), row(built))
    assert (np.diff(out["q"], axis=-1) >= 0.0).all()
    np.testing.assert_allclose(out["p"].sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_the_step_allocates_nothing_and_repeats_bit_by_bit(impl):
    built = packed(network(impl))
    x = inputs(300)
    first, _ = serve(built, x, row(built))
    out, raw = np.zeros(300, FORECAST), np.zeros((300, 48), np.float32)
    nrt.memsys_enable_stats()
    try:
        counts = []
        for n in (1, 300):
            state = row(built)
            before = nrt.memsys_get_stats_alloc()
            run(built.params, state, 1, x[:n], out, raw)
            counts.append(nrt.memsys_get_stats_alloc() - before)
    finally:
        nrt.memsys_disable_stats()
    assert counts[0] == counts[1]
    assert out.tobytes() == first.tobytes()


@pytest.mark.parametrize("impl", IMPLS)
def test_domains_have_their_own_heads(impl):
    built = packed(network(impl))
    x = inputs(20)
    a, _ = serve(built, x, row(built), domain=0)
    b, _ = serve(built, x, row(built), domain=1)
    assert not np.allclose(a["mean"], b["mean"])
    want, _ = reference(network(impl), x, domain=0)
    assert worst(a["p"], want["p"]) < 1e-4


def test_a_cloned_state_runs_ahead_without_touching_the_table():
    built = packed(network("mamba3"))
    table = StateTable(2, built.state_size, "a" * 64)
    serve(built, inputs(50), table.rows[1])
    kept = table.rows.tobytes()
    ahead = table.clone_state(1)
    serve(built, inputs(50, seed=3), ahead)
    assert table.rows.tobytes() == kept
    assert ahead.tobytes() != table.rows[1].tobytes()


def test_rows_of_the_state_table_start_on_a_cache_line_and_lie_together():
    built = packed(network("mamba3"))
    table = StateTable(3, built.state_size, "a" * 64)
    assert all(row.ctypes.data % 64 == 0 for row in table.rows)
    assert table.rows.flags.c_contiguous
