"""From bytes to EVENT rows and frames: the receive buffer, the books and the counts around `market.scan`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from emp.access.ctrader.market import CURSOR, FRAME, FULL, MALFORMED, NEED, OVERSIZE, RESYNC, new_cursor, scan
from emp.access.ctrader.quotes import QUOTES, clear
from emp.access.ctrader.symbols import Terms, make_books, set_terms
from emp.access.port import QuarantinedRow, ReadCounts
from emp.core.book import JUDGE, filled
from emp.core.codes import Quarantine
from emp.core.records import Array, empty_events

FRAME_LIMIT = 8 << 20
"""Longest frame accepted, bytes; the longest in use is the list of all symbols, some hundred KiB."""

CHUNK = 256
"""EVENT rows are handed out as views of a chunk that is written once: a copy would cost more than the decoding."""

FIRST_BUFFER = 1 << 16

_FIELDS = ("lo", "hi", "limit", "rows", "frames", "troubled", "frame_lo", "frame_hi", "book")
LO, HI, LIMIT, ROWS, FRAMES, TROUBLED, FRAME_LO, FRAME_HI, BOOK = map((CURSOR.names or ()).index, _FIELDS)
"""Places of the cursor's numbers, all of them int64."""


def _view(array: Any) -> memoryview:
    return memoryview(array)


class BrokenFrame(Exception):  # noqa: N818  a verdict on what arrived
    """The stream cannot be trusted any more: the connection has to be dropped."""


class Overfull(Exception):  # noqa: N818
    """A book holds more quotes than it can; `which` one has to start over."""

    def __init__(self, which: int) -> None:
        super().__init__(f"more than {QUOTES} quotes")
        self.which = which


class Feed:
    """Receives bytes; yields arrays of EVENT rows and, as bytes, every frame that is no market data."""

    def __init__(self, account: int, depth: bool, frame_limit: int = FRAME_LIMIT) -> None:
        self.depth = depth
        self.counts = ReadCounts()
        self.terms: list[Terms] = []
        self._books = make_books([], depth)
        self._cursor = new_cursor(account, frame_limit)
        self._at = _view(self._cursor.view(np.int64))  # the same numbers, at a tenth of the cost
        self._buffer = np.zeros(FIRST_BUFFER, np.uint8)
        self._bytes = _view(self._buffer)
        self._rows = empty_events(CHUNK)
        filled(0, np.zeros(1, JUDGE)[0])  # compiled before a fill waits for it

    @property
    def frames(self) -> int:
        """Whole frames received since the beginning: signs of life."""
        return self._at[FRAMES]

    def restart(self) -> None:
        """Forget a half-received frame: a new connection begins."""
        self._at[LO] = self._at[HI] = 0

    def set_terms(self, terms: Sequence[Terms]) -> None:
        """Count as the venue does now; books keep their sequence numbers."""
        if len(self._books) != len(terms):
            self._books = make_books(list(terms), self.depth)
        for which, term in enumerate(terms):
            set_terms(self._books, which, term)
            if not self.depth:
                clear(self._books, which)
        self.terms = list(terms)

    def clear_book(self, which: int) -> None:
        """Forget an instrument's quotes."""
        clear(self._books, which)

    def best(self, which: int) -> tuple[int, int]:
        """Best bid and ask last shown, in ticks; 0 where the book is not trustworthy."""
        book = self._books[which]
        if book["bad"] or book["gap"] or not book["seq"]:
            return 0, 0
        return int(book["last"]["bid_px"][0]), int(book["last"]["ask_px"][0])

    def filled(self, instrument: str, px: int) -> None:
        """An order of ours has filled at `px` ticks: books far from it are not believed (`emp.core.book.filled`)."""
        for term, book in zip(self.terms, self._books, strict=True):
            if term.instrument.name == instrument:
                filled(px, book["judge"])

    def stuck(self, before_ns: int) -> list[int]:
        """Instruments whose book has been crossed or locked since before a receive stamp."""
        crossed = np.isin(self._books["bad"], (Quarantine.CROSSED, Quarantine.LOCKED))
        since = self._books["bad_since"]
        return [int(i) for i in np.flatnonzero(crossed & (since > 0) & (since < before_ns))]

    def receive(self, data: bytes | memoryview, now_ns: int) -> Iterator[Array | bytes]:
        """Take bytes with their receive stamp (ns UTC); raise BrokenFrame or Overfull."""
        self._append(data)
        at = self._at
        while True:
            before = at[ROWS]
            code = scan(self._buffer, self._cursor, self._books, self._rows, now_ns)
            if at[TROUBLED]:
                self._note_trouble()
            if at[ROWS] > before:
                rows = self._rows[before : at[ROWS]]
                if at[ROWS] == CHUNK:
                    self._rows, at[ROWS] = empty_events(CHUNK), 0
                yield rows
            if code == FRAME:
                yield bytes(self._bytes[at[FRAME_LO] : at[FRAME_HI]])
            elif code == RESYNC:
                raise Overfull(at[BOOK])
            elif code == OVERSIZE:
                raise BrokenFrame(f"a frame longer than {at[LIMIT]} bytes was announced")
            elif code == MALFORMED:
                raise BrokenFrame("a frame is no message of the protocol")
            elif code == NEED:
                return
            else:
                assert code == FULL

    def _append(self, data: bytes | memoryview) -> None:
        lo, hi = self._at[LO], self._at[HI]
        if lo:
            self._bytes[: hi - lo] = bytes(self._bytes[lo:hi])
            hi -= lo
        need = hi + len(data)
        if need > len(self._bytes):
            grown = np.zeros(max(need, 2 * len(self._bytes)), np.uint8)
            grown[:hi] = self._buffer[:hi]
            self._buffer, self._bytes = grown, _view(grown)
        self._bytes[hi:need] = data
        self._at[LO], self._at[HI] = 0, need

    def _note_trouble(self) -> None:
        """Keep a sample of what was quarantined, as the books show it."""
        kept = self.counts.samples
        for term, book in zip(self.terms, self._books, strict=True):
            reason = Quarantine(int(book["bad"]))
            if reason and sum(s.reason is reason for s in kept) < ReadCounts.SAMPLES:
                text = f"{term.instrument.name}: {int(book['n'])} quotes, last good {self._shown(book)}"
                kept.append(QuarantinedRow(row=int(book["messages"]) - 1, reason=reason, text=text))

    @staticmethod
    def _shown(book: Array) -> str:
        return f"{int(book['last']['bid_px'][0])}/{int(book['last']['ask_px'][0])}"

    @property
    def sub_lot_levels(self) -> int:
        """Levels that were left out of rows because they held less than one lot."""
        return int(self._books["judge"]["sub_lot"].sum())

    def tally(self) -> ReadCounts:
        """The counts so far: rows == events + merged + sum of quarantined; a row is a market data message."""
        counts = self.counts
        lost = counts.quarantined[Quarantine.OVERFLOW]
        counts.rows = int(self._books["messages"].sum())
        counts.merged = int(self._books["merged"].sum())
        counts.events = int(self._books["seq"].sum()) - lost
        for reason in Quarantine:
            n = int(self._books["quarantined"][:, reason].sum())
            if n:
                counts.quarantined[reason] = n + (lost if reason is Quarantine.OVERFLOW else 0)
        return counts
