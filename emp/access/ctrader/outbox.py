"""What waits to be written: orders first, within the venue's limits, and never longer than allowed."""

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, Protocol

from emp.access.ctrader.limits import RateLimit
from emp.access.ctrader.messages import (
    ProtoOAAmendOrderReq,
    ProtoOAAmendPositionSLTPReq,
    ProtoOACancelOrderReq,
    ProtoOANewOrderReq,
    ProtoOAOrderDetailsReq,
    ProtoOAOrderListReq,
)
from emp.access.ctrader.settings import Settings
from emp.access.ctrader.wire import Message, encode, put_varint
from emp.access.port import Reach
from emp.core.clock import Clock
from emp.core.contracts import CancelOrder, NewOrder, Replace
from emp.core.errors import VenueError

HISTORICAL = frozenset({ProtoOAOrderListReq.PAYLOAD, ProtoOAOrderDetailsReq.PAYLOAD})
"""Requests under the lower limit; the venue counts questions about the past so."""

ORDERS = frozenset(
    m.PAYLOAD
    for m in (ProtoOANewOrderReq, ProtoOAAmendOrderReq, ProtoOAAmendPositionSLTPReq, ProtoOACancelOrderReq)
)
"""Requests that only an access made for orders may write."""

RESERVE = 10
"""Places of each second that only orders may take, so that a cancel never waits behind questions."""


Sendable = NewOrder | CancelOrder | Replace


class Waiting(NamedTuple):
    """A command, and until when it may wait (monotonic ns)."""

    command: Sendable
    until_ns: int


class Requests(Protocol):
    """Makes requests of commands; the order side of a session."""

    def request(self, command: Sendable) -> tuple[Message | None, str]:
        """The request of a command and its name; no message where the order's venue id is still awaited."""

    def sent(self, command: Sendable) -> None:
        """A command has been handed to the transport."""


def frame(message: Message, name: str | None) -> bytes:
    """A message as it goes onto the wire: length, and the fields 1 to 3 of a ProtoMessage."""
    payload = encode(message)
    raw = b"\x08" + _varint(message.PAYLOAD) + b"\x12" + _varint(len(payload)) + payload
    if name is not None:
        text = name.encode()
        raw += b"\x1a" + _varint(len(text)) + text
    return len(raw).to_bytes(4, "big") + raw


@lru_cache(4_096)
def _varint(value: int) -> bytes:
    out = bytearray()
    put_varint(out, value)
    return bytes(out)


class Outbox:
    """Two lanes: commands, and everything else."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.paused = False
        self.trading = False  # whether commands may leave
        self.may_send: Callable[[], bool] = lambda: True  # asked once more, when a command would leave
        self._clock = clock
        self._orders = settings.reach is Reach.ORDERS
        self._wait_ns = settings.order_wait_ns
        self._commands: deque[Waiting] = deque()
        self._requests: deque[tuple[Message, str | None]] = deque()
        self.dropped: list[
            str
        ] = []  # names of requests that may not leave any more, until somebody takes them
        self._all = RateLimit(settings.requests_per_s)
        self._past = RateLimit(settings.historical_per_s)
        self._reserve = min(RESERVE, settings.requests_per_s // 2)
        self._sent_as: dict[str, int] = {}
        self._blocked: dict[int, int] = {}

    def restart(self) -> None:
        """A new connection: nothing of the old one may leave on it."""
        self.paused = self.trading = False
        self._requests.clear()
        self._all.clear()
        self._past.clear()
        self._sent_as.clear()
        self._blocked.clear()

    def put(self, message: Message, name: str | None) -> None:
        """Queue a request under a name that its answer will carry."""
        self._requests.append((message, name))

    def put_command(self, command: Sendable) -> None:
        """Queue a command; VenueError where this access was made without orders."""
        if not self._orders:
            raise VenueError("cTrader: no order is sent: this access was opened without orders")
        self._commands.append(Waiting(command, self._clock.monotonic_ns() + self._wait_ns))

    def waits(self, cl_ord_id: str) -> bool:
        """Whether a command of that id has not left yet."""
        return any(w.command.cl_ord_id == cl_ord_id for w in self._commands)

    def drop_commands(self) -> list[Sendable]:
        """Take out all commands that have not left."""
        commands = [w.command for w in self._commands]
        self._commands.clear()
        return commands

    def overdue(self) -> list[Sendable]:
        """Take out commands that have waited too long, or may not leave any more."""
        now = self._clock.monotonic_ns()
        if self._commands and not self.may_send():
            return self.drop_commands()
        late = [w.command for w in self._commands if w.until_ns <= now]
        if late:
            self._commands = deque(w for w in self._commands if w.until_ns > now)
        return late

    def block(self, name: str, for_ns: int) -> None:
        """The venue takes no more requests of the kind that this one was."""
        kind = self._sent_as.get(name)
        if kind is not None:
            self._blocked[kind] = self._clock.monotonic_ns() + for_ns

    def due(self) -> list[int]:
        """Monotonic times at which `take` or `overdue` will have something to do."""
        due = [w.until_ns for w in self._commands]
        if self.paused:
            return due
        free = self._all.free_at()
        if self._commands and self.trading and free > self._clock.monotonic_ns():
            due.append(free)
        if self._requests:
            due.append(self._free_at(self._requests[0][0].PAYLOAD))
        return due

    def _free_at(self, kind: int) -> int:
        free = max(self._all.free_at(self._reserve), self._blocked.get(kind, 0))
        return max(free, self._past.free_at()) if kind in HISTORICAL else free

    def take(self, trading: Requests) -> bytes:
        """Bytes that may be written now."""
        now = self._clock.monotonic_ns()
        parts: list[bytes] = []
        if not self.paused and self.trading and self._commands:
            kept: deque[Waiting] = deque()
            while self._commands and self._all.free_at() <= now:
                waiting = self._commands.popleft()
                message, name = trading.request(waiting.command)
                if (name and message is None) or (
                    message is not None and self._blocked.get(message.PAYLOAD, 0) > now
                ):
                    kept.append(waiting)
                elif message is not None:
                    self._write(message, name, now, parts)
                    trading.sent(waiting.command)
            kept.extend(self._commands)
            self._commands = kept
        while not self.paused and self._requests and self._free_at(self._requests[0][0].PAYLOAD) <= now:
            message, request_name = self._requests.popleft()
            if message.PAYLOAD in ORDERS and not self.may_send():
                self.dropped += [request_name] if request_name else []
                continue  # a stop: it is asked for again, by whoever may
            self._write(message, request_name, now, parts)
        return b"".join(parts)

    def _write(self, message: Message, name: str | None, now: int, parts: list[bytes]) -> None:
        if message.PAYLOAD in ORDERS and not self._orders:
            raise VenueError("cTrader: no order is sent: this access was opened without orders")
        self._all.take(now)
        if message.PAYLOAD in HISTORICAL:
            self._past.take(now)
        if name is not None:
            self._sent_as[name] = message.PAYLOAD
            if len(self._sent_as) > 1_000:
                del self._sent_as[next(iter(self._sent_as))]
        parts.append(frame(message, name))
