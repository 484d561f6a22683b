"""What `emp.core.book` must say, written by hand in plain Python: lists, exact fractions, no kernels."""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from emp.core.codes import EventFlag, Quarantine
from emp.core.records import EVENT, Array

Level = tuple[int, int]  # ticks, lots (or units)


class Book(NamedTuple):
    """One book, best level first."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sized: bool = True


def whole_lots(book: Book, unit: int) -> tuple[Book, int]:
    """The book in lots, and how many levels are not there for holding less than one."""
    sides = [[(px, size // unit) for px, size in side] for side in (book.bids, book.asks)]
    kept = [[level for level in side if level[1] != 0] for side in sides]
    left_out = sum(len(side) for side in sides) - sum(len(side) for side in kept)
    if all(k or not s for k, s in zip(kept, sides, strict=True)):
        return Book(tuple(kept[0]), tuple(kept[1])), left_out
    quoted = [[(px, 0) for px, _ in (k or s)[:1]] for k, s in zip(kept, sides, strict=True)]
    return Book(tuple(quoted[0]), tuple(quoted[1]), sized=False), left_out


class Judge:
    """Keeps the good books of one instrument in mind."""

    def __init__(self) -> None:
        self.mid2: int | None = None
        self.unit2 = Fraction(0)
        self.far: list[tuple[int, int]] = []  # bid + ask, and when

    def _far(self, a: int, b: int) -> bool:
        near = Fraction(16) * self.unit2
        factor = a * b <= 0 or max(abs(a), abs(b)) > 2 * min(abs(a), abs(b))
        return abs(a - b) > near and a != b and factor

    def book(self, book: Book, now: int) -> Quarantine:
        least = 1 if book.sized else 0
        for levels, sign in ((book.bids, -1), (book.asks, 1)):
            prices = [sign * px for px, _ in levels]
            if prices != sorted(set(prices)):
                return Quarantine.MALFORMED
            if any(abs(px) > 10**12 for px in prices):
                return Quarantine.ABSURD_PRICE
            if any(not least <= size <= 10**12 for _, size in levels):
                return Quarantine.ABSURD_SIZE
        if not book.bids or not book.asks:
            return Quarantine.ONE_SIDED
        bid, ask = book.bids[0][0], book.asks[0][0]
        if 0 in (bid, ask) and (self.mid2 is None or self._far(0, self.mid2)):
            return Quarantine.ONE_SIDED
        mid2 = bid + ask
        if self.mid2 is not None and self._far(mid2, self.mid2):
            if self.far and (now < self.far[0][1] or self._far(mid2, self.far[-1][0])):
                self.far.clear()
            self.far.append((mid2, now))
            n, seconds = len(self.far), (now - self.far[0][1]) / 1e9
            if not (n > 32 and seconds >= 5) and not (n >= 3 and seconds >= 60):
                return Quarantine.ABSURD_PRICE
        jumped = bool(self.far)
        self.far.clear()
        if bid > ask:
            return Quarantine.CROSSED
        if bid == ask:
            return Quarantine.LOCKED
        spread2 = 2 * (ask - bid)
        if self.mid2 is None:
            self.unit2 = Fraction(spread2)
        else:
            usual = spread2 if jumped else max(spread2, abs(mid2 - self.mid2))
            self.unit2 += (usual - self.unit2) / 32
        self.mid2 = mid2
        return Quarantine.ACCEPTED

    def trade(self, px: int, qty: int) -> Quarantine:
        if self.mid2 is None:
            return Quarantine.ONE_SIDED
        if not 1 <= abs(qty) <= 10**12:
            return Quarantine.ABSURD_SIZE
        if abs(px) > 10**12 or self._far(2 * px, self.mid2):
            return Quarantine.ABSURD_PRICE
        return Quarantine.ACCEPTED


def row_of(book: Book, flags: int = 0) -> Array:
    """The book as EVENT[1]."""
    row: Array = np.zeros(1, EVENT)
    row["flags"] = flags | (0 if book.sized else int(EventFlag.NO_SIZE))
    for side, levels in (("bid", book.bids), ("ask", book.asks)):
        row[f"n_{side}"] = len(levels)
        for i, (px, size) in enumerate(levels):
            row[f"{side}_px"][0, i], row[f"{side}_sz"][0, i] = px, size
    return row


def book_of(row: Array) -> Book:
    """The book of an EVENT record."""
    sides = []
    for side in ("bid", "ask"):
        n = int(row[f"n_{side}"])
        sides.append(
            tuple((int(p), int(s)) for p, s in zip(row[f"{side}_px"][:n], row[f"{side}_sz"][:n], strict=True))
        )
        assert not row[f"{side}_px"][n:].any(), "unused levels are 0"
        assert not row[f"{side}_sz"][n:].any()
    return Book(sides[0], sides[1], sized=not row["flags"] & int(EventFlag.NO_SIZE))
