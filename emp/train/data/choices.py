"""What followed a planner's choices: the next moment, the reward on the way, and what came of the trip.

Points of one pass stand in the order of time. Money is per lot, in units of the moment of the choice; what has a
direction is signed towards the side that the choice was about. A trip ends where nothing is held and nothing rests; one
that is still open after MOST_STEPS counts as closed at the touch, its fee paid.
"""

from typing import NamedTuple

import numpy as np

from emp.core.records import Array
from emp.plan.essentials import HOLD, REST, TAKE
from emp.plan.planner import POINT

MOST_STEPS = 8
HORIZONS = (1, 2, 3)
"""Steps after which a choice is marked to the mid, besides the end of its trip: the depths of a search."""

HORIZON_NAMES = (*(f"{n}step" for n in HORIZONS), "closed")

KINDS = ("wait", "open_take", "open_rest", "held_wait", "close_take", "close_rest", "keep", "cancel", "move")
"""What a choice was, by what stood: nothing, a position, an order at rest."""


class Choices(NamedTuple):
    """n choices, each with what followed."""

    points: Array  # POINT[n]
    following: Array  # float32[n, WIDTH]: essentials of the next moment
    move: Array  # float64[n]: of the mid until then, units
    filled: Array  # bool[n]
    reward: Array  # float64[n], units
    realised: Array  # float64[n, len(HORIZON_NAMES)], units
    kind: Array  # int64[n], index in KINDS

    def of(self, chosen: Array) -> "Choices":
        """Some of them."""
        return Choices(*(field[chosen] for field in self))


def join(parts: list[Choices]) -> Choices:
    """Choices of several passes."""
    return Choices(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def follow_up(points: Array) -> Choices:
    """What followed each point of a pass; those whose trip runs into a break of the stream, or the end, are left out.

    Args:
        points: POINT[m], in the order in which they were chosen.
    """
    if points.dtype != POINT:
        raise TypeError("points must be POINT records")
    n = len(points)
    if n < 2:
        return Choices(
            points[:0],
            points["z"][:0],
            np.zeros(0),
            np.zeros(0, np.bool_),
            np.zeros(0),
            np.zeros((0, len(HORIZON_NAMES))),
            np.zeros(0, np.int64),
        )
    realised, known = _realised(points)
    here, then = points[:-1], points[1:]
    reward = (then["pnl"] - here["pnl"]) / here["unit"]
    kept = known[:-1] & (then["since_reset"] > here["since_reset"])
    made = Choices(
        points=here,
        following=then["z"],
        move=here["side"] * (then["mid"] - here["mid"]) / here["unit"],
        filled=then["fills"] != here["fills"],
        reward=reward,
        realised=realised[:-1],
        kind=kinds(here),
    )
    return made.of(np.flatnonzero(kept))


def kinds(points: Array) -> Array:
    """Index in KINDS of each point."""
    base = np.where(points["resting"] != 0, 6, np.where(points["position"] != 0, 3, 0))
    order = np.array([HOLD, TAKE, REST])
    return np.asarray(base + np.searchsorted(order, points["action"]))


def liquidation(points: Array) -> Array:
    """Ticks that closing what is held costs at the touch."""
    return np.asarray(np.abs(points["position"]) * (0.5 * points["spread"] + points["taker_fee"]))


def known_cost(choices: Choices) -> Array:
    """What a choice is known to cost, or to bring if it fills, before anything is forecast: float64[n, 3], units.

    Half the spread and the fee of a taker, half the spread less the fee of a maker, and half the spread where something
    is held that has to be closed.
    """
    p, kind = choices.points, choices.kind
    half, unit = 0.5 * p["spread"], p["unit"]
    takes = np.isin(kind, [KINDS.index("open_take"), KINDS.index("close_take")])
    rests = np.isin(kind, [KINDS.index(one) for one in ("open_rest", "close_rest", "keep", "move")])
    return np.stack(
        [
            np.where(takes, half + p["taker_fee"], 0.0) / unit,
            np.where(rests, half - p["maker_fee"], 0.0) / unit,
            np.where(p["position"] != 0, half + p["taker_fee"], 0.0) / unit,
        ],
        axis=1,
    )


def _realised(points: Array) -> tuple[Array, Array]:
    """Realised values, and whether they are known."""
    n = len(points)
    ended = (points["position"] == 0) & (points["resting"] == 0)
    broken = np.r_[np.diff(points["since_reset"]) <= 0, True]  # between a point and the next
    value = points["pnl"] - liquidation(points)
    found = np.full((n, len(HORIZON_NAMES)), np.nan)
    alive, known = np.ones(n, np.bool_), np.ones(n, np.bool_)
    whole = np.arange(n)
    for k in range(1, MOST_STEPS + 1):
        at = np.minimum(whole + k, n - 1)
        crossed = (whole + k >= n) | broken[np.minimum(whole + k - 1, n - 1)]
        known &= ~(alive & crossed)
        marked = (points["pnl"][at] - points["pnl"]) / points["unit"]
        if k in HORIZONS:
            column = HORIZONS.index(k)
            found[:, column] = np.where(alive, marked, found[:, -1])
        over = alive & (ended[at] | (k == MOST_STEPS))
        found[over, -1] = ((value[at] - points["pnl"]) / points["unit"])[over]
        alive &= ~over
    return found, known & np.isfinite(found[:, -1])
