"""The paper venue: our orders against a recorded market, reported as a venue would.

Latency is a fact of place, not a choice. A replay runs in exchange time, as if an event were seen the moment
it happened; so the way of the event to us and of the command back are one delay, a round trip, and a report
comes at the time of the market data of its moment. ROUND_TRIP_NS has what a server in central Europe pays:

- New York: 78 ms, Paris to New York measured at 77.3 to 78.3 ms (WonderProxy, "Miles per Millisecond", city
  table); Chicago is farther, so for Globex this is the least.
- London, for aggregated spot FX: 21 ms, the same table's Paris to Milan (21.3 to 21.6 ms), a way of similar
  length.
- Tokyo (crypto) and Singapore (SGX): 90 and 98 ms, light in fibre (refractive index 1.468) over the great
  circle of 9,100 and 10,000 km: a bound, not a measurement.
"""

from collections.abc import Sequence

import numpy as np

from emp.access.paper.fills import (
    CANCEL,
    ENDED,
    FREE,
    NEW,
    ON_ITS_WAY,
    PAPER_ORDER,
    PAPER_REPORT,
    PAPER_VENUE,
    QUERY,
    REPLACE,
    RESTING,
    ROWS,
    STATUS_REJECTED,
    venue_advance,
    venue_due,
    venue_forget,
    venue_step,
)
from emp.access.paper.market import CURSOR, PaperMarket
from emp.core.codes import OrderStatus, Venue
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace, VenuePosition
from emp.core.errors import UsageError, VenueError
from emp.core.ids import cl_ord_id
from emp.core.instrument import Instrument
from emp.core.messages import (
    AHEAD,
    FEE,
    ID,
    LEAVES,
    MAKER,
    ORIG,
    PX,
    QTY,
    SEQ,
    SIDE,
    STATUS,
    STATUSES,
    TEXT,
    TS,
    Row,
)
from emp.core.records import Array

ROUND_TRIP_NS = {
    Venue.NASDAQ: 78_000_000,
    Venue.GLOBEX: 78_000_000,
    Venue.SPOT_AGG: 21_000_000,
    Venue.CRYPTO_CLOB: 90_000_000,
    Venue.SGX: 98_000_000,
}

REPORTS = 1024
NAME = np.dtype("S32")

LOTS = ("queue", "sweep", "improving", "quote", "taken")
COUNTERFACTUAL = ("improving", "quote")
"""Lots that came from flow which did something else in the recording."""

_STATUS = (
    OrderStatus.NEW,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.FILLED,
    OrderStatus.CANCELED,
    OrderStatus.REJECTED,
)
_TEXT = (
    "",
    "post-only order would take",
    "no book",
    "too late: the order has ended",
    "unknown order",
    "immediate order: the rest is cancelled",
    "the market is halted",
)


class PaperVenue:
    """A venue for one recorded instrument.

    A compiled loop has it in a `market`, and its reports are messages by `told`; `step` carries it over one event.
    `entry_ns` and `report_ns` default to ROUND_TRIP_NS and 0.
    """

    def __init__(self, instrument: Instrument, *, entry_ns: int | None = None, report_ns: int = 0) -> None:
        entry = ROUND_TRIP_NS[instrument.venue] if entry_ns is None else entry_ns
        if entry < 0 or report_ns < 0:
            raise UsageError(f"paper venue: latencies must not be negative, were {entry} and {report_ns} ns")
        self.instrument = instrument
        self.venue = np.zeros(1, PAPER_VENUE)
        self.orders = np.zeros(ROWS, PAPER_ORDER)
        self.reports = np.zeros(REPORTS, PAPER_REPORT)
        self.names = np.zeros(ROWS, NAME)
        self.venue["entry_ns"], self.venue["report_ns"] = entry, report_ns
        self.venue["maker_fee"], self.venue["taker_fee"] = instrument.maker_fee, instrument.taker_fee

    def state(self) -> dict[str, Array]:
        """All state, to be copied out to a checkpoint and in from it."""
        return {"venue": self.venue, "orders": self.orders, "reports": self.reports, "names": self.names}

    @property
    def busy(self) -> bool:
        """Whether events have to pass through: something is on its way, resting, or waiting to be told."""
        venue = self.venue[0]
        return bool(venue["at_work"] or venue["pending"])

    def send(self, command: Command) -> None:
        """Put a command on its way; it arrives `entry_ns` after its `ts`. One order id is one order."""
        row = self._free_row()
        venue = self.venue[0]
        name = command.cl_ord_id.encode()
        if len(name) > NAME.itemsize:
            raise VenueError(f"paper venue: id {command.cl_ord_id} is longer than {NAME.itemsize} characters")
        if isinstance(command, NewOrder | Replace) and self._row_of(name) >= 0:
            raise VenueError(f"paper venue: order {command.cl_ord_id} was sent before")
        target = -1
        if not isinstance(command, NewOrder):
            target = self._row_of(name if isinstance(command, QueryOrder) else command.orig.encode())
        venue["number"] += 1
        venue["at_work"] |= np.int64(1) << row
        self.names[row] = name
        record = self.orders[row]
        record.fill(0)
        record["number"], record["place"], record["state"] = venue["number"], venue["number"], ON_ITS_WAY
        record["arrive"] = command.ts + venue["entry_ns"]
        record["target"], record["target_number"] = target, self.orders[target]["number"]
        if isinstance(command, NewOrder):
            record["kind"], record["side"], record["px"] = NEW, command.side, command.px
            record["qty"], record["immediate"] = command.qty, command.immediate
        elif isinstance(command, Replace):
            record["kind"], record["side"], record["px"] = REPLACE, command.side, command.px
            record["qty"] = command.qty
        else:
            record["kind"] = CANCEL if isinstance(command, CancelOrder) else QUERY

    def _row_of(self, name: bytes) -> int:
        """Row of the order that has, had or is asked to have that id, or -1 where it is not known (any more)."""
        named = np.flatnonzero(self.names == name)
        for row in named[::-1]:
            order = self.orders[row]
            if order["kind"] == NEW:
                return int(row)
            target = int(order["target"])
            refused = order["state"] == ENDED and order["status"] == STATUS_REJECTED
            if order["kind"] == REPLACE and target >= 0 and not refused:
                known = self.orders[target]["number"] == order["target_number"]
                return target if known else -1
        return -1

    def _free_row(self) -> int:
        """A row never used, or the one whose order ended first, once all about it has been told."""
        usable = (self.orders["kind"] == FREE) | (
            (self.orders["state"] == ENDED) & (self.orders["undelivered"] == 0)
        )
        rows = np.flatnonzero(usable)
        if not len(rows):
            raise VenueError(f"paper venue: more than {ROWS} commands and orders at once")
        return int(rows[np.argmin(self.orders["number"][rows])])

    def step(self, prev_event: Array, event: Array) -> list[OrderUpdate]:
        """Carry the venue over one EVENT record and return the reports due by then."""
        return self.updates(venue_step(self.venue[0], self.orders, prev_event, event, self.reports))

    def advance(self, book: Array, now_ns: int) -> list[OrderUpdate]:
        """Let time pass until `now_ns` without an event after `book`, and return the reports due by then."""
        venue_forget(self.venue[0], self.orders, self.reports)
        venue_advance(self.venue[0], self.orders, book, now_ns + 1, self.reports)
        return self.updates(venue_due(self.venue[0], self.reports, now_ns))

    def updates(self, n: int) -> list[OrderUpdate]:
        """The first `n` reports of the report array as messages."""
        if self.venue[0]["overflow"]:
            raise VenueError(f"paper venue: more than {REPORTS} reports were under way")
        return [self._update(report) for report in self.reports[:n]]

    def _update(self, report: Array) -> OrderUpdate:
        row, renamed_by = int(report["row"]), int(report["renamed_by"])
        if renamed_by >= 0:  # the replacement's row keeps the old name, by which the order can still be found
            self.names[[row, renamed_by]] = self.names[[renamed_by, row]]
        return OrderUpdate(
            clOrdID=self.names[row].decode(),
            execID=f"P{report['exec_id']}",
            status=_STATUS[report["status"]],
            filled=int(report["filled"]),
            price=int(report["price"]),
            ts=int(report["ts"]),
            instrument=self.instrument.name,
            side=int(self.orders[row]["side"]),
            leaves=int(report["leaves"]),
            fee=float(report["fee"]),
            maker=bool(report["maker"]),
            queue_ahead=int(report["ahead"]),
            text=_TEXT[report["text"]],
            replacement=self.names[row].decode() if renamed_by >= 0 else "",
        )

    def market(self, events: Array, before: Array) -> PaperMarket:
        """A part of the recording with this venue beside it, for a compiled loop."""
        return PaperMarket(self.venue, self.orders, self.reports, events, before, np.zeros(1, CURSOR))

    def name(self, run: str, *, for_good: bool = False) -> None:
        """Give rows that a compiled loop numbered the names that they have in words, in place of the numbers or too."""
        numbers = self.orders["id"]
        for row in np.flatnonzero(numbers):
            self.names[row] = cl_ord_id(run, int(numbers[row])).encode()
        if for_good:
            numbers[...] = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way, at rest, or still to be told."""
        venue = self.venue[0]
        return bool(venue["at_work"] == 0 and venue["pending"] == venue["handed_out"])

    def told(self, row: Row, run: str) -> OrderUpdate:
        """A report that a compiled loop logged, in words."""
        return OrderUpdate(
            clOrdID=cl_ord_id(run, row[ID]),
            execID=f"P{row[SEQ]}",
            status=STATUSES[row[STATUS]],
            filled=row[QTY],
            price=row[PX],
            ts=row[TS],
            instrument=self.instrument.name,
            side=row[SIDE],
            leaves=row[LEAVES],
            fee=row[FEE],
            maker=row[MAKER],
            queue_ahead=row[AHEAD],
            text=_TEXT[row[TEXT]],
            replacement=cl_ord_id(run, row[ORIG]) if row[ORIG] else "",
        )

    def open_orders(self) -> Sequence[OrderUpdate]:
        """Status of every resting order, oldest first."""
        now = int(self.venue[0]["now"])
        rows = np.flatnonzero((self.orders["kind"] == NEW) & (self.orders["state"] == RESTING))
        found = []
        for row in rows[np.argsort(self.orders["number"][rows])]:
            order = self.orders[row]
            filled = int(order["filled"])
            found.append(
                OrderUpdate(
                    clOrdID=self.names[row].decode(),
                    execID=f"S{now}-{order['number']}",
                    status=OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW,
                    filled=filled,
                    price=int(order["last_px"] if filled else order["px"]),
                    ts=now,
                    instrument=self.instrument.name,
                    side=int(order["side"]),
                    leaves=int(order["qty"]) - filled,
                )
            )
        return found

    @property
    def lots(self) -> dict[str, int]:
        """Lots filled, by what filled them (see `paper_fills.PAPER_VENUE`)."""
        return dict(zip(LOTS, self.venue["lots"][0].tolist(), strict=True))

    def position(self) -> VenuePosition:
        """What we hold."""
        return VenuePosition(instrument=self.instrument.name, qty=int(self.venue[0]["position"]))
