"""What a drill of flattening is made of, and what its venue tells of each trial."""

import msgspec

from emp.core.codes import AssetClass, Venue
from emp.core.instrument import Instrument, find

ACCOUNT = 12_345
LOT = 1_000.0
ALWAYS = find("BTCUSDT", None).sessions


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong all at once while everything is closed: the roadmap's chaos suite, H.4."""

    lost: float = 0.05  # share of market data
    repeated: float = 0.05  # share of market data, and of reports, that come twice
    rejected: float = 0.05  # share of closing orders
    stalled_s: float = 0.3  # the feed, or the engine's loop, about the trigger


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The load that a trial is made under, and what the venue is like."""

    over: str = "fix"  # or "ctrader"
    instruments: int = 5
    orders: int = 20  # that rest when the trigger is pulled, spread evenly over the instruments
    held: int = 3  # lots of each instrument, long and short in turn
    events_per_s: float = 10_000.0  # of all instruments together
    refused: float = 0.05  # share of cancels that the venue refuses
    round_trip_s: float = 0.02
    seed: int = 0
    faults: Faults | None = None


class Truth(msgspec.Struct, frozen=True):
    """What the venue knows: monotonic times in ns of this machine."""

    working: int
    position: dict[str, int]
    arrived: list[int]  # of each command since it was last asked
    refused: int  # cancels refused since then
    flat_ns: int  # when nothing was held and nothing worked any more; 0 while that is not so
    shown: int  # rows since it began
    owed: int  # rows that were left out, because this machine was too slow for them


def instruments_of(terms: Terms) -> list[Instrument]:
    """What is traded: alike in everything but the name, open at every hour of every day."""
    return [
        Instrument(
            name=f"FLAT{k + 1}",
            tick=0.00001,
            lot=LOT,
            venue=Venue.SPOT_AGG,
            asset_class=AssetClass.CRYPTO,
            taker_fee=0.0,
            maker_fee=0.0,
            fee_source="drill",
            sessions=ALWAYS,
        )
        for k in range(terms.instruments)
    ]
