"""Instruments with round facts, where the catalogue's own would only distract."""

from emp.core.codes import AssetClass, Venue
from emp.core.instrument import Instrument, SessionSpan

EVERY_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def currency_pair(
    name: str = "EURUSD",
    tick: float = 0.00001,
    lot: float = 1000.0,
    *,
    fees: tuple[float, float] = (0.0, 0.0),
    session: str = "asia",
) -> Instrument:
    """A currency pair that trades at every hour of the week; `fees` are of maker and taker, in ticks per lot."""
    return Instrument(
        name=name,
        tick=tick,
        lot=lot,
        venue=Venue.SPOT_AGG,
        asset_class=AssetClass.FX_SPOT,
        maker_fee=fees[0],
        taker_fee=fees[1],
        fee_source="test",
        sessions=(SessionSpan(session=session, start="00:00", end="00:00", days=EVERY_DAY),),
    )
