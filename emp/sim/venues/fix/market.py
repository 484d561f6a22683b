"""What stands behind a FIX venue of ours."""

from collections.abc import Sequence
from typing import Protocol

from emp.access.port import Sink
from emp.core.contracts import Command, OrderUpdate, VenuePosition
from emp.core.instrument import Instrument


class VenueMarket(Protocol):
    """A market as `emp.access.port.MarketAccess` has it, for a venue: the orders are those of the venue's clients."""

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """As of a `MarketAccess`."""

    def take(self, command: Command) -> None:
        """Take what a client orders; its outcome arrives as a report. What risk thinks of it is the client's affair."""

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What is working."""

    async def positions(self) -> Sequence[VenuePosition]:
        """What is held."""

    async def close(self) -> None:
        """End, and leave no task behind."""
