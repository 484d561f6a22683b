"""The market behind the venue of a drill: many quotes, orders that rest, cancels of which some are refused.

Everything that arrives is dealt with after half a round trip and told after the other half. Books wander by a tick, far
from what rests, so that nothing fills that was not to fill.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from emp.access.port import Sink
from emp.app.bench.flattening.terms import Terms, Truth, instruments_of
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace, VenuePosition
from emp.core.ids import generator
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array

START_PX = 100_000
LEVELS = 3
ROWS = 4_096
SIZE = 1_000
PULSE_S = 0.002
MOST_A_PULSE = 400
"""Rows that a venue which has fallen behind shows at once; the rest are owed for good."""


class Street:
    """Serves both venues: the FIX one as its `MarketAccess`, the Open API's as its `Market`."""

    def __init__(self, terms: Terms) -> None:
        self.instruments: Sequence[Instrument] = instruments_of(terms)
        self._terms = terms
        self._names = [one.name for one in self.instruments]
        self._draw = generator(terms.seed, "flattening", "cancels")
        self._rows = _wander(terms)
        self._last: dict[str, Array] = {}
        self._orders: dict[str, NewOrder] = {}  # that work
        self._ended: dict[str, OrderUpdate] = {}
        self._position = dict.fromkeys(self._names, 0)
        self._cost = dict.fromkeys(self._names, 0)
        self._arrived: list[int] = []
        self._refused = 0
        self._flat_ns = 0
        self._shown = self._owed = self._executions = 0
        self._on_event: Callable[[str, Array], None] = lambda _name, _row: None
        self._on_report: Callable[[OrderUpdate], None] = lambda _update: None
        self._heard: deque[Command] = deque()
        self._unsaid: deque[OrderUpdate] = deque()
        self._pump: asyncio.Task[None] | None = None

    # --- what a venue asks of its market

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """For the FIX venue: it hears of everything from now on."""
        self.listen(lambda _name, row: sink.events(row.reshape(1)), sink.report)

    def listen(
        self, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        """Register who hears of EVENT rows and of reports, and begin."""
        self._on_event, self._on_report = on_event, on_report
        self._pump = asyncio.get_running_loop().create_task(self._show())

    def book(self, instrument: str) -> Array | None:
        """The newest row of an instrument."""
        return self._last.get(instrument)

    def take(self, command: Command) -> None:
        """A command is here."""
        self._arrived.append(time.monotonic_ns())
        self._heard.append(command)
        self._later(lambda: self._deal_with(self._heard.popleft()))

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What works."""
        return [self._state(order, OrderStatus.NEW) for order in self._orders.values()]

    async def positions(self) -> Sequence[VenuePosition]:
        """What is held."""
        return [
            VenuePosition(instrument=name, qty=lots, avg_px=self._cost[name] / lots if lots else 0.0)
            for name, lots in self._position.items()
        ]

    async def close(self) -> None:
        """Show nothing any more."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    def truth(self) -> Truth:
        """What is so; what happened since it was last asked for is told once."""
        truth = Truth(
            working=len(self._orders),
            position=dict(self._position),
            arrived=self._arrived,
            refused=self._refused,
            flat_ns=self._flat_ns,
            shown=self._shown,
            owed=self._owed,
        )
        self._arrived, self._refused = [], 0
        return truth

    # --- quotes

    async def _show(self) -> None:
        began, due = time.monotonic(), 0
        while True:
            behind = int((time.monotonic() - began) * self._terms.events_per_s) - due
            due += behind
            self._owed += max(0, behind - MOST_A_PULSE)
            for _ in range(min(behind, MOST_A_PULSE)):
                self._show_one()
            await asyncio.sleep(PULSE_S)

    def _show_one(self) -> None:
        k = self._shown % len(self._rows)
        self._shown += 1
        row = self._rows[k : k + 1].copy()
        row["seq"] = self._shown
        row["ts"] = row["ts_recv"] = time.time_ns()
        name = self._names[int(row["instrument"][0])]
        self._last[name] = row[0]
        self._on_event(name, row[0])

    # --- orders

    def _later(self, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(self._terms.round_trip_s / 2, what)

    def _deal_with(self, command: Command) -> None:
        match command:
            case NewOrder():
                self._new(command)
            case CancelOrder():
                self._cancel(command)
            case QueryOrder():
                self._answer(command)
            case Replace():
                self._refuse(command.cl_ord_id, command.instrument, "nothing is replaced here")
        flat = not self._orders and not any(self._position.values())
        self._flat_ns = (self._flat_ns or time.monotonic_ns()) if flat else 0

    def _new(self, order: NewOrder) -> None:
        self._orders[order.cl_ord_id] = order
        self._tell(self._state(order, OrderStatus.NEW))
        if not order.immediate:
            return
        faults, held = self._terms.faults, self._position[order.instrument]
        if faults is not None and order.side * held < 0 and self._draw.random() < faults.rejected:
            self._refused += 1
            self._end(order, OrderStatus.REJECTED)
            return
        row = self._last[order.instrument]
        px = int(row["ask_px" if order.side > 0 else "bid_px"][0])
        if (order.px - px) * order.side < 0:
            self._end(order, OrderStatus.CANCELED)
            return
        self._position[order.instrument] += order.side * order.qty
        self._cost[order.instrument] += order.side * order.qty * px
        self._end(order, OrderStatus.FILLED, px)

    def _cancel(self, cancel: CancelOrder) -> None:
        order = self._orders.get(cancel.orig)
        if order is None:
            self._refuse(cancel.cl_ord_id, cancel.instrument, "unknown order")
        elif self._draw.random() < self._terms.refused:
            self._refused += 1
            self._refuse(cancel.cl_ord_id, cancel.instrument, "not now")
        else:
            self._end(order, OrderStatus.CANCELED)

    def _answer(self, query: QueryOrder) -> None:
        order = self._orders.get(query.cl_ord_id)
        known = self._ended.get(query.cl_ord_id)
        if order is not None:
            self._tell(self._state(order, OrderStatus.NEW))
        elif known is not None:
            self._tell(msgspec.structs.replace(known, ts=time.time_ns()))
        else:
            self._refuse(query.cl_ord_id, query.instrument, "unknown order")

    def _end(self, order: NewOrder, status: OrderStatus, px: int = 0) -> None:
        del self._orders[order.cl_ord_id]
        update = self._state(order, status, px)
        self._ended[order.cl_ord_id] = update
        self._tell(update)

    def _state(self, order: NewOrder, status: OrderStatus, px: int = 0) -> OrderUpdate:
        self._executions += 1
        filled = order.qty if status is OrderStatus.FILLED else 0
        return OrderUpdate(
            clOrdID=order.cl_ord_id,
            execID=f"F{self._executions}",
            status=status,
            filled=filled,
            price=px or order.px,
            ts=time.time_ns(),
            instrument=order.instrument,
            side=order.side,
            leaves=0 if status.terminal else order.qty,
        )

    def _refuse(self, name: str, instrument: str, text: str) -> None:
        self._executions += 1
        self._tell(
            OrderUpdate(
                clOrdID=name,
                execID=f"F{self._executions}",
                status=OrderStatus.REJECTED,
                filled=0,
                price=0,
                ts=time.time_ns(),
                instrument=instrument,
                text=text,
            )
        )

    def _tell(self, update: OrderUpdate) -> None:
        self._unsaid.append(update)
        self._later(lambda: self._on_report(self._unsaid.popleft()))


def _wander(terms: Terms) -> Array:
    """EVENT rows [ROWS]: each instrument in turn, its book a tick up or down now and then."""
    draw = generator(terms.seed, "flattening", "quotes")
    rows = np.zeros(ROWS - ROWS % terms.instruments, EVENT)
    rows["instrument"] = np.arange(len(rows)) % terms.instruments
    rows["flags"] = EventFlag.VISIBLE
    rows["n_bid"] = rows["n_ask"] = LEVELS
    bid = START_PX + draw.integers(0, 4, len(rows))
    for level in range(LEVELS):
        rows["bid_px"][:, level] = bid - level
        rows["ask_px"][:, level] = bid + 2 + level
        for side in ("bid", "ask"):
            rows[f"{side}_sz"][:, level] = SIZE + draw.integers(0, SIZE, len(rows))
    return rows
