"""Facts about instruments: what a venue publishes, never what we tune.

`catalogue()` reads the shipped `emp/core/data/instruments.yaml` and, where given, a user's own file that
adds to it or overrides it.
"""

import msgspec

from emp.core.codes import AssetClass, Venue


class SessionSpan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A weekly span of a trading calendar in the local time of `zone`.

    `days` are the weekdays on which the span starts (mon..sun); `end` before or equal to `start` lies on the
    next day.
    """

    session: str  # a name of codes.Session, lower case
    start: str  # "HH:MM"
    end: str
    days: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri")
    zone: str = "UTC"


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tradable thing at one venue."""

    name: str
    tick: float  # price of one tick, in quote currency
    lot: float  # quantity of one lot, in units of the instrument
    venue: Venue
    asset_class: AssetClass
    taker_fee: float  # ticks per lot paid when crossing
    maker_fee: float  # ticks per lot paid when resting; negative is a rebate
    fee_source: str  # where the fee comes from
    sessions: tuple[SessionSpan, ...]
    day_zone: str = "UTC"  # zone and time at which a trading day ends
    day_end: str = "00:00"
    point_value: float = 1.0  # quote currency per price unit and lot (futures multiplier)
    holidays: tuple[str, ...] = ()  # closed dates, "YYYY-MM-DD" in day_zone
