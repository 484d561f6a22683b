"""The peer's numbers: what is missing is asked for, what came early waits, gap fills and resets move what is due."""

from collections.abc import Callable

from emp.access.fix.gap import TRIES
from emp.access.fix.judge import body_fault
from emp.access.fix.message import Message
from emp.access.fix.state import SECOND, UNHURRIED_S, State
from emp.access.fix.terms import TAG_MISSING, TIME_WRONG, VALUE_WRONG, Fault, Phase
from emp.access.fix.text import utc_ns


class Incoming:
    """Decides what becomes of a message by its number alone; `act` is called with the bytes of one whose turn came."""

    def __init__(self, state: State, act: Callable[[bytes], None]) -> None:
        self._state = state
        self._act = act
        self._filled_to = 0  # while numbers are being skipped: the first that is not

    def connected(self) -> None:
        """A new connection."""
        self._filled_to = 0

    def too_high(self, message: Message) -> None:
        """Messages are missing: ask for them, once; this one waits for its turn."""
        state = self._state
        request = message.kind == "2"  # answered at once, or both sides would wait for each other
        if request and body_fault(message) is None:
            state.resend(message)
        self.early(message, answered=request)

    def early(self, message: Message, *, answered: bool) -> None:
        """Keep a message whose number is too high, and ask for what is missing before it where nothing is awaited."""
        gap = self._state.gap
        gap.hold(message.seq, message.raw, answered=answered)
        if not gap.awaited:
            self.ask_resend()

    def too_low(self, message: Message) -> None:
        """A number that was taken before: a duplicate, or the end."""
        state = self._state
        if not message.poss_dup:
            if not state.gap.resent(message.seq):  # what was asked for may come twice, and unmarked
                state.end(f"MsgSeqNum too low, expecting {state.store.next_in} but received {message.seq}")
            return
        original = message.get(122)
        if original is None and message.kind != "4":
            state.out.reject(message, Fault(TAG_MISSING, 122, "OrigSendingTime missing"))
        elif original is not None and utc_ns(original) > message.sent_ns:
            state.out.reject(message, Fault(TIME_WRONG, 122, "SendingTime accuracy problem"))
            state.end("OrigSendingTime after SendingTime")

    def ask_resend(self) -> None:
        """Ask for what is missing, or for the first chunk of it."""
        state = self._state
        first, last = state.gap.request(state.store.next_in, state.clock.monotonic_ns())
        state.out.send(b"2", b"7=%d\x0116=%d\x01" % (first, last))

    def ask_again_ns(self) -> int:
        """When a request that brings nothing is made again: later each time."""
        gap = self._state.gap
        return gap.asked_ns + gap.tries * (self._state.heartbeat_s or UNHURRIED_S) * SECOND

    def ask_again(self) -> None:
        """Nothing came: ask once more, or give the session up."""
        gap = self._state.gap
        if gap.tries >= TRIES:
            missing = f"{gap.asked_from} to {gap.asked_to}"
            self._state.end(f"messages {missing} were asked for {TRIES} times and did not come")
        else:
            self.ask_resend()

    def advance(self) -> None:
        """The expected number may have moved: act on what waited for it, ask for what is still missing."""
        state = self._state
        while state.phase is Phase.ACTIVE and self._take_held():
            pass
        if state.phase is Phase.ACTIVE and state.gap.progress(
            state.store.next_in, state.clock.monotonic_ns()
        ):
            self.ask_resend()

    def _take_held(self) -> bool:
        """Act on the message that waits under the expected number; False where none does."""
        state = self._state
        held = state.gap.take(state.store.next_in)
        if held is None:
            return False
        if held.answered:
            state.store.next_in += 1
        else:
            self._act(held.raw)
        return True

    def skip_to(self, new: int) -> None:
        """Move the expected number up: what waits in between is acted on, the rest will not come."""
        state = self._state
        if self._filled_to:  # a gap fill that waited itself, inside the range of another
            self._filled_to = max(self._filled_to, new)
            state.store.next_in += 1
            return
        self._filled_to = new
        while state.store.next_in < self._filled_to and state.phase in (Phase.ACTIVE, Phase.LOGOUT):
            first, following = state.store.next_in, state.gap.first_held(self._filled_to)
            if following > first:
                state.store.next_in = following
                state.app.on_gap(first, following - 1)
            else:
                self._take_held()
        self._filled_to = 0
        state.store.keep()

    def reset(self, message: Message) -> None:
        """35=4 in reset mode: MsgSeqNum does not count, NewSeqNo does."""
        new, expected = message.integer(36), self._state.store.next_in
        if new >= expected:
            self.skip_to(new)
        elif message.get(36) is None:
            self._state.out.reject(message, Fault(TAG_MISSING, 36, "required tag missing"))
        else:
            text = f"NewSeqNo {new} would lower the expected {expected}"
            self._state.out.reject(message, Fault(VALUE_WRONG, 36, text))
