"""One FIX session as a pure state machine: bytes and a clock in, bytes and calls out. No I/O, no tasks.

    session.connect()            the transport is up
    session.receive(data)        bytes arrived
    session.tick()               time passed; call at `session.deadline_ns` or more often
    session.send(b"D", body)     our own messages
    session.drain()              bytes to write, after each of these

Rules are those of FIX 4.4 volume 2: a garbled frame is ignored and takes no number; a number too high asks for a
resend, and the message waits for its turn; one too low without PossDup ends the session; gap fills and resets move
the expected number. What the session refuses (35=3) its application hears as `on_refused`.
"""

from collections.abc import Callable

from emp.access.fix.frame import Books, Frame, Framer
from emp.access.fix.incoming import Incoming
from emp.access.fix.judge import body_fault, header_fault
from emp.access.fix.logon import Door
from emp.access.fix.message import Message, masked
from emp.access.fix.pulse import Pulse
from emp.access.fix.state import SECOND, State
from emp.access.fix.store import SequenceStore
from emp.access.fix.terms import FORMAT_WRONG, VALUE_WRONG, Application, Fault, Phase, SessionConfig
from emp.access.fix.text import FieldError
from emp.access.fix.wire import FRAME
from emp.access.port import Cause
from emp.core.clock import Clock


class Session:
    """The state machine; see the module's text for its use."""

    def __init__(
        self,
        config: SessionConfig,
        store: SequenceStore,
        clock: Clock,
        application: Application,
        market: Books | None = None,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.clock = clock
        self.refused = 0  # messages of the peer that were refused
        self._state = State(config, store, clock, application, log)
        self._pulse = Pulse(self._state)
        self._incoming = Incoming(self._state, self._act_on_held)
        self._door = Door(self._state, self._incoming)
        self._market = market
        self._log = log
        self._secrets = config.secrets
        self._live = self._new_framer()
        self.framer = self._live  # that of the message in hand
        self._replayed: Framer | None = None  # for messages that have waited

    @property
    def phase(self) -> Phase:
        """Where the session is in its life."""
        return self._state.phase

    @property
    def reason(self) -> str:
        """Why it ended, or why it is ending; empty where it goes on, and where nothing was said."""
        return self._state.reason

    @property
    def cause(self) -> Cause:
        """The kind of that reason."""
        return self._state.cause

    @property
    def fatal(self) -> bool:
        """Whether the reason stands: connecting again changes nothing."""
        return self._state.fatal

    @property
    def unanswered(self) -> bool:
        """Whether nothing came back to the logon."""
        return self._state.unanswered

    @property
    def begins_anew(self) -> bool:
        """Whether the last logon failed by its numbers alone, and the next one asks the peer to reset them."""
        return self._door.begins_anew

    @property
    def active_ns(self) -> int:
        """Monotonic time of the logon of this connection, -1 before it."""
        return self._state.active_ns

    @property
    def heartbeat_s(self) -> int:
        """The interval agreed on, 0 for none."""
        return self._state.heartbeat_s

    # --- the transport's side -------------------------------------------------------------------------------

    def dialling(self) -> None:
        """A connection is being made: what ended the last one is no reason for whatever becomes of this."""
        self._state.reason, self._state.unanswered, self._state.active_ns = "", False, -1

    def connect(self) -> None:
        """The transport is up: an initiator logs on."""
        self._live = self.framer = self._new_framer()
        self._state.connected()
        self._pulse.connected()
        self._incoming.connected()
        self._door.connected()

    def receive(self, data: bytes) -> None:
        """Take bytes in and act on every whole message among them."""
        framer, state, store = self._live, self._state, self.store
        while data:
            data = framer.write(data)
            while state.phase not in (Phase.CLOSING, Phase.DOWN):
                quick = state.phase is Phase.ACTIVE
                now = self.clock.now_ns()
                frame = framer.next(store.next_in if quick else -1, now)
                if frame[0] != FRAME:
                    break
                self._pulse.heard_ns = self.clock.monotonic_ns()  # garbage is no sign of life
                if self._pulse.test_pending:
                    self._pulse.answered()
                if frame[8] >= 0 and self._timely(frame[7], now):
                    store.next_in += 1
                    state.app.on_market(frame[8], frame[9])
                else:
                    self._take(frame, now)
                gap = state.gap
                if (gap.asked_ns >= 0 or gap.highest >= store.next_in) and state.phase is Phase.ACTIVE:
                    self._incoming.advance()
            if state.phase in (Phase.CLOSING, Phase.DOWN):
                break

    def tick(self) -> None:
        """Act on the time that has passed: heartbeats, test requests, timeouts, the end of session hours."""
        state, config = self._state, self.config
        now = self.clock.monotonic_ns()
        if state.phase is Phase.LOGON and now - state.since_ns >= config.logon_timeout_s * SECOND:
            state.unanswered = True
            state.close("no answer to the logon", "unanswered")
        elif state.phase is Phase.LOGOUT and now - state.since_ns >= config.logout_timeout_s * SECOND:
            state.close(state.reason)
        elif state.phase is Phase.ACTIVE:
            self._tick_active(now)

    def _tick_active(self, now: int) -> None:
        state = self._state
        if self.config.hours and not self.config.hours.session(self.clock.now_ns()):
            self.logout("end of session hours")
            return
        self._pulse.keep(now)
        if state.phase is Phase.ACTIVE and state.gap.awaited and now >= self._incoming.ask_again_ns():
            self._incoming.ask_again()
        if state.phase is Phase.ACTIVE:
            state.app.on_tick()
        self.store.keep()

    @property
    def deadline_ns(self) -> int:
        """Monotonic time of the next thing that `tick` may have to do."""
        state = self._state
        if state.phase is Phase.LOGON:
            return state.since_ns + int(self.config.logon_timeout_s * SECOND)
        if state.phase is Phase.LOGOUT:
            return state.since_ns + int(self.config.logout_timeout_s * SECOND)
        due = min(self._pulse.due_ns(), state.app.due_ns())
        return min(due, self._incoming.ask_again_ns()) if state.gap.awaited else due

    def lost(self, reason: str) -> None:
        """The transport is gone."""
        state = self._state
        was, state.phase = state.phase, Phase.DOWN
        self.store.keep()
        if was is not Phase.DOWN:
            state.app.on_logout(state.reason or reason)

    def fail(self, reason: str) -> None:
        """End for good, without a word to the peer: something on our side is broken."""
        self._state.fatal = True
        self._state.close(reason)

    def serve(self, application: Application) -> None:
        """Speak to another application from now on: a new connection of the same peer."""
        self._state.app = application

    def serving(self, application: Application) -> bool:
        """Whether this is the application that the session speaks to."""
        return self._state.app is application

    def ended(self, reason: str) -> None:
        """The link gives up: the application is told."""
        self._state.app.on_ended(reason)

    def take(self) -> list[bytes]:
        """Messages to write to the transport, oldest first."""
        return self._state.out.take()

    def drain(self) -> bytes:
        """Bytes to write to the transport, oldest first; empty when there are none."""
        return self._state.out.drain()

    # --- our side -------------------------------------------------------------------------------------------

    def send(self, kind: bytes, body: bytes) -> int:
        """Number and queue one message; `body` is its fields after the header, each with SOH. Returns the number."""
        return self._state.out.send(kind, body)

    def logout(self, reason: str) -> None:
        """Ask for an orderly end; the transport closes when the peer has answered, or in time without it."""
        self._door.log_out(reason)

    # --- one frame ------------------------------------------------------------------------------------------

    def _take(self, frame: Frame, now: int) -> None:
        """Judge a frame by its header and its number, then act on it."""
        message = Message(self._live, frame, self._secrets)
        if self._log:
            self._log("in", masked(message.raw, self._secrets))
        kind, logging_on = message.kind, self._state.phase is Phase.LOGON
        if logging_on and kind not in ("A", "5", "3", "j"):
            self._state.close(f"first message was 35={kind[:8]}, not a logon")
            return
        fault = header_fault(message, timely=self._timely(message.sent_ns, now))
        if fault is not None:
            self._refuse(message, fault)
        elif kind == "A":
            self._door.on_logon(message)
        elif kind == "5" and self._ends_at_once(message):
            self._door.on_logout(message)
        elif logging_on:
            self._door.refused(message)
        elif kind == "4" and message.get(123) != b"Y":
            self._incoming.reset(message)
        elif message.seq > self.store.next_in:
            self._incoming.too_high(message)
        elif message.seq < self.store.next_in:
            self._incoming.too_low(message)
        else:
            self._in_order(message, frame)

    def _ends_at_once(self, logout: Message) -> bool:
        """Whether a logout counts whatever its number: what it says matters more, unless it is an old one again."""
        expected = self.store.next_in
        return (
            self._state.phase is Phase.LOGON
            or logout.seq > expected
            or (logout.seq < expected and not logout.poss_dup)
        )

    def _act_on_held(self, raw: bytes) -> None:
        """The turn has come of a message that waited."""
        if self._replayed is None:
            self._replayed = self._new_framer()
        self.framer = self._replayed
        try:
            for frame in self._replayed.frames(raw):
                self._in_order(Message(self._replayed, frame, self._secrets), frame)
        finally:
            self.framer = self._live

    def _in_order(self, message: Message, frame: Frame) -> None:
        """A message with the expected number; that number is taken whatever becomes of it."""
        validate = self.config.validate
        fault = body_fault(message) or (validate(message) if validate else None)
        if fault is not None:
            self._refuse(message, fault)
            return
        kind = message.kind
        if kind == "4":
            new = message.integer(36)
            if new == message.seq and message.poss_dup:
                return  # asked for what it has not sent yet, it says that nothing is there; the number is still to come
            if new <= message.seq:
                self._refuse(message, Fault(VALUE_WRONG, 36, "NewSeqNo must be above MsgSeqNum"))
            else:
                self._incoming.skip_to(new)
        elif kind == "5":
            self.store.next_in += 1
            self._door.on_logout(message)
        else:
            try:
                self._act(message, frame)
            except FieldError as error:
                self._refuse(message, Fault(FORMAT_WRONG, 0, str(error)))
                return
            self.store.next_in += 1
            if kind not in ("W", "X", "0"):
                self.store.keep()

    def _act(self, message: Message, frame: Frame) -> None:
        """Do what a message asks for."""
        app = self._state.app
        kind = message.kind
        if kind in ("W", "X"):
            app.on_late_market(frame)
        elif kind == "1":
            self.send(b"0", b"112=%s\x01" % (message.get(112) or b""))
        elif kind == "2":
            self._state.resend(message)
        elif kind == "3":
            app.on_reject(message)
        elif kind == "0":
            app.on_heartbeat(message)
        else:
            app.on_message(message)

    def _refuse(self, message: Message, fault: Fault) -> None:
        """Reject a message; where it had the expected number, that is taken and the application told of the loss."""
        state = self._state
        if state.phase is Phase.LOGON:
            state.close(fault.text)
            return
        if not fault.silent:
            state.out.reject(message, fault)
            self.refused += 1
        if message.seq == self.store.next_in and not fault.silent:
            self.store.next_in += 1
            self.store.keep()
            if not fault.end:
                state.app.on_refused(message, fault.text)
        if fault.end:
            state.end(fault.text)

    def _timely(self, sent: int, now: int) -> bool:
        skew = self.config.max_skew_s
        return skew <= 0.0 or abs(now - sent) <= skew * SECOND

    def _new_framer(self) -> Framer:
        config = self.config
        return Framer(
            config.begin.encode(), config.target.encode(), config.sender.encode(), market=self._market
        )
