"""Financing of what is held over a roll: what the next one is expected to bring a lot (D.1).

At a roll a lot held long receives `long` ticks, one held short `short`; what is paid is below 0, and several nights may
fall on one roll. A lot that is traded now stands there if it is still held. How long lots are held is known from the
shadow's round trips (`decision.shadow`), which go on whatever we hold: with a mean of `mean` and no other knowledge the
time that is left is exponential (of all laws with that mean the one of the largest entropy), however long a lot was
held before, so

    carry = exp(-(roll - now) / mean) * what the side receives,    mean = (horizon + sum of holding times) / (1 + trips)

Before there is any trip, a lot is thought to be held for the longest horizon that a forecast speaks of.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_NS, Array
from emp.decision.standing import MEMORY

HORIZON = float(HORIZON_NS[-1])

FINANCING = np.dtype(
    [
        ("roll_ns", "i8"),  # UTC, of the next roll; 0 where none is known
        ("long", "f8"),  # ticks that a lot held long receives there, over all its nights
        ("short", "f8"),
        ("rate_long", "f8"),  # ticks a lot and night, as the venue states them; NaN: those of the catalogue
        ("rate_short", "f8"),
        ("at_minute", "i4"),  # of the day in UTC, as the venue states it; -1: that of the catalogue
        (
            "triple",
            "i4",
        ),  # weekday with three nights, Monday 0, as the venue states it; -1: that of the catalogue
        ("told", "?"),  # whether `roll_ns` and what is received there follow from all that is stated
    ],
    align=True,
)
"""The next roll of an instrument, and what its venue has stated of rolls."""


def new_financing(n: int = 1) -> Array:
    """FINANCING[n]: no roll known, nothing stated."""
    financing = np.zeros(n, FINANCING)
    financing["rate_long"] = financing["rate_short"] = np.nan
    financing["at_minute"] = financing["triple"] = -1
    return financing


@kernel
def mean_holding_ns(st: Any) -> float:
    """How long a lot is expected to be held, of a STANDING record, ns."""
    return float((HORIZON + st.held_ns) / (1.0 + st.held))


@kernel
def learn_holding(st: Any, held_ns: float) -> None:
    """Carry how long lots are held over one more round trip of the shadow, of one lot."""
    keep = 1.0 - 1.0 / MEMORY
    st.held_ns, st.held = keep * st.held_ns + held_ns, keep * st.held + 1.0


@kernel
def learn_unfinished(st: Any, lots: Any, last_ns: int) -> None:
    """The stream broke while the shadow held a lot: it was held until then, and its end is not known.

    Of exponential times of which some are cut short the likeliest mean is all that was held over the ends that were
    seen, so time counts and the trip does not.

    Args:
        st: STANDING record of the one who trades in earnest.
        lots: LOTS record of the shadow.
        last_ns: of the last event before the break.
    """
    if lots.position != 0:
        st.held_ns += max(0.0, last_ns - lots.since)


@kernel
def expect_carry(fin: Any, ts: int, st: Any, shadow: Any) -> None:
    """Write what the next roll is expected to bring a lot into both STANDING records; 0 once it is past.

    Args:
        fin: FINANCING record with a roll.
        ts: of the event, ns.
        st: STANDING record of the one who trades in earnest, which knows how long lots are held.
        shadow: that of the shadow.
    """
    left = fin.roll_ns - ts
    chance = np.exp(-left / mean_holding_ns(st)) if left > 0 else 0.0
    st.carry_buy, st.carry_sell = chance * fin.long, chance * fin.short
    shadow.carry_buy, shadow.carry_sell = st.carry_buy, st.carry_sell
