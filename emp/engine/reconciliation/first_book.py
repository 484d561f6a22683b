"""Whether the first books that a process sees of an instrument can be believed: held against the price known last.

Inside a run the door judges a jump (`emp.core.book.judge`); a process that begins has no book to hold the first one
against, but its ledger and its account know where the market was. A first book far from that may be a market that has
moved, or a feed that is wrong. It is kept from the engine, and so from every order, until another source says so too: a
trade that was told since, near it. Where there is none, the books themselves must agree for a while: a wrong feed, too,
sends many at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog

from emp.core.book import FAR, FAR_NS, FAR_ROWS, NEAR, SLOW_NS, SLOW_ROWS, insist
from emp.core.clock import Clock
from emp.core.codes import EventFlag
from emp.core.records import Array
from emp.observe.board import Board

WEEK_NS = 7 * 86_400_000_000_000
"""For each that has passed a price may be FAR times further off: a weekend allows nothing more, a year does."""

WHEN_BELIEVED = (
    f"they are once a trade near them is told, or more than {FAR_ROWS} in a row over {FAR_NS // 10**9} s, or "
    f"{SLOW_ROWS} over {SLOW_NS // 10**9} s, agree"
)

VISIBLE = int(EventFlag.VISIBLE)

_insist = getattr(insist, "py_func", insist)  # for one row, nothing need be compiled while the market waits

_log = structlog.get_logger(__name__)


class KnownPrice(NamedTuple):
    """Where a market was, in ticks, and when, ns UTC."""

    px: float
    ts: int


class _Far(NamedTuple):
    """Far books in a row that agree."""

    mid2: int  # twice the newest one's mid
    rows: int
    since: int  # when the first came, monotonic ns


class FirstBooks:
    """Lets EVENT rows through; those of an instrument's first books only once they can be believed."""

    def __init__(self, names: Sequence[str], board: Board, clock: Clock) -> None:
        self._names, self._board, self._clock = tuple(names), board, clock
        self._known: dict[int, KnownPrice] = {}
        self._trades: dict[int, float] = {}  # ticks at which trades were told since
        self._far: dict[int, _Far] = {}

    def know(self, i: int, price: KnownPrice) -> None:
        """Hold the first book of instrument `i` against a price; one of 0 says nothing."""
        if price.px != 0.0:
            self._known[i] = price

    def traded(self, i: int, px: float) -> None:
        """A trade of instrument `i` was told, not by the market data, that came after the price that is known; one at 0
        says nothing.
        """
        if px != 0.0:
            self._trades[i] = px

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
            why = self._why_moved(i, mid2, spread2)
            if not why:
                return False
            _log.warning(
                "the market has moved", instrument=self._names[i], px=0.5 * mid2, known=known.px, why=why
            )
        del self._known[i]
        self._board.clear_alarm(f"first book {i}")
        return True

    def _why_moved(self, i: int, mid2: int, spread2: float) -> str:
        """What bears out a far book, in words; "" while nothing does, which is said."""
        trade = self._trades.get(i, 0.0)
        if trade and not _far(mid2, 2.0 * trade, spread2, FAR):
            return f"a trade at {trade:g} was told"
        now = self._clock.monotonic_ns()
        far = self._far.get(i)
        if far is None or _far(mid2, far.mid2, spread2, FAR):
            far = _Far(mid2, 0, now)
        far = self._far[i] = _Far(mid2, far.rows + 1, far.since)
        age = now - far.since
        if _insist(far.rows, age):
            return f"{far.rows} books over {age / 1e9:.1f} s agree"
        if far.rows == 1:
            self._keep_back(i, 0.5 * mid2, trade)
        return ""

    def _keep_back(self, i: int, px: float, trade: float) -> None:
        name, known = self._names[i], self._known[i].px
        told = f", a trade was told at {trade:g}" if trade else ""
        text = f"{name}: first books at {px:g} ticks are not believed yet, {known:g} was known{told}: {WHEN_BELIEVED}"
        self._board.raise_alarm(f"first book {i}", text)
        _log.error("first books are not believed yet", instrument=name, px=px, known=known, trade=trade)


def _far(a: float, b: float, unit: float, factor: float) -> bool:
    """As `emp.core.book.far_off`, with another factor."""
    distance = abs(a - b)
    return distance > (factor - 1.0) * min(abs(a), abs(b)) and distance > NEAR * unit
