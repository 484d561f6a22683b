"""A market that can only be watched."""

from collections.abc import Sequence

from emp.access.port import MarketAccess, MarketFeed, Sink
from emp.core.instrument import Instrument


class Feed(MarketFeed):
    """The market data of an access that was opened with `Reach.MARKET`; nothing else of it can be reached from here."""

    def __init__(self, access: MarketAccess) -> None:
        self.__access = access

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Log on and subscribe; VenueError with one clear line when that fails."""
        await self.__access.connect(instruments, sink)

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""
        await self.__access.close()
