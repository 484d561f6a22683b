"""Searches ahead, timed inside compiled code, and what their actions lose against the exact values of random trees."""

from collections.abc import Callable
from typing import Any

import numpy as np

from emp.app.bench.stopwatch import Stopwatch
from emp.core.ids import generator
from emp.core.numba.jit import kernel, monotonic_ns
from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.plan.gumbel import gumbel_search, new_tree
from emp.plan.search import best_action, look_ahead, nodes_to, workspace
from emp.plan.transition import TransitionModel, pack

ACTIONS = 3
STATE, HIDDEN = 16, 32
"""Numbers of a state and hidden units of the model that is searched; its weights are drawn."""
CASES = {"depth3": (2, 3), "depth2_four_outcomes": (4, 2), "depth3_four_outcomes": (4, 3)}
"""(outcomes, depth)."""
SIMULATIONS = (8, 16, 32, 64)
TREES = 200
"""Random trees over which a search's loss is told."""
DEPTH = 3
"""To which all search, and whose exact values tell what is lost."""
COMPARED = (1, 4)
"""Outcomes of an action in the trees that others search too."""

Way = tuple[int, str, int]
"""(outcomes, "depth" or "gumbel", depth or simulations)."""

Round = Callable[[], None]


@kernel
def _nth(stack: Any, i: int) -> Any:
    return TransitionModel(
        stack.w1[i],
        stack.b1[i],
        stack.action[i],
        stack.w2[i],
        stack.b2[i],
        stack.value_hidden[i],
        stack.value[i],
        stack.value_bias[i],
        stack.outcomes,
        stack.discount,
    )


@kernel
def _time_full(stack: Any, states: Any, depth: int, work: Any, clock: Any, took: Any) -> None:
    from_ns = monotonic_ns(clock)
    for i in range(took.size):
        t = i % len(states)
        look_ahead(_nth(stack, t), states[t], depth, 0, work)
        now = monotonic_ns(clock)
        took[i] = now - from_ns
        from_ns = now


@kernel
def _time_gumbel(
    stack: Any, states: Any, simulations: int, rng: Any, allowed: Any, tree: Any, clock: Any, took: Any
) -> None:
    from_ns = monotonic_ns(clock)
    for i in range(took.size):
        t = i % len(states)
        gumbel_search(_nth(stack, t), states[t], allowed, simulations, ACTIONS, DEPTH, 1.0, rng, tree)
        now = monotonic_ns(clock)
        took[i] = now - from_ns
        from_ns = now


def measure(searches: int, rounds: int, others: Round = lambda: None) -> dict[str, Any]:
    """The result of `emp bench plan`; an unmeasured round that compiles goes first, `others` have a turn after each.

    Each search is of the next of the random trees. `ways` in the result has the microseconds and the loss of every way
    of ours to search those of `COMPARED`.
    """
    stacks = {c: stacked(c) for c in {*COMPARED, *(c for c, _ in CASES.values())}}
    full = {*CASES.values(), *((c, depth) for c in COMPARED for depth in range(1, DEPTH + 1))}
    works = {(c, depth): workspace(drawn_model(c), depth) for c, depth in full}
    trees = {(c, n): new_tree(drawn_model(c), n, DEPTH) for c in COMPARED for n in SIMULATIONS}
    clock, allowed, rng = np.zeros(2, np.int64), np.ones(ACTIONS, np.bool_), seeded(0, "plan")
    best: dict[Way, Array] = {}
    cpu: dict[tuple[int, int], float] = {}
    for turn in range(rounds + 1):
        took = np.zeros(searches if turn else 1, np.int64)
        for (c, depth), work in works.items():
            with Stopwatch() as watch:
                _time_full(*stacks[c], depth, work, clock, took)
            if turn:
                _keep_best(best, (c, "depth", depth), took)
                cpu[c, depth] = min(cpu.get((c, depth), np.inf), watch.cpu_s / searches)
        for (c, n), tree in trees.items():
            _time_gumbel(*stacks[c], n, rng, allowed, tree, clock, took)
            if turn:
                _keep_best(best, (c, "gumbel", n), took)
        if turn:
            others()
    us = {way: _quantiles(took) for way, took in best.items()}
    result: dict[str, Any] = {f"{name}_us": us[c, "depth", depth] for name, (c, depth) in CASES.items()}
    for name, (c, depth) in CASES.items():
        result[f"{name}_nodes_per_s"] = round((nodes_to(drawn_model(c), depth) - 1) / cpu[c, depth])
    result["nodes_per_s"] = result["depth3_nodes_per_s"]
    loss = {c: losses(SIMULATIONS, TREES, c) for c in COMPARED}
    result["ways"] = [
        {"outcomes": c, "search": how, "n": n, "us": us[c, how, n], "loss": round(loss[c][how, n], 4)}
        for c in COMPARED
        for how, n in loss[c]
    ]
    result["clock"] = "wall time of a search; states per second of thread CPU time"
    return result


def drawn_model(outcomes: int, seed: int = 0) -> TransitionModel:
    """A model of three actions with drawn weights."""
    rng = generator(seed, "plan", outcomes)

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, 0.5, shape)

    return pack(
        w1=draw(STATE, HIDDEN),
        b1=draw(HIDDEN),
        action=draw(ACTIONS, HIDDEN),
        change=draw(outcomes, HIDDEN, STATE) * 0.3,
        change_bias=draw(outcomes, STATE) * 0.3,
        logits=draw(HIDDEN, outcomes),
        logits_bias=draw(outcomes),
        rewards=draw(HIDDEN, outcomes),
        rewards_bias=draw(outcomes),
        value_hidden=draw(HIDDEN),
        value=draw(HIDDEN),
        value_bias=0.0,
        policy=draw(HIDDEN, ACTIONS),
        policy_bias=draw(ACTIONS),
    )


def drawn_tree(outcomes: int, seed: int) -> tuple[TransitionModel, Array]:
    """A model and the float32 state that a search of it begins with."""
    state = generator(seed, "state").normal(size=STATE).astype(np.float32)
    return drawn_model(outcomes, seed + 1), state


def stacked(outcomes: int) -> tuple[TransitionModel, Array]:
    """All trees of a kind: a model whose arrays have an axis of trees first, and the states [trees, S]."""
    drawn = [drawn_tree(outcomes, seed) for seed in range(TREES)]
    first = drawn[0][0]
    arrays: dict[str, Any] = {
        name: np.stack([getattr(model, name) for model, _ in drawn])
        for name in first._fields
        if name not in ("outcomes", "discount")
    }
    return first._replace(**arrays), np.stack([state for _, state in drawn])


def action_values(model: TransitionModel, state: Array, depth: int) -> Array:
    """What each action is worth to a depth: float64[A]."""
    work = workspace(model, depth)
    look_ahead(model, state, depth, 0, work)
    return work.q.astype(np.float64)


def losses(simulations: tuple[int, ...], trees: int, outcomes: int = 4) -> dict[tuple[str, int], float]:
    """Loss of the action that a search without noise takes, over that of one at random, by ("depth" | "gumbel", n)."""
    ways = [*(("depth", d) for d in range(1, DEPTH + 1)), *(("gumbel", n) for n in simulations)]
    taken: dict[tuple[str, int], list[int]] = {way: [] for way in ways}
    allowed, rng = np.ones(ACTIONS, np.bool_), seeded(1, "plan")
    for seed in range(trees):
        model, state = drawn_tree(outcomes, seed)
        for how, n in ways:
            if how == "depth":
                action = best_action(action_values(model, state, n), allowed)
            else:
                tree = new_tree(model, n, DEPTH)
                action = gumbel_search(model, state, allowed, n, ACTIONS, DEPTH, 0.0, rng, tree)
            taken[how, n].append(action)
    exact = exact_values(trees, outcomes)
    return {way: loss_of(actions, exact) for way, actions in taken.items()}


def exact_values(trees: int, outcomes: int) -> Array:
    """What each action of the first trees is worth: float64[trees, A]."""
    return np.array([action_values(*drawn_tree(outcomes, seed), DEPTH) for seed in range(trees)])


def loss_of(actions: list[int], exact: Array) -> float:
    """What actions are worth less than the best, over what one at random is."""
    best = exact.max(axis=1)
    return float((best - exact[np.arange(len(exact)), actions]).sum() / (best - exact.mean(axis=1)).sum())


def _keep_best(best: dict[Way, Array], way: Way, took: Array) -> None:
    if way not in best or np.median(took) < np.median(best[way]):
        best[way] = took.copy()


def _quantiles(ns: Array) -> dict[str, float]:
    return {f"p{round(100 * q)}": round(float(np.quantile(ns, q)) / 1e3, 1) for q in (0.5, 0.99)}
