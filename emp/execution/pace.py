"""How often the same thing may be asked of a venue that refuses it: at once, then less and less often.

Times are those that the ledger holds with each try, so that a replay tries when the run did. A clock that went back
(another venue's, or a step) makes a try due: what lowers the risk is never kept waiting by a wrong clock.
"""

from collections import deque

FIRST_NS = 25_000_000
LONGEST_NS = 5_000_000_000
"""The first refusal costs nothing, the second this long, each further one twice as much, up to the longest."""

PER_MINUTE = 60
"""Tries in any minute, refused or not."""

_MINUTE_NS = 60_000_000_000


def pause_ns(refused: int) -> int:
    """How long after the last try the next one is due, when so many in a row were refused."""
    return 0 if refused < 2 else min(LONGEST_NS, FIRST_NS << min(refused - 2, 16))


def passed(now_ns: int, tried_ns: int, pause: int) -> bool:
    """Whether a pause is over; a time before the try says nothing of it, and does not prolong it."""
    return not tried_ns <= now_ns < tried_ns + pause


class Pace:
    """When to try again to get one instrument flat."""

    def __init__(self) -> None:
        self.refused = 0
        """Tries in a row that closed nothing."""
        self.tried_ns = 0
        self._tries: deque[int] = deque(maxlen=PER_MINUTE)

    def due(self, now_ns: int) -> bool:
        """Whether a try may leave at `now_ns`."""
        full = len(self._tries) == PER_MINUTE
        if full and not passed(now_ns, self._tries[0], _MINUTE_NS):
            return False
        return passed(now_ns, self.tried_ns, pause_ns(self.refused))

    def tried(self, now_ns: int) -> None:
        """A try leaves."""
        self.tried_ns = now_ns
        self._tries.append(now_ns)

    def told(self, *, closed: bool) -> None:
        """The venue has answered a try: something was closed, or nothing."""
        self.refused = 0 if closed else self.refused + 1

    def afresh(self) -> None:
        """What stood in the way is gone, or the owner asks: the next try is due now; the minute's tries count on."""
        self.refused = 0
        self.tried_ns = 0
