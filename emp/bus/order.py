"""The ordering guard: per instrument, {ts, seq} only ever moves forward.

`seq` is the authority: it must strictly increase. `ts` must not go back. One compiled function serves the
live bus and the replay of recordings, so both admit exactly the same events.
"""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import Array

MEMORY = 64
"""Admitted events that the guard remembers, to tell a late duplicate from a regression."""

GUARD = np.dtype(
    [
        ("ts", "i8"),  # of the last admitted event
        ("seq", "i8"),
        ("started", "?"),
        ("contiguous", "?"),  # the source promises seq to grow by exactly 1
        ("admitted", "i8"),
        ("duplicates", "i8"),
        ("backwards", "i8"),
        ("gaps", "i8"),
        ("missing", "i8"),  # sequence numbers never seen, over all gaps
        ("seen", "i8"),  # events written to the two rings below
        ("seen_ts", "i8", (MEMORY,)),
        ("seen_seq", "i8", (MEMORY,)),
    ],
    align=True,
)
"""What the guard of one instrument knows."""

_ACCEPTED = int(Quarantine.ACCEPTED)
_BACKWARDS = int(Quarantine.BACKWARDS)
_DUPLICATE = int(Quarantine.DUPLICATE)
_GAP = np.uint32(EventFlag.GAP)


def new_guard(contiguous: bool = False) -> Array:
    """One fresh GUARD row, shape [1]; `contiguous` where the source numbers its events without holes."""
    guard = np.zeros(1, GUARD)
    guard["contiguous"] = contiguous
    return guard


@kernel
def _seen(guard: Any, ts: int, seq: int) -> bool:
    found = False
    for i in range(min(guard.seen, MEMORY)):
        found |= guard.seen_seq[i] == seq and guard.seen_ts[i] == ts
    return found


@kernel
def judge(guard: Any, event: Any) -> int:
    """Admit one EVENT or refuse it; return the Quarantine reason, 0 when admitted.

    Where the source is contiguous and numbers are missing before the event, sets its GAP flag.
    """
    if guard.started and (event.seq <= guard.seq or event.ts < guard.ts):
        if event.seq <= guard.seq and _seen(guard, event.ts, event.seq):
            guard.duplicates += 1
            return _DUPLICATE
        guard.backwards += 1
        return _BACKWARDS
    if guard.started and guard.contiguous and event.seq != guard.seq + 1:
        guard.gaps += 1
        guard.missing += event.seq - guard.seq - 1
        event.flags |= _GAP
    slot = guard.seen % MEMORY
    guard.seen_ts[slot] = event.ts
    guard.seen_seq[slot] = event.seq
    guard.seen += 1
    guard.ts = event.ts
    guard.seq = event.seq
    guard.started = True
    guard.admitted += 1
    return _ACCEPTED


@kernel
def admit(guard: Any, events: Array, out_reason: Array) -> int:
    """Judge a batch of one instrument in order; return how many were admitted.

    `guard` is a GUARD record, `events` EVENT rows [n] (GAP flags are set in place), `out_reason` int8 [n]
    receives the Quarantine reason of each row, 0 where it was admitted.
    """
    admitted = 0
    for i in range(len(events)):
        out_reason[i] = judge(guard, events[i])
        if out_reason[i] == _ACCEPTED:
            admitted += 1
    return admitted
