"""The built-in market over real TCP: a FIX venue in front of any market, and our own FIX client dialling it.

What a live venue would exercise — frames, session, market data, orders — is exercised on this machine, without
an account.
"""

from collections.abc import Sequence

from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import MOCK
from emp.access.fix.market import Market
from emp.access.port import Sink
from emp.core.approval import Cleared
from emp.core.clock import Clock
from emp.core.config.secrets import Secret
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from emp.sim.venues.fix.market import VenueMarket
from emp.sim.venues.fix.venue import FixVenue, VenueSettings

_PASSWORD = Secret("loopback")


class FixLoopback:
    """`MarketAccess` that reaches `market` through FIX over loopback.

    With `lockstep` the venue shows the next event when the client has dealt with the last, so that the same
    market gives the same events and reports as without FIX in between.
    """

    def __init__(self, market: VenueMarket, clock: Clock, *, lockstep: bool = False) -> None:
        self._market = market
        self._clock = clock
        self._lockstep = lockstep
        self._venue: FixVenue | None = None
        self._access: FixAccess | None = None

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Open the venue on any free port, dial it, log on and subscribe."""
        Market(instruments, [i.name for i in instruments], MOCK).warm_up()  # before the market's clock starts
        settings = VenueSettings(password=_PASSWORD, lockstep=self._lockstep)
        self._venue = FixVenue(self._market, instruments, settings, clock=self._clock)
        port = await self._venue.start()
        dialled = FixSettings(
            host=settings.host,
            port=port,
            sender=settings.target,
            target=settings.sender,
            dialect=MOCK,
            tls=False,
            username=Secret(settings.target),
            password=_PASSWORD,
            lockstep=self._lockstep,
        )
        self._access = FixAccess(dialled, self._clock)
        await self._access.connect(instruments, sink)

    def _client(self) -> FixAccess:
        if self._access is None:
            raise VenueError("fix loopback: not connected")
        return self._access

    def send(self, cleared: Cleared) -> None:
        """Send a command over FIX."""
        self._client().send(cleared)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working."""
        return await self._client().open_orders()

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold."""
        return await self._client().positions()

    async def close(self) -> None:
        """Log off and close both ends."""
        if self._access is not None:
            await self._access.close()
        if self._venue is not None:
            await self._venue.close()
