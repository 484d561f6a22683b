"""Lots that came into a position without a report, until a market says what they are worth.

A position that was closed, opened or changed while the engine was down has no fill to be booked at, and the venue's
average price is of something else: of the whole position, or 0 where it is flat. So such lots are worth the first
believable mid that follows: they have gained and lost nothing before, and everything from then on.
"""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace

import msgspec
import numpy as np

from emp.core.book import ACCEPTED, judge_touch
from emp.core.codes import EventFlag
from emp.core.records import EVENT, Array

ADJUSTMENT = "adjustment"
"""Kind of the ledger's note that a position differed from what our fills make it."""

VALUED = "valued"
"""Kind of the ledger's note that an adjustment has its price."""

_judge = getattr(
    judge_touch, "py_func", judge_touch
)  # for one row, nothing need be compiled while the market waits

VISIBLE = int(EventFlag.VISIBLE)


class Valuation(msgspec.Struct, frozen=True):
    """Signed lots of an adjustment and what they were worth."""

    instrument: int  # index
    qty: int
    px: float  # ticks
    ts: int


class Adjustment(msgspec.Struct, frozen=True):
    """Signed lots that came into a position by an order of somebody else on the account, as the venue reports them."""

    instrument: int  # index
    qty: int
    px: int  # ticks; 0 where the venue did not tell
    fee: float  # ticks times lots
    order: str  # its id
    ts: int


class Unvalued:
    """Signed lots of each instrument that wait for their price."""

    def __init__(self) -> None:
        self._lots: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._lots)

    def add(self, instrument: int, qty: int) -> None:
        """More lots to be valued; they add up."""
        self._lots[instrument] = self._lots.get(instrument, 0) + qty

    def lots(self, instrument: int) -> int:
        """Lots of an instrument that wait."""
        return self._lots.get(instrument, 0)

    def restore(self, lots: Mapping[int, int]) -> None:
        """Take in what a ledger left unvalued."""
        self._lots = {i: qty for i, qty in lots.items() if qty}

    def take(self, events: Array) -> Iterable[Valuation]:
        """Value what EVENT rows [n] have a believable book for, at the first one's mid."""
        for i, qty in list(self._lots.items()):
            for k in np.flatnonzero((events["instrument"] == i) & (events["flags"] & VISIBLE != 0)):
                row = events[k]
                if _judge(SimpleNamespace(**{name: row[name] for name in EVENT.names or ()})) == ACCEPTED:
                    del self._lots[i]
                    mid = 0.5 * (int(events["bid_px"][k, 0]) + int(events["ask_px"][k, 0]))
                    if qty:
                        yield Valuation(i, qty, mid, int(events["ts"][k]))
                    break
