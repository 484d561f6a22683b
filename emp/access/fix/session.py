"""One FIX session as a pure state machine: bytes and a clock in, bytes and calls out. No I/O, no tasks.

    session.connect()            the transport is up
    session.receive(data)        bytes arrived
    session.tick()               time passed; call at `session.deadline_ns` or more often
    session.send(b"D", body)     our own messages
    session.drain()              bytes to write, after each of these

Rules are those of FIX 4.4 volume 2: a garbled frame is ignored and takes no number; a number too high asks for a
resend and waits; one too low without PossDup ends the session; gap fills and resets move the expected number.
"""

from collections.abc import Callable

from emp.access.fix.frame import Books, Frame, Framer
from emp.access.fix.message import Composer, Message, masked
from emp.access.fix.resend import Kept, Sent
from emp.access.fix.scan import BAD_BEGIN, BAD_COMP_ID, BAD_FIELD, FRAME, NO_SEQ, NO_TIME, POSS_DUP
from emp.access.fix.store import SequenceStore
from emp.access.fix.terms import (
    COMP_ID_WRONG,
    TAG_EMPTY,
    TAG_INVALID,
    TAG_MISSING,
    TIME_WRONG,
    VALUE_WRONG,
    Application,
    Phase,
    SessionConfig,
)
from emp.access.fix.text import Stamp, utc_ns
from emp.core.clock import Clock

_S = 1_000_000_000


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
        self.heartbeat_s = config.heartbeat_s
        self.was_active = False  # in this connection
        self._app = application
        self._market = market
        self._log = log
        self._compose = Composer(
            config.begin, config.sender, config.target, config.sender_sub, config.target_sub
        )
        self._stamp = Stamp(config.stamp_digits)
        self._out: list[bytes] = []
        self._sent = Sent(config.resend, config.kept)
        self.framer = self._new_framer()
        self._heard_ns = self._spoke_ns = self._since_ns = 0
        self._highest = 0  # number seen of the peer in this connection
        self._asked_ns = -1  # when a resend was asked for, -1: none is awaited
        self._test_pending = False
        self._reset_sent = False

    # --- the transport's side -------------------------------------------------------------------------------

    def connect(self) -> None:
        """The transport is up: an initiator logs on."""
        now = self.clock.monotonic_ns()
        self.framer = self._new_framer()
        self._out.clear()
        self._heard_ns = self._spoke_ns = self._since_ns = now
        self._asked_ns = -1
        self._highest = 0
        self._test_pending = False
        self.reason = ""
        self.was_active = False
        self.phase = Phase.LOGON
        wall = self.clock.now_ns()
        session = self.config.hours.session(wall) if self.config.hours else None
        if self.config.reset_on_logon or (session and self.store.created_ns < session[0]):
            self._reset_numbers()
        if self.config.initiator:
            self._send_logon(reset=self.store.next_out == 1 and self.store.next_in == 1)

    def receive(self, data: bytes) -> None:
        """Take bytes in and act on every whole message among them."""
        framer = self.framer
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
            if self.phase in (Phase.CLOSING, Phase.DOWN):
                break

    def tick(self) -> None:
        """Act on the time that has passed: heartbeats, test requests, timeouts, the end of session hours."""
        now = self.clock.monotonic_ns()
        beat = self.heartbeat_s * _S
        if self.phase is Phase.LOGON and now - self._since_ns >= self.config.logon_timeout_s * _S:
            self._close("no answer to the logon")
        elif self.phase is Phase.LOGOUT and now - self._since_ns >= self.config.logout_timeout_s * _S:
            self._close(self.reason)
        elif self.phase is Phase.ACTIVE:
            if self.config.hours and not self.config.hours.session(self.clock.now_ns()):
                self.logout("end of session hours")
                return
            silent = now - self._heard_ns
            if silent >= 2.4 * beat and self._test_pending:
                self._close(f"the peer has been silent for {silent / _S:.1f} s")
                return
            if silent >= 1.2 * beat and not self._test_pending:
                self._test_pending = True
                self.send(b"1", b"112=%d\x01" % now)
            if now - self._spoke_ns >= beat:
                self.send(b"0", b"")
            if self._asked_ns >= 0 and now - self._asked_ns >= beat:
                self._ask_resend()
            self.store.keep()

    @property
    def deadline_ns(self) -> int:
        """Monotonic time of the next thing that `tick` may have to do."""
        beat = self.heartbeat_s * _S
        if self.phase is Phase.LOGON:
            return self._since_ns + int(self.config.logon_timeout_s * _S)
        if self.phase is Phase.LOGOUT:
            return self._since_ns + int(self.config.logout_timeout_s * _S)
        silent = self._heard_ns + int((2.4 if self._test_pending else 1.2) * beat)
        return min(silent, self._spoke_ns + beat)

    def lost(self, reason: str) -> None:
        """The transport is gone."""
        was, self.phase = self.phase, Phase.DOWN
        self.store.keep()
        if was is not Phase.DOWN:
            self._app.on_logout(self.reason or reason)

    def serve(self, application: Application) -> None:
        """Speak to another application from now on: a new connection of the same peer."""
        self._app = application

    def serving(self, application: Application) -> bool:
        """Whether this is the application that the session speaks to."""
        return self._app is application

    def take(self) -> list[bytes]:
        """Messages to write to the transport, oldest first."""
        out, self._out = self._out, []
        return out

    def drain(self) -> bytes:
        """Bytes to write to the transport, oldest first; empty when there are none."""
        if not self._out:
            return b""
        data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
        self._out.clear()
        return data

    # --- our side -------------------------------------------------------------------------------------------

    def send(self, kind: bytes, body: bytes) -> int:
        """Number and queue one message; `body` is its fields after the header, each with SOH. Returns the number."""
        seq = self.store.take_out()
        sending = self._stamp(self.clock.now_ns())
        if kind in self._sent.kinds:
            self._sent.keep(seq, Kept(kind, body, sending))
        self._put(self._compose.frame(kind, seq, sending, body))
        return seq

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
        """Judge a frame by its header, then act on it."""
        flags, seq = frame[6], frame[5]
        message = Message(self.framer, frame)
        if self._log:
            self._log("in", masked(message.raw))
        kind = message.kind
        if self.phase is Phase.LOGON and kind not in ("A", "5", "3"):
            self._close(f"first message was 35={kind}, not a logon")
        elif flags & BAD_BEGIN:
            self._end("incorrect BeginString")
        elif flags & NO_SEQ:
            self._end("MsgSeqNum missing")
        elif flags & BAD_COMP_ID:
            self._refuse(message, COMP_ID_WRONG, 0, "CompID problem", end=True)
        elif flags & NO_TIME:
            self._refuse(message, TAG_MISSING, 52, "SendingTime missing or malformed", end=False)
        elif not self._timely(frame[7], now) and not flags & POSS_DUP:
            self._refuse(message, TIME_WRONG, 52, "SendingTime accuracy problem", end=True)
        elif kind == "A":
            self._on_logon(message)
        elif kind == "4" and message.get(123) != b"Y":
            self._on_reset(message)
        elif seq > self.store.next_in:
            self._too_high(message)
        elif seq < self.store.next_in:
            self._too_low(message)
        elif flags & BAD_FIELD:
            self._refuse_field(message)
        else:
            self._in_order(message, frame)

    def _in_order(self, message: Message, frame: Frame) -> None:
        """A message with the expected number."""
        kind = message.kind
        if kind == "4":
            self._on_gap_fill(message)
            return
        if kind == "5":
            self.store.next_in += 1
            self._on_logout(message)
            return
        if kind in ("W", "X"):
            self._app.on_late_market(frame)
        elif kind == "1":
            test_id = message.get(112)
            if test_id is None:
                self._refuse(message, TAG_MISSING, 112, "TestReqID missing", end=False)
                return
            self.send(b"0", b"112=%s\x01" % test_id)
        elif kind == "2":
            self._on_resend_request(message)
        elif kind == "3":
            self._app.on_reject(message)
        elif kind == "0":
            self._app.on_heartbeat(message)
        else:
            self._app.on_message(message)
        self.store.next_in += 1
        if kind not in ("W", "X", "0"):
            self.store.keep()
        self._filled()

    def _filled(self) -> None:
        """What was asked for is arriving."""
        if self._asked_ns >= 0:
            self._asked_ns = self.clock.monotonic_ns() if self.store.next_in <= self._highest else -1

    # --- numbers --------------------------------------------------------------------------------------------

    def _too_high(self, message: Message) -> None:
        """Messages are missing: ask for them. What was sent after them is sent again then, so it is dropped now."""
        self._highest = max(self._highest, message.seq)
        if message.kind == "2":  # answered at once, or both sides would wait for each other
            self._on_resend_request(message)
        if message.kind == "5":
            self._on_logout(message)
        elif self._asked_ns < 0:
            self._ask_resend()

    def _too_low(self, message: Message) -> None:
        if not message.poss_dup:
            self._end(f"MsgSeqNum too low, expecting {self.store.next_in} but received {message.seq}")
            return
        original = message.get(122)
        if original is None and message.kind != "4":
            self._send_reject(message, TAG_MISSING, 122, "OrigSendingTime missing")
        elif original is not None and utc_ns(original) > message.sent_ns:
            self._send_reject(message, TIME_WRONG, 122, "SendingTime accuracy problem")
            self._end("OrigSendingTime after SendingTime")

    def _ask_resend(self) -> None:
        self._asked_ns = self.clock.monotonic_ns()
        self.send(b"2", b"7=%d\x0116=0\x01" % self.store.next_in)

    def _on_gap_fill(self, message: Message) -> None:
        """35=4 with GapFillFlag, in order: the numbers up to NewSeqNo will not come."""
        new = message.integer(36)
        if new <= message.seq:
            self._refuse(message, VALUE_WRONG, 36, "NewSeqNo must be above MsgSeqNum", end=False)
            return
        first, self.store.next_in = self.store.next_in, new
        self.store.keep()
        self._filled()
        self._app.on_gap(first, new - 1)

    def _on_reset(self, message: Message) -> None:
        """35=4 in reset mode: MsgSeqNum does not count, NewSeqNo does."""
        new = message.integer(36)
        if new < self.store.next_in:
            text = f"NewSeqNo {new} would lower the expected {self.store.next_in}"
            self._send_reject(message, VALUE_WRONG, 36, text)
            return
        first, self.store.next_in = self.store.next_in, new
        self._asked_ns = -1
        self.store.keep()
        if new > first:
            self._app.on_gap(first, new - 1)

    def _on_resend_request(self, message: Message) -> None:
        """Send again what may be sent again, and fill the gaps between."""
        last = self.store.next_out - 1
        begin, end = message.integer(7), message.integer(16)
        if begin < 0 or end < 0 or (end != 0 and end < begin):
            self._send_reject(message, VALUE_WRONG, 7, "BeginSeqNo or EndSeqNo is no range")
            return
        end = last if end == 0 or end > last else end
        for first, kept in self._sent.again(max(begin, 1), end):
            if isinstance(kept, int):
                self._fill(first, kept)
            else:
                stamp = self._stamp(self.clock.now_ns())
                extra = b"43=Y\x01122=%s\x01" % kept.sending
                self._put(self._compose.frame(kept.kind, first, stamp, kept.body, extra))

    def _fill(self, first: int, following: int) -> None:
        """Say that numbers from `first` up to before `following` carried nothing worth repeating."""
        stamp = self._stamp(self.clock.now_ns())
        extra = b"43=Y\x01122=%s\x01" % stamp
        body = b"123=Y\x0136=%d\x01" % following
        self._put(self._compose.frame(b"4", first, stamp, body, extra))

    def _reset_numbers(self) -> None:
        self._sent.clear()
        self._asked_ns = -1
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
        self._reset_sent = reset
        self.send(b"A", body)

    def _on_logon(self, message: Message) -> None:
        if self.phase is not Phase.LOGON:
            self._logon_again(message)
            return
        reset = message.get(141) == b"Y"
        if not self.config.initiator:
            self._answer_to(message)
            if reset:
                self._reset_numbers()
            refusal = self._refusal(message)
            if refusal:
                self._end(refusal)
                return
            self.heartbeat_s = message.integer(108, self.heartbeat_s)
        elif reset and not self._reset_sent:
            self.store.reset(self.clock.now_ns(), next_out=2)  # our logon was the peer's number 1
            self._sent.clear()
        if message.seq < self.store.next_in:
            self._too_low(message)
            return
        self.phase = Phase.ACTIVE
        self.was_active = True
        if not self.config.initiator:
            self._send_logon(reset=reset)
        self._highest = message.seq
        if message.seq > self.store.next_in:
            self._ask_resend()
        else:
            self.store.next_in += 1
        self.store.keep()
        self._app.on_logon()

    def _logon_again(self, message: Message) -> None:
        """A logon inside a session: the peer resets the numbers of both sides, or repeats itself."""
        if message.get(141) != b"Y":
            if message.seq == self.store.next_in:
                self.store.next_in += 1
            return
        answered = self._reset_sent and self.config.initiator
        first = self.store.next_in
        self._reset_numbers()
        self.store.next_in = message.seq + 1
        if not answered:
            self._send_logon(reset=True)
        self._app.on_gap(first, first)

    def _answer_to(self, logon: Message) -> None:
        """Speak under the sub ids that the peer has called."""
        config = self.config
        self._compose = Composer(config.begin, config.sender, config.target, logon.text(57), logon.text(50))

    def _refusal(self, message: Message) -> str:
        """Why an acceptor will not have this logon."""
        if self.config.hours and not self.config.hours.session(self.clock.now_ns()):
            return "outside session hours"
        if message.get(98) not in (None, b"0"):
            return "EncryptMethod must be 0"
        if message.integer(108) < 0:
            return "HeartBtInt missing or malformed"
        return self._app.accept(message)

    def _on_logout(self, message: Message) -> None:
        if self.phase is Phase.LOGOUT:
            self._close(self.reason)
            return
        text = message.text(58, "no reason given")
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

    def _refuse(self, message: Message, why: int, tag: int, text: str, *, end: bool) -> None:
        """Reject a message that took its number."""
        if self.phase is Phase.LOGON:
            self._close(text)
            return
        self._send_reject(message, why, tag, text)
        if message.seq == self.store.next_in:
            self.store.next_in += 1
        if end:
            self._end(text)

    def _refuse_field(self, message: Message) -> None:
        """Say which field is malformed: a tag that is no number, or one without a value."""
        empty = next((-tag for tag, value in message.fields if tag < -1 and not value), 0)
        why, text = (TAG_EMPTY, "tag without a value") if empty else (TAG_INVALID, "invalid tag or no value")
        self._refuse(message, why, empty, text, end=False)

    def _send_reject(self, message: Message, why: int, tag: int, text: str) -> None:
        body = b"45=%d\x01" % message.seq
        if tag:
            body += b"371=%d\x01" % tag
        body += b"372=%s\x01373=%d\x0158=%s\x01" % (message.kind.encode("latin-1"), why, text.encode())
        self.send(b"3", body)

    def _timely(self, sent: int, now: int) -> bool:
        skew = self.config.max_skew_s
        return skew <= 0.0 or abs(now - sent) <= skew * _S

    # --- bytes ----------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        if self._log:
            self._log("out", masked(data))
        self._out.append(data)
        self._spoke_ns = self.clock.monotonic_ns()

    def _new_framer(self) -> Framer:
        config = self.config
        return Framer(
            config.begin.encode(), config.target.encode(), config.sender.encode(), market=self._market
        )
