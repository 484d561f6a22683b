"""The compiled searches against recursion over the same formulas in plain Python, and against a tree done by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.numba.rng import seeded
from emp.plan.gumbel import gumbel_search, new_tree
from emp.plan.search import best_action, look_ahead, nodes_to, workspace
from emp.plan.transition import TransitionModel, pack
from tests.plan.models import golden_tree, plain_values, random_weights

BUDGET_NS = 3_600 * 10**9


def _edges(model: TransitionModel, depth: int) -> int:
    return nodes_to(model, depth - 1) * len(model.action)


@pytest.mark.parametrize(("depth", "expected"), [(1, [3.5, 0.0]), (2, [2.0, 4.0])])
def test_golden_tree(depth: int, expected: list[float]) -> None:
    model, root = golden_tree()
    work = workspace(model, 2)
    assert look_ahead(model, root, depth, 0, work) == depth
    np.testing.assert_allclose(work.q, expected, atol=1e-6)
    tree = new_tree(model, _edges(model, depth), depth)
    allowed = np.ones(2, np.bool_)
    chosen = gumbel_search(
        model, root, allowed, _edges(model, depth), 2, depth, 0.0, seeded(0, "golden"), tree
    )
    np.testing.assert_allclose(tree.edges[0]["q"], expected, atol=1e-6)
    assert chosen == best_action(work.q, allowed) == int(np.argmax(expected))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from([3, 16, 17]),
)
def test_full_width_and_gumbel_reach_the_exact_values(
    seed: int, actions: int, outcomes: int, depth: int, s: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = random_weights(rng, actions, outcomes, s, s + 2)
    model, state = pack(**weights), rng.normal(size=s).astype(np.float32)
    depth = depth if (actions * outcomes) ** depth < 2_500 else 2
    expected = plain_values(weights, state.astype(np.float64), depth)
    work = workspace(model, depth)
    assert look_ahead(model, state, depth, 0, work) == depth
    np.testing.assert_allclose(work.q, expected, rtol=2e-4, atol=2e-4)
    simulations = _edges(model, depth)
    tree = new_tree(model, simulations, depth)
    allowed = np.ones(actions, np.bool_)
    gumbel_search(model, state, allowed, simulations, actions, depth, 1.0, seeded(seed, "g"), tree)
    np.testing.assert_allclose(tree.edges[0]["q"], expected, rtol=2e-4, atol=2e-4)
    assert tree.nodes[0]["done"] == 1


def test_gumbel_regret_falls_with_simulations() -> None:
    """On 80 random trees the action that few simulations choose loses more than the one that many do."""
    loss = dict.fromkeys((3, 16, 128), 0.0)
    for seed in range(80):
        rng = np.random.default_rng(seed)
        model = pack(**random_weights(rng, 3, 4))
        state = rng.normal(size=5).astype(np.float32)
        work = workspace(model, 3)
        look_ahead(model, state, 3, 0, work)
        for n in loss:
            tree = new_tree(model, n, 3)
            chosen = gumbel_search(model, state, np.ones(3, np.bool_), n, 3, 3, 0.0, seeded(seed, "g"), tree)
            loss[n] += float(work.q.max() - work.q[chosen])
    assert loss[128] < loss[16] < loss[3]


def test_nothing_that_is_given_changes_and_a_search_is_repeated_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    model, state = pack(**random_weights(rng, 3, 2)), rng.normal(size=5).astype(np.float32)
    before = [a.tobytes() for a in (*model[:8], state)]
    work, other = workspace(model, 3), workspace(model, 3)
    look_ahead(model, state, 3, 0, work)
    look_ahead(model, rng.normal(size=5).astype(np.float32), 3, 0, other)  # leaves its marks in the room
    look_ahead(model, state, 3, 0, other)
    assert work.q.tobytes() == other.q.tobytes()
    allowed = np.array([True, False, True])
    trees = [new_tree(model, 40, 3) for _ in range(2)]
    chosen = [
        gumbel_search(model, state, allowed, 40, 3, 3, 1.0, seeded(9, "g"), tree)
        for tree in (*trees, trees[0])
    ]
    assert len(set(chosen)) == 1
    assert chosen[0] in (0, 2)
    assert trees[0].edges[0].tobytes() == trees[1].edges[0].tobytes()
    assert trees[0].edges[0]["visits"][1] == 0
    assert [a.tobytes() for a in (*model[:8], state)] == before


def test_a_budget_stops_between_depths_and_the_depth_alone_repeats_the_answer() -> None:
    rng = np.random.default_rng(4)
    model, state = pack(**random_weights(rng, 3, 4)), rng.normal(size=5).astype(np.float32)
    work, again = workspace(model, 3), workspace(model, 3)
    assert look_ahead(model, state, 3, 1, work) == 1  # no time at all: the first depth is whole all the same
    assert look_ahead(model, state, 1, 0, again) == 1
    assert work.q.tobytes() == again.q.tobytes()
    assert look_ahead(model, state, 3, BUDGET_NS, work) == 3
    for budget in (
        5_000,
        20_000,
        80_000,
        320_000,
    ):  # whatever depth the machine's pace allows, it can be repeated
        reached = look_ahead(model, state, 3, budget, work)
        assert look_ahead(model, state, reached, 0, again) == reached
        assert work.q.tobytes() == again.q.tobytes()


def test_an_action_that_is_not_allowed_is_not_chosen() -> None:
    q = np.array([1.0, 3.0, 2.0], np.float32)
    assert best_action(q, np.array([True, True, True])) == 1
    assert best_action(q, np.array([True, False, True])) == 2
    assert best_action(q, np.zeros(3, np.bool_)) == -1


def test_a_model_without_outcomes_or_with_too_many_actions_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="16 actions"):
        pack(**random_weights(rng, 16, 2))
    with pytest.raises(ValueError, match="0 outcomes"):
        pack(**random_weights(rng, 2, 0))
