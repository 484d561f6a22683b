"""A market's time stamps where the clock that makes them was set back: what follows is not old for as long as that.

The ordering guard refuses what is stamped before what it has admitted, and rightly: a venue may send again what was.
But stamps that stay behind and run on as ours do are those of a clock that has been set. From then on a market's time
goes on from where it was, half as fast as ours until the stamps have caught up: it neither stands still, for which
orders and pauses would wait, nor goes back. So it does where a door lets its stamps stand still meanwhile.
"""

import numpy as np

from emp.core.codes import EventFlag
from emp.core.records import Array

PATIENCE_NS = 5_000_000_000
"""For so long stamps must have run on behind what was admitted; until then they are refused."""

SLOWER = 2
"""Our time over the market's while stamps catch up; stamps that run on at less than that rate are no clock's."""

_GAP = np.uint32(EventFlag.GAP)


class _Clock:
    """What is known of the stamps of one instrument."""

    def __init__(self) -> None:
        self.ts, self.seq, self.at_ns = 0, -1, 0  # of the newest row; when its stamp was new (monotonic)
        self.behind_ns = 0  # when stamps began to stay behind; 0: they do not
        self.first_ts = self.last_ts = 0  # of those that do
        self.was_set = False


class VenueTime:
    """Stamps of some instruments, by their index."""

    def __init__(self, instruments: int) -> None:
        self._clocks = [_Clock() for _ in range(instruments)]
        self.steps = 0
        """How often a clock was found to have been set back."""

    def take(self, rows: Array, now_ns: int) -> Array:
        """EVENT rows [n] as they are to be judged, at monotonic `now_ns`: the same array, or a changed copy."""
        named, stamps, numbers = rows["instrument"], rows["ts"], rows["seq"]
        for k in range(len(rows)):
            i, ts, seq = named.item(k), stamps.item(k), numbers.item(k)
            if not 0 <= i < len(self._clocks) or seq <= (clock := self._clocks[i]).seq:
                continue
            was_set = clock.was_set
            if ts > clock.ts:
                clock.behind_ns, clock.was_set = 0, False
                clock.ts, clock.seq, clock.at_ns = ts, seq, now_ns
                continue
            if ts == clock.ts:
                clock.seq, clock.was_set = seq, was_set or now_ns - clock.at_ns >= PATIENCE_NS
                if not clock.was_set:
                    continue
            elif not self._runs_on(clock, ts, now_ns):
                continue
            rows = rows.copy()
            clock.ts += (now_ns - clock.at_ns) // SLOWER
            clock.seq, clock.at_ns = seq, now_ns
            rows["ts"][k] = clock.ts
            if not was_set:
                rows["flags"][k] |= _GAP
                self.steps += 1
        return rows

    @staticmethod
    def _runs_on(clock: _Clock, ts: int, now_ns: int) -> bool:
        """Whether stamps that are behind are those of a clock that was set."""
        if not clock.was_set:
            if not clock.behind_ns or ts < clock.last_ts:
                clock.behind_ns, clock.first_ts = now_ns, ts
            passed = now_ns - clock.behind_ns
            clock.was_set = passed >= PATIENCE_NS and ts - clock.first_ts >= passed // SLOWER
        clock.last_ts = ts
        return clock.was_set
