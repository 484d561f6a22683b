"""`MarketAccess` over FIX: one session or two, subscriptions, orders, recovery after every reconnect."""

import asyncio
import ssl
from collections.abc import Callable, Sequence

from emp.access.fix.answers import Pending
from emp.access.fix.frame import Frame
from emp.access.fix.link import Link
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders, ReplaceOrder
from emp.access.fix.settings import Dialer, FixSettings
from emp.access.fix.symbols import Listing
from emp.access.fix.terms import Application, Phase
from emp.access.fix.text import Scale
from emp.access.port import Channel, LinkState, Sink
from emp.core.clock import Clock, LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument

__all__ = ["FixAccess", "FixSettings"]


class FixAccess:
    """A live market over FIX; see `emp.access.port.MarketAccess`."""

    def __init__(
        self,
        settings: FixSettings,
        clock: Clock | None = None,
        log: Callable[[str, str], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or LiveClock()
        self._dialer = Dialer(settings, self._clock, log, tls)
        self._links: list[Link] = []
        self._out: Sink | None = None
        self._closed = False
        self._pending: dict[str, Pending] = {}
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: dict[str, QueryOrder] = {}  # orders that may still fill, as the query to ask for them
        self._own_cancels: set[str] = set()  # cancels that make an order immediate where the venue cannot

    # --- the port -------------------------------------------------------------------------------------------

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Log on and subscribe; VenueError with one clear line when that fails."""
        self._out = sink
        settings, dialect = self.settings, self.settings.dialect
        scales = {i.name: Scale(i) for i in instruments}
        now = self._clock.now_ns()
        if dialect.hours is not None and dialect.hours.session(now) is None:
            raise VenueError(f"{settings.host}: the venue's session is closed now; try again when it opens")
        names = await self._symbols(instruments)
        self.market = Market(instruments, [names[i.name] for i in instruments], dialect)
        self.market.warm_up()
        self.orders = Orders(scales, names, dialect, settings.account, settings.sender)
        self._scales = scales
        sides = [_Side(self, self.market, None if dialect.split else self.orders)]
        self._links = [self._dialer.link(dialect.quote_sub, settings.port, sides[0], self.market)]
        if dialect.split:
            sides.append(_Side(self, None, self.orders))
            port = settings.trade_port or settings.port
            self._links.append(self._dialer.link(dialect.trade_sub, port, sides[1], None))
        for side, link in zip(sides, self._links, strict=True):
            side.link = link
            link.on_loss = side.on_loss
        failures = await asyncio.gather(*(link.start() for link in self._links))
        for link, why in zip(self._links, failures, strict=True):
            if why:
                await self.close()
                raise VenueError(f"FIX logon at {link.address} failed: {why}")

    def send(self, command: Command | ReplaceOrder) -> None:
        """Hand over a command without blocking; its outcome arrives as a report."""
        link = self._links[-1]
        if link.session.phase is not Phase.ACTIVE:
            asyncio.get_running_loop().call_soon(self._report, _unsent(command, self._clock.now_ns()))
            return
        kind, body = self.orders.body(command)
        if not isinstance(command, (CancelOrder, QueryOrder)):
            self._live[command.cl_ord_id] = QueryOrder(
                cl_ord_id=command.cl_ord_id, instrument=command.instrument, ts=command.ts
            )
        self.orders.sent(link.session.send(kind, body), kind, command.cl_ord_id)
        link.flush()

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working (mass status)."""
        messages = await self._ask(b"AF", self.orders.mass_status)
        updates = [self.orders.status_of(m) for m in messages if m.kind == "8"]
        return [u for u in updates if u.instrument and not u.status.terminal]

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold, summed per instrument over its position ids."""
        now = self._clock.now_ns()
        messages = await self._ask(b"AN", lambda request: self.orders.positions(request, now))
        held: dict[str, tuple[int, float]] = {}
        for message in messages:
            name = self.orders.name_of(message)
            if message.kind == "AP" and name and message.text(728, "0") == "0":
                scale = self._scales[name]
                lots = sum(
                    scale.lots(entry.get(704)) - scale.lots(entry.get(705)) for entry in message.group(702)
                )
                qty, cost = held.get(name, (0, 0.0))
                held[name] = qty + lots, cost + lots * scale.average(message.get(730))
        return [
            VenuePosition(instrument=name, qty=qty, avg_px=cost / qty if qty else 0.0)
            for name, (qty, cost) in held.items()
        ]

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""
        if self._closed:
            return
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self._links[:1]:
            if link.session.phase is Phase.ACTIVE:
                link.session.send(b"V", self.market.unsubscribe())
        await asyncio.gather(*(link.close() for link in self._links))

    # --- inside ---------------------------------------------------------------------------------------------

    @property
    def links(self) -> Sequence[Link]:
        """The connections: one, or market data and orders."""
        return self._links

    async def _symbols(self, instruments: Sequence[Instrument]) -> dict[str, str]:
        """What the venue calls our instruments: as told, else as its list says, else by our own name."""
        settings, dialect = self.settings, self.settings.dialect
        names = {i.name: settings.symbols.get(i.name, i.name) for i in instruments}
        unknown = [name for name in names if name not in settings.symbols]
        if not dialect.security_list or not unknown:
            return names
        listing = Listing()
        link = self._dialer.link(dialect.quote_sub, settings.port, listing, None)
        listing.link = link
        try:
            why = await link.start()
            if why:
                raise VenueError(f"FIX logon at {link.address} failed: {why}")
            return names | await listing.symbols(unknown, settings.timeout_s)
        finally:
            await link.close()

    @property
    def sink(self) -> Sink:
        """Who receives this market."""
        assert self._out is not None
        return self._out

    def _fail(self, why: str) -> None:
        """Market data will not come."""
        self.sink.ended(VenueError(why))

    def dealt_with(self, seq: int) -> None:
        """In lockstep the venue is told when the receiver has dealt with an event."""
        task = asyncio.create_task(self._confirm(seq), name="fix lockstep")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirm(self, seq: int) -> None:
        await self.sink.ready()
        self._links[0].session.send(b"0", b"112=%d\x01" % seq)
        self._links[0].flush()

    def _report(self, update: OrderUpdate) -> None:
        if update.status.terminal:
            self._live.pop(update.clOrdID, None)
        if update.clOrdID in self._own_cancels:  # nobody else knows that id
            return
        self.sink.report(update)
        own = f"{update.clOrdID}C"
        if self.orders.must_cancel(update) and own not in self._own_cancels:
            self._own_cancels.add(own)
            self.send(
                CancelOrder(
                    cl_ord_id=own,
                    orig=update.clOrdID,
                    instrument=update.instrument,
                    ts=update.ts,
                    reason=Reason.CANCEL_TTL,
                )
            )

    async def _ask(self, kind: bytes, body: Callable[[str], bytes]) -> list[Message]:
        """Send a request and collect its answers until they are complete."""
        link = self._links[-1]
        if link.session.phase is not Phase.ACTIVE:
            raise VenueError(f"{link.address}: not logged on")
        self._requests += 1
        request = f"q{self._requests}"
        pending = Pending(asyncio.get_running_loop().create_future())
        self._pending[request] = pending
        seq = link.session.send(kind, body(request))
        self.orders.sent(seq, kind, request)
        link.flush()
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                return await pending.done
        except TimeoutError:
            raise VenueError(
                f"{link.address}: no complete answer to 35={kind.decode()} within {self.settings.timeout_s:g} s"
            ) from None
        finally:
            del self._pending[request]

    def _answer(self, message: Message) -> bool:
        """Whether the message answers one of our requests."""
        tag = {"8": 584, "AP": 710, "AO": 710, "j": 379}.get(message.kind)
        request = message.text(tag) if tag is not None else ""
        if message.kind in ("3", "j") and request not in self._pending:
            request = self.orders.request_of(message)
        pending = self._pending.get(request)
        if pending is None:
            return False
        pending.take(message)
        return True

    def _recover(self) -> None:
        """Begin to find out what happened to our orders while we were away."""
        if self._live and not self._closed:
            task = asyncio.create_task(self._recovered(), name="fix recovery")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _recovered(self) -> None:
        try:
            messages = await self._ask(b"AF", self.orders.mass_status)
        except VenueError:
            messages = []  # asked one by one below; a lost connection begins this again
        told = set()
        for message in messages:
            if message.kind == "8":
                update = self.orders.status_of(message)
                told.add(update.clOrdID)
                self._report(update)
        for cl_ord_id in [name for name in self._live if name not in told]:
            self.send(self._live[cl_ord_id])


class _Side(Application):
    """The application of one session: what it hears goes to the market, the orders, or a waiting request."""

    link: Link

    def __init__(self, access: FixAccess, market: Market | None, orders: Orders | None) -> None:
        self._access = access
        self._market = market
        self._orders = orders
        self._awaiting = False  # a snapshot has been asked for

    def channels(self) -> list[Channel]:
        """What this session carries."""
        carried: list[tuple[Channel, object]] = [("market", self._market), ("trade", self._orders)]
        return [channel for channel, what in carried if what is not None]

    def on_logon(self) -> None:
        self.link.logged_on()
        for channel in self.channels():
            self._access.sink.link(LinkState(channel=channel, up=True))
        if self._market is not None:
            self._market.invalidate()
            self._subscribe()
        if self._orders is not None:
            self._orders.forget_numbers()
            self._access._recover()

    def on_loss(self, reason: str, attempt: int) -> None:
        """The connection is gone, and is dialled again for the `attempt`th time."""
        for channel in self.channels():
            self._access.sink.link(LinkState(channel=channel, up=False, reason=reason, attempt=attempt))

    def on_market(self, rows: int, result: int) -> None:
        market = self._market
        if market is None:
            return
        if rows:
            self._awaiting = False
            self._access.sink.events(market.rows[:rows])
            if self._access.settings.lockstep:
                self._access.dealt_with(int(market.rows["seq"][rows - 1]))
        if result and market.settle(result) and not self._awaiting:
            self._resubscribe()

    def on_late_market(self, frame: Frame) -> None:
        if self._market is not None:
            now = self._access._clock.now_ns()
            self.on_market(*self._market.late(self.link.session.framer, frame, now))

    def on_message(self, message: Message) -> None:
        access = self._access
        if access._answer(message):
            return
        if message.kind == "Y":
            why = message.text(58, f"reason {message.text(281, 'not given')}")
            access._fail(f"{self.link.address}: market data refused: {why}")
        elif self._orders is not None:
            for update in self._orders.report(message):
                access._report(update)

    def on_gap(self, first: int, last: int) -> None:
        if self._market is not None:
            self._market.invalidate()
            self._resubscribe()
        if self._orders is not None:
            self._access._recover()

    def on_reject(self, message: Message) -> None:
        if message.get(372) == b"V":
            self._access._fail(f"{self.link.address}: market data request rejected: {message.text(58)}")
        self.on_message(message)

    def _subscribe(self) -> None:
        if self._market is not None:
            self._awaiting = True
            self.link.session.send(b"V", self._market.subscribe())

    def _resubscribe(self) -> None:
        if self._market is not None:
            self.link.session.send(b"V", self._market.unsubscribe())
            self._subscribe()


def _unsent(command: Command | ReplaceOrder, now_ns: int) -> OrderUpdate:
    """What became of a command that could not leave: a new order is dead, anything else leaves it unknown."""
    orig = command.orig if isinstance(command, (CancelOrder, ReplaceOrder)) else command.cl_ord_id
    order = command if isinstance(command, NewOrder) else None
    return OrderUpdate(
        clOrdID=orig,
        execID=f"L{now_ns}-{command.cl_ord_id}",
        status=OrderStatus.REJECTED if order is not None else OrderStatus.UNKNOWN,
        filled=0,
        price=order.px if order is not None else 0,
        ts=now_ns,
        instrument=command.instrument,
        side=order.side if order is not None else 0,
        text="not logged on: nothing was sent",
    )
