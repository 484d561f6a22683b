"""Markets for the tests of the FIX venue: the simulator in lockstep, and a small one that is easy to reason about."""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from emp.access.port import Sink
from emp.access.pump import Pump
from emp.core.approval import Cleared, command_of
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace, VenuePosition
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array
from emp.sim.world.market import zero_intelligence
from emp.sim.world.mock import MockMarket


class Stepped:
    """A simulated market, one event per step, as a live market."""

    def __init__(self, instrument: Instrument, seed: int, n_events: int) -> None:
        start_ns = 1_700_000_000_000_000_000
        market = zero_intelligence(seed, start_ns=start_ns)  # brisk, so that few events hold many reports
        self.mock = MockMarket(instrument, seed, market=market, n_events=n_events, start_ns=start_ns)
        self.pump = Pump(self.run)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        self.mock.report_to(sink)
        self.pump.start(sink)

    async def run(self, sink: Sink) -> None:
        await sink.ready()
        for rows in self.mock.batches():
            sink.events(rows)
            await sink.ready()

    def send(self, cleared: Cleared) -> None:
        self.take(command_of(cleared))

    def take(self, command: Command) -> None:
        self.mock.take(command)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        return await self.mock.open_orders()

    async def positions(self) -> Sequence[VenuePosition]:
        return await self.mock.positions()

    async def close(self) -> None:
        await self.pump.stop()
        await self.mock.close()


class Toy:
    """A market that moves a tick every few ms and fills: at once what is immediate, later and in parts what rests."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        pause_s: float = 0.005,
        levels: int = 3,
        eager: bool = False,
        in_full: bool = False,
    ) -> None:
        self.names = [i.name for i in instruments]
        self.pause_s = pause_s
        self.levels = levels
        self.eager = eager  # fills whatever comes, at once
        self.in_full = in_full  # trades are shown, fills cost a fee and had a queue before them
        self.orders: dict[str, NewOrder] = {}
        self.filled: dict[str, int] = {}
        self.status: dict[str, OrderStatus] = {}
        self.held = dict.fromkeys(self.names, 0)
        self.steps = 0
        self.shown: list[Array] = []
        self._reports = 0
        self._callback: Callable[[OrderUpdate], None] = lambda _: None
        self.pump = Pump(self.run)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        self._callback = sink.report
        self.pump.start(sink)

    def row(self, index: int) -> Array:
        row = np.zeros(1, EVENT)
        wave = (self.steps * 7919) % 5 - 2
        mid = 108_755 + wave + 1000 * index
        row["ts"] = 1_700_000_000_000_000_000 + self.steps * 1_000_003
        row["seq"] = self.steps + 1
        row["instrument"] = index
        row["flags"] = int(EventFlag.VISIBLE)
        row["n_bid"] = row["n_ask"] = self.levels
        for i in range(self.levels):
            row["bid_px"][0, i], row["ask_px"][0, i] = mid - 1 - i, mid + 1 + i
            row["bid_sz"][0, i] = row["ask_sz"][0, i] = (self.steps + i) % 7 + 1
        if self.in_full:
            row["flags"] |= int(EventFlag.TRADE)
            row["trade_px"], row["trade_qty"], row["trade_qty_last"] = mid + 1, 5, 2
        return row

    async def run(self, sink: Sink) -> None:
        await sink.ready()
        while True:
            await asyncio.sleep(self.pause_s)
            self.steps += 1
            for name in list(self.orders):
                if self.steps % 4 == 0 and not self.status[name].terminal:
                    self._fill(name, 1)
            for index in range(len(self.names)):
                rows = self.row(index)
                self.shown.append(rows)
                sink.events(rows)

    def _report(self, name: str, status: OrderStatus, text: str = "", replacement: str = "") -> None:
        order = self.orders.get(name)
        if order is not None:
            self.status[name] = status
        self._reports += 1
        filled = self.filled.get(name, 0)
        self._callback(
            OrderUpdate(
                clOrdID=name,
                execID=f"T{self._reports}",
                status=status,
                filled=filled,
                price=order.px if order else 0,
                ts=1_700_000_000_000_000_000 + self.steps,
                instrument=order.instrument if order else "",
                side=order.side if order else 0,
                leaves=order.qty - filled if order and not status.terminal else 0,
                fee=1e-7 if self.in_full and filled else 0.0,
                queue_ahead=3 if self.in_full and filled else -1,
                text=text,
                replacement=replacement,
            )
        )

    def _fill(self, name: str, qty: int) -> None:
        order = self.orders[name]
        qty = min(qty, order.qty - self.filled[name])
        self.filled[name] += qty
        self.held[order.instrument] += order.side * qty
        done = self.filled[name] == order.qty
        self._report(name, OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED)

    def send(self, cleared: Cleared) -> None:
        self.take(command_of(cleared))

    def take(self, command: Command) -> None:
        if isinstance(command, NewOrder):
            assert command.cl_ord_id not in self.orders, "an order came twice"
            self.orders[command.cl_ord_id] = command
            self.filled[command.cl_ord_id] = 0
            self._report(command.cl_ord_id, OrderStatus.NEW)
            if command.immediate or self.eager:
                self._fill(command.cl_ord_id, command.qty)
        elif isinstance(command, CancelOrder):
            if self.status.get(command.orig, OrderStatus.FILLED).terminal:
                self._report(command.cl_ord_id, OrderStatus.REJECTED, "too late")
            else:
                self._report(command.orig, OrderStatus.CANCELED)
        elif isinstance(command, Replace):
            self._replace(command)
        else:
            self._report(command.cl_ord_id, self.status[command.cl_ord_id], "status")

    def _replace(self, command: Replace) -> None:
        """Here orders go on under the replacement's id, and the old one is forgotten."""
        name, old = command.cl_ord_id, command.orig
        if self.status.get(old, OrderStatus.FILLED).terminal or command.qty <= self.filled[old]:
            self._report(name, OrderStatus.REJECTED, "too late")
            return
        order = self.orders.pop(old)
        self.orders[name] = msgspec.structs.replace(order, cl_ord_id=name, qty=command.qty, px=command.px)
        self.filled[name], status = self.filled.pop(old), self.status.pop(old)
        self._report(name, status, replacement=name)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        found: list[OrderUpdate] = []
        callback, self._callback = self._callback, found.append
        for name, status in list(self.status.items()):
            if not status.terminal:
                self._report(name, status)
        self._callback = callback
        return found

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument=n, qty=q, avg_px=108_755.0) for n, q in self.held.items()]

    async def close(self) -> None:
        await self.pump.stop()
