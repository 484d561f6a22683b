"""Logon and logout of one session: what is said at the door, and what a refusal there means."""

from emp.access.fix.incoming import Incoming
from emp.access.fix.message import Message
from emp.access.fix.refusal import NO_REASON, read_refusal, tells_of_another
from emp.access.fix.state import State
from emp.access.fix.terms import Phase

_REMEDY = (
    "set access.reset_on_logon if the venue begins anew at each logon, or access.reset_on_loss to do so once"
)


class Door:
    """Logs on and out, for the side that dials and for the side that answers."""

    def __init__(self, state: State, incoming: Incoming) -> None:
        self._state = state
        self._incoming = incoming
        self._reset_sent = False  # a logon with 141=Y awaits its answer
        self._lost_numbers = False  # the last logon showed that the two sides do not agree

    @property
    def begins_anew(self) -> bool:
        """Whether the last logon failed by its numbers alone, and the next one asks the peer to reset them."""
        state = self._state
        return self._lost_numbers and state.config.reset_on_loss and not state.fatal

    def connected(self) -> None:
        """The transport is up: an initiator logs on."""
        state, config = self._state, self._state.config
        self._reset_sent = False
        wall = state.clock.now_ns()
        session = config.hours.session(wall) if config.hours else None
        over = session is not None and state.store.created_ns < session[0]
        if config.reset_on_logon or over or (self._lost_numbers and config.reset_on_loss):
            state.reset_numbers()
        if config.initiator:
            self._send_logon(reset=state.store.next_out == 1 and state.store.next_in == 1)

    def _send_logon(self, *, reset: bool) -> None:
        state, config = self._state, self._state.config
        body = b"98=0\x01108=%d\x01" % state.heartbeat_s
        if reset:
            body += b"141=Y\x01"
        if config.initiator and config.username is not None:
            body += b"553=%s\x01" % config.username.reveal().encode()
        if config.initiator and config.password is not None:
            body += b"554=%s\x01" % config.password.reveal().encode()
        if config.initiator and config.logon_field:
            body += config.logon_field + b"\x01"
        self._reset_sent = reset and config.initiator
        state.out.send(b"A", body)

    def on_logon(self, message: Message) -> None:
        """35=A: the answer to ours, the peer's own, or one inside a session."""
        state = self._state
        if state.phase is not Phase.LOGON:
            self._again(message)
            return
        reset = message.get(141) == b"Y"
        agreed = self._answered(message, reset=reset) if state.config.initiator else self._taken(message)
        if not agreed:
            return
        if message.seq < state.store.next_in:
            self._disagreed(f"MsgSeqNum too low, expecting {state.store.next_in} but received {message.seq}")
            return
        self._lost_numbers = False
        state.phase = Phase.ACTIVE
        state.active_ns = state.clock.monotonic_ns()
        if not state.config.initiator:
            self._send_logon(reset=reset)
        if message.seq > state.store.next_in:
            self._incoming.early(message, answered=True)
        else:
            state.store.next_in += 1
        state.store.keep()
        state.app.on_logon()

    def _answered(self, message: Message, *, reset: bool) -> bool:
        """The answer to our own logon."""
        state, asked = self._state, self._reset_sent
        self._reset_sent = False
        beat = message.integer(108)
        if reset and not asked:
            state.store.reset(state.clock.now_ns(), next_out=2)  # our logon was the peer's number 1
            state.out.forget()
        if beat > 0 and state.heartbeat_s > 0:
            state.heartbeat_s = min(state.heartbeat_s, beat)
        return True

    def _taken(self, message: Message) -> bool:
        """A logon that somebody sends us; False where it was refused."""
        state = self._state
        state.out.address(message.text(57), message.text(50))
        refusal = self._refusal(message)
        if refusal:
            state.end(refusal)
            return False
        if message.get(141) == b"Y":
            state.reset_numbers()
        state.heartbeat_s = message.integer(108)
        return True

    def _again(self, message: Message) -> None:
        """A logon inside a session: the peer begins its numbers anew and wants the same of us, or repeats itself."""
        state = self._state
        if message.get(141) != b"Y" or message.poss_dup:
            if message.seq > state.store.next_in:
                self._incoming.early(message, answered=True)
            elif message.seq < state.store.next_in:
                self._incoming.too_low(message)
            else:
                state.store.next_in += 1
            return
        first = state.store.next_in
        state.reset_numbers()
        state.store.next_in = message.seq + 1
        state.store.keep()
        self._send_logon(reset=True)
        self._reset_sent = False
        state.app.on_new_numbers()
        state.app.on_gap(first, first)

    def _refusal(self, message: Message) -> str:
        """Why an acceptor will not have this logon."""
        state = self._state
        if state.config.hours and not state.config.hours.session(state.clock.now_ns()):
            return "outside session hours"
        if message.get(98) not in (None, b"0"):
            return "EncryptMethod must be 0"
        if message.integer(108) < 0:
            return "HeartBtInt missing or malformed"
        return state.app.accept(message)

    def _disagreed(self, what: str) -> None:
        """A logon showed that the two sides count differently: begin anew, or end with what can be done."""
        state, config = self._state, self._state.config
        # both were to begin at 1, and the peer did not
        asked = self._lost_numbers or self._reset_sent or config.reset_on_logon
        self._lost_numbers = True
        if not config.initiator:
            state.end(what)
        elif config.reset_on_loss and not asked:
            state.end(f"{what}; beginning anew with 141=Y")
        else:
            state.fatal = True
            state.end(f"{what}, although it was asked to reset (141=Y)" if asked else f"{what}; {_REMEDY}")

    def refused(self, message: Message) -> None:
        """The peer will not have our logon."""
        refusal = read_refusal(message)
        what = f"the peer refused the logon: {refusal.text}"
        if refusal.numbers:
            self._disagreed(what)
            return
        self._state.fatal = refusal.final
        self._state.close(what, "occupied" if refusal.occupied else "refused")

    def on_logout(self, message: Message) -> None:
        """35=5: the answer to ours, a refusal of our logon, or the peer's own wish."""
        state = self._state
        if state.phase is Phase.LOGOUT:
            state.close(state.reason)
            return
        if state.phase is Phase.LOGON and state.config.initiator:
            self.refused(message)
            return
        if state.phase is Phase.ACTIVE:
            state.out.send(b"5", b"")
        said = message.words(58, NO_REASON)
        state.close(f"the peer logged out: {said}", "taken" if tells_of_another(said) else "logout")

    def log_out(self, reason: str) -> None:
        """Ask for an orderly end."""
        state = self._state
        if state.phase is Phase.ACTIVE:
            state.phase = Phase.LOGOUT
            state.reason = reason
            state.since_ns = state.clock.monotonic_ns()
            state.out.send(b"5", b"58=%s\x01" % reason.encode())
        elif state.phase is Phase.LOGON:
            state.close(reason)
