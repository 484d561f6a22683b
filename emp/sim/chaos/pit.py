"""One instrument at a world's exchange: the book that goes by, and what we hold, paid and earned in it.

Plain integers, and no code of the engine or of another venue: what the engine believes is compared with it.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from emp.core.instrument import Instrument
from emp.core.records import Array

UNSEEN_NS = 12_000_000_000
"""For so long after wild prices an engine may hold back the market's own: until they agree for long enough."""


class Wrong(NamedTuple):
    """What a feed makes of a market's prices."""

    factor: int = 1
    offset: int = 0  # ticks
    trades: bool = True  # of trades too, else of books alone

    def row(self, row: Array) -> Array:
        """What is shown of a row [1] of the market."""
        wrong = row.copy()
        for name in ("bid_px", "ask_px", "trade_px") if self.trades else ("bid_px", "ask_px"):
            wrong[name] = np.where(row[name], row[name] * self.factor + self.offset, 0)
        return wrong


WILD = Wrong(factor=3)


class Pit:
    """One instrument's books at the exchange."""

    def __init__(self, instrument: Instrument, index: int, rows: Array) -> None:
        """`rows` are EVENT rows [n] whose time stamps say how far apart they come."""
        self.instrument = instrument
        self.index = index  # among the instruments of the exchange
        self.position = 0
        self.cash = 0  # ticks times lots
        self.fees = 0.0
        self.others = 0  # lots that others have traded
        self.fills = 0
        self.shown = 0
        self.books_shown: deque[tuple[int, int]] = deque(maxlen=8)  # touches, newest last
        self.silent_until_ns = 0  # no row is shown before
        self.bare_until_ns = 0  # one side of the book is empty until then
        self.bare_side = "bid"
        self.crossed_until_ns = 0  # the bid stands above the ask until then
        self.wild = 0  # rows that are shown at three times their prices
        self.wrong_until_ns = 0  # rows are shown at other prices until then:
        self.wrong = Wrong()
        self.hurried = 0  # rows that come in a hurry
        self.wild_ns = -(10**18)  # when the newest of any of them was shown,
        self.wrong_began_ns = 0  # and the first of those in a row;
        self.right_since_ns = 0  # since when the market's own are shown again;
        self.told_otherwise_ns = 0  # when a trade of the market was shown beside a wrong book
        self.book: Array | None = None  # the newest row
        self.held_row: Array | None = None  # that changes places with the next
        self.mid = float(np.nan)  # of the newest book with two sides, ticks
        self._rows = rows
        self._seq = 0

    def following(self) -> tuple[Array, int]:
        """The next row of the market [1], and ns until the one after it."""
        k = self.shown % len(self._rows)
        self.shown += 1
        row = self._rows[k : k + 1].copy()
        after = self._rows["ts"][(k + 1) % len(self._rows)]
        return row, int(min(max(after - row["ts"][0], 1_000), 2_000_000_000))

    def take_in(self, row: Array, now_ns: int, wall_ns: int) -> None:
        """Let a row [1] be the newest book."""
        self._seq += 1
        row["seq"], row["ts"] = self._seq, wall_ns
        row["ts_recv"] = row["ts"]
        row["instrument"] = self.index
        if now_ns < self.bare_until_ns:
            _strip(row, self.bare_side)
        if now_ns < self.crossed_until_ns:
            _cross(row)
        self.book = row[0]
        bid, ask = int(row["bid_px"][0, 0]), int(row["ask_px"][0, 0])
        if row["n_bid"][0] and row["n_ask"][0] and bid < ask:
            self.mid = (bid + ask) / 2
        self.books_shown.append((bid, ask))

    def seen(self, row: Array, now_ns: int) -> Array:
        """A row [1] of the market as the feed shows it."""
        wrong = WILD if self.wild else self.wrong if now_ns < self.wrong_until_ns else None
        if wrong is None:
            self.right_since_ns = self.right_since_ns or now_ns
            return row
        if self.right_since_ns or not self.wrong_began_ns:
            self.wrong_began_ns, self.right_since_ns = now_ns, 0
        self.wild = max(0, self.wild - 1)
        self.wild_ns = now_ns
        if row["trade_qty"][0] and not wrong.trades:
            self.told_otherwise_ns = now_ns
        return wrong.row(row)

    def opposite(self, side: int) -> int:
        """Best price that an order of a side could take; 0 where there is none."""
        if self.book is None:
            return 0
        return int(self.book["ask_px" if side > 0 else "bid_px"][0])

    def trade(self, side: int, lots: int, px: int, fee: float) -> None:
        """Book a fill of ours."""
        self.position += side * lots
        self.cash -= side * lots * px
        self.fees += fee
        self.fills += 1

    def shows_itself(self, now_ns: int) -> bool:
        """Whether the market's own prices have been shown for so long that nobody is taken in by others."""
        return now_ns - self.wild_ns > UNSEEN_NS

    @property
    def worth(self) -> float:
        """Cash, and what is held at the newest mid, ticks times lots; before what was paid."""
        return self.cash + (self.position * self.mid if self.position else 0.0)

    @property
    def unit(self) -> float:
        """Money of the quote currency per tick and lot."""
        return self.instrument.tick * self.instrument.point_value


def _cross(row: Array) -> None:
    """Let the two sides change prices: the best bid is what the best ask was."""
    asks = row["ask_px"].copy()
    row["ask_px"], row["bid_px"] = row["bid_px"].copy(), asks


def _strip(row: Array, side: str) -> None:
    """Take every level of one side out of a book."""
    row[f"n_{side}"] = 0
    row[f"{side}_px"] = row[f"{side}_sz"] = 0
