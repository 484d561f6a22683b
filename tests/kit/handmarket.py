"""A market of few words for the tests: books are set by hand, orders match against what is shown."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from emp.core.clock import Clock
from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array


class HandMarket:
    def __init__(self, instruments: Sequence[Instrument], stamp: int) -> None:
        self.instruments = instruments
        self.books: dict[str, Array] = {}
        self.resting: dict[str, tuple[NewOrder, int]] = {}
        self.orders: list[NewOrder] = []
        self.stamp = stamp
        self.seq = 0
        self.reports = 0
        self.on_event: Callable[[str, Array], None] = lambda name, row: None
        self.on_report: Callable[[OrderUpdate], None] = lambda update: None

    def book(self, instrument: str) -> Array | None:
        return self.books.get(instrument)

    def listen(
        self, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        self.on_event, self.on_report = on_event, on_report

    def show(self, instrument: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        row = np.zeros(1, EVENT)[0]
        self.seq += 1
        self.stamp += 1_000_000
        row["ts"], row["seq"], row["n_bid"], row["n_ask"] = self.stamp, self.seq, len(bids), len(asks)
        for side, levels in (("bid", bids), ("ask", asks)):
            for i, (px, size) in enumerate(levels):
                row[f"{side}_px"][i], row[f"{side}_sz"][i] = px, size
        self.books[instrument] = row
        self.on_event(instrument, row)

    def take(self, command: Command) -> None:
        if isinstance(command, NewOrder):
            self.orders.append(command)
            self._new(command)
        elif isinstance(command, CancelOrder):
            order, filled = self.resting.pop(command.orig)
            self._report(order, OrderStatus.CANCELED, filled, order.px)
        elif isinstance(command, Replace):
            self._replace(command)

    def _replace(self, command: Replace) -> None:
        """It changes an order, or refuses to make it take."""
        order, filled = self.resting[command.orig]
        changed = msgspec.structs.replace(
            order, cl_ord_id=command.cl_ord_id, px=command.px, qty=command.qty, ts=command.ts
        )
        if self._opposite(changed) or command.qty <= filled:
            rejected = msgspec.structs.replace(order, cl_ord_id=command.cl_ord_id)
            self._report(rejected, OrderStatus.REJECTED, 0, 0, text="cannot be replaced")
            return
        del self.resting[command.orig]
        self.resting[command.cl_ord_id] = (changed, filled)
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
        self._report(changed, status, filled, changed.px, replacement=command.cl_ord_id)

    def _new(self, order: NewOrder) -> None:
        self._report(order, OrderStatus.NEW, 0, order.px)
        filled = 0
        for px, size in self._opposite(order):
            take = min(size, order.qty - filled)
            if take > 0:
                filled += take
                done = filled == order.qty
                self._report(order, OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED, filled, px)
        if filled < order.qty:
            if order.immediate:
                self._report(order, OrderStatus.CANCELED, filled, order.px)
            else:
                self.resting[order.cl_ord_id] = (order, filled)

    def _opposite(self, order: NewOrder) -> list[tuple[int, int]]:
        row = self.books.get(order.instrument)
        if row is None:
            return []
        side, sign = ("ask", 1) if order.side > 0 else ("bid", -1)
        levels = [(int(row[f"{side}_px"][i]), int(row[f"{side}_sz"][i])) for i in range(row[f"n_{side}"])]
        return [(px, size) for px, size in levels if sign * (order.px - px) >= 0]

    def fill(self, lots: int, name: str | None = None) -> None:
        """Fill lots of a resting order at its price."""
        name = name or next(iter(self.resting))
        order, filled = self.resting[name]
        filled += lots
        done = filled == order.qty
        self.resting[name] = (order, filled)
        if done:
            del self.resting[name]
        status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        self._report(order, status, filled, order.px)

    def _report(self, order: NewOrder, status: OrderStatus, filled: int, price: int, **more: Any) -> None:
        self.reports += 1
        self.stamp += 1_000_000
        self.on_report(
            OrderUpdate(
                clOrdID=order.cl_ord_id,
                execID=str(self.reports),
                status=status,
                filled=filled,
                price=price,
                ts=self.stamp,
                side=order.side,
                **more,
            )
        )


class Moving(HandMarket):
    """A market that moves by itself, with the stamps of a clock that may be wrong."""

    def __init__(self, instruments: Sequence[Instrument], clock: Clock) -> None:
        super().__init__(instruments, clock.now_ns())
        self.clock = clock

    async def move(self) -> None:
        n = 0
        while True:
            n += 1
            self.stamp = self.clock.now_ns() - 1_000_000
            for one in self.instruments:
                base = 110_000 + n % 3
                self.show(one.name, [(base, 3), (base - 1, 4)], [(base + 2, 5), (base + 3, 6)])
            await asyncio.sleep(0.02)
