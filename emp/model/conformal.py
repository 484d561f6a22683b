"""Where a move will end, nine times in ten: intervals that are held against what came, past only, nothing tuned.

Each tail is followed by itself. With S the move over its scale (FLOOR and the forecast's own quartiles' distance), the
ends are those S that a share TAIL of moves goes beyond:

    interval = [-(START + edge_0), START + edge_1] scale,    edge = b + correction

**b** follows the quantile by betting (Orabona and Pal 2016, on the quantile loss as in Podkopaev, Xu and Lee 2024):
bettors of four lives begin anew, where b then stands, again and again. Each bets a share of what it has won, as its own
outcomes dictate, so there is no learning rate; which of them is heard is a bet of the same kind on their
lead over b (coin betting for changing environments, Jun, Orabona, Wright and Willett 2017). On every stretch of the
length of a life the loss is within O(sqrt(length log length)) of that of the end that was best there.

**The correction** pays back what is owed: the events beyond an end less TAIL of all. With e = owed / patience it is
size (e + e^3), size the mean |S|: it outgrows every move that is bounded, so what is owed is bounded, and the coverage
of n events misses 90 % by O(patience / n) whatever the market does (Angelopoulos, Candes and Tibshirani 2023, on error
integration). The patience is 64 events and one and a half times the events over which outcomes overlap.

A mid moves in half ticks, and often not at all: a share of moves would lie on an end itself. A move therefore counts as
lying anywhere within its half tick, at a place that its row decides (`tie_ticks`): whoever has the row knows it again.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import inlined, kernel
from emp.core.records import INTERVAL_LEVEL, Array

TAIL = (1.0 - INTERVAL_LEVEL) / 2.0

START = 1.2193969406839467
"""Quantile 1 - TAIL of a normal, in interquartile ranges: where the ends stand before any outcome is known."""

FLOOR = 0.1
"""Part of the scale that is there however sure a head is of itself, units of delta_hat."""

LIVES = (128, 256, 512, 1024)
"""Outcomes after which a bettor begins anew; those kept stand about four events or more apart."""

BETTORS = len(LIVES)
SIDES = 2  # below, above

FIRST = 32
"""Outcomes until which the ends stand where a normal's are; b then begins there, or where their mean |S| says."""

SIZES = 2.0616
"""Mean |S| of a normal from its middle to its quantile 1 - TAIL."""

PATIENCE_EVENTS = 64.0
PATIENCE_OVERLAPS = 1.5

SIZE_MEMORY = 2048
"""Outcomes over which sizes and overlaps are averaged."""

_LIVES = np.array(LIVES, np.int64)
_TRUST = np.array(
    [1.0 / 2**k for k in range(BETTORS)]
)  # before a bettor has led, the shorter life is heard more
_GOLDEN, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)

BETTOR = np.dtype(
    [
        ("left", "i8"),  # outcomes until it begins anew
        ("seen", "f8"),
        ("began", "f8"),  # b, when it did
        ("pull", "f8"),  # sum of what its outcomes asked for
        ("won", "f8"),
        ("bet", "f8"),  # sizes away from where it began
        ("lead", "f8"),  # sum of its leads over b
        ("lead_won", "f8"),
        ("heard", "f8"),  # its weight; 0 or less where it has not led
    ],
    align=True,
)

INTERVAL = np.dtype(
    [
        ("outcomes", "i8"),
        ("size", "f8"),  # mean |S|
        ("stands_for", "f8"),  # mean, events per outcome
        ("overlap", "f8"),  # mean, events from a forecast to its outcome
        ("base", "f8", (SIDES,)),  # b, beyond START
        ("owed", "f8", (SIDES,)),  # events
        ("edge", "f8", (SIDES,)),  # beyond START, as said
        ("bettor", BETTOR, (SIDES, BETTORS)),
    ],
    align=True,
)
"""What is known of the ends of one horizon; all zero before anything is."""


@inlined
def scale_of(q: Any) -> float:
    """The scale of a forecast: q float32[3], its quartiles of delta_hat."""
    return FLOOR + float(q[2] - q[0])


@kernel
def tie_ticks(ts: int, mid2: int) -> float:
    """Where within its half tick a move from this row counts as lying: uniform in [-1/4, 1/4) ticks (splitmix64).

    Args:
        ts: of the row, ns.
        mid2: its bid + ask, ticks.
    """
    z = np.uint64(ts) * _GOLDEN + np.uint64(mid2)
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    z ^= z >> np.uint64(31)
    return 0.5 * (float(z >> np.uint64(11)) / 9007199254740992.0 - 0.5)


@kernel
def ties_ticks(ts: Array, mid2: Array) -> Array:
    """`tie_ticks` of many rows: int64[n] each, float64[n]."""
    out = np.empty(ts.size, np.float64)
    for i in range(ts.size):
        out[i] = tie_ticks(ts[i], mid2[i])
    return out


@inlined
def lay_out(ends: Any, low_high: Any, q: Any) -> None:
    """Write the interval of a forecast with quartiles q: low_high float32[2]."""
    scale = scale_of(q)
    below, above = START + ends.edge[0], START + ends.edge[1]
    if below + above < 0.0:  # never crossing
        below, above = 0.5 * (below - above), 0.5 * (above - below)
    low_high[0], low_high[1] = -below * scale, above * scale


@inlined
def of_quartiles(low_high: Any, q: Any) -> None:
    """The interval of a normal with these quartiles, for what is taken at its word."""
    beyond = (START - 0.5) * (q[2] - q[0])
    low_high[0], low_high[1] = q[0] - beyond, q[2] + beyond


@kernel
def follow_tails(ends: Any, move: float, scale: float, edge: Any, stands_for: float, overlap: float) -> None:
    """Learn from an outcome.

    Args:
        ends: INTERVAL record of the horizon.
        move: delta_hat that came, within its half tick.
        scale: of the forecast.
        edge: float64[SIDES], as said with the forecast.
        stands_for: events that the forecast stands for.
        overlap: events from the forecast to its outcome.
    """
    s = move / scale
    ends.outcomes += 1
    ends.size += (abs(s) - ends.size) / min(ends.outcomes, SIZE_MEMORY)
    few = 1.0 / min(ends.outcomes, SIZE_MEMORY)
    ends.stands_for += (stands_for - ends.stands_for) * few
    ends.overlap += (overlap - ends.overlap) * few
    size = max(ends.size, 1e-9)
    patience = PATIENCE_EVENTS + PATIENCE_OVERLAPS * ends.overlap
    weight = min(1.0, 0.5 * stands_for / ends.stands_for)
    for side in range(SIDES):
        beyond = (s if side == 1 else -s) - START
        missed = 1.0 if beyond > edge[side] else 0.0
        ends.owed[side] += stands_for * (missed - TAIL)
        if ends.outcomes == FIRST:
            ends.base[side] = min(0.0, SIZES * size - START)  # an opening may be wild: only ever closer
        if ends.outcomes <= FIRST:
            ends.edge[side] = ends.base[side]
            continue
        bet_on(ends.bettor[side], ends.base, side, beyond, size, weight)
        e = ends.owed[side] / patience
        ends.edge[side] = ends.base[side] + size * e * (1.0 + e * e)


@inlined
def bet_on(bettors: Any, base: Any, side: int, beyond: float, size: float, weight: float) -> None:
    """Settle all bets on one end with an outcome, place the next, and bring `base[side]` to where they stand."""
    b = base[side]
    asked = weight * ((1.0 if beyond > b else 0.0) - TAIL)
    heard, at, trusted, else_at = 0.0, 0.0, 0.0, 0.0
    for k in range(BETTORS):
        one = bettors[k]
        if one.left > 0:
            settle_bet(one, b, beyond, size, weight, asked)
        if one.left <= 0:
            begin_anew(one, b, _LIVES[k])
        one.bet = one.pull / (one.seen + 1.0) * (1.0 + one.won)
        one.heard = one.lead / (one.seen + 1.0) * (1.0 + one.lead_won)
        stands = one.began + one.bet * size
        if one.heard > 0.0:
            heard += _TRUST[k] * one.heard
            at += _TRUST[k] * one.heard * stands
        trusted += _TRUST[k]
        else_at += _TRUST[k] * stands
    base[side] = at / heard if heard > 0.0 else else_at / trusted


@inlined
def settle_bet(one: Any, b: float, beyond: float, size: float, weight: float, asked: float) -> None:
    """What an outcome brings a bettor, and its lead over b."""
    stands = one.began + one.bet * size
    pull = weight * ((1.0 if beyond > stands else 0.0) - TAIL)
    one.won += pull * one.bet  # never all of it: a bet is less than the wealth, and a pull less than one
    one.pull += pull
    lead = min(max(asked * (stands - b) / size, -1.0), 1.0)
    if one.heard <= 0.0:
        lead = max(lead, 0.0)
    one.lead_won += lead * one.heard
    one.lead += lead
    one.seen += 1.0
    one.left -= 1


@inlined
def begin_anew(one: Any, b: float, life: int) -> None:
    """Forget a life and begin the next where b stands."""
    one.left, one.began = life, b
    one.seen = one.pull = one.won = one.lead = one.lead_won = 0.0
