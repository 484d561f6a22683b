"""The state table: what a streaming model remembers of each instrument, named by the model that made it.

A state begins at zero, and again at zero after everything that breaks the stream: a flip of the session, halt and
resume, an announced gap, a long pause (all of which perception sees), a time without a believable book, another
model; and after an event of which the model said something that is no number, since its state may be none either. It
may not be traded on until it has seen the burn-in again.
"""

from enum import IntEnum
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.pinned import pinned_zeros
from emp.core.records import Array

ALIGNMENT = 64


class Restart(IntEnum):
    """Why a state began at zero."""

    START = 0  # the instrument's first event under this model
    MARKET = 1  # the stream was broken: session flip, halt, resume, gap, long pause
    IDLE = 2  # no believable book for longer than the state lives
    NUMBER = 3  # what the model said was no number


STREAM = np.dtype(
    [
        ("events", "i8"),  # visible events since the state was zero: the warm-up counter; or NO_NUMBER
        ("ts", "i8"),  # of the last of them
        ("restarts", "i8", (len(Restart),)),  # so far, by cause
    ],
    align=True,
)
"""Age of one instrument's state."""

START, MARKET, IDLE, NUMBER = (int(r) for r in Restart)

NO_NUMBER = -1
"""Age of a state whose last forecast was no number: it may be none itself, and begins anew with the next event."""


@kernel
def advance_or_reset(stream: Any, memory: Any, since_reset: int, ts: int, ttl_ns: int) -> None:
    """Count one event of a state, which begins at zero where what it remembers is no longer true.

    Args:
        stream: STREAM record of the instrument.
        memory: float32[state_size], its row of the state table.
        since_reset: events that perception has seen since it forgot the flow, this one included.
        ts: time of the event, ns.
        ttl_ns: age of the last event beyond which the state is too old to go on from.
    """
    cause = -1
    if stream.events == NO_NUMBER:
        cause = NUMBER
    elif stream.events == 0:
        cause = START
    elif since_reset == 1:
        cause = MARKET
    elif ts - stream.ts > ttl_ns:
        cause = IDLE
    if cause >= 0:
        memory[:] = 0.0
        stream.events = 0
        stream.restarts[cause] += 1
    stream.events += 1
    stream.ts = ts


class StateTable:
    """Recurrent state of a model for every instrument: preallocated, touched, locked in memory where permitted.

    `rows` is float32[instruments, size], each row on a cache line; an all-zero row is the state before the first
    event. The table belongs to one model: another model has another table.
    """

    def __init__(self, instruments: int, size: int, model_hash: str) -> None:
        self.model_hash = model_hash
        per_line = ALIGNMENT // 4
        stride = -(-size // per_line) * per_line
        raw, self.why_not_pinned = pinned_zeros(4 * instruments * stride)
        self.rows: Array = raw.view(np.float32)[: instruments * stride].reshape(instruments, stride)[:, :size]

    def reset(self) -> None:
        """Forget everything."""
        self.rows[...] = 0.0

    def clone_state(self, instrument: int) -> Array:
        """Return a copy of one row for a planner to carry forward; the table never sees it again."""
        return self.rows[instrument].copy()
