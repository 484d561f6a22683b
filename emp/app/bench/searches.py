"""Searches ahead, timed inside compiled code, and what their actions lose against the exact values of random trees."""

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


@kernel
def _time_full(model: Any, states: Any, depth: int, work: Any, clock: Any, took: Any) -> None:
    from_ns = monotonic_ns(clock)
    for i in range(took.size):
        look_ahead(model, states[i % len(states)], depth, 0, work)
        now = monotonic_ns(clock)
        took[i] = now - from_ns
        from_ns = now


@kernel
def _time_gumbel(
    model: Any, states: Any, simulations: int, rng: Any, allowed: Any, tree: Any, clock: Any, took: Any
) -> None:
    from_ns = monotonic_ns(clock)
    for i in range(took.size):
        gumbel_search(model, states[i % len(states)], allowed, simulations, ACTIONS, 3, 1.0, rng, tree)
        now = monotonic_ns(clock)
        took[i] = now - from_ns
        from_ns = now


def measure(searches: int, rounds: int) -> dict[str, Any]:
    """The result of `emp bench plan`; an unmeasured round that compiles goes first."""
    states = np.random.default_rng(0).normal(size=(64, STATE)).astype(np.float32)
    models = {outcomes: drawn_model(outcomes) for outcomes in {c for c, _ in CASES.values()}}
    works = {name: workspace(models[c], depth) for name, (c, depth) in CASES.items()}
    trees = {n: new_tree(models[4], n, 3) for n in SIMULATIONS}
    clock, allowed, rng = np.zeros(2, np.int64), np.ones(ACTIONS, np.bool_), seeded(0, "plan")
    best: dict[Any, Array] = {}
    cpu: dict[str, float] = {}
    for turn in range(rounds + 1):
        took = np.zeros(searches if turn else 1, np.int64)
        for name, (c, depth) in CASES.items():
            with Stopwatch() as watch:
                _time_full(models[c], states, depth, works[name], clock, took)
            if turn:
                _keep_best(best, name, took)
                cpu[name] = min(cpu.get(name, np.inf), watch.cpu_s / searches)
        for n, tree in trees.items():
            _time_gumbel(models[4], states, n, rng, allowed, tree, clock, took)
            if turn:
                _keep_best(best, n, took)
    result: dict[str, Any] = {f"{name}_us": _quantiles(best[name]) for name in CASES}
    for name, (c, depth) in CASES.items():
        result[f"{name}_nodes_per_s"] = round((nodes_to(models[c], depth) - 1) / cpu[name])
    result["nodes_per_s"] = result["depth3_nodes_per_s"]
    loss = losses(SIMULATIONS, TREES)
    result["full_width"] = [{"depth": d, "loss": round(loss["depth", d], 4)} for d in (1, 2)]
    result["gumbel"] = [
        {"simulations": n, "us": _quantiles(best[n]), "loss": round(loss["gumbel", n], 4)}
        for n in SIMULATIONS
    ]
    result["clock"] = "wall time of a search; states per second of thread CPU time"
    result["peers"] = {}
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


def losses(simulations: tuple[int, ...], trees: int) -> dict[tuple[str, int], float]:
    """Loss of the action that a search without noise takes, over that of one at random, by ("depth" | "gumbel", n)."""
    lost = dict.fromkeys([("depth", 1), ("depth", 2), *(("gumbel", n) for n in simulations)], 0.0)
    allowed, rng, at_random = np.ones(ACTIONS, np.bool_), seeded(1, "plan"), 0.0
    for seed in range(trees):
        model = drawn_model(4, seed + 1)
        state = generator(seed, "state").normal(size=STATE).astype(np.float32)
        work = workspace(model, 3)
        look_ahead(model, state, 3, 0, work)
        exact = work.q.astype(np.float64)
        at_random += float(exact.max() - exact.mean())
        for depth in (1, 2):
            look_ahead(model, state, depth, 0, work)
            lost["depth", depth] += float(exact.max() - exact[best_action(work.q, allowed)])
        for n in simulations:
            tree = new_tree(model, n, 3)
            action = gumbel_search(model, state, allowed, n, ACTIONS, 3, 0.0, rng, tree)
            lost["gumbel", n] += float(exact.max() - exact[action])
    return {name: value / at_random for name, value in lost.items()}


def _keep_best(best: dict[Any, Array], name: Any, took: Array) -> None:
    if name not in best or np.median(took) < np.median(best[name]):
        best[name] = took.copy()


def _quantiles(ns: Array) -> dict[str, float]:
    return {f"p{round(100 * q)}": round(float(np.quantile(ns, q)) / 1e3, 1) for q in (0.5, 0.99)}
