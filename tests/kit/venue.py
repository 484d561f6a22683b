"""A venue for tests of doors: a scripted market, and the place where what it tells can be spoilt."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from emp.access.port import LinkState, Sink
from emp.access.pump import Pump
from emp.core.approval import Cleared, command_of
from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array

TOO_MANY = 100_000
"""Lots that an overfilled report claims beyond its order."""

FIRST_SIZE = 10_000
"""Lots at the best bid of event 0; event k shows k more, so that each event is known by its book."""

PAUSE_S = 0.005


class Fact(NamedTuple):
    """What a report says of an order, through whatever door."""

    cl_ord_id: str
    status: OrderStatus
    filled: int


def fact(update: OrderUpdate) -> Fact:
    """The part of a report that no door may change."""
    return Fact(update.clOrdID, update.status, update.filled)


class VenueEnd:
    """Stands where a venue tells of orders: keeps what was told and asked, and spoils what a test wants spoilt."""

    def __init__(self) -> None:
        self.told: list[Fact] = []
        self.orders: list[str] = []  # ids of the new orders that arrived, in order
        self.queries: list[str] = []  # ids of the orders that were asked for
        self.silent = False  # reports are lost
        self.ends_only = False  # of them only those that end an order
        self.lost: list[str] = []  # ids of the orders they were about
        self.overfill = False  # the next fill is told with TOO_MANY lots more
        self.cut_next: Callable[[], None] | None = (
            None  # called before the next report leaves, to cut it in two
        )

    def heard(self, command: Command) -> None:
        """A command has arrived."""
        if isinstance(command, NewOrder):
            self.orders.append(command.cl_ord_id)
        elif isinstance(command, QueryOrder):
            self.queries.append(command.cl_ord_id)

    def spoils(self, filled: int) -> bool:
        """Whether the fill that is to be told is overstated."""
        spoilt, self.overfill = self.overfill and filled > 0, self.overfill and filled == 0
        return spoilt

    def tells(self, said: Fact) -> bool:
        """Note what is to be told; whether it leaves at all."""
        if self.silent and (said.status.terminal or not self.ends_only):
            self.lost.append(said.cl_ord_id)
            return False
        if self.cut_next is not None:
            cut, self.cut_next = self.cut_next, None
            cut()
        self.told.append(said)
        return True

    def tell(self, update: OrderUpdate) -> list[OrderUpdate]:
        """What leaves of a report."""
        if self.spoils(update.filled):
            update = msgspec.structs.replace(update, filled=update.filled + TOO_MANY)
        return [update] if self.tells(fact(update)) else []


class ScriptedMarket:
    """Shows a new book every few ms and matches what is sent against it; a `MarketAccess`.

    It also is what stands behind a `CTraderVenue`, once it is connected to the sink of `listen`.
    """

    def __init__(self, instrument: Instrument, end: VenueEnd, base_px: int = 100_000) -> None:
        self.instruments = (instrument,)
        self.end = end
        self.shown = 0  # events
        self.position = 0
        self.refuses = ""
        self.sink: Sink
        self._base_px = base_px
        self._row = np.zeros(1, EVENT)
        self._orders: dict[str, NewOrder] = {}
        self._status: dict[str, OrderStatus] = {}
        self._reports = 0
        self._closed = False
        self._pump = Pump(self._run)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        if self.refuses:
            raise VenueError(self.refuses)
        self.sink = sink
        self._pump.start(sink)

    async def _run(self, sink: Sink) -> None:
        await sink.ready()
        while True:
            rows = self.book_at(self.shown, LiveClock().now_ns())
            self._row = rows
            self.shown += 1
            sink.events(rows)
            await asyncio.sleep(PAUSE_S)

    def book_at(self, k: int, ts: int) -> Array:
        """EVENT row [1] of event `k`."""
        rows = np.zeros(1, EVENT)
        rows["seq"], rows["ts"], rows["ts_recv"] = k + 1, ts, ts
        rows["flags"] = EventFlag.VISIBLE
        rows["n_bid"] = rows["n_ask"] = 2
        for level in range(2):
            rows["bid_px"][:, level] = self._base_px - level
            rows["ask_px"][:, level] = rows["bid_px"][:, 0] + 2 + level
            rows["bid_sz"][:, level] = rows["ask_sz"][:, level] = FIRST_SIZE + k + level
        return rows

    def send(self, cleared: Cleared) -> None:
        self.take(command_of(cleared))

    def take(self, command: Command) -> None:
        if self._closed:
            raise VenueError("scripted market: closed")
        self.end.heard(command)
        if isinstance(command, NewOrder):
            assert command.cl_ord_id not in self._orders, "an order came twice"
            self._new(command)
        elif isinstance(command, CancelOrder):
            self._cancel(command)
        elif command.cl_ord_id in self._orders:
            self._report(command.cl_ord_id, self._status[command.cl_ord_id], "status")
        else:
            self._unknown(command.cl_ord_id)

    def _new(self, order: NewOrder) -> None:
        name = order.cl_ord_id
        self._orders[name] = order
        self._report(name, OrderStatus.NEW)
        touch = int(self._row["ask_px" if order.side > 0 else "bid_px"][0, 0])
        if touch and order.side * (order.px - touch) >= 0:
            self.position += order.side * order.qty
            self._report(name, OrderStatus.FILLED)
        elif order.immediate:
            self._report(name, OrderStatus.CANCELED)

    def _cancel(self, cancel: CancelOrder) -> None:
        if cancel.orig not in self._orders or self._status[cancel.orig].terminal:
            self._unknown(cancel.cl_ord_id, "too late")
        else:
            self._report(cancel.orig, OrderStatus.CANCELED)

    def _unknown(self, name: str, text: str = "unknown order") -> None:
        self._tell(
            OrderUpdate(
                clOrdID=name,
                execID=self._next(),
                status=OrderStatus.REJECTED,
                filled=0,
                price=0,
                ts=LiveClock().now_ns(),
                instrument=self.instruments[0].name,
                text=text,
            )
        )

    def _report(self, name: str, status: OrderStatus, text: str = "") -> None:
        self._status[name] = status
        self._tell(self._state(name, text))

    def _state(self, name: str, text: str = "") -> OrderUpdate:
        order, status = self._orders[name], self._status[name]
        filled = order.qty if status is OrderStatus.FILLED else 0
        return OrderUpdate(
            clOrdID=name,
            execID=self._next(),
            status=status,
            filled=filled,
            price=order.px,
            ts=LiveClock().now_ns(),
            instrument=order.instrument,
            side=order.side,
            leaves=0 if status.terminal else order.qty,
            text=text,
        )

    def _next(self) -> str:
        self._reports += 1
        return f"M{self._reports}"

    def _tell(self, update: OrderUpdate) -> None:
        for one in self.end.tell(update):
            self.sink.report(one)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        return [self._state(name) for name, status in self._status.items() if not status.terminal]

    async def positions(self) -> Sequence[VenuePosition]:
        name = self.instruments[0].name
        return [VenuePosition(instrument=name, qty=self.position, avg_px=float(self._base_px))]

    async def close(self) -> None:
        self._closed = True
        await self._pump.stop()

    # --- behind a CTraderVenue ------------------------------------------------------------------------------

    def book(self, instrument: str) -> Array | None:
        return self._row[0] if self.shown else None

    def listen(
        self, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        self.listener = _Listener(self.instruments[0].name, on_event, on_report)


class _Listener:
    """Two callbacks as a sink."""

    def __init__(
        self, name: str, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        self._name, self._on_event = name, on_event
        self.report = on_report

    def events(self, rows: Array) -> None:
        for row in rows:
            self._on_event(self._name, row)

    def link(self, state: LinkState) -> None:
        pass

    def ended(self, error: Exception | None) -> None:
        pass

    async def ready(self) -> None:
        pass
