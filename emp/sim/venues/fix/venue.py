"""A FIX 4.4 acceptor in front of any `MarketAccess`: simulator, recording, or a market of a test.

What the market yields goes out as W and X, what clients order goes into it, its reports go back; so mock mode
runs over real TCP through the same code as a live venue. It can be told to misbehave (`fix_faults`).
"""

import asyncio
import ssl
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from emp.access.fix.message import Message
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Phase, SessionConfig
from emp.access.fix.text import Scale, Stamp, utc_ns
from emp.access.port import LinkState
from emp.core.clock import Clock, LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.errors import EmpError, VenueError
from emp.core.ids import token_of
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.venues.fix.client import Client
from emp.sim.venues.fix.dictionary import validate
from emp.sim.venues.fix.entry import (
    DUPLICATE,
    OTHER,
    OrderRefused,
    may_take,
    read_order,
    read_replacement,
)
from emp.sim.venues.fix.faults import FaultPlan, Faults
from emp.sim.venues.fix.feed import Told, change_refused, execution, position, refusal
from emp.sim.venues.fix.market import VenueMarket
from emp.sim.venues.fix.settings import VenueSettings
from emp.sim.venues.fix.taking import leg, over, told_again, whole

__all__ = ["FixVenue", "VenueSettings"]


class FixVenue:
    """Serves one client, on one session or on two, as its dialect says."""

    def __init__(
        self,
        market: VenueMarket,
        instruments: Sequence[Instrument],
        settings: VenueSettings | None = None,
        *,
        faults: Faults | None = None,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.market = market
        self.settings = settings or VenueSettings()
        self.plan = FaultPlan(faults or Faults())
        self.instruments = tuple(instruments)
        self.scales = {i.name: Scale(i) for i in instruments}
        self.symbols = {i.name: self.settings.symbols.get(i.name, i.name) for i in instruments}
        self.names = {symbol: name for name, symbol in self.symbols.items()}
        self.told: dict[str, Told] = {}  # by every id that an order has or had
        self.fence = 0  # the newest token of a lease that an id has told of
        self.clients: list[Client] = []
        self.last: dict[str, Array] = {}
        self._clock = clock or LiveClock()
        self._tls = tls
        self._store = MemoryStore()
        self._kept: Session | None = None  # for a client that keeps its numbers over connections
        self._cancels: dict[str, str] = {}  # id of a cancel -> id of its order
        self._replacements: dict[str, tuple[Told, Replace]] = {}  # by id, on their way
        self._queried: set[str] = set()  # orders whose state was asked for and not told yet
        self._refusals = 0
        self._dealt = asyncio.Event()
        self._wanted = asyncio.Event()
        self._failure: Exception | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Open the market and listen; returns the port."""
        self._dealt.set()
        await self.market.connect(self.instruments, self)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Client(self), self.settings.host, self.settings.port, ssl=self._tls
            )
        except OSError as error:
            raise VenueError(
                f"cannot listen on {self.settings.host}:{self.settings.port}: {error.strerror}"
            ) from None
        self.spawn(self._tick(), "fix venue clock")
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Log the client off, end the market, leave no task behind; raise what the market failed with."""
        for client in tuple(self.clients):
            client.session.logout("the venue closes")
            client.flush()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for client in tuple(self.clients):
            client.drop()
        await self.market.close()
        if self._failure is not None:
            raise self._failure

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something until the venue closes."""

        async def guarded() -> None:
            try:
                await work
            except EmpError:  # a market that has closed answers nobody
                return
            except Exception as error:
                self._failure = error
                for client in tuple(self.clients):
                    client.drop()

        task = asyncio.create_task(guarded(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- market to clients ----------------------------------------------------------------------------------

    def events(self, rows: Array) -> None:
        """Show EVENT rows to whoever subscribed."""
        for k in range(len(rows)):
            row = rows[k].copy()
            name = self.instruments[int(row["instrument"])].name
            self.last[name] = row
            self._dealt.clear()
            for client in tuple(self.clients):
                client.show(name, row)

    async def ready(self) -> None:
        """Wait for the first subscriber, and in lockstep until the client has dealt with the last event."""
        await self._wanted.wait()
        if self.settings.lockstep:
            await self._dealt.wait()

    def link(self, state: LinkState) -> None:
        """How the market behind the venue is connected is nobody's business before it."""

    def ended(self, error: Exception | None) -> None:
        """The market is over; where it failed, the clients are cut off."""
        if error is not None and not isinstance(error, EmpError):
            self._failure = error
            for client in tuple(self.clients):
                client.drop()

    def dealt(self) -> None:
        """The client has dealt with the last event."""
        self._dealt.set()

    def wanted(self) -> None:
        """Somebody has subscribed."""
        self._wanted.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            for client in tuple(self.clients):
                client.session.tick()
                client.flush()

    def report(self, update: OrderUpdate) -> None:
        """The market reports on an order; the client that is logged on for orders hears it."""
        if update.replacement in self._replacements:
            self._replaced(update)
            return
        told = self.told.get(update.clOrdID)
        if told is None and update.clOrdID in self._cancels:
            self._no_change(update, self._cancels[update.clOrdID], 1)
            return
        if told is None and update.clOrdID in self._replacements:
            orig = self._replacements.pop(update.clOrdID)[1].orig
            self._no_change(update, orig, 2)
            return
        if told is None:  # an answer about an order that never was
            if update.instrument in self.scales:
                ghost = NewOrder(
                    cl_ord_id=update.clOrdID,
                    instrument=update.instrument,
                    side=update.side or 1,
                    qty=0,
                    px=0,
                    immediate=False,
                    ts=update.ts,
                    reason=Reason.NO_EDGE,
                    decision_seq=0,
                )
                self._execution(Told(ghost, "NONE"), update)
            return
        if told.takes:
            said = self._leg_told(told, update)
            if said is None:
                return
            update = said
        same = not update.correction and (update.status, update.filled) == (told.status, told.filled)
        if same and update.clOrdID in self._queried:
            self._queried.discard(update.clOrdID)
            self._execution(told, update, "I")
            return
        self._execution(told, update)

    def _leg_told(self, told: Told, update: OrderUpdate) -> OrderUpdate | None:
        """The market reports on a leg of an order that may take: what the client hears; the next leg goes in."""
        if update.clOrdID != told.market_id:  # of an earlier leg: told by then
            return None
        goes_on = over(told, update)
        asked = update.clOrdID in self._queried and not goes_on
        said = whole(told, update, goes_on=goes_on)
        if goes_on:
            told.before += update.filled
            following = leg(told, self.last.get(told.order.instrument), again=True)
            self.told[told.market_id] = told
            asyncio.get_running_loop().call_soon(self.market.take, following)
        if said is None and asked:
            return told_again(told, update)
        return said

    def _execution(self, told: Told, update: OrderUpdate, kind: str = "") -> None:
        name, dialect = told.order.instrument, self.settings.dialect
        self._say(b"8", execution(told, update, self.scales[name], self.symbols[name], dialect, kind))

    def _replaced(self, update: OrderUpdate) -> None:
        """The market has carried a replacement out: the order goes on under its id."""
        told, command = self._replacements.pop(update.replacement)
        before = told.order
        changed = {"cl_ord_id": command.cl_ord_id, "px": command.px, "qty": command.qty}
        told.order = msgspec.structs.replace(before, **changed)
        told.replaced, told.market_id = before.cl_ord_id, update.clOrdID
        self.told[command.cl_ord_id] = self.told[update.clOrdID] = told
        self._execution(told, told_again(told, update), "5")

    def _no_change(self, update: OrderUpdate, orig: str, asked: int) -> None:
        self._say(b"9", change_refused(self.told.get(orig), update, orig, asked))

    def _say(self, kind: bytes, body: bytes) -> None:
        """Send on the session that carries orders; without one the numbers of a kept session go on."""
        for client in self.clients:
            if client.trades and client.session.phase is Phase.ACTIVE:
                client.session.send(kind, body)
                client.flush()
                return
        if self._kept is not None:
            self._kept.send(kind, body)
            self._kept.take()

    # --- clients to market ----------------------------------------------------------------------------------

    def _fenced(self, message: Message) -> str:
        """Why a command is refused that comes from an engine whose lease has passed to another: once an id has told of
        a token (`emp.core.ids`), none with an older one is taken. Empty where it is not refused.
        """
        token = token_of(message.text(11))
        self.fence = max(self.fence, token)
        return f"fenced: token {token} is older than {self.fence}" if token < self.fence else ""

    def order(self, client: Client, message: Message) -> None:
        """35=D."""
        cl_ord_id, dialect = message.text(11), self.settings.dialect
        name = self.names.get(message.text(dialect.symbol_tag), "")
        if cl_ord_id in self.told and message.poss_resend:  # the same again, under another number
            return
        try:
            fenced = self._fenced(message)
            if fenced:
                raise OrderRefused(OTHER, fenced)
            order = read_order(message, name, self.scales.get(name), time_in_force=dialect.time_in_force)
            if cl_ord_id in self.told:
                raise OrderRefused(DUPLICATE, "ClOrdID (11) was used before")
            if self.plan.on_order():
                raise OrderRefused(OTHER, "refused by the fault plan")
        except OrderRefused as refused:
            self._refuse_order(client, message, refused)
            return
        told = Told(order, f"V{len(self.told) + 1}", market_id=cl_ord_id, takes=may_take(message, order))
        self.told[cl_ord_id] = told
        self.market.take(leg(told, self.last.get(name)))

    def _refuse_order(self, client: Client, message: Message, refused: OrderRefused) -> None:
        """35=8 with 39=8; at cTrader, whose reports carry no execID, 35=j."""
        dialect = self.settings.dialect
        if not dialect.exec_id:
            client.refuse(message, f"TRADING_BAD_ORDER: {refused}", message.text(11))
            return
        self._refusals += 1
        now = Stamp(dialect.stamp_digits)(self._clock.now_ns())
        client.session.send(
            b"8", refusal(message, refused.reason, str(refused), self._refusals, dialect, now)
        )
        client.flush()

    def cancel(self, client: Client, message: Message) -> None:
        """35=F."""
        orig = message.text(41)
        told = self.told.get(orig)
        self._cancels[message.text(11)] = orig
        fenced = self._fenced(message)
        if told is None or fenced:
            self._refuse_change(message, fenced or "unknown order", 1)
            return
        told.cancel = message.text(11)
        self.market.take(
            CancelOrder(
                cl_ord_id=message.text(11),
                orig=told.market_id,
                instrument=told.order.instrument,
                ts=max(0, utc_ns(message.get(60))),
                reason=Reason.NO_EDGE,
            )
        )

    def withdraw_all(self) -> None:
        """Cancel what rests: the client is gone, and had asked for it."""
        for n, told in enumerate({id(one): one for one in self.told.values()}.values()):
            if not told.status.terminal:
                self.market.take(
                    CancelOrder(
                        cl_ord_id=f"GONE-{n}-{told.market_id}",
                        orig=told.market_id,
                        instrument=told.order.instrument,
                        ts=self._clock.now_ns(),
                        reason=Reason.NO_EDGE,
                    )
                )

    def replace(self, client: Client, message: Message) -> None:
        """35=G."""
        name, told = message.text(11), self.told.get(message.text(41))
        if (name in self.told or name in self._replacements) and message.poss_resend:
            return  # the same again, under another number
        fenced = self._fenced(message)
        if told is None or fenced:
            self._refuse_change(message, fenced or "unknown order", 2)
            return
        try:
            if name in self.told or name in self._replacements:
                raise OrderRefused(DUPLICATE, "ClOrdID (11) was used before")
            command = read_replacement(message, told.order, self.scales[told.order.instrument])
        except OrderRefused as refused:
            self._refuse_change(message, str(refused), 2)
            return
        rest = command.qty - told.before
        if rest <= 0:
            self._refuse_change(message, "too late: as much has filled", 2)
            return
        self._replacements[name] = told, command
        self.market.take(msgspec.structs.replace(command, orig=told.market_id, qty=rest))

    def _refuse_change(self, message: Message, text: str, asked: int) -> None:
        """A cancel or replacement that never reaches the market."""
        update = OrderUpdate(
            clOrdID=message.text(11),
            execID="",
            status=OrderStatus.REJECTED,
            filled=0,
            price=0,
            ts=0,
            text=text,
        )
        self._no_change(update, message.text(41), asked)

    def status(self, client: Client, message: Message) -> None:
        """35=H: the market itself is asked, unless the order never reached it."""
        name = message.text(11)
        told = self.told.get(name)
        pending = self._replacements.get(name)  # not carried out yet: the market answers when it has decided
        asked = pending[0] if pending is not None else told
        if asked is None:
            client.refuse(message, "ORDER_NOT_FOUND", name, reason=1)
            return
        market_id = name if pending is not None else asked.market_id
        self._queried.add(market_id)
        now = self._clock.now_ns()
        self.market.take(QueryOrder(cl_ord_id=market_id, instrument=asked.order.instrument, ts=now))

    async def mass_status(self, client: Client, message: Message) -> None:
        """35=AF."""
        request = message.text(584)
        working = [u for u in await self.market.open_orders() if u.clOrdID in self.told]
        if not working:
            client.refuse(message, "ORDER_NOT_FOUND: no working orders", request, reason=1)
        for update in working:
            told = self.told[update.clOrdID]
            name = told.order.instrument
            update = whole(told, update, goes_on=False) or told_again(told, update)
            body = execution(told, update, self.scales[name], self.symbols[name], self.settings.dialect, "I")
            client.session.send(b"8", body + b"584=%s\x01911=%d\x01" % (request.encode(), len(working)))
        client.flush()

    async def positions(self, client: Client, message: Message) -> None:
        """35=AN."""
        request = message.text(710)
        held = [p for p in await self.market.positions() if p.instrument in self.scales and p.qty]
        dialect = self.settings.dialect
        day = Stamp()(self._clock.now_ns())[:8].decode()
        for one in held:
            name = one.instrument
            body = position(one, self.scales[name], self.symbols[name], dialect, request, len(held), day)
            client.session.send(b"AP", body)
        if not held and dialect.full_positions:
            none = f"721=NONE|710={request}|727=0|728=2|729=0|453=1|448=ME|447=D|452=3|1=ME|581=1|"
            client.session.send(b"AO", none.replace("|", "\x01").encode())
        elif not held:
            client.session.send(b"AP", f"710={request}\x01727=0\x01728=2\x01".encode())
        client.flush()

    def session_for(self, client: Client) -> Session:
        """A session for a new connection: a fresh one, or the one whose numbers go on."""
        settings = self.settings
        dialect = settings.dialect
        config = SessionConfig(
            sender=settings.sender,
            target=settings.target,
            begin=dialect.begin,
            initiator=False,
            heartbeat_s=dialect.heartbeat_s,
            max_skew_s=dialect.max_skew_s,
            stamp_digits=dialect.stamp_digits,
            resend=frozenset({"8", "9", "j", "AP", "AO"}),
            validate=validate if settings.strict else None,
        )
        if dialect.reset_on_logon or any(other.active for other in self.clients if not dialect.split):
            return Session(config, MemoryStore(), self._clock, client)
        if self._kept is None:
            self._kept = Session(config, self._store, self._clock, client)
        self._kept.serve(client)
        return self._kept
