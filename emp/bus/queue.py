"""One instrument's queue of market data: a preallocated ring that merges events when it is full.

The ring never holds more than `bound` events. When it is full, neighbours are merged in pairs, oldest first:
the later book wins and traded quantities are added, so that no traded volume disappears. Trades of opposite
sides are left apart as long as a quarter of the ring can be freed without joining them; what is netted
against each other after that is counted in `netted`.
"""

from typing import Any

import numpy as np

from emp.bus.order import judge
from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import Array

QUEUE = np.dtype(
    [
        ("head", "i8"),  # slot of the oldest event
        ("count", "i8"),  # events waiting
        ("bound", "i8"),
        ("received", "i8"),  # events offered
        ("delivered", "i8"),  # events released to the engine
        ("conflated", "i8"),  # events merged into a later one
        ("quarantined", "i8"),  # events refused by the guard
        ("netted", "i8"),  # lots of opposite trades that cancelled in a merged event
        ("high_water", "i8"),  # most events that ever waited
    ],
    align=True,
)
"""A ring's place and its books: received == delivered + conflated + quarantined + count, always."""

_ACCEPTED = int(Quarantine.ACCEPTED)
_HALT = np.uint32(EventFlag.HALT)
_RESUME = np.uint32(EventFlag.RESUME)
_BOOK_KIND = np.uint32(EventFlag.NO_SIZE | EventFlag.NO_DEPTH)


@kernel
def opposite(earlier: Any, later: Any) -> bool:
    """Whether both events carry trades, of opposite aggressors."""
    a, b = earlier.trade_qty, later.trade_qty
    return bool((a > 0 and b < 0) or (a < 0 and b > 0))


@kernel
def merge(earlier: Any, later: Any) -> int:
    """Fold `earlier` into `later`, in place; return the lots of opposite trades that cancelled.

    Book, ts and seq are the later event's. Trades are added; the price is the last trade's. Flags are
    joined, except that a later halt or resume stands alone and what a book lacks is said by the later one.
    """
    netted = 0
    if earlier.trade_qty != 0:
        if later.trade_qty == 0:
            later.trade_px = earlier.trade_px
            later.trade_qty_last = earlier.trade_qty_last
        elif later.trade_px == earlier.trade_px and not opposite(earlier, later):
            later.trade_qty_last += earlier.trade_qty_last
        if opposite(earlier, later):
            netted = 2 * min(abs(earlier.trade_qty), abs(later.trade_qty))
        later.trade_qty += earlier.trade_qty
    kept = earlier.flags & ~_BOOK_KIND
    if later.flags & (_HALT | _RESUME):
        kept &= ~(_HALT | _RESUME)
    later.flags |= kept
    return netted


@kernel
def _merge_pairs(queue: Any, ring: Array, stamps: Array, opposites_too: bool) -> None:
    """Merge waiting neighbours two by two, oldest first, and close the ranks."""
    bound = queue.bound
    write = 0
    read = 0
    while read < queue.count:
        here = (queue.head + read) % bound
        stamp = stamps[here]
        if read + 1 < queue.count:
            after = (here + 1) % bound
            if opposites_too or not opposite(ring[here], ring[after]):
                queue.netted += merge(ring[here], ring[after])
                queue.conflated += 1
                here = after
                read += 1
        slot = (queue.head + write) % bound
        if slot != here:
            ring[slot] = ring[here]
        stamps[slot] = stamp
        write += 1
        read += 1
    queue.count = write


@kernel
def make_room(queue: Any, ring: Array, stamps: Array) -> None:
    """Merge waiting events until at least a quarter of the ring is free."""
    _merge_pairs(queue, ring, stamps, False)
    if queue.count > queue.bound - queue.bound // 4:
        _merge_pairs(queue, ring, stamps, True)


@kernel
def offer(
    queues: Array,
    guards: Array,
    rings: Array,
    all_stamps: Array,
    instrument: int,
    events: Array,
    now_ns: int,
    out_reason: Array,
) -> int:
    """Judge a batch of one instrument and queue what is admitted; return how many were admitted.

    `queues` QUEUE [I], `guards` GUARD [I], `rings` EVENT [I, bound], `all_stamps` int64 [I, bound] (monotonic
    ns at which the oldest part of each waiting event was queued), `events` EVENT rows [n] in the order of
    arrival (GAP flags are set in place), `out_reason` int8 [n] receives the Quarantine reason of each row.
    Whole arrays are passed because handing a single record to compiled code costs a microsecond.
    """
    queue = queues[instrument]
    guard = guards[instrument]
    ring = rings[instrument]
    stamps = all_stamps[instrument]
    admitted = 0
    for i in range(len(events)):
        queue.received += 1
        out_reason[i] = judge(guard, events[i])
        if out_reason[i] != _ACCEPTED:
            queue.quarantined += 1
            continue
        admitted += 1
        if queue.count == queue.bound:
            make_room(queue, ring, stamps)
        slot = (queue.head + queue.count) % queue.bound
        ring[slot] = events[i]
        stamps[slot] = now_ns
        queue.count += 1
        queue.high_water = max(queue.high_water, queue.count)
    return admitted
