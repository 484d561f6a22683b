"""Whether the first books that a process sees of an instrument can be believed: held against the price known last.

Inside a run the door judges a jump (`emp.core.book.judge`); a process that begins has no book to hold the first one
against, but its ledger and its account know where the market was. A first book far from that may be a market that has
moved, or a feed that is wrong. It is kept from the engine, and so from every order, until FAR_ROWS in a row agree.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog

from emp.core.book import FAR, FAR_ROWS, NEAR
from emp.core.codes import EventFlag
from emp.core.records import Array
from emp.observe.board import Board

WEEK_NS = 7 * 86_400_000_000_000
"""For each that has passed a price may be FAR times further off: a weekend allows nothing more, a year does."""

VISIBLE = int(EventFlag.VISIBLE)

_log = structlog.get_logger(__name__)


class KnownPrice(NamedTuple):
    """Where a market was, in ticks, and when, ns UTC."""

    px: float
    ts: int


class FirstBooks:
    """Lets EVENT rows through; those of an instrument's first books only once they can be believed."""

    def __init__(self, names: Sequence[str], board: Board) -> None:
        self._names, self._board = tuple(names), board
        self._known: dict[int, KnownPrice] = {}
        self._far: dict[int, tuple[int, int]] = {}  # twice the newest far mid, and how many agreed in a row

    def know(self, i: int, price: KnownPrice) -> None:
        """Hold the first book of instrument `i` against a price; one of 0 says nothing."""
        if price.px > 0.0:
            self._known[i] = price

    def believed(self, rows: Array) -> Array:
        """The EVENT rows [n] that may be believed."""
        if not self._known:
            return rows
        keep = np.array([self._believes(row) for row in rows], np.bool_)
        return rows if keep.all() else rows[keep]

    def _believes(self, row: Array) -> bool:
        i = int(row["instrument"])
        known = self._known.get(i)
        if known is None:
            return True
        bid, ask = int(row["bid_px"][0]), int(row["ask_px"][0])
        if not row["flags"] & VISIBLE or not row["n_bid"] or not row["n_ask"] or bid >= ask:
            return True  # it is no book to trade at anyway
        mid2, spread2 = bid + ask, 2.0 * (ask - bid)
        weeks = max(0, int(row["ts"]) - known.ts) // WEEK_NS
        if _far(mid2, 2.0 * known.px, spread2, FAR * (1 + weeks)):
            before, n = self._far.get(i, (mid2, 0))
            n = 1 if _far(mid2, before, spread2, FAR) else n + 1
            self._far[i] = mid2, n
            if n <= FAR_ROWS:
                self._keep_back(i, n, 0.5 * mid2, known.px)
                return False
            _log.warning("the market has moved", instrument=self._names[i], px=0.5 * mid2, known=known.px)
        del self._known[i]
        self._board.clear_alarm(f"first book {i}")
        return True

    def _keep_back(self, i: int, n: int, px: float, known: float) -> None:
        if n == 1:
            text = f"{self._names[i]}: first books at {px:g} ticks are not believed yet, {known:g} was known"
            self._board.raise_alarm(f"first book {i}", text)
            _log.error("first books are not believed yet", instrument=self._names[i], px=px, known=known)


def _far(a: float, b: float, unit: float, factor: float) -> bool:
    """As `emp.core.book.far_off`, with another factor."""
    distance = abs(a - b)
    return distance > (factor - 1.0) * min(abs(a), abs(b)) and distance > NEAR * unit
