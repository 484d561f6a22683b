"""Signs of life: heartbeats, test requests, and a peer that has fallen silent."""

from emp.access.fix.state import SECOND, UNHURRIED_S, State


class Pulse:
    """When the peer was heard last, and what its silence, or ours, asks for."""

    def __init__(self, state: State) -> None:
        self.heard_ns = 0
        self.test_pending = False
        self._state = state

    def connected(self) -> None:
        """A new connection."""
        self.heard_ns = self._state.clock.monotonic_ns()
        self.test_pending = False

    def keep(self, now: int) -> None:
        """Speak where we have been silent, and ask where the peer has been."""
        state = self._state
        beat = state.heartbeat_s * SECOND
        if beat == 0:  # no heartbeats were agreed
            return
        silent = now - self.heard_ns
        if silent >= 2.4 * beat and self.test_pending:
            state.close(f"the peer has been silent for {silent / SECOND:.1f} s", "silent")
            return
        if silent >= 1.2 * beat and not self.test_pending:
            self.test_pending = True
            state.out.send(b"1", b"112=%d\x01" % now)
        if now - state.out.spoke_ns >= beat:
            state.out.send(b"0", b"")

    def due_ns(self) -> int:
        """When `keep` may have something to do."""
        state = self._state
        beat = (state.heartbeat_s or UNHURRIED_S) * SECOND
        due = state.out.spoke_ns + beat
        if state.heartbeat_s:
            return min(due, self.heard_ns + int((2.4 if self.test_pending else 1.2) * beat))
        return max(due, state.clock.monotonic_ns() + SECOND)
