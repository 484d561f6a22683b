"""`MarketAccess` over FIX: one session or two, subscriptions, orders, recovery after every reconnect."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import structlog

from emp.access.fills import Fills
from emp.access.fix.answers import Pending, UnheardError
from emp.access.fix.link import DEFER_S, Link
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.recovery import Recovery
from emp.access.fix.settings import Dialer, FixSettings
from emp.access.fix.side import Side
from emp.access.fix.symbols import Listing
from emp.access.fix.terms import Phase
from emp.access.fix.text import FieldError, Scale
from emp.access.port import QuoteFeed, Reach, Sink
from emp.core.approval import Cleared, command_of
from emp.core.clock import Clock, LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument

__all__ = ["FixAccess", "FixSettings"]

_TRIES = 3  # for a request that the peer has missed

log = structlog.get_logger("emp.access.fix")


class FixAccess:
    """A live market over FIX; see `emp.access.port.MarketAccess`."""

    def __init__(
        self,
        settings: FixSettings,
        clock: Clock | None = None,
        log: Callable[[str, str], None] | None = None,
        tls: ssl.SSLContext | None = None,
        quotes: QuoteFeed | None = None,
    ) -> None:
        """With `quotes` the market data come from there, and none are asked of the venue."""
        self._quotes = quotes
        self.settings = settings
        self.clock = clock or LiveClock()
        self._dialer = Dialer(settings, self.clock, log, tls)
        self._links: list[Link] = []
        self._out: Sink | None = None
        self._may_send: Callable[[], bool] = lambda: True
        self._closed = False
        self._ended = False
        self._pending: dict[str, Pending] = {}
        self._requests = 0
        # named by the start: else the answer to an earlier one, sent again, would be taken for ours
        self._asks = f"q{self.clock.now_ns():x}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovery = Recovery(self, settings.timeout_s)
        self._net: dict[str, int] = {}  # lots that fills had made when positions were told last
        self._fills = Fills()
        self._own_cancels: set[str] = set()  # cancels that make an order immediate where the venue cannot

    # --- the port -------------------------------------------------------------------------------------------

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Log on and subscribe; VenueError with one clear line when that fails."""
        self._out = sink
        settings, dialect = self.settings, self.settings.dialect
        scales = {i.name: Scale(i) for i in instruments}
        now = self.clock.now_ns()
        if dialect.hours is not None and dialect.hours.session(now) is None:
            raise VenueError(f"{settings.host}: the venue's session is closed now; try again when it opens")
        names = await self._symbols(instruments)
        self.market = Market(instruments, [names[i.name] for i in instruments], dialect, now)
        if self._quotes is None:
            self.market.warm_up()
        self.orders = Orders(scales, names, dialect, settings.account, settings.sender)
        self._scales = scales
        sides = self._sides()
        for side, link in zip(sides, self._links, strict=True):
            side.link = link
            link.on_loss = side.on_loss
        failures = await asyncio.gather(*(link.start() for link in self._links))
        for link, why in zip(self._links, failures, strict=True):
            if why:
                await self.close()
                raise VenueError(f"FIX logon at {link.address} failed: {why}")
        if self._quotes is not None:
            try:
                await self._quotes.connect(instruments, sink)
            except VenueError:
                await self.close()
                raise

    def _sides(self) -> list[Side]:
        """The sessions, with a link for each: one, or one for market data and one for orders; that for orders alone
        where the market data come from elsewhere.
        """
        settings, dialect = self.settings, self.settings.dialect
        watching = settings.reach is Reach.MARKET
        market = self.market if self._quotes is None else None
        sides, self._links = list[Side](), []
        if market is not None or not dialect.split:
            sides.append(Side(self, market, None if dialect.split or watching else self.orders))
            self._links.append(self._dialer.link(dialect.quote_sub, settings.port, sides[0], market))
        if dialect.split and not watching:
            sides.append(Side(self, None, self.orders))
            port = settings.trade_port or settings.port
            self._links.append(self._dialer.link(dialect.trade_sub, port, sides[-1], None))
        return sides

    def begin_after(self, known: Sequence[int]) -> None:
        """As the port: a venue tells nothing of before, market data from elsewhere may."""
        if self._quotes is not None:
            self._quotes.begin_after(known)

    def send(self, cleared: Cleared) -> None:
        """Hand over a command without blocking; its outcome arrives as a report."""
        command = command_of(cleared)
        link = self._links[-1]
        if link.session.phase is not Phase.ACTIVE:
            asyncio.get_running_loop().call_soon(self._unsent, command, "not logged on: nothing was sent")
        elif link.reading:
            self._send(command, link)
        else:
            late = f"nothing was sent: {link.address} has read nothing for {DEFER_S:g} s"
            link.defer(lambda: self._send(command, link), lambda: self._unsent(command, late))

    def guard(self, may_send: Callable[[], bool]) -> None:
        """As the port."""
        self._may_send = may_send

    def _send(self, command: Command, link: Link) -> None:
        if (
            not isinstance(command, QueryOrder) and not self._may_send()
        ):  # it may have waited for a peer that did not read
            asyncio.get_running_loop().call_soon(self._unsent, command, "not sent: it may not leave any more")
            return
        kind, body = self.orders.body(command)
        self._fills.sent(command)
        if not isinstance(command, (CancelOrder, QueryOrder)):
            self._recovery.sent(command.cl_ord_id, command.instrument, command.ts)
        self.orders.sent(link.session.send(kind, body), kind, command.cl_ord_id)
        link.flush()

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working (mass status)."""
        messages = await self.ask(b"AF", self.orders.bodies.mass_status)
        updates = [u for m in messages if m.kind == "8" for u in self.orders.status_of(m)[:1]]
        return [u for u in updates if u.instrument and not u.status.terminal]

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold, summed per instrument over its position ids."""
        held = await self._positions()
        self._recovery.note_first_positions(self._beyond_fills(held))
        return [
            VenuePosition(instrument=name, qty=qty, avg_px=cost / qty if qty else 0.0)
            for name, (qty, cost) in held.items()
        ]

    @property
    def explaining(self) -> bool:
        """Whether reports that explain what is held may be on their way, because they are being asked for."""
        return self._recovery.busy

    async def unexplained(self) -> dict[str, int]:
        """Lots that the venue says we hold and that no fill of ours explains, per instrument."""
        return self._beyond_fills(await self._positions())

    def _beyond_fills(self, held: Mapping[str, tuple[int, float]]) -> dict[str, int]:
        """As of the moment at which the positions were told."""
        return {name: held.get(name, (0, 0.0))[0] - self._net[name] for name in self._scales}

    async def _positions(self) -> dict[str, tuple[int, float]]:
        """(lots, lots times average price) per instrument of which there is a report."""
        now = self.clock.now_ns()
        messages = await self.ask(b"AN", lambda request: self.orders.bodies.positions(request, now))
        held: dict[str, tuple[int, float]] = {}
        for message in messages:
            name = self.orders.name_of(message)
            if message.kind == "AP" and name and message.text(728, "0") == "0":
                qty, cost = held.get(name, (0, 0.0))
                try:
                    lots, price = _position(message, self._scales[name])
                except FieldError as error:  # of a part of a lot, say, that somebody has traded by hand
                    raise VenueError(
                        f"{self.address}: the position in {name} cannot be read: {error}"
                    ) from None
                held[name] = qty + lots, cost + lots * price
        return held

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""
        if self._closed:
            return
        self._closed = True
        await self._end_tasks()
        if self._quotes is not None:
            await self._quotes.close()
        for link in self._links[:1] if self._quotes is None else ():
            if link.session.phase is Phase.ACTIVE:
                link.session.send(b"V", self.market.unsubscribe())
        await asyncio.gather(*(link.close() for link in self._links))
        await self._end_tasks()  # what a last message has begun

    async def _end_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    def fail(self, why: str) -> None:
        """The market is over for good, for this reason; said once."""
        if not self._ended and not self._closed:
            self._ended = True
            log.error("the market is over", reason=why)
            self.sink.ended(VenueError(why))

    def dealt_with(self, seq: int) -> None:
        """In lockstep the venue is told when the receiver has dealt with an event."""
        self.spawn(self._confirm(seq), "fix lockstep")

    async def _confirm(self, seq: int) -> None:
        await self.sink.ready()
        self._links[0].session.send(b"0", b"112=%d\x01" % seq)
        self._links[0].flush()

    def report(self, update: OrderUpdate, px: int = 0) -> None:
        """Hand out a report; cancel what rests where it was to be immediate and the venue knows no such order.

        `px` is the price at which something has just filled, in ticks; 0 where the report tells none.
        """
        self._recovery.told(update)
        if update.clOrdID in self._own_cancels:  # nobody else knows that id
            return
        if self._fills.first(update) and px and not self._recovery.busy:  # else nobody knows when it was
            (self._quotes or self.market).filled(update.instrument, px)
        self.sink.report(update)
        self._recovery.doubt(update)
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

    async def ask(self, kind: bytes, body: Callable[[str], bytes]) -> list[Message]:
        """Send a request and collect its answers until they are complete."""
        link = self._links[-1]
        if link.session.phase is not Phase.ACTIVE:
            raise VenueError(f"{link.address}: not logged on")
        for _ in range(_TRIES):
            with contextlib.suppress(UnheardError):
                return await self._ask_once(link, kind, body)
        raise VenueError(f"{link.address}: 35={kind.decode()} was lost on its way {_TRIES} times")

    async def _ask_once(self, link: Link, kind: bytes, body: Callable[[str], bytes]) -> list[Message]:
        self._requests += 1
        request = f"{self._asks}-{self._requests}"
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

    def answer(self, message: Message) -> bool:
        """Whether the message answers one of our requests."""
        tag = {"8": 584, "AP": 710, "AO": 710, "j": 379}.get(message.kind)
        request = message.text(tag) if tag is not None else ""
        if message.kind in ("3", "j") and request not in self._pending:
            request = self.orders.request_of(message)
        pending = self._pending.get(request)
        if pending is None:
            return False
        pending.take(message)
        if pending.done.done() and message.kind in ("AP", "AO", "j"):
            self._net = dict(self.orders.net)  # fills that come before the answer is read count as later
        return True

    def _unsent(self, command: Command, why: str) -> None:
        """A command could not leave."""
        log.warning("order not sent", address=self._links[-1].address, order=command.cl_ord_id, reason=why)
        self.report(_unsent(command, self.clock.now_ns(), why))

    def dispute(self, message: Message) -> None:
        """A report was refused: the order that it names has to be asked for, even if it has ended."""
        self._recovery.dispute(message)

    def heard(self) -> None:
        """Something was said of orders."""
        self._recovery.heard()

    def unheard(self, first: int, last: int) -> None:
        """What left under these numbers may not have arrived: requests are made again, orders are asked for."""
        for name in self.orders.sent_between(first, last):
            if name in self._pending:
                self._pending[name].lost()
        self.recover()

    def recover(self, *, anew: bool = False) -> None:
        """Find out what became of our orders: at once in a new session (`anew`), else when it is time."""
        if not self._closed:
            self._recovery.begin(anew=anew)

    def recover_in_time(self) -> None:
        """A recovery that had to wait may begin."""
        self._recovery.begin_in_time()

    def recovery_due_ns(self) -> int:
        """Monotonic time at which that is so."""
        return self._recovery.due_ns()

    @property
    def address(self) -> str:
        """Of the session that carries orders."""
        return self._links[-1].address

    def wake(self) -> None:
        """Something about orders is due earlier than it was."""
        self._links[-1].wake()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something beside the sessions, until the access closes."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _position(message: Message, scale: Scale) -> tuple[int, float]:
    """Lots, signed, and average price in ticks of a report; FieldError where a number of it is none, or no lots."""
    lots = sum(scale.lots(entry.get(704)) - scale.lots(entry.get(705)) for entry in message.group(702))
    return lots, scale.average(message.get(730))


def _unsent(command: Command, now_ns: int, why: str) -> OrderUpdate:
    """What became of a command that could not leave: an order or a replacement is dead, else it is unknown."""
    orig = command.orig if isinstance(command, CancelOrder) else command.cl_ord_id
    order = command if isinstance(command, NewOrder | Replace) else None
    return OrderUpdate(
        clOrdID=orig,
        execID=f"L{now_ns}-{command.cl_ord_id}",
        status=OrderStatus.REJECTED if order is not None else OrderStatus.UNKNOWN,
        filled=0,
        price=order.px if order is not None else 0,
        ts=now_ns,
        instrument=command.instrument,
        side=order.side if order is not None else 0,
        text=why,
    )
