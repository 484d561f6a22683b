"""What outcomes allow: what a gain is worth, and how many lots may be risked on it (D.3).

*What a gain is worth.*  outcome ~ level + slope gain, slope ~ N(1, 1) before anything is known: a gain brings what it
says. The rule acts on level + slope gain less its standard error. The outcomes are those of the shadow
(`decision.shadow`), which trades on every gain, so that what was found worthless can be found worth something again.

*What has been earned.*  Over round trips, by the normal mixture of Robbins (1970) on self-normalised sums (de la Pena,
Klass and Lai, Annals of Probability 32, 2004), for x that are symmetric about what is tested:

    log E = log(RHO / (RHO + V)) / 2 + S^2 / (2 (RHO + V)),    S = sum x > 0,  V = sum x^2

With x = brought, E is the evidence that trips bring more than nothing: the size grows from one lot to the owner's limit
as log E grows to log(1 / LEVEL). With x = believed - brought, E is the evidence that they bring less than was believed:
at 1 / LEVEL nothing more is opened. What is believed has its standard error taken off already: that is the margin. Both
hold under looking after every trip. A stop ends when the trips of the shadow that would have been taken since have
E >= 1 / LEVEL of bringing more than nothing.

*What crossing has earned.*  Crossing pays its whole cost at once, and what it is to bring is forecast alone. So nothing
is opened by it in earnest before the trips that the shadow opened by crossing have E >= 1 / LEVEL of bringing more than
nothing, nor once they have it no longer.
"""

from typing import Any

import numpy as np

from emp.core.codes import Action, Reason
from emp.core.numba.jit import kernel
from emp.core.records import Array

CANCEL, HOLD, FLATTEN = int(Action.CANCEL), int(Action.HOLD), int(Action.FLATTEN)
CANCEL_EDGE_GONE = int(Reason.CANCEL_EDGE_GONE)

AT_ZERO = -(2**63)
"""Stands for a price of 0 that was left, where 0 is none."""

LEVEL = 0.01
"""Share of instruments whose lots bring what is believed of them that are stopped all the same, ever."""

RHO = 10.0
"""Round trips for which the mixture is widest awake."""

ENOUGH = float(-np.log(LEVEL))
"""log E at which evidence is taken at its word."""

TRIPS = 5
"""Outcomes below which nothing is corrected: fewer independent blocks make no interval."""

MEMORY = 512.0
"""Outcomes over which the worth of a gain and the unit of a trip run: what is older fades."""

EVIDENCE = np.dtype([("sum", "f8"), ("squares", "f8")], align=True)
"""S and V of a process, in units of a trip's size."""

STANDING = np.dtype(
    [
        ("level", "f4"),  # ticks: what a gain of zero has been worth
        ("slope", "f4"),
        ("error", "f4"),  # standard error of a gain's worth
        ("lots", "i4"),  # most that an order which opens may have
        ("one_lot", "?"),  # may never hold more: the shadow
        ("may_cross", "?"),  # to open: the shadow's crossings have earned it
        (
            "left_bid",
            "i8",
        ),  # price at which a bid of ours was last withdrawn for its edge; 0: no bar, AT_ZERO: 0
        ("left_ask", "i8"),
        ("carry_buy", "f4"),  # ticks: expected financing at the next roll of a lot held long
        ("carry_sell", "f4"),  # the same of one held short
        ("held_ns", "f8"),  # sum of how long lots of the shadow were held, and how many: what is old fades
        ("held", "f8"),
        # of the outcomes behind level and slope: how many, sums of gains, outcomes and products
        ("n", "f8"),
        ("x", "f8"),
        ("xx", "f8"),
        ("y", "f8"),
        ("xy", "f8"),
        ("yy", "f8"),
        ("scale", "f8"),  # mean square of what round trips of ours brought
        ("scaled", "f8"),  # trips in it
        ("earned", EVIDENCE),
        ("short", EVIDENCE),
        ("regained", EVIDENCE),  # by the shadow since the stop
        ("stops", "i8"),
        ("crossed", EVIDENCE),  # by trips of the shadow that were opened by crossing
        ("crossed_scale", "f8"),  # mean square of what they brought
        ("crossed_trips", "i8"),
    ],
    align=True,
)
"""What outcomes allow."""


def new_standing(n: int = 1, *, one_lot: bool = False) -> Array:
    """STANDING[n]: a gain is worth what it says, an order may have one lot and not open by crossing.

    `one_lot` is the shadow: never more, and it crosses as it likes.
    """
    standing = np.zeros(n, STANDING)
    standing["slope"], standing["lots"] = 1.0, 1
    standing["one_lot"] = standing["may_cross"] = one_lot
    return standing


def crossing_standing(n: int = 1, *, one_lot: bool = False) -> Array:
    """As `new_standing`, but crossing has earned its place for good: where positions must be held at once."""
    standing = new_standing(n, one_lot=one_lot)
    standing["may_cross"], standing["crossed"]["sum"] = True, 1e9
    return standing


def unearn(standings: Array) -> None:
    """Another model forecasts from now on: nothing was earned by it yet, a stop stands, and gains are worth what they
    were until its own outcomes say otherwise. Changes STANDING[n].
    """
    standings["lots"] = np.minimum(standings["lots"], 1)
    standings["may_cross"] = standings["one_lot"]
    for process in ("earned", "short", "regained", "crossed"):
        standings[process] = np.zeros((), EVIDENCE)
    standings["crossed_scale"] = standings["crossed_trips"] = 0


@kernel
def worth(st: Any, gain: float) -> float:
    """Expected outcome of a lot for which the rule sees `gain`, ticks."""
    return float(st.level + st.slope * gain)


@kernel
def learn_worth(st: Any, gain: float, brought: float) -> None:
    """Carry what a gain is worth over one more outcome."""
    keep = 1.0 - 1.0 / MEMORY
    st.n, st.x, st.xx = keep * st.n + 1.0, keep * st.x + gain, keep * st.xx + gain * gain
    st.y, st.xy, st.yy = (
        keep * st.y + brought,
        keep * st.xy + gain * brought,
        keep * st.yy + brought * brought,
    )
    if st.n < TRIPS - 0.5:  # what has faded of the first few does not count
        return
    mean_x, mean_y = st.x / st.n, st.y / st.n
    sxx = max(0.0, st.xx - st.n * mean_x * mean_x)
    sxy = st.xy - st.n * mean_x * mean_y
    variance = max(0.0, st.yy / st.n - mean_y * mean_y) * st.n / (st.n - 1.0)
    slope = max(0.0, (sxy + variance) / (sxx + variance)) if variance > 0.0 else 1.0
    st.level, st.slope = mean_y - slope * mean_x, slope
    st.error = np.sqrt(variance / st.n)


@kernel
def bet(p: Any, x: float) -> None:
    """Carry an EVIDENCE record over one outcome."""
    p.sum += x
    p.squares += x * x


@kernel
def log_evidence(p: Any) -> float:
    """log E that the mean is above zero; 0 where the sum does not say so."""
    if p.sum <= 0.0:
        return 0.0
    whole = p.squares + RHO
    return 0.5 * np.log(RHO / whole) + 0.5 * p.sum * p.sum / whole


@kernel
def learn_trip(st: Any, trip: Any, max_order: int) -> None:
    """Take a round trip of ours into what has been earned.

    Args:
        st: STANDING record.
        trip: TRIP record of `outcomes`.
        max_order: lots, the owner's limit of an order.
    """
    unit = np.sqrt(st.scale) if st.scaled > 0.0 else max(abs(trip.brought), 1.0)
    st.scaled += 1.0
    st.scale += (trip.brought * trip.brought - st.scale) / min(st.scaled, MEMORY)
    if st.lots == 0 or unit <= 0.0:
        return
    bet(st.earned, trip.brought / unit)
    bet(st.short, (trip.believed - trip.brought) / unit)
    if log_evidence(st.short) >= ENOUGH:
        st.stops += 1
        st.lots = 0
        st.regained.sum = st.regained.squares = 0.0
        return
    share = min(1.0, max(0.0, log_evidence(st.earned) / ENOUGH))
    st.lots = 1 + int(share * (max_order - 1))


@kernel
def learn_crossed(st: Any, brought: float) -> None:
    """Take a trip that the shadow opened by crossing into whether that has been earned."""
    unit = np.sqrt(st.crossed_scale) if st.crossed_trips > 0 else max(abs(brought), 1.0)
    st.crossed_trips += 1
    st.crossed_scale += (brought * brought - st.crossed_scale) / min(float(st.crossed_trips), MEMORY)
    if unit > 0.0:
        bet(st.crossed, brought / unit)
    st.may_cross = log_evidence(st.crossed) >= ENOUGH


@kernel
def learn_missed(st: Any, brought: float) -> None:
    """Take a trip of the shadow that would have been taken; enough of them end a stop, and all begins anew."""
    if st.lots > 0 or st.n < TRIPS - 0.5:
        return
    bet(st.regained, brought / np.sqrt(st.yy / st.n))
    if log_evidence(st.regained) >= ENOUGH:
        st.lots = 1
        st.earned.sum = st.earned.squares = st.short.sum = st.short.squares = 0.0


@kernel
def remember_action(st: Any, row: Any) -> None:
    """Note where an order was withdrawn for its edge, and lift the bar on a price once we have stood elsewhere.

    To be called with the approved row: what is not sent changes nothing.
    """
    if (
        row.action == HOLD
        or row.action == FLATTEN
        or (row.action == CANCEL and row.reason_code != CANCEL_EDGE_GONE)
    ):
        return
    left = 0 if row.action != CANCEL else row.px if row.px != 0 else AT_ZERO
    if row.side > 0:
        st.left_bid = left
    else:
        st.left_ask = left


@kernel
def lift_bars(st: Any) -> None:
    """After a break in the stream no price is barred."""
    st.left_bid = st.left_ask = 0
