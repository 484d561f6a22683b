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

import re
from collections.abc import Callable

from emp.access.fix.frame import Books, Frame, Framer
from emp.access.fix.gap import TRIES, Gap
from emp.access.fix.judge import body_fault, header_fault
from emp.access.fix.message import Message, masked
from emp.access.fix.outgoing import Outgoing
from emp.access.fix.scan import FRAME
from emp.access.fix.store import SequenceStore
from emp.access.fix.terms import (
    FORMAT_WRONG,
    TAG_MISSING,
    TIME_WRONG,
    VALUE_WRONG,
    Application,
    Fault,
    Phase,
    SessionConfig,
)
from emp.access.fix.text import FieldError, utc_ns
from emp.core.clock import Clock

_S = 1_000_000_000
_UNHURRIED_S = 30  # between requests for a resend where no heartbeats were agreed

_TOO_LOW = re.compile(r"too low|lower than expected", re.IGNORECASE)
_FINAL = re.compile(
    r"password|credential|authenti|authori[sz]|user ?name|unknown (user|account)", re.IGNORECASE
)
"""Words with which a peer refuses a logon for good: asking again changes nothing, and may lock the account."""

_REMEDY = (
    "set access.reset_on_logon if the venue begins anew at each logon, or access.reset_on_loss to do so once"
)


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
        self.phase = Phase.DOWN
        self.reason = ""
        self.fatal = False  # the reason stands: connecting again changes nothing
        self.unanswered = False  # nothing came back to the logon
        self.heartbeat_s = config.heartbeat_s
        self.active_ns = -1  # monotonic time of the logon of this connection, -1 before it
        self.refused = 0  # messages of the peer that were refused
        self._app = application
        self._market = market
        self._log = log
        self._secrets = config.secrets
        self._out = Outgoing(config, store, clock, log)
        self._live = self._new_framer()
        self.framer = self._live  # that of the message in hand
        self._replayed: Framer | None = None  # for messages that have waited
        self._gap = Gap()
        self._filled_to = 0  # while numbers are being skipped: the first that is not
        self._heard_ns = self._since_ns = 0
        self._test_pending = False
        self._reset_sent = False  # a logon with 141=Y awaits its answer
        self._lost_numbers = False  # the last logon showed that the two sides do not agree

    # --- the transport's side -------------------------------------------------------------------------------

    def connect(self) -> None:
        """The transport is up: an initiator logs on."""
        now = self.clock.monotonic_ns()
        self._live = self.framer = self._new_framer()
        self._out.restart()
        self._out.spoke_ns = self._heard_ns = self._since_ns = now
        self._gap = Gap()
        self._filled_to = 0
        self._test_pending = False
        self._reset_sent = False
        self.reason = ""
        self.fatal = self.unanswered = False
        self.active_ns = -1
        self.heartbeat_s = self.config.heartbeat_s
        self.phase = Phase.LOGON
        wall = self.clock.now_ns()
        session = self.config.hours.session(wall) if self.config.hours else None
        over = session is not None and self.store.created_ns < session[0]
        if self.config.reset_on_logon or over or (self._lost_numbers and self.config.reset_on_loss):
            self._reset_numbers()
        if self.config.initiator:
            self._send_logon(reset=self.store.next_out == 1 and self.store.next_in == 1)

    def receive(self, data: bytes) -> None:
        """Take bytes in and act on every whole message among them."""
        framer = self._live
        while data:
            data = framer.write(data)
            while self.phase not in (Phase.CLOSING, Phase.DOWN):
                quick = self.phase is Phase.ACTIVE
                now = self.clock.now_ns()
                frame = framer.next(self.store.next_in if quick else -1, now)
                if frame[0] != FRAME:
                    break
                self._heard_ns = self.clock.monotonic_ns()  # garbage is no sign of life
                self._test_pending = False
                if frame[8] >= 0 and self._timely(frame[7], now):
                    self.store.next_in += 1
                    self._app.on_market(frame[8], frame[9])
                else:
                    self._take(frame, now)
                if self._gap.highest >= self.store.next_in and self.phase is Phase.ACTIVE:
                    self._advance()
            if self.phase in (Phase.CLOSING, Phase.DOWN):
                break

    def tick(self) -> None:
        """Act on the time that has passed: heartbeats, test requests, timeouts, the end of session hours."""
        now = self.clock.monotonic_ns()
        if self.phase is Phase.LOGON and now - self._since_ns >= self.config.logon_timeout_s * _S:
            self.unanswered = True
            self._close("no answer to the logon")
        elif self.phase is Phase.LOGOUT and now - self._since_ns >= self.config.logout_timeout_s * _S:
            self._close(self.reason)
        elif self.phase is Phase.ACTIVE:
            if self.config.hours and not self.config.hours.session(self.clock.now_ns()):
                self.logout("end of session hours")
                return
            self._keep_alive(now)
            if self.phase is Phase.ACTIVE and self._gap.awaited and now >= self._ask_again_ns():
                self._ask_again()
            if self.phase is Phase.ACTIVE:
                self._app.on_tick()
            self.store.keep()

    def _keep_alive(self, now: int) -> None:
        """Speak where we have been silent, and ask where the peer has been."""
        beat = self.heartbeat_s * _S
        if beat == 0:  # no heartbeats were agreed
            return
        silent = now - self._heard_ns
        if silent >= 2.4 * beat and self._test_pending:
            self._close(f"the peer has been silent for {silent / _S:.1f} s")
            return
        if silent >= 1.2 * beat and not self._test_pending:
            self._test_pending = True
            self.send(b"1", b"112=%d\x01" % now)
        if now - self._out.spoke_ns >= beat:
            self.send(b"0", b"")

    @property
    def deadline_ns(self) -> int:
        """Monotonic time of the next thing that `tick` may have to do."""
        if self.phase is Phase.LOGON:
            return self._since_ns + int(self.config.logon_timeout_s * _S)
        if self.phase is Phase.LOGOUT:
            return self._since_ns + int(self.config.logout_timeout_s * _S)
        beat = (self.heartbeat_s or _UNHURRIED_S) * _S
        due = self._out.spoke_ns + beat
        if self.heartbeat_s:
            due = min(due, self._heard_ns + int((2.4 if self._test_pending else 1.2) * beat))
        else:
            due = max(due, self.clock.monotonic_ns() + _S)
        due = min(due, self._app.due_ns())
        return min(due, self._ask_again_ns()) if self._gap.awaited else due

    def lost(self, reason: str) -> None:
        """The transport is gone."""
        was, self.phase = self.phase, Phase.DOWN
        self.store.keep()
        if was is not Phase.DOWN:
            self._app.on_logout(self.reason or reason)

    def fail(self, reason: str) -> None:
        """End for good, without a word to the peer: something on our side is broken."""
        self.fatal = True
        self._close(reason)

    def serve(self, application: Application) -> None:
        """Speak to another application from now on: a new connection of the same peer."""
        self._app = application

    def serving(self, application: Application) -> bool:
        """Whether this is the application that the session speaks to."""
        return self._app is application

    def ended(self, reason: str) -> None:
        """The link gives up: the application is told."""
        self._app.on_ended(reason)

    def take(self) -> list[bytes]:
        """Messages to write to the transport, oldest first."""
        return self._out.take()

    def drain(self) -> bytes:
        """Bytes to write to the transport, oldest first; empty when there are none."""
        return self._out.drain()

    # --- our side -------------------------------------------------------------------------------------------

    def send(self, kind: bytes, body: bytes) -> int:
        """Number and queue one message; `body` is its fields after the header, each with SOH. Returns the number."""
        return self._out.send(kind, body)

    def logout(self, reason: str) -> None:
        """Ask for an orderly end; the transport closes when the peer has answered, or in time without it."""
        if self.phase is Phase.ACTIVE:
            self.phase = Phase.LOGOUT
            self.reason = reason
            self._since_ns = self.clock.monotonic_ns()
            self.send(b"5", b"58=%s\x01" % reason.encode())
        elif self.phase is Phase.LOGON:
            self._close(reason)

    # --- one frame ------------------------------------------------------------------------------------------

    def _take(self, frame: Frame, now: int) -> None:
        """Judge a frame by its header and its number, then act on it."""
        message = Message(self._live, frame, self._secrets)
        if self._log:
            self._log("in", masked(message.raw, self._secrets))
        kind = message.kind
        if self.phase is Phase.LOGON and kind not in ("A", "5", "3", "j"):
            self._close(f"first message was 35={kind[:8]}, not a logon")
            return
        fault = header_fault(message, timely=self._timely(message.sent_ns, now))
        if fault is not None:
            self._refuse(message, fault)
        elif kind == "A":
            self._on_logon(message)
        elif kind == "5" and self._ends_at_once(message):
            self._on_logout(message)
        elif self.phase is Phase.LOGON:
            self._refused_logon(message.text(58, "no reason given"))
        elif kind == "4" and message.get(123) != b"Y":
            self._on_reset(message)
        elif message.seq > self.store.next_in:
            self._too_high(message)
        elif message.seq < self.store.next_in:
            self._too_low(message)
        else:
            self._in_order(message, frame)

    def _ends_at_once(self, logout: Message) -> bool:
        """Whether a logout counts whatever its number: what it says matters more, unless it is an old one again."""
        expected = self.store.next_in
        return (
            self.phase is Phase.LOGON
            or logout.seq > expected
            or (logout.seq < expected and not logout.poss_dup)
        )

    def _in_order(self, message: Message, frame: Frame) -> None:
        """A message with the expected number; that number is taken whatever becomes of it."""
        validate = self.config.validate
        fault = body_fault(message) or (validate(message) if validate else None)
        if fault is not None:
            self._refuse(message, fault)
            return
        kind = message.kind
        if kind == "4":
            self._on_gap_fill(message)
        elif kind == "5":
            self.store.next_in += 1
            self._on_logout(message)
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
        kind = message.kind
        if kind in ("W", "X"):
            self._app.on_late_market(frame)
        elif kind == "1":
            self.send(b"0", b"112=%s\x01" % (message.get(112) or b""))
        elif kind == "2":
            self._out.again(message)
        elif kind == "3":
            self._app.on_reject(message)
        elif kind == "0":
            self._app.on_heartbeat(message)
        else:
            self._app.on_message(message)

    # --- numbers --------------------------------------------------------------------------------------------

    def _too_high(self, message: Message) -> None:
        """Messages are missing: ask for them, once; this one waits for its turn."""
        request = message.kind == "2"  # answered at once, or both sides would wait for each other
        if request and body_fault(message) is None:
            self._out.again(message)
        self._gap.hold(message.seq, message.raw, answered=request)
        if not self._gap.awaited:
            self._ask_resend()

    def _too_low(self, message: Message) -> None:
        """A number that was taken before: a duplicate, or the end."""
        if not message.poss_dup:
            if not self._gap.resent(message.seq):  # what was asked for may come twice, and unmarked
                text = f"MsgSeqNum too low, expecting {self.store.next_in} but received {message.seq}"
                self._end(text)
            return
        original = message.get(122)
        if original is None and message.kind != "4":
            self._out.reject(message, Fault(TAG_MISSING, 122, "OrigSendingTime missing"))
        elif original is not None and utc_ns(original) > message.sent_ns:
            self._out.reject(message, Fault(TIME_WRONG, 122, "SendingTime accuracy problem"))
            self._end("OrigSendingTime after SendingTime")

    def _ask_resend(self) -> None:
        self.send(
            b"2", b"7=%d\x0116=%d\x01" % self._gap.request(self.store.next_in, self.clock.monotonic_ns())
        )

    def _ask_again_ns(self) -> int:
        """When a request that brings nothing is made again: later each time."""
        return self._gap.asked_ns + self._gap.tries * (self.heartbeat_s or _UNHURRIED_S) * _S

    def _ask_again(self) -> None:
        if self._gap.tries >= TRIES:
            first, last = self._gap.asked_from, self._gap.asked_to
            self._end(f"messages {first} to {last} were asked for {TRIES} times and did not come")
        else:
            self._ask_resend()

    def _advance(self) -> None:
        """The expected number may have moved: act on what waited for it, ask for what is still missing."""
        while self.phase is Phase.ACTIVE and self._take_held():
            pass
        if self.phase is Phase.ACTIVE and self._gap.progress(self.store.next_in, self.clock.monotonic_ns()):
            self._ask_resend()

    def _take_held(self) -> bool:
        """Act on the message that waits under the expected number; False where none does."""
        held = self._gap.take(self.store.next_in)
        if held is None:
            return False
        if held.answered:
            self.store.next_in += 1
            return True
        if self._replayed is None:
            self._replayed = self._new_framer()
        self.framer = self._replayed
        try:
            for frame in self._replayed.frames(held.raw):
                self._in_order(Message(self._replayed, frame, self._secrets), frame)
        finally:
            self.framer = self._live
        return True

    def _skip_to(self, new: int) -> None:
        """Move the expected number up: what waits in between is acted on, the rest will not come."""
        if self._filled_to:  # a gap fill that waited itself, inside the range of another
            self._filled_to = max(self._filled_to, new)
            self.store.next_in += 1
            return
        self._filled_to = new
        while self.store.next_in < self._filled_to and self.phase in (Phase.ACTIVE, Phase.LOGOUT):
            first, following = self.store.next_in, self._gap.first_held(self._filled_to)
            if following > first:
                self.store.next_in = following
                self._app.on_gap(first, following - 1)
            else:
                self._take_held()
        self._filled_to = 0
        self.store.keep()

    def _on_gap_fill(self, message: Message) -> None:
        """35=4 with GapFillFlag, in order: the numbers up to NewSeqNo will not come."""
        new = message.integer(36)
        if new <= message.seq:
            self._refuse(message, Fault(VALUE_WRONG, 36, "NewSeqNo must be above MsgSeqNum"))
            return
        self._skip_to(new)

    def _on_reset(self, message: Message) -> None:
        """35=4 in reset mode: MsgSeqNum does not count, NewSeqNo does."""
        new = message.integer(36)
        if new < self.store.next_in:
            text = f"NewSeqNo {new} would lower the expected {self.store.next_in}"
            missing = message.get(36) is None
            fault = (
                Fault(TAG_MISSING, 36, "required tag missing") if missing else Fault(VALUE_WRONG, 36, text)
            )
            self._out.reject(message, fault)
            return
        self._skip_to(new)

    def _reset_numbers(self) -> None:
        self._out.forget()
        self._gap = Gap()
        self.store.reset(self.clock.now_ns())

    # --- logon and logout -----------------------------------------------------------------------------------

    def _send_logon(self, *, reset: bool) -> None:
        config = self.config
        body = b"98=0\x01108=%d\x01" % self.heartbeat_s
        if reset:
            body += b"141=Y\x01"
        if config.initiator and config.username is not None:
            body += b"553=%s\x01" % config.username.reveal().encode()
        if config.initiator and config.password is not None:
            body += b"554=%s\x01" % config.password.reveal().encode()
        self._reset_sent = reset and config.initiator
        self.send(b"A", body)

    def _on_logon(self, message: Message) -> None:
        if self.phase is not Phase.LOGON:
            self._logon_again(message)
            return
        reset, answered = message.get(141) == b"Y", self._reset_sent
        self._reset_sent = False
        beat = message.integer(108)
        if not self.config.initiator:
            self._out.address(message.text(57), message.text(50))
            refusal = self._refusal(message)
            if refusal:
                self._end(refusal)
                return
            if reset:
                self._reset_numbers()
            self.heartbeat_s = beat
        else:
            if reset and not answered:
                self.store.reset(self.clock.now_ns(), next_out=2)  # our logon was the peer's number 1
                self._out.forget()
            if beat > 0 and self.heartbeat_s > 0:
                self.heartbeat_s = min(self.heartbeat_s, beat)
        if message.seq < self.store.next_in:
            self._disagreed(f"MsgSeqNum too low, expecting {self.store.next_in} but received {message.seq}")
            return
        self._lost_numbers = False
        self.phase = Phase.ACTIVE
        self.active_ns = self.clock.monotonic_ns()
        if not self.config.initiator:
            self._send_logon(reset=reset)
        if message.seq > self.store.next_in:
            self._gap.hold(message.seq, message.raw, answered=True)
            self._ask_resend()
        else:
            self.store.next_in += 1
        self.store.keep()
        self._app.on_logon()

    def _logon_again(self, message: Message) -> None:
        """A logon inside a session: the peer begins its numbers anew and wants the same of us, or repeats itself."""
        if message.get(141) != b"Y" or message.poss_dup:
            if message.seq > self.store.next_in:
                self._gap.hold(message.seq, message.raw, answered=True)
                if not self._gap.awaited:
                    self._ask_resend()
            elif message.seq < self.store.next_in:
                self._too_low(message)
            else:
                self.store.next_in += 1
            return
        first = self.store.next_in
        self._reset_numbers()
        self.store.next_in = message.seq + 1
        self.store.keep()
        self._send_logon(reset=True)
        self._reset_sent = False
        self._app.on_gap(first, first)

    def _refusal(self, message: Message) -> str:
        """Why an acceptor will not have this logon."""
        if self.config.hours and not self.config.hours.session(self.clock.now_ns()):
            return "outside session hours"
        if message.get(98) not in (None, b"0"):
            return "EncryptMethod must be 0"
        if message.integer(108) < 0:
            return "HeartBtInt missing or malformed"
        return self._app.accept(message)

    def _disagreed(self, what: str) -> None:
        """A logon showed that the two sides count differently: begin anew, or end with what can be done."""
        again = self._lost_numbers  # both were to begin at 1, and the peer did not
        self._lost_numbers = True
        if not self.config.initiator:
            self._end(what)
        elif self.config.reset_on_loss and not again and not self.config.reset_on_logon:
            self._end(f"{what}; beginning anew with 141=Y")
        else:
            self.fatal = True
            asked = again or self.config.reset_on_logon
            self._end(f"{what}, although it was asked to reset (141=Y)" if asked else f"{what}; {_REMEDY}")

    def _refused_logon(self, text: str) -> None:
        """The peer will not have our logon."""
        if _TOO_LOW.search(text):
            self._disagreed(f"the peer refused the logon: {text}")
            return
        self.fatal = _FINAL.search(text) is not None
        self._close(f"the peer refused the logon: {text}")

    def _on_logout(self, message: Message) -> None:
        if self.phase is Phase.LOGOUT:
            self._close(self.reason)
            return
        text = message.text(58, "no reason given")
        if self.phase is Phase.LOGON and self.config.initiator:
            self._refused_logon(text)
            return
        if self.phase is Phase.ACTIVE:
            self.send(b"5", b"")
        self._close(f"the peer logged out: {text}")

    def _end(self, text: str) -> None:
        """Tell the peer why, and close."""
        self.send(b"5", b"58=%s\x01" % text.encode())
        self._close(text)

    def _close(self, reason: str) -> None:
        self.phase = Phase.CLOSING
        self.reason = reason

    # --- refusals -------------------------------------------------------------------------------------------

    def _refuse(self, message: Message, fault: Fault) -> None:
        """Reject a message; where it had the expected number, that is taken and the application told of the loss."""
        if self.phase is Phase.LOGON:
            self._close(fault.text)
            return
        if not fault.silent:
            self._out.reject(message, fault)
            self.refused += 1
        if message.seq == self.store.next_in and not fault.silent:
            self.store.next_in += 1
            self.store.keep()
            if not fault.end:
                self._app.on_refused(message, fault.text)
        if fault.end:
            self._end(fault.text)

    def _timely(self, sent: int, now: int) -> bool:
        skew = self.config.max_skew_s
        return skew <= 0.0 or abs(now - sent) <= skew * _S

    def _new_framer(self) -> Framer:
        config = self.config
        return Framer(
            config.begin.encode(), config.target.encode(), config.sender.encode(), market=self._market
        )
