"""Context tokens: which session, how liquid, and when what was known must be forgotten (B.2)."""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag, Session
from emp.core.numba.jit import kernel
from emp.perception.state import LIQUIDITY_BINS, LONG_GAP_NS

GAP = int(EventFlag.GAP)
HALT = int(EventFlag.HALT)
RESUME = int(EventFlag.RESUME)
NO_SIZE = int(EventFlag.NO_SIZE)

SESSION_HALT = int(Session.HALT)

BINS_PER_OCTAVE = 2.0
DAY_KEEP = 0.8
"""Weight that a day's liquidity histogram keeps when another day is added: about a trading week counts."""


@kernel
def find_session(p: Any, sessions: Any, ts: int) -> int:
    """Row of the session table (SESSION records) that holds `ts`, searched onwards from the last one."""
    row = max(p.session_row, 0)
    if sessions[row].start > ts:
        row = 0
    while row + 1 < sessions.size and sessions[row + 1].start <= ts:
        row += 1
    return row


@kernel
def close_liquidity_day(p: Any) -> None:
    """Fold today's histogram into the past and fix the tercile edges that the new day is judged by."""
    total = 0.0
    for i in range(LIQUIDITY_BINS):
        total += p.liquidity_today[i]
    if total <= 0.0:
        return
    mass = 0.0
    for i in range(LIQUIDITY_BINS):
        p.liquidity_past[i] = DAY_KEEP * p.liquidity_past[i] + p.liquidity_today[i] / total
        p.liquidity_today[i] = 0.0
        mass += p.liquidity_past[i]
    p.liquidity_low = histogram_quantile(p.liquidity_past, mass / 3.0)
    p.liquidity_high = histogram_quantile(p.liquidity_past, 2.0 * mass / 3.0)


@kernel
def histogram_quantile(histogram: Any, mass: float) -> float:
    """Value (in octaves) below which `mass` of the histogram lies, linear within a bin."""
    seen = 0.0
    for i in range(LIQUIDITY_BINS):
        if histogram[i] > 0.0 and seen + histogram[i] >= mass:
            inside = (mass - seen) / histogram[i]
            return (i + inside - LIQUIDITY_BINS / 2) / BINS_PER_OCTAVE
        seen += histogram[i]
    return LIQUIDITY_BINS / 2 / BINS_PER_OCTAVE


@kernel
def update_liquidity(p: Any, event: Any, weight: float) -> int:
    """Liquidity bucket of now: the smoothed log2(L1 size / spread) against terciles of previous days only."""
    size = 1.0
    if event.flags & NO_SIZE == 0:
        size = 0.5 * (event.bid_sz[0] + event.ask_sz[0])
    value = np.log2(size / (event.ask_px[0] - event.bid_px[0]))
    p.liquidity += weight * (value - p.liquidity)
    place = int(np.floor(value * BINS_PER_OCTAVE)) + LIQUIDITY_BINS // 2
    p.liquidity_today[min(max(place, 0), LIQUIDITY_BINS - 1)] += 1.0
    if p.liquidity_low == p.liquidity_high:
        return 1
    return 0 if p.liquidity < p.liquidity_low else 2 if p.liquidity > p.liquidity_high else 1


@kernel
def update_session(p: Any, event: Any, sessions: Any) -> bool:
    """Follow the calendar, halts and gaps; return True where everything remembered of the flow must go.

    That is: the first event, a flip of session or day, halt or resume, an announced gap, and a pause longer
    than LONG_GAP_NS.
    """
    reset = p.session_row < 0 or event.flags & GAP != 0 or event.ts - p.ts_event > LONG_GAP_NS
    row = find_session(p, sessions, event.ts)
    if sessions[row].day != p.day:
        if p.session_row >= 0:
            close_liquidity_day(p)
        p.day = sessions[row].day
        reset = True
    if event.flags & HALT:
        p.halted = True
    elif event.flags & RESUME:
        p.halted = False
    session_id = SESSION_HALT if p.halted else sessions[row].session_id
    if session_id != p.session_id:
        p.session_id = session_id
        reset = True
    p.session_row = row
    return reset
