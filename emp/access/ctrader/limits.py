"""The venue's request limits, kept on our side: excess waits, and no second ever sees more than allowed."""

from collections import deque

SECOND_NS = 1_000_000_000
MARGIN_NS = 50_000_000
"""Added to the window, because requests reach the venue with jitter."""


class RateLimit:
    """At most `limit` sends in any window of one second.

    Stricter than a token bucket, which lets a full bucket and its refill out within the same second.
    """

    def __init__(self, limit: int) -> None:
        self._sent: deque[int] = deque(maxlen=limit)
        self.limit = limit

    def free_at(self, reserve: int = 0) -> int:
        """Monotonic ns from which one more may be sent while `reserve` places stay free; 0 for at once."""
        place = len(self._sent) - (self.limit - reserve)
        return self._sent[place] + SECOND_NS + MARGIN_NS if place >= 0 else 0

    def take(self, now_ns: int) -> None:
        """Account for one send."""
        self._sent.append(now_ns)

    def clear(self) -> None:
        """Forget everything: limits count per connection."""
        self._sent.clear()
