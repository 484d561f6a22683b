"""The port to the outside world. What the engine knows of a market is what passes here."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from emp.core.codes import Quarantine
from emp.core.contracts import Command, OrderUpdate, VenuePosition
from emp.core.instrument import Instrument
from emp.core.records import Array


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row that was kept out, with enough of it to see why."""

    row: int  # 0-based row in the source
    reason: Quarantine
    text: str  # the row as read, cut to 200 characters


class ReadCounts(msgspec.Struct):
    """Where every row of a source went: rows == events + merged + sum of quarantined."""

    rows: int = 0
    events: int = 0
    merged: int = 0
    quarantined: Counter[Quarantine] = msgspec.field(default_factory=Counter)
    samples: list[QuarantinedRow] = msgspec.field(default_factory=list)  # the first SAMPLES of each reason

    SAMPLES = 20


class Source(Protocol):
    """A market that can be read as fast as one likes: a recording, or a simulator without a clock."""

    instrument: Instrument
    counts: ReadCounts

    def batches(self) -> Iterator[Array]:
        """Yield arrays of EVENT rows in order; `counts` is final when the iterator ends."""


class MarketAccess(Protocol):
    """A live market: market data and reports arrive, commands leave."""

    async def connect(self, instruments: Sequence[Instrument]) -> None:
        """Log on and subscribe; raise VenueError with one clear line when that fails."""

    def events(self) -> AsyncIterator[Array]:
        """Yield arrays of EVENT rows (usually one) as they arrive, until the access is closed."""

    def on_report(self, callback: Callable[[OrderUpdate], None]) -> None:
        """Register who receives execution reports; they never wait behind market data."""

    def send(self, command: Command) -> None:
        """Hand over a command without blocking; its outcome arrives as a report."""

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working (mass status), for reconciliation."""

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold, for reconciliation."""

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""
