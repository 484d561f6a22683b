"""Our orders in a simulated market: delayed, checked, truly in the queue, reported with fees and place.

`Exchange` takes the engine's commands, lets each reach the book after its own latency, and turns what the
matching engine does to them into `OrderUpdate`s that arrive after the report's latency. Time is the
market's: nothing here looks at a clock.
"""

import heapq
from collections.abc import Callable

import msgspec

from emp.core.codes import OrderStatus
from emp.core.contracts import (
    CancelOrder,
    Command,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    Replace,
    VenuePosition,
)
from emp.core.instrument import Instrument
from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.sim.book.book import (
    AUCTION,
    BAD_FULL,
    BAD_PHASE,
    BAD_POST,
    BAD_PRICE,
    BAD_QTY,
    BEST,
    BUY,
    CONTINUOUS,
    FILLED,
    IOC,
    LIMIT,
    LOST_FILLS,
    N_FILLS,
    OK_RESTING,
    OWN_LIVE,
    PHASE,
    POST_ONLY,
    SELL,
    STATUS,
    TAG,
    ahead_of,
    alive,
    cancel,
    clear_trade,
)
from emp.sim.book.matching import replace, submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.world.latency import CANCEL, ENTRY, REPORT, LatencyConfig, draw_latency, latency_record
from emp.sim.world.market import Market

OWNER = 1

REFUSALS = {
    BAD_PRICE: "price outside the venue's limits",
    BAD_QTY: "quantity must be at least one lot",
    BAD_POST: "post-only order would have taken liquidity",
    BAD_PHASE: "the market is halted or in an auction",
    BAD_FULL: "the venue holds no more orders",
}


class _Order:
    """One of our orders, as the venue knows it."""

    __slots__ = ("cl_ord_id", "filled", "handle", "leaves", "px", "side", "status", "tag")

    def __init__(self, new: NewOrder, tag: int) -> None:
        self.cl_ord_id = new.cl_ord_id
        self.side = new.side
        self.px = new.px
        self.leaves = new.qty
        self.filled = 0
        self.handle = 0
        self.tag = tag
        self.status = OrderStatus.PENDING_NEW


class Exchange:
    """The order side of a simulated market for one instrument."""

    def __init__(self, market: Market, instrument: Instrument, latency: LatencyConfig, seed: int) -> None:
        self.market = market
        self.instrument = instrument
        self.position = 0
        self.cash = 0.0  # ticks times lots, fees not included
        self.fees = 0.0
        self._latency = latency_record(latency)
        self._rng = seeded(seed, "latency")
        self._orders: dict[str, _Order] = {}  # by every id that an order has or had
        self._by_tag: list[_Order] = []
        self._resting: dict[int, _Order] = {}
        self._inbox: list[tuple[int, int, Command]] = []
        self._outbox: list[tuple[int, int, OrderUpdate]] = []
        self._n = 0
        self._last_in = 0
        self._last_out = 0
        self._execs = 0

    def send(self, command: Command, now_ns: int) -> None:
        """Put a command on the wire at `now_ns`; the book sees it after the leg's latency."""
        leg = CANCEL if isinstance(command, CancelOrder) else ENTRY
        self._last_in = max(self._last_in, now_ns + self._draw(leg))
        heapq.heappush(self._inbox, (self._last_in, self._number(), command))

    def run(self, until_ns: int, n_max: int, rows: Array, report: Callable[[OrderUpdate], None]) -> int:
        """Advance market and orders to `until_ns`, or until `rows` (EVENT) has `n_max` rows; return the rows.

        Reports that are due are handed over in order of their arrival.
        """
        n = 0
        while n < n_max:
            due = self._inbox[0][0] if self._inbox else until_ns
            n += self._flow(min(due, until_ns), rows[n:n_max])
            if n >= n_max or not self._inbox or self._inbox[0][0] > until_ns:
                break
            at, _, command = heapq.heappop(self._inbox)
            self._arrive(command, at)
            if self.market.public:
                self.market.show(rows, n, at)
                n += 1
        horizon = until_ns if n < n_max else int(rows["ts"][n - 1])
        while self._outbox and self._outbox[0][0] <= horizon:
            report(heapq.heappop(self._outbox)[2])
        return n

    def next_report_ns(self) -> int | None:
        """When the next report reaches us, None where none is on its way."""
        return self._outbox[0][0] if self._outbox else None

    def next_arrival_ns(self) -> int:
        """When the next command reaches the book, 2**62 where none is on its way."""
        return self._inbox[0][0] if self._inbox else 2**62

    def open_orders(self) -> list[OrderUpdate]:
        """What rests in the book."""
        return [self._update(o, o.status, o.px, self.market.now_ns) for o in self._resting.values()]

    def venue_position(self) -> VenuePosition:
        """What the venue says we hold."""
        avg = -self.cash / self.position if self.position else 0.0
        return VenuePosition(instrument=self.instrument.name, qty=self.position, avg_px=avg)

    def _flow(self, until_ns: int, rows: Array) -> int:
        """Let the market run, stopping at every event in which we took part."""
        n = 0
        while n < len(rows):
            done = self.market.run(until_ns, len(rows) - n, rows=rows[n:])
            n += done
            if self.market.book[N_FILLS]:
                self._fills(self.market.now_ns)
            elif n >= len(rows) or int(self.market.state["next"][0]) > until_ns:
                break
        self._reap(self.market.now_ns)
        return n

    def _arrive(self, command: Command, at: int) -> None:
        clear_trade(self.market.book)
        if isinstance(command, NewOrder):
            self._new(command, at)
        elif isinstance(command, CancelOrder):
            self._cancel(command, at)
        elif isinstance(command, Replace):
            self._replace(command, at)
        else:
            self._query(command, at)

    def _new(self, new: NewOrder, at: int) -> None:
        if new.cl_ord_id in self._orders:
            order = _Order(new, -1)
            self._report(order, OrderStatus.REJECTED, new.px, at, text=f"duplicate clOrdID {new.cl_ord_id}")
            return
        order = _Order(new, len(self._by_tag))
        self._orders[new.cl_ord_id] = order
        self._by_tag.append(order)
        side = BUY if new.side > 0 else SELL
        book = self.market.book
        resting = LIMIT if int(book[PHASE]) == AUCTION else POST_ONLY  # in an auction nobody takes
        kind = IOC if new.immediate else resting
        handle = int(submit(book, self.market.flow.fills, side, new.px, new.qty, kind, OWNER, order.tag))
        status = int(book[STATUS])
        if status in REFUSALS:
            self._finish(order, OrderStatus.REJECTED, at, REFUSALS[status])
            return
        if int(book[FILLED]) and int(self.market.flow.params["model"][0]) == QUEUE_REACTIVE:
            remember_ours(self.market.state[0], self.market.flow.params[0], side, int(book[FILLED]))
        order.status = OrderStatus.NEW
        ahead = int(ahead_of(book, handle)) if handle else 0
        self._report(order, OrderStatus.NEW, new.px, at, ahead=ahead)
        if status == OK_RESTING:
            order.handle = handle
            self._resting[order.tag] = order
        self._fills(at)
        if status != OK_RESTING and not order.status.terminal:
            text = f"immediate-or-cancel: {int(book[FILLED])} of {new.qty} lots found a counterparty"
            self._finish(order, OrderStatus.EXPIRED, at, text)
        self._reap(at)

    def _cancel(self, command: CancelOrder, at: int) -> None:
        order = self._orders.get(command.orig)
        if order is None or order.tag not in self._resting:
            self._refuse(command, at, _not_working(order))
            return
        cancel(self.market.book, order.handle)
        self._resting.pop(order.tag)
        self._finish(order, OrderStatus.CANCELED, at, "")

    def _refuse(self, command: CancelOrder | Replace, at: int, why: str) -> None:
        """A cancel or replacement is not carried out: its own id is rejected, the order stays as it is."""
        what = "cancel" if isinstance(command, CancelOrder) else "replacement"
        self._put(
            OrderUpdate(
                clOrdID=command.cl_ord_id,
                execID=self._exec_id(),
                status=OrderStatus.REJECTED,
                filled=0,
                price=0,
                ts=at,
                instrument=self.instrument.name,
                text=f"{what} of {command.orig}: {why}",
            )
        )

    def _replace(self, command: Replace, at: int) -> None:
        """Change price or size; the order goes on under the replacement's id."""
        order = self._orders.get(command.orig)
        why = self._no_replacement(order, command)
        if order is None or why:
            self._refuse(command, at, why)
            return
        book, open_lots = self.market.book, command.qty - order.filled
        handle = int(replace(book, self.market.flow.fills, order.handle, command.px, open_lots))
        status = int(book[STATUS])
        if status in REFUSALS:  # the book has left the order alone
            self._refuse(command, at, REFUSALS[status])
            return
        order.handle, order.px, order.leaves = handle, command.px, open_lots
        order.cl_ord_id = command.cl_ord_id
        self._orders[command.cl_ord_id] = order
        update = self._update(order, order.status, order.px, at, ahead=int(ahead_of(book, handle)))
        self._put(msgspec.structs.replace(update, replacement=command.cl_ord_id))

    def _no_replacement(self, order: _Order | None, command: Replace) -> str:
        """Why an order cannot be replaced; empty where it can."""
        if order is None or order.tag not in self._resting:
            return _not_working(order)
        if command.cl_ord_id in self._orders:
            return f"duplicate clOrdID {command.cl_ord_id}"
        if command.qty <= order.filled:
            return f"too late: {order.filled} lots have filled"
        book, sign = self.market.book, order.side
        opposite = int(book[BEST + (SELL if sign > 0 else BUY)])
        if int(book[PHASE]) == CONTINUOUS and (command.px - opposite) * sign >= 0:
            return "it would have taken liquidity"
        return ""

    def _query(self, command: QueryOrder, at: int) -> None:
        order = self._orders.get(command.cl_ord_id)
        if order is None:
            new = NewOrder(
                cl_ord_id=command.cl_ord_id,
                instrument=command.instrument,
                side=0,
                qty=0,
                px=0,
                immediate=False,
                ts=at,
                reason=0,  # type: ignore[arg-type]
                decision_seq=0,
            )
            self._report(_Order(new, -1), OrderStatus.REJECTED, 0, at, text="unknown order")
            return
        self._report(order, order.status, order.px, at, text="status")

    def _fills(self, at: int) -> None:
        """Report the fills that the last event logged."""
        book = self.market.book
        for row in self.market.flow.fills[: int(book[N_FILLS])]:
            maker = bool(row["maker"] == OWNER)
            order = self._by_tag[int(row["maker_tag"] if maker else row["taker_tag"])]
            qty, px = int(row["qty"]), int(row["px"])
            fee = qty * (self.instrument.maker_fee if maker else self.instrument.taker_fee)
            order.filled += qty
            order.leaves -= qty
            self.position += order.side * qty
            self.cash -= order.side * qty * px
            self.fees += fee
            order.status = OrderStatus.PARTIALLY_FILLED if order.leaves else OrderStatus.FILLED
            ahead = int(row["ahead"]) if maker else 0
            self._report(order, order.status, px, at, fee=fee, maker=maker, ahead=ahead)
            if not order.leaves:
                self._resting.pop(order.tag, None)
        if book[LOST_FILLS]:
            raise AssertionError("the fill log of the simulated market overflowed")
        book[N_FILLS] = 0

    def _reap(self, at: int) -> None:
        """Report orders that left the book without a trade: self-trade prevention, a moved price window."""
        if int(self.market.book[OWN_LIVE]) == len(self._resting):
            return
        book = self.market.book
        for tag, order in list(self._resting.items()):
            if not alive(book, order.handle) or int(book[order.handle + TAG]) != tag:
                self._resting.pop(tag)
                self._finish(order, OrderStatus.CANCELED, at, "withdrawn by the venue")

    def _finish(self, order: _Order, status: OrderStatus, at: int, text: str) -> None:
        order.status = status
        order.leaves = 0
        self._report(order, status, order.px, at, text=text)

    def _report(
        self,
        order: _Order,
        status: OrderStatus,
        px: int,
        at: int,
        fee: float = 0.0,
        maker: bool = False,
        ahead: int = -1,
        text: str = "",
    ) -> None:
        self._put(self._update(order, status, px, at, fee, maker, ahead, text))

    def _update(
        self,
        order: _Order,
        status: OrderStatus,
        px: int,
        at: int,
        fee: float = 0.0,
        maker: bool = False,
        ahead: int = -1,
        text: str = "",
    ) -> OrderUpdate:
        if status is OrderStatus.NEW and ahead < 0 and order.handle:
            ahead = int(ahead_of(self.market.book, order.handle))
        return OrderUpdate(
            clOrdID=order.cl_ord_id,
            execID=self._exec_id(),
            status=status,
            filled=order.filled,
            price=px,
            ts=at,
            instrument=self.instrument.name,
            side=order.side,
            leaves=order.leaves,
            fee=fee,
            maker=maker,
            queue_ahead=ahead,
            text=text,
        )

    def _put(self, update: OrderUpdate) -> None:
        self._last_out = max(self._last_out, update.ts + self._draw(REPORT))
        heapq.heappush(self._outbox, (self._last_out, self._number(), update))

    def _draw(self, leg: int) -> int:
        load = float(self.market.state["load"][0])
        return int(draw_latency(self._latency[0], leg, load, self._rng))

    def _number(self) -> int:
        self._n += 1
        return self._n

    def _exec_id(self) -> str:
        self._execs += 1
        return f"S{self._execs:09d}"


def _not_working(order: _Order | None) -> str:
    """Why nothing can be done about an order."""
    return "unknown order" if order is None else f"order is {order.status.value}"
