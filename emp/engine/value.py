"""Expected against realised value, in figures: what the summary of a run, its page and an evaluation say of it."""

import math
from collections.abc import Sequence
from typing import Any

from emp.core.records import Array
from emp.decision.kinds import QUESTIONS, kinds_of
from emp.decision.markouts import SPAN_NAMES
from emp.decision.outcomes import per_lot
from emp.engine.desk import Desk

LEAST = 10
"""Round trips below which a kind has no interval: its variance is hardly known, and many kinds ask for far tails."""


def value_summary(desk: Desk, i: int) -> dict[str, Any]:
    """What lots of an instrument were believed to bring and what they brought, ticks per lot; None before there is any.

    `realised_value_per_lot` marks each fill to the mid 500 ms and 2 s later, and each lot to the fill that closed it;
    `expected_value_per_lot` is of closed lots, too. The intervals are 95 % over round trips (`outcomes.per_lot`), None
    below five: of what was brought, and of what it missed of the expectation. `realised_on_expected` is the least
    squares line of the one on the other over round trips, in sums of their lots.
    """
    lots, markouts, standing = desk.lots[i], desk.markouts[i], desk.standing[i]
    closed = int(lots["lots"])
    marks = {name: _ratio(markouts["sum"][h], markouts["sum_lots"][h]) for h, name in enumerate(SPAN_NAMES)}
    return {
        "closed_lots": closed,
        "round_trips": int(lots["trips"]),
        "expected_value_per_lot": _ratio(lots["believed"], closed),
        "realised_value_per_lot": {**marks, "closed": _ratio(lots["brought"], closed)},
        "realised_interval": _interval(lots, "trip_brought", "brought2", "brought_lots"),
        "missed_interval": _interval(lots, "trip_missed", "missed2", "missed_lots"),
        "realised_on_expected": _line(lots),
        "holding_s": _ratio(lots["held_ns"] * 1e-9, closed),
        "earned_lots": int(standing["lots"]),
        "value_stops": int(standing["stops"]),
        "may_cross": bool(standing["may_cross"]),
        "shadow_crossings": int(standing["crossed_trips"]),
        "gain_worth": {name: round(float(standing[name]), 6) for name in ("level", "slope", "error")},
        "shadow_trips": int(desk.shadow_lots["trips"][i]),
        "by_kind": {
            question: by_kind(lots["kinds"][kinds_of(question)], QUESTIONS[question])
            for question in QUESTIONS
        },
    }


def by_kind(kinds: Array, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Of every kind that was traded: lots opened, closed, what a closed one was believed to bring, and brought.

    `missed_interval` bounds realised less expected of a lot, over the round trips that had lots of the kind. All those
    of one question hold together with 95 %: each of m misses 5 % / m of the time at most (Bonferroni). None below
    LEAST round trips.
    """
    told = int((kinds["trips"] >= LEAST).sum())
    return {
        name: {
            "opened_lots": int(one["opened"]),
            "closed_lots": round(float(one["closed"]), 6),
            "expected": _ratio(one["believed"], one["closed"]),
            "realised": _ratio(one["brought"], one["closed"]),
            "round_trips": int(one["trips"]),
            "missed_interval": _missed(one, 0.05 / max(told, 1)),
        }
        for name, one in zip(names, kinds, strict=True)
        if one["opened"]
    }


def _missed(one: Array, error: float) -> list[float] | None:
    """Bounds of what a lot of a KIND missed of what was expected of it."""
    if one["trips"] < LEAST:
        return None
    mean, half = per_lot(
        float(one["trip_missed"]),
        float(one["missed2"]),
        float(one["missed_lots"]),
        float(one["trip_lots"]),
        float(one["lots2"]),
        int(one["trips"]),
        error,
    )
    return None if math.isnan(half) else [mean - half, mean + half]


def _ratio(total: float, count: float) -> float | None:
    return float(total) / float(count) if count else None


def _interval(lots: Array, total: str, squares: str, products: str) -> list[float] | None:
    """Bounds of the mean per lot of round trips."""
    mean, half = per_lot(
        float(lots[total]),
        float(lots[squares]),
        float(lots[products]),
        float(lots["trip_lots"]),
        float(lots["lots2"]),
        int(lots["trips"]),
    )
    return None if math.isnan(half) else [mean - half, mean + half]


def _line(lots: Array) -> dict[str, float] | None:
    """Slope and intercept of what round trips brought on what was believed of them."""
    n = int(lots["trips"])
    if n < 3:
        return None
    mean_x, mean_y = float(lots["trip_believed"]) / n, float(lots["trip_brought"]) / n
    spread = float(lots["believed2"]) - n * mean_x * mean_x
    if spread <= 0.0:
        return None
    slope = (float(lots["brought_believed"]) - n * mean_x * mean_y) / spread
    return {"slope": slope, "intercept": mean_y - slope * mean_x}
