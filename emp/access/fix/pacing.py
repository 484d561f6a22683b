"""Recovery at a measured pace: one conversation at a time, later after each that did not hold, never faster."""

from typing import Final

from emp.access.fix.terms import NEVER

_S = 1_000_000_000
FIRST_NS: Final = 500_000_000
"""Shortest time between the beginnings of two recoveries; doubled for each further one."""

LONGEST_NS: Final = 30 * _S
STEADY_NS: Final = 10 * _S
"""What has held for so long counts as recovered: the next loss begins with the shortest wait."""


class Conversation:
    """When to begin a recovery of one thing (the books, the orders) that may be lost at any moment, and again.

    `want`, `unheard` and `tick` return True when a recovery has to begin now; then `done` or `failed` tells how it
    ended. One that is not answered within `timeout_ns` has failed. Times are monotonic ns.
    """

    def __init__(self, timeout_ns: int) -> None:
        self.begun = 0  # recoveries so far
        self._timeout_ns = timeout_ns
        self._wanted = False
        self._since_ns = -1  # when the one that runs began, -1: none does
        self._ended_ns = 0
        self._not_before_ns = 0
        self._in_a_row = 0
        self._fresh = False  # begun with the session, and not missed by the venue yet

    @property
    def running(self) -> bool:
        """Whether a recovery has begun and not ended."""
        return self._since_ns >= 0

    @property
    def pending(self) -> bool:
        """Whether something is lost that no running recovery will bring back."""
        return self._wanted

    def stop(self) -> None:
        """The session is over, and with it what ran in it."""
        self._wanted = False
        self._since_ns = -1

    def start(self, now_ns: int) -> None:
        """A new session: begin at once; what ran in the old one is over, and connections have a pace of their own."""
        self._wanted = False
        self._since_ns = now_ns
        self._fresh = True
        self.begun += 1

    def unheard(self, now_ns: int) -> bool:
        """What was asked for has not arrived: ask again, at once the first time in a session, else when it is time.

        A first request is often missed after a reconnect, when the venue asks for all since the loss; its being missed
        says nothing of the venue, a second time does.
        """
        again = self._fresh
        self.failed(now_ns)
        if again:
            self.start(now_ns)
            self._fresh = False
        return again or self.tick(now_ns)

    def want(self, now_ns: int) -> bool:
        """Something was lost."""
        self._wanted = True
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> bool:
        """Time has passed."""
        if self.running and now_ns - self._since_ns >= self._timeout_ns:
            self._wanted = True
            self._since_ns = -1
        if not self._wanted or self.running or now_ns < self._not_before_ns:
            return False
        if self._in_a_row and now_ns - max(self._ended_ns, self._not_before_ns) >= STEADY_NS:
            self._in_a_row = 0
        wait = min(LONGEST_NS, FIRST_NS << min(self._in_a_row, 30))
        self._in_a_row += 1
        self._not_before_ns = now_ns + wait
        self._since_ns = now_ns
        self._wanted = False
        self.begun += 1
        return True

    def done(self, now_ns: int, *, whole: bool = False) -> None:
        """The recovery that ran has ended well; `whole`: what was lost meanwhile came back with it."""
        self._since_ns = -1
        self._ended_ns = now_ns
        self._wanted = self._wanted and not whole

    def failed(self, now_ns: int) -> None:
        """It has not: another will be tried when it is time."""
        self.done(now_ns)
        self._wanted = True

    def due_ns(self) -> int:
        """When `tick` will have something to do, NEVER where nothing is awaited."""
        if self.running:
            return self._since_ns + self._timeout_ns
        return self._not_before_ns if self._wanted else NEVER
