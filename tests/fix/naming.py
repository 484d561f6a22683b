"""A venue that keeps the truth of two books and tells it in any of the ways in which FIX names an entry."""

from typing import NamedTuple

from emp.access.fix.book import BY_ID, BY_POSITION, BY_PRICE
from emp.core.ids import generator
from tests.fix.wire import framed

WAYS = ("id", "id with 280", "unnamed W", "price", "position")
KEYING = {"id": BY_ID, "id with 280": BY_ID, "unnamed W": BY_ID, "price": BY_PRICE, "position": BY_POSITION}
SYMBOLS = ("1", "41")
DEPTH = 10
LOT = 1_000


class Entry(NamedTuple):
    """One entry of a book."""

    name: str
    px: int
    size: int  # lots


class TruthfulVenue:
    """Two books that change at random; `step` changes them and says so, `snapshot` says all."""

    def __init__(self, way: str, seed: int) -> None:
        self.way = way
        self.books: dict[str, tuple[list[Entry], list[Entry]]] = {s: ([], []) for s in SYMBOLS}
        self._rng = generator(seed, "naming", way)
        self._names = 0
        for symbol in SYMBOLS:
            for side in (0, 1):
                for _ in range(6):
                    self._insert(symbol, side)

    # --- the truth ------------------------------------------------------------------------------------------

    def levels(self, symbol: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(price, lots) per side, best first, summed per price, the ten best."""
        found = []
        for side, entries in enumerate(self.books[symbol]):
            sums: dict[int, int] = {}
            for entry in entries:
                sums[entry.px] = sums.get(entry.px, 0) + entry.size
            found.append(sorted(sums.items(), reverse=side == 0)[:DEPTH])
        return found[0], found[1]

    def _name(self) -> str:
        self._names += 1
        return f"{self._names}" if self._names % 3 else f"E{self._names}"

    def _sort(self, symbol: str, side: int) -> None:
        self.books[symbol][side].sort(key=lambda e: -e.px if side == 0 else e.px)

    def _free_price(self, symbol: str, side: int) -> int:
        taken = {e.px for e in self.books[symbol][side]}
        while True:
            px = (
                108_700 - int(self._rng.integers(0, 40))
                if side == 0
                else 108_701 + int(self._rng.integers(0, 40))
            )
            if px not in taken or self.way.startswith("id"):
                return px

    def _insert(self, symbol: str, side: int) -> Entry:
        entry = Entry(self._name(), self._free_price(symbol, side), int(self._rng.integers(1, 9)))
        self.books[symbol][side].append(entry)
        self._sort(symbol, side)
        return entry

    # --- what is said ---------------------------------------------------------------------------------------

    def snapshot(self, symbol: str) -> str:
        """Body of a W."""
        entries = []
        for side, found in enumerate(self.books[symbol]):
            for place, entry in enumerate(found, 1):
                named = f"278={entry.name}|" if self.way.startswith("id") else ""
                named = f"290={place}|" if self.way == "position" else named
                entries.append(f"269={side}|{self._price(entry.px)}271={entry.size * LOT}|{named}")
        self._rng.shuffle(entries)
        return f"55={symbol}|268={len(entries)}|{''.join(entries)}"

    def step(self) -> str:
        """Change the books by one to four entries; body of the X that says so."""
        entries, before = [], ""
        for _ in range(int(self._rng.integers(1, 5))):
            symbol = SYMBOLS[int(self._rng.integers(0, 2))]
            said = self._change(symbol, int(self._rng.integers(0, 2)))
            # an entry may leave out the symbol of the one before
            carried = symbol == before and self._rng.random() < 0.7
            entries.append(said.replace("@", "" if carried else f"55={symbol}|"))
            before = symbol
        return f"268={len(entries)}|{''.join(entries)}"

    def _price(self, px: int) -> str:
        return f"270=1.{px - 100_000:05d}|"

    def _change(self, symbol: str, side: int) -> str:
        entries = self.books[symbol][side]
        draw = self._rng.random()
        if len(entries) < 3 or (draw < 0.3 and len(entries) < DEPTH):
            entry = self._insert(symbol, side)
            return self._said(0, side, entry, entries.index(entry) + 1)
        at = int(self._rng.integers(0, len(entries)))
        old = entries[at]
        if draw < 0.6:
            del entries[at]
            return self._said(2, side, old, at + 1)
        new = old._replace(size=int(self._rng.integers(1, 9)))
        if self.way.startswith("id") and draw > 0.8:
            new = new._replace(px=self._free_price(symbol, side))
        if self.way == "id with 280":
            new = new._replace(name=self._name())
        entries[at] = new
        self._sort(symbol, side)
        return self._said(1, side, new, at + 1, old.name)

    def _said(self, action: int, side: int, entry: Entry, place: int, old: str = "") -> str:
        """One entry of an X, `@` where its symbol stands."""
        name = f"278={entry.name}|" if self.way in ("id", "id with 280", "unnamed W") else ""
        if self.way == "id with 280" and action == 1:
            name += f"280={old}|"
        place_said = f"290={place}|" if self.way == "position" else ""
        if action == 2 and self.way.startswith("id"):
            return f"279=2|{name}@"
        px = self._price(entry.px) if action != 2 or self.way != "position" else ""
        size = f"271={entry.size * LOT}|" if action != 2 else ""
        return f"279={action}|269={side}|{name}@{px}{size}{place_said}"


def message(kind: str, seq: int, body: str, extra: str = "") -> bytes:
    """A whole message of the venue."""
    return framed(f"35={kind}|34={seq}|49=VENUE|52=20240605-12:00:00.000|56=ME|{extra}{body}")
