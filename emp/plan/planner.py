"""The parameters of a planner: its model, its seats, and the choices that it keeps."""

from typing import NamedTuple

import numpy as np

from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.plan.essentials import ACTIONS, WIDTH
from emp.plan.search import Workspace, workspace
from emp.plan.transition import TransitionModel, pack

OFF, ACT, PROBE = 0, 1, 2
"""Modes of a seat: the rule decides alone; the planner decides; it searches to see how long that takes, unheard."""

KEPT = 256
"""Durations of searches that are kept."""

SEAT = np.dtype(
    [
        ("mode", "i8"),
        ("wait", "i8"),  # visible events until the next choice
        ("step", "i8"),  # visible events between two choices
        ("depth", "i8"),  # of a search; 0: none, every choice is drawn
        ("warmup", "i8"),  # visible events after a reset before anything is chosen
        ("explore", "f8"),  # share of choices that are drawn
        ("pause", "i8"),  # choices that a planner which is not heard lets pass before it searches again
        ("searches", "i8"),
        ("points", "i8"),  # choices so far, kept or not
    ],
    align=True,
)
"""The planner of one instrument."""

POINT = np.dtype(
    [
        ("ts", "i8"),
        ("since_reset", "i8"),
        ("side", "i8"),
        ("action", "i8"),  # HOLD, TAKE or REST
        ("rule", "i8"),  # what the rule would have done: the same, -1 where it is none of these on this side
        ("rule_gain", "f8"),  # ticks: what the rule saw in a lot, towards the side
        ("resting", "i8"),  # 1 where an order rested
        ("drawn", "?"),
        ("position", "i8"),  # before
        ("fills", "i8"),  # of the account, before
        ("pnl", "f8"),  # ticks times lots after fees, marked to mid
        ("mid", "f8"),  # ticks
        ("spread", "f8"),
        ("unit", "f8"),
        ("taker_fee", "f8"),
        ("maker_fee", "f8"),
        ("ahead", "f8"),
        ("qimbalance", "f8"),  # towards the side
        ("q", "f4", (ACTIONS,)),  # what the actions are imagined to bring, units; 0 without a search
        ("z", "f4", (WIDTH,)),  # essentials, not standardised
    ],
    align=True,
)
"""A choice, and what was known then."""


class Planner(NamedTuple):
    """Parameters and scratch of the rule."""

    costs: Array  # COSTS[n]
    state: Array  # MARKET_STATE[n]
    model: TransitionModel
    centre: Array  # float32[S]: location of each essential
    scale: Array  # float32[S]
    work: Workspace
    z: Array  # float32[S], scratch
    seat: Array  # SEAT[n]
    random: Array  # uint64[1]
    allowed: Array  # bool[ACTIONS], scratch
    took: Array  # int64[KEPT + 1]: ns of searches, round and round; how many there were
    points: Array  # POINT[m], the first m are kept


def no_model() -> TransitionModel:
    """A model of nothing: what sits in a planner that only explores."""
    z = np.zeros
    return pack(
        w1=z((WIDTH, 1)),
        b1=z(1),
        action=z((ACTIONS, 1)),
        change=z((2, 1, WIDTH)),
        change_bias=z((2, WIDTH)),
        logits=z((1, 2)),
        logits_bias=z(2),
        rewards=z((1, 2)),
        rewards_bias=z(2),
        value_hidden=z(1),
        value=z(1),
        value_bias=0.0,
        policy=z((1, ACTIONS)),
        policy_bias=z(ACTIONS),
    )


def planner(  # noqa: PLR0913
    costs: Array,
    state: Array,
    model: TransitionModel,
    centre: Array,
    scale: Array,
    *,
    depth: int,
    step: int,
    warmup: int,
    mode: int = ACT,
    explore: float = 0.0,
    seed: int = 0,
    keep: int = 0,
) -> Planner:
    """A planner for the instruments of a desk.

    Args:
        costs, state: of the desk.
        centre, scale: float32[WIDTH] of the essentials.
        depth: of a search, 0 for none.
        step: visible events between two choices.
        warmup: visible events after a reset before the first.
        explore: share of choices drawn at random.
        seed: of those.
        keep: how many choices are kept.
    """
    seats = np.zeros(len(costs), SEAT)
    seats["mode"], seats["step"], seats["depth"], seats["warmup"] = mode, step, depth, warmup
    seats["explore"] = explore
    return Planner(
        costs=costs,
        state=state,
        model=model,
        centre=np.ascontiguousarray(centre, np.float32),
        scale=np.ascontiguousarray(scale, np.float32),
        work=workspace(model, max(depth, 1)),
        z=np.zeros(WIDTH, np.float32),
        seat=seats,
        random=seeded(seed, "planner"),
        allowed=np.zeros(ACTIONS, np.bool_),
        took=np.zeros(KEPT + 1, np.int64),
        points=np.zeros(keep, POINT),
    )
