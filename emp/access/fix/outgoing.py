"""What a session writes: numbered frames, rejects, and what a ResendRequest gets."""

from collections.abc import Callable

from emp.access.fix.message import Composer, Message, masked
from emp.access.fix.resend import Kept, Sent
from emp.access.fix.store import SequenceStore
from emp.access.fix.terms import VALUE_WRONG, Fault, SessionConfig
from emp.access.fix.text import Stamp
from emp.core.clock import Clock
from emp.core.errors import VenueError

_REVERSE = {115: 128, 116: 129, 144: 145, 128: 115, 129: 116, 145: 144}
"""Routing fields that an answer turns round: on behalf of whom, and to whom to deliver."""


class Outgoing:
    """Frames, numbers and keeps messages of one session until the transport takes them."""

    def __init__(
        self,
        config: SessionConfig,
        store: SequenceStore,
        clock: Clock,
        log: Callable[[str, str], None] | None,
    ) -> None:
        self.spoke_ns = 0  # when the last message was made
        self._store = store
        self._clock = clock
        self._log = log
        self._config = config
        self._secrets = config.secrets
        self._stamp = Stamp(config.stamp_digits)
        self._sent = Sent(config.resend, config.kept)
        self._resent = self._sent.kinds
        self._sends = config.sends
        self._out: list[bytes] = []
        self.address(config.sender_sub, config.target_sub)

    def address(self, sender_sub: str, target_sub: str) -> None:
        """Speak under these sub ids from now on."""
        config = self._config
        self._frame = Composer(config.begin, config.sender, config.target, sender_sub, target_sub).frame

    def restart(self) -> None:
        """A new connection: what the old one did not take is not written any more."""
        self._out.clear()

    def forget(self) -> None:
        """Numbers begin anew: nothing that was sent can be asked for again."""
        self._sent.clear()

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

    def send(self, kind: bytes, body: bytes, extra: bytes = b"") -> int:
        """Number and queue one message; `extra` are further fields of its header. Returns the number.

        VenueError where the session was made for other types of messages: nothing is sent then.
        """
        if self._sends is not None and kind not in self._sends:
            raise VenueError(f"35={kind.decode()} is not sent: this session was opened without orders")
        seq, clock = self._store.take_out(), self._clock
        sending = self._stamp(clock.now_ns())
        if kind in self._resent:
            self._sent.keep(seq, Kept(kind, body, sending))
        data = self._frame(kind, seq, sending, body, extra)
        if self._log:
            self._log("out", masked(data, self._secrets))
        self._out.append(data)
        self.spoke_ns = clock.monotonic_ns()
        return seq

    def reject(self, message: Message, fault: Fault) -> None:
        """Refuse a message of the peer (35=3); where it was routed, the answer goes the way back."""
        body = b"45=%d\x01" % max(message.seq, 0)
        if fault.tag:
            body += b"371=%d\x01" % fault.tag
        body += b"372=%s\x01373=%d\x01" % (message.kind.encode("latin-1"), fault.why)
        routes = sorted(
            (_REVERSE[tag], value) for tag, value in message.head(40) if tag in _REVERSE and value
        )
        extra = b"".join(b"%d=%s\x01" % route for route in routes)
        self.send(b"3", body + b"58=%s\x01" % fault.text.encode(), extra)

    def again(self, request: Message) -> list[tuple[int, int]]:
        """Answer a ResendRequest: send again what may be, and fill the gaps between.

        Returns the first and last number of each gap: what was said under them stays unsaid.
        """
        last = self._store.next_out - 1
        begin, end = request.integer(7), request.integer(16)
        if end != 0 and end < begin:
            self.reject(request, Fault(VALUE_WRONG, 16, f"EndSeqNo {end} is below BeginSeqNo {begin}"))
            return []
        if begin > last:
            self.reject(request, Fault(VALUE_WRONG, 7, f"BeginSeqNo {begin} is above our last number {last}"))
            return []
        end = last if end == 0 or end > last else end
        gaps = []
        for first, kept in self._sent.again(max(begin, 1), end):
            if isinstance(kept, int):
                self._fill(first, kept)
                gaps.append((first, kept - 1))
            else:
                stamp = self._stamp(self._clock.now_ns())
                extra = b"43=Y\x01122=%s\x01" % kept.sending
                self._put(self._frame(kept.kind, first, stamp, kept.body, extra))
        return gaps

    def _fill(self, first: int, following: int) -> None:
        """Say that numbers from `first` up to before `following` carried nothing worth repeating."""
        stamp = self._stamp(self._clock.now_ns())
        extra = b"43=Y\x01122=%s\x01" % stamp
        self._put(self._frame(b"4", first, stamp, b"123=Y\x0136=%d\x01" % following, extra))

    def _put(self, data: bytes) -> None:
        if self._log:
            self._log("out", masked(data, self._secrets))
        self._out.append(data)
        self.spoke_ns = self._clock.monotonic_ns()
