"""One connection of the FIX venue: transport, session, subscriptions, and the faults on the way out."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from emp.access.fix.message import Message
from emp.access.fix.session import Session
from emp.access.fix.terms import Application, Phase
from emp.access.fix.text import Scale
from emp.core.config.secrets import Secret
from emp.core.records import Array
from emp.sim.venues.fix.faults import FaultPlan
from emp.sim.venues.fix.feed import Quote
from emp.sim.venues.fix.settings import VenueSettings

BACKLOG = 4 << 20
"""Bytes that may wait for a slow client before market data for it is left out."""


class Host(Protocol):
    """What a connection needs of the venue that it belongs to."""

    settings: VenueSettings
    plan: FaultPlan
    clients: list["Client"]
    scales: dict[str, Scale]
    symbols: dict[str, str]
    names: dict[str, str]
    last: dict[str, Array]

    def session_for(self, client: "Client") -> Session:
        """A session for a new connection."""

    def dealt(self) -> None:
        """The client has dealt with the last event."""

    def wanted(self) -> None:
        """Somebody has subscribed."""

    def withdraw_all(self) -> None:
        """Cancel what rests."""

    def order(self, client: "Client", message: Message) -> None:
        """35=D."""

    def cancel(self, client: "Client", message: Message) -> None:
        """35=F."""

    def replace(self, client: "Client", message: Message) -> None:
        """35=G."""

    def status(self, client: "Client", message: Message) -> None:
        """35=H."""

    def mass_status(self, client: "Client", message: Message) -> Coroutine[Any, Any, None]:
        """35=AF."""

    def positions(self, client: "Client", message: Message) -> Coroutine[Any, Any, None]:
        """35=AN."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside the connection; its failure is the venue's."""


class Client(asyncio.Protocol, Application):
    """One connection: the transport's side and the session's application."""

    def __init__(self, venue: Host) -> None:
        self.venue = venue
        self.session: Session
        self.trades = False
        self._withdraws = False  # what rests is withdrawn where it is lost
        self.sub = ""  # the TargetSubID that it logged on under
        self._quotes: dict[str, Quote] = {}
        self._transport: asyncio.Transport | None = None
        self._held: bytes | None = None  # a message that waits to change places
        self._waiting: deque[bytes] = deque()  # behind a delay
        self._paused = False

    # the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.session = self.venue.session_for(self)
        self.session.connect()
        self.venue.clients.append(self)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        self.session.receive(data)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        with contextlib.suppress(ValueError):
            self.venue.clients.remove(self)
        self._transport = None
        if self.session.serving(self):
            self.session.lost("the client is gone")
            if self._withdraws:
                self.venue.withdraw_all()
        self.venue.dealt()

    @property
    def active(self) -> bool:
        """Whether this connection is logged on."""
        return self.session.serving(self) and self.session.phase is Phase.ACTIVE

    def drop(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Write what the session has to say, each message through the fault plan."""
        for message in self.session.take():
            self._leave(message)
        if self.session.phase is Phase.CLOSING and self._transport is not None:
            self._transport.close()

    def _leave(self, message: bytes) -> None:
        if self._paused:
            self._waiting.append(message)
            return
        plan = self.venue.plan
        fault = plan.on_message(message)
        if fault == "cut":
            self._write(message[: len(message) // 2])
            if self._transport is not None:  # what was written still leaves; nothing comes after it
                self._transport.close()
                self._transport = None
        elif fault in ("delay", "silence"):
            self._waiting.append(message)
            self._paused = True
            pause = plan.faults.delay_s if fault == "delay" else plan.faults.silence_s
            asyncio.get_running_loop().call_later(pause, self._resume)
        elif fault == "checksum":
            self._write(plan.damaged(message))
        elif fault == "reorder" and self._held is None:
            self._held = message
        else:
            self._write(message)
            if self._held is not None:
                held, self._held = self._held, None
                self._write(held)

    def _resume(self) -> None:
        self._paused = False
        while self._waiting and not self._paused:
            self._leave_waiting(self._waiting.popleft())

    def _leave_waiting(self, message: bytes) -> None:
        """A message that has waited is not delayed again."""
        self._write(message)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # the session

    def on_logout(self, reason: str) -> None:
        """Subscriptions end with the session."""
        self._quotes.clear()

    def on_heartbeat(self, message: Message) -> None:
        """In lockstep a heartbeat with an id says that the last event has been dealt with."""
        if self.venue.settings.lockstep and message.get(112) is not None:
            self.venue.dealt()

    def accept(self, logon: Message) -> str:
        """Check sub ids and password."""
        dialect = self.venue.settings.dialect
        sub = logon.text(57)
        if dialect.split and sub not in (dialect.quote_sub, dialect.trade_sub):
            return f"TargetSubID must be {dialect.quote_sub} or {dialect.trade_sub}"
        if any(other.active and other.sub == sub for other in self.venue.clients if other is not self):
            return "already logged on"
        self.sub = sub
        secret = self.venue.settings.password
        if secret is not None and Secret(logon.text(554)) != secret:
            return "invalid credentials"
        self.trades = not dialect.split or sub == dialect.trade_sub
        tag = self.venue.settings.cancel_on_disconnect
        self._withdraws = bool(tag) and self.trades and logon.get(tag) == b"Y"
        return ""

    def on_message(self, message: Message) -> None:
        """Serve a request."""
        venue = self.venue
        match message.kind:
            case "V":
                self._subscription(message)
            case "D":
                venue.order(self, message)
            case "F":
                venue.cancel(self, message)
            case "G":
                venue.replace(self, message)
            case "H":
                venue.status(self, message)
            case "x":
                self._list(message)
            case "AF":
                venue.spawn(venue.mass_status(self, message), "fix venue mass status")
            case "AN":
                venue.spawn(venue.positions(self, message), "fix venue positions")
            case _:
                self.refuse(message, "unsupported message type", message.text(11), reason=3)

    def _subscription(self, message: Message) -> None:
        """35=V: subscribe, unsubscribe, or one snapshot."""
        venue = self.venue
        request = message.text(262)
        tag = venue.settings.dialect.symbol_tag
        wanted = [entry.get(tag, b"").decode("latin-1") for entry in message.group(146)]
        unknown = [symbol for symbol in wanted if symbol not in venue.names]
        if unknown or not wanted:
            text = f"unknown symbol {unknown[0]}" if unknown else "no symbol"
            self.session.send(b"Y", f"262={request}\x01281=0\x0158={text}\x01".encode())
            return
        if not venue.settings.depth and message.get(264) != b"1" and message.get(263) != b"2":
            no_depth = f"262={request}\x01281=5\x0158=no market depth for this user\x01"
            self.session.send(b"Y", no_depth.encode())
            return
        for symbol in wanted:
            name = venue.names[symbol]
            if message.get(263) == b"2":
                self._quotes.pop(name, None)
                continue
            quote = Quote(venue.scales[name], symbol, venue.settings.dialect, request)
            if name in venue.last:
                kind, body = quote.message(venue.last[name])
                self.session.send(kind, body)
            if message.get(263) == b"1":
                self._quotes[name] = quote
        if self._quotes:
            venue.wanted()

    def _list(self, message: Message) -> None:
        """35=x: every symbol, or the one asked for, with its name and decimals or its lot."""
        venue = self.venue
        wanted = message.text(55) if message.text(559) == "0" else ""
        listed = {n: s for n, s in venue.symbols.items() if wanted in ("", s)}
        if not listed:
            self.session.send(b"y", f"320={message.text(320)}\x01322=1\x01560=2\x01".encode())
            return
        body = f"320={message.text(320)}|322=1|560=0|146={len(listed)}|"
        for name, symbol in listed.items():
            scale = venue.scales[name]
            if venue.settings.dialect.security_list:  # as cTrader has it
                body += f"55={symbol}|1007={name}|1008={scale.px_decimals}|"
            else:
                lot = scale.qty(1).decode()
                body += f"55={symbol}|561={lot}|562={lot}|"
        self.session.send(b"y", body.replace("|", "\x01").encode())

    def show(self, name: str, row: Array) -> None:
        """Send a row to a subscriber that keeps up; one that does not gets a later one."""
        quote = self._quotes.get(name)
        if quote is None or self._transport is None or self.session.phase is not Phase.ACTIVE:
            return
        if self._transport.get_write_buffer_size() > BACKLOG:
            return
        kind, body = quote.message(row)
        if kind:
            self.session.send(kind, body)
            self.flush()

    def refuse(self, message: Message, text: str, name: str, reason: int = 0) -> None:
        """BusinessMessageReject."""
        body = f"45={message.seq}\x01372={message.kind}\x01380={reason}\x0158={text}\x01"
        if name:
            body += f"379={name}\x01"
        self.session.send(b"j", body.encode())
        self.flush()
