"""The venue of a drill: python -m emp.app.bench.takeover.venue FOLDER PORT SEED. It writes down what arrives and what
it does, one JSON object a line, and knows of no lease but by the tokens in the ids.
"""

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from emp.access.fix.message import Message
from emp.app.bench.flattening.market import Street
from emp.app.bench.takeover.terms import dialect, market_terms
from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, Replace
from emp.core.records import Array
from emp.sim.venues.fix.client import Client
from emp.sim.venues.fix.settings import VenueSettings
from emp.sim.venues.fix.venue import FixVenue


class Book:
    """What the venue writes down."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, kind: str, **what: Any) -> None:
        """One line, at once."""
        self._file.write(json.dumps({"t": time.time_ns(), "k": kind, **what}) + "\n")


class Market(Street):
    """A street on which orders that rest are filled where the market comes to them, and may be replaced."""

    def __init__(self, seed: int, book: Book) -> None:
        super().__init__(market_terms(seed))
        self._book = book

    def _show_one(self) -> None:
        super()._show_one()
        for order in tuple(self._orders.values()):
            row = self._last.get(order.instrument)
            if row is not None and self._reached(order, row):
                self._fill(order, order.px)

    @staticmethod
    def _reached(order: NewOrder, row: Array) -> bool:
        return bool(row["ask_px"][0] <= order.px if order.side > 0 else row["bid_px"][0] >= order.px)

    def _fill(self, order: NewOrder, px: int) -> None:
        self._position[order.instrument] += order.side * order.qty
        self._cost[order.instrument] += order.side * order.qty * px
        self._end(order, OrderStatus.FILLED, px)

    def _deal_with(self, command: Any) -> None:
        if isinstance(command, Replace):
            self._replace(command)
        else:
            super()._deal_with(command)

    def _replace(self, command: Replace) -> None:
        order = self._orders.pop(command.orig, None)
        if order is None:
            self._refuse(command.cl_ord_id, command.instrument, "too late")
            return
        changed = {"cl_ord_id": command.cl_ord_id, "px": command.px, "qty": command.qty}
        self._orders[command.cl_ord_id] = order = msgspec.structs.replace(order, **changed)
        told = self._state(order, OrderStatus.NEW)
        self._tell(msgspec.structs.replace(told, replacement=command.cl_ord_id))

    def _new(self, order: NewOrder) -> None:
        super()._new(order)
        self._book.write("works", id=order.cl_ord_id, n=len(self._orders))

    def _end(self, order: NewOrder, status: OrderStatus, px: int = 0) -> None:
        super()._end(order, status, px)
        filled = order.side * order.qty if status is OrderStatus.FILLED else 0
        held = self._position[order.instrument]
        self._book.write("ended", id=order.cl_ord_id, filled=filled, position=held, n=len(self._orders))


class Venue(FixVenue):
    """The FIX venue, which writes down each command as it arrives."""

    def __init__(self, market: Market, port: int, book: Book) -> None:
        super().__init__(market, market.instruments, VenueSettings(dialect=dialect(), port=port))
        self._book = book

    def order(self, client: Client, message: Message) -> None:
        """As the venue."""
        self._note("D", message, again=message.poss_resend)
        super().order(client, message)

    def cancel(self, client: Client, message: Message) -> None:
        """As the venue."""
        self._note("F", message)
        super().cancel(client, message)

    def replace(self, client: Client, message: Message) -> None:
        """As the venue."""
        self._note("G", message, again=message.poss_resend)
        super().replace(client, message)

    def _note(self, kind: str, message: Message, *, again: bool = False) -> None:
        self._book.write(kind, id=message.text(11), again=again)


async def serve(folder: Path, port: int, seed: int) -> None:
    """Until SIGTERM."""
    over = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, over.set)
    venue = Venue(Market(seed, book := Book(folder / "venue.jsonl")), port, book)
    await venue.start()
    await over.wait()
    await venue.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
