"""What a broker says of itself before any money: the facts of one connection, collected without a single order.

`emp.access.fix.survey` and `emp.access.ctrader.survey` fill a `Survey`; `emp.app.connection` holds it against the
configuration. What a protocol does not tell stays None or empty.
"""

from collections import Counter

import msgspec
import numpy as np

from emp.access.port import Cause
from emp.core.records import Array

SAMPLES = 4_096
"""Spreads that are kept per instrument."""


class LinkFacts(msgspec.Struct):
    """One session with the venue."""

    name: str
    address: str
    up: bool = False
    said: str = ""  # why it is not, in the peer's own words where it gave any
    cause: Cause = ""
    logon_ms: float = 0.0


class SymbolFacts(msgspec.Struct):
    """An instrument as the venue describes it; sizes in units of the instrument."""

    instrument: str
    symbol: str = ""  # the venue's id; empty where it has none
    name: str = ""  # the venue's own name of that symbol
    problem: str = ""  # why it cannot be used, in the venue's words or ours
    tick: float | None = None  # smallest step of prices
    step: float | None = None  # of sizes
    smallest: float | None = None
    largest: float | None = None
    commission: str = ""
    commission_rate: float | None = None
    commission_per: str = ""  # million_usd, usd_lot, percent, quote_lot
    lot_units: float | None = None  # of the venue's own lot, which a commission may be counted by
    schedule: tuple[tuple[int, int], ...] = ()  # open seconds of a week since Sunday 00:00 in `zone`
    zone: str = ""
    swap: str = ""
    tradable: str = ""  # empty: not reported; "yes", or what stands against it


class Quotes:
    """What was seen of an instrument's market data."""

    def __init__(self) -> None:
        self.events = 0
        self.levels = 0  # of the thinner side, at most
        self.bid = self.ask = 0  # the last, in ticks
        self.refused = ""  # what the venue says of a subscription that it will not have
        self.depth_refused = ""  # of one to depth, where best prices are given
        self.sub_lot = 0  # levels left out because they held less than one lot
        self.quarantined: Counter[str] = Counter()
        self._spreads: list[int] = []

    def take(self, row: Array) -> None:
        """Take one EVENT row in."""
        self.events += 1
        if row["n_bid"] and row["n_ask"]:
            self.bid, self.ask = int(row["bid_px"][0]), int(row["ask_px"][0])
            self.levels = max(self.levels, min(int(row["n_bid"]), int(row["n_ask"])))
            if len(self._spreads) < SAMPLES:
                self._spreads.append(self.ask - self.bid)

    def best(self, bid: int, ask: int) -> None:
        """Take best prices in ticks, where no book is shown."""
        if bid and ask:
            self.events, self.levels, self.bid, self.ask = self.events + 1, 1, bid, ask
            self._spreads.append(ask - bid)

    @property
    def spread(self) -> float | None:
        """Median of the spreads in ticks, None where none was seen."""
        return float(np.median(self._spreads)) if self._spreads else None


class WorkingOrder(msgspec.Struct):
    """An order that works at the venue."""

    symbol: str
    cl_ord_id: str
    venue_id: str
    side: str
    size: str  # in units, as the venue writes it
    instrument: str = ""  # empty: none of ours


class HeldPosition(msgspec.Struct):
    """A position at the venue; `size` in units, negative where short."""

    symbol: str
    size: float
    price: float | None = None
    instrument: str = ""


class Survey:
    """Everything that was found out, filled as answers come; it may be looked at when time is up."""

    def __init__(self, protocol: str, instruments: list[str]) -> None:
        self.protocol = protocol
        self.links: list[LinkFacts] = []
        self.symbols = {name: SymbolFacts(name) for name in instruments}
        self.quotes = {name: Quotes() for name in instruments}
        self.account = ""  # who we are there
        self.account_kind = ""  # netting or hedging
        self.live: bool | None = None  # None: not reported
        self.trading = (
            ""  # whether the account may trade: empty where not reported, "yes", or what stands against it
        )
        self.round_trip_ms: float | None = None
        self.clock_ms: float | None = None  # our clock minus the venue's
        self.clock_error_ms = 0.0  # by how much that may be wrong
        self.orders: list[WorkingOrder] | None = None  # None: not known
        self.positions: list[HeldPosition] | None = None
        self.refusals: list[tuple[str, str]] = []  # further questions and what the venue answered instead
        self.unfinished: list[str] = []  # what was not answered in time
