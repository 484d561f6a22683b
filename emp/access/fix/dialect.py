"""What differs between venues that say "FIX 4.4", as data."""

import msgspec

from emp.access.fix.book import BY_ID, BY_POSITION, BY_PRICE
from emp.access.fix.schedule import Backoff, Hours
from emp.core.errors import ConfigError

__all__ = ["BY_ID", "BY_POSITION", "BY_PRICE", "CTRADER", "DIALECTS", "LMAX", "MOCK", "PLAIN", "Dialect"]


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one venue speaks. The defaults are FIX 4.4 by the book."""

    name: str
    begin: str = "FIX.4.4"
    # sessions
    split: bool = False  # market data and orders on two sessions
    quote_sub: str = ""  # 50 and 57 of the market data session
    trade_sub: str = ""
    reset_on_logon: bool = False  # numbers begin at 1 with every logon: nothing can be resent across sessions
    heartbeat_s: int = 30
    max_skew_s: float = 120.0  # SendingTime may differ from our clock by so much
    stamp_digits: int = 3
    hours: Hours | None = None  # None: open around the clock
    backoff: Backoff = Backoff()
    security_list: bool = False  # symbols are numbers, and 35=x lists their names (1007)
    # market data
    symbol_tag: int = 55
    keying: int = BY_ID
    depth: int = 0  # 264: 0 whole book, 1 best level
    incremental: bool | None = True  # 265; None: not sent
    snapshots: bool = True  # a book is whole only after a W; False: X alone builds it from empty
    entry_time: bool = False  # 272 and 273 of the first entry stamp the event, not SendingTime
    seq_tag: int = 0
    aggressor_tag: int = 0
    # orders
    exec_id: bool = True  # reports carry 17
    time_in_force: bool = True  # 59 counts; False: it is ignored, and an order with a price rests
    post_only: str = "18=6|"  # fields that keep an order from taking; empty: the venue has none
    full_cancel: bool = True  # cancel, replace and status carry symbol, side, quantity and time
    position_id: bool = False  # 721 names positions
    full_positions: bool = True  # AN carries type, parties, account and dates
    queue_tag: int = 0  # our own: lots ahead of us when a fill began
    fee_tag: int = 0  # our own: the fee of a fill in ticks times lots


PLAIN = Dialect(name="fix44")

CTRADER = Dialect(
    name="ctrader",
    split=True,
    quote_sub="QUOTE",
    trade_sub="TRADE",
    reset_on_logon=True,
    security_list=True,
    exec_id=False,
    time_in_force=False,
    post_only="",
    full_cancel=False,
    position_id=True,
    full_positions=False,
    # maintenance lies in the weekend: Friday 17:00 to Sunday 17:00 New York time
    hours=Hours(start="17:00", end="17:00", days=("sun",), zone="America/New_York", length_days=5),
)
"""cTrader's FIX 4.4 as its dictionary and help pages have it, and as captured from its servers."""

LMAX = Dialect(
    name="lmax",
    split=True,
    reset_on_logon=True,
    symbol_tag=48,
    keying=BY_PRICE,
    incremental=False,
    entry_time=True,
    post_only="",
)
"""Instruments by SecurityID, every update a whole snapshot without entry ids."""

MOCK = Dialect(
    name="mock",
    stamp_digits=9,
    max_skew_s=0.0,
    entry_time=True,
    seq_tag=20_003,
    aggressor_tag=58,  # FIX 4.4 has no field of an entry for it but free text
    queue_tag=20_001,
    fee_tag=20_002,
    reset_on_logon=True,
)
"""Our own venue: nothing that the engine sees is lost on the way, so that a run over FIX repeats one without."""

DIALECTS = {d.name: d for d in (PLAIN, CTRADER, LMAX, MOCK)}


def dialect(name: str) -> Dialect:
    """The dialect of that name; ConfigError where there is none."""
    found = DIALECTS.get(name.lower().strip())
    if found is None:
        raise ConfigError(f"unknown FIX dialect {name!r}; known: {', '.join(sorted(DIALECTS))}")
    return found
