"""Signs of life: heartbeats, test requests, and a peer that has fallen silent.

An initiator asks a silent peer sooner than FIX suggests (1.2 heartbeats): a connection that is open on our side alone
looks like a quiet one, and an order into it is lost. Any answer takes one round trip, however quiet the market. What a
peer may take for it follows the slowest that it has shown, so that a slow venue is cut once at most.
"""

from typing import Final

from emp.access.fix.state import SECOND, UNHURRIED_S, State

QUIET_NS: Final = 10 * SECOND
"""Silence after which an initiator asks for a sign of life; 1.2 heartbeats where those are shorter."""

ANSWER_NS: Final = 10 * SECOND
"""The least time that a peer has for the answer; 1.2 heartbeats where those are shorter."""

MARGIN: Final = 4
"""Times the last answer's time that the next may take."""


class Pulse:
    """When the peer was heard last, and what its silence, or ours, asks for."""

    def __init__(self, state: State) -> None:
        self.heard_ns = 0
        self.test_pending = False
        self._asked_ns = 0
        self._patience_ns = ANSWER_NS
        self._state = state

    def connected(self) -> None:
        """A new connection."""
        self.heard_ns = self._state.clock.monotonic_ns()
        self.test_pending = False

    def answered(self) -> None:
        """Something was heard after a test request."""
        self.test_pending = False
        self._patience_ns = max(ANSWER_NS, MARGIN * (self.heard_ns - self._asked_ns))

    def keep(self, now: int) -> None:
        """Speak where we have been silent, and ask where the peer has been."""
        state = self._state
        if state.heartbeat_s == 0:  # no heartbeats were agreed
            return
        silent = now - self.heard_ns
        if self.test_pending and now >= self._given_up_ns():
            # it may only have been slow: the next connection is given longer
            self._patience_ns = min(2 * self._patience_ns, self._longest_ns())
            state.close(f"the peer has been silent for {silent / SECOND:.1f} s", "silent")
            return
        if not self.test_pending and silent >= self._quiet_ns():
            self.test_pending = True
            self._asked_ns = now
            state.out.send(b"1", b"112=%d\x01" % now)
        if now - state.out.spoke_ns >= state.heartbeat_s * SECOND:
            state.out.send(b"0", b"")

    def due_ns(self) -> int:
        """When `keep` may have something to do."""
        state = self._state
        due = state.out.spoke_ns + (state.heartbeat_s or UNHURRIED_S) * SECOND
        if state.heartbeat_s:
            return min(due, self._given_up_ns() if self.test_pending else self.heard_ns + self._quiet_ns())
        return max(due, state.clock.monotonic_ns() + SECOND)

    def _longest_ns(self) -> int:
        """1.2 heartbeats: silence that FIX takes for a reason to ask, and as much again to give up."""
        return 12 * self._state.heartbeat_s * SECOND // 10

    def _quiet_ns(self) -> int:
        longest = self._longest_ns()
        return min(longest, QUIET_NS) if self._state.config.initiator else longest

    def _given_up_ns(self) -> int:
        longest = self._longest_ns()
        return self._asked_ns + (min(longest, self._patience_ns) if self._state.config.initiator else longest)
