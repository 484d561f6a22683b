"""Books and, from a file of their own, the trades: merged by time, and the aggressor's words checked by the prices.

At one instant trades come before the book, because the book is as it is after them: the last run of trades of one
side joins that book's event, others are events with the book before.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings import fold, slots
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, Reader, blank
from emp.access.recordings.scan import NO_PRICE, word
from emp.access.recordings.table import TableReader, side_words
from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import Array

BUY, SELL = 1, -1
VOCABULARIES: tuple[dict[str, int], ...] = (
    {"o": BUY, "b": SELL},  # O lifted the offer, B hit the bid
    {"b": BUY, "s": SELL},
    {"b": BUY, "a": SELL},
    {"buy": BUY, "sell": SELL},
    {"buyer": BUY, "seller": SELL},
    {"bid": BUY, "ask": SELL},
    {"bid": BUY, "offer": SELL},
    {"long": BUY, "short": SELL},
    {"1": BUY, "-1": SELL},
    {"1": BUY, "2": SELL},  # FIX tag 54
    {"+": BUY, "-": SELL},
    {"true": BUY, "false": SELL},
    {"1": BUY, "0": SELL},
)
"""Spellings of the aggressor's side, without case; of a resting order's (`maker`), of that order's."""

NOBODY = ("", "n", "none", "null", "nan", "unknown", "-", "0", "na")

ENOUGH = 30
"""Trades off the mid that a check by prices needs at least."""

APART_NS = 10 * 60 * 1_000_000_000
"""Trades of which all are so far before or after the books are of another time: a zone, or a day."""

PLENTY = 4_000
"""After so many no more are looked at."""

AGREE = 0.8
"""Share of them that must agree where words alone do not settle it; below 1 - AGREE the words mean the other side."""


class MergedReader:
    """A book reader and a reader of trades as one."""

    def __init__(self, books: Reader, trades: TableReader) -> None:
        self.label = books.label
        self.flags = books.flags
        self.sortable = books.sortable
        self.stored_bytes = books.stored_bytes + trades.stored_bytes
        self.first_ts_ns = books.first_ts_ns
        self._books, self._trades = books, trades
        if trades.plan.layout.side in (slots.BY_WORD, slots.BY_MAKER):
            self._settle()

    @property
    def gaps(self) -> int:
        """Breaks of the stream."""
        return self._books.gaps

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return f"{self._books.describe()}; with trades of {self._trades.label}: {self._trades.describe()}"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield books and trades in order of time."""
        books, trades = _Queue(self._books.batches(progress)), _Queue(self._trades.batches(progress))
        out = Merged(*blank(2 * BATCH), np.zeros(2 * BATCH, np.int64))
        clock: Array = np.full(2, fold.NO_TIME)
        first_trade = self._trades.first_ts_ns
        while books.refill() | trades.refill():
            room = (books.n - books.next) + (trades.n - trades.next)
            if room > len(out.rows):
                out = Merged(*blank(room), np.zeros(room, np.int64))
            n, books.next, trades.next = merge(books.waiting, trades.waiting, clock, out)
            yield Raw(out.rows[:n], out.kind[:n], out.status[:n], _text_of(out.origin, books, trades))
        apart = max(first_trade - clock[0], self.first_ts_ns - clock[1])
        if clock.min() > fold.NO_TIME and apart > APART_NS:
            raise DataError(
                f"{self._trades.label}: none of its trades lies within the time of the books of {self.label}: is the "
                "time zone of one of them another, or the day?"
            )

    def _settle(self) -> None:
        """Find out what the words of the aggressor's column mean, and check it by the prices."""
        reader = self._trades
        words = side_words(reader)
        spoken = {text.lower() for text in words.values()}
        told = spoken - set(NOBODY)
        candidates = vocabularies(told, spoken)
        if told and not candidates:
            shown = ", ".join(repr(one) for one in sorted(told)[:4])
            raise DataError(
                f"{reader.label}: column 'side' holds {shown}; known are O/B, B/S, B/A, buy/sell, bid/ask and such; "
                "describe it in a mapping file"
            )
        if not candidates:
            reader.set_sides([], [], list(words))
            return
        self._use(candidates[0], words)
        agreed, decided = self._agreement()
        meanings = {one: {v[one] for v in candidates} for one in told if one in candidates[0]}
        ambiguous = any(len(meaning) > 1 for meaning in meanings.values())
        if ambiguous:
            if decided >= ENOUGH and agreed <= (1 - AGREE) * decided:
                self._use({one: -sign for one, sign in candidates[0].items()}, words)
            elif decided < ENOUGH or agreed < AGREE * decided:
                shown = ", ".join(sorted(told))
                raise DataError(
                    f"{reader.label}: the aggressor is only ever {shown!r}, which can mean either side, and "
                    f"the prices do not settle it ({agreed} of {decided} trades off the mid agree)"
                )
        elif decided >= ENOUGH and agreed <= (1 - AGREE) * decided:
            raise DataError(
                f"{reader.label}: the aggressor's side contradicts the prices in {decided - agreed} of {decided} "
                "trades: it is the resting order's (in a mapping: trade.maker), or the two are not of one recording"
            )

    def _use(self, meaning: dict[str, int], words: dict[int, str]) -> None:
        self._trades.set_sides(*by_meaning(words, meaning))

    def _agreement(self) -> tuple[int, int]:
        """Of the first trades at or beyond the touch before them, how many lie on their aggressor's side."""
        count: Array = np.zeros(4, np.int64)
        count[2:] = NO_PRICE
        for raw in self.batches(lambda _: None):
            agree(raw.rows, raw.kind, raw.status, count)
            if count[1] >= PLENTY:
                break
        return int(count[0]), int(count[1])


def vocabularies(told: set[str], spoken: set[str]) -> list[dict[str, int]]:
    """The vocabularies that know most of the words; a word that they do not know costs its rows."""
    if spoken == {"1", "0"}:
        return [{"1": BUY, "0": SELL}]
    known = [(len(told & set(v)), v) for v in VOCABULARIES]
    most = max(n for n, _ in known)
    return [v for n, v in known if n == most and n > 0]


def settled(reader: TableReader) -> TableReader:
    """A reader whose rows hold trades beside books: the words of its aggressor's column are given their meaning."""
    layout = reader.plan.layout
    if not layout.trades or layout.volume or layout.side not in (slots.BY_WORD, slots.BY_MAKER):
        return reader
    words = side_words(reader)
    spoken = {text.lower() for text in words.values()} - set(NOBODY)
    known = vocabularies(spoken, spoken)
    meaning = known[0] if known else {}
    if spoken and not known:
        shown = ", ".join(repr(one) for one in sorted(spoken)[:4])
        raise DataError(
            f"{reader.label}: the aggressor's column holds {shown}, which no known vocabulary has"
        )
    if spoken and spoken <= {"a", "b"}:
        meaning = {"b": BUY, "a": SELL}  # of books with trades beside them: Databento's
    reader.set_sides(*by_meaning(words, meaning))
    return reader


def by_meaning(words: dict[int, str], meaning: dict[str, int]) -> tuple[list[int], list[int], list[int]]:
    """Packed words that mean that a buyer took, that a seller did, and that nobody says."""
    buys = [packed for packed, text in words.items() if meaning.get(text.lower()) == BUY]
    sells = [packed for packed, text in words.items() if meaning.get(text.lower()) == SELL]
    none = [
        packed for packed, text in words.items() if text.lower() in NOBODY and text.lower() not in meaning
    ]
    return buys, sells, [*none, word("")]


@kernel
def agree(rows: Any, kind: Any, status: Any, count: Any) -> None:
    """Count in count[0] and count[1] the trades that agree with the touch before them; count[2:] is that touch."""
    for i in range(len(rows)):
        if status[i] != 0:
            continue
        row = rows[i]
        if kind[i] == fold.PRINT:
            bid, ask = count[2], count[3]
            if bid == NO_PRICE or ask == NO_PRICE or bid >= ask:
                continue
            side = 1 if row.trade_px >= ask else (-1 if row.trade_px <= bid else 0)
            if side != 0:
                count[1] += 1
                count[0] += side * row.trade_qty > 0
        elif row.n_bid > 0 and row.n_ask > 0:
            count[2], count[3] = row.bid_px[0], row.ask_px[0]


def _text_of(origin: Array, books: "_Queue", trades: "_Queue") -> Callable[[int], str]:
    """Row i of merged rows as read."""

    def text(i: int) -> str:
        at = int(origin[i])
        return books.text(at) if at >= 0 else trades.text(~at)

    return text


class Waiting(NamedTuple):
    """Rows of one file for `merge`: those from `at` to `n` wait, and where `ended` no more will come."""

    rows: Array  # EVENT
    kind: Array  # uint8
    status: Array  # uint8
    at: int
    n: int
    ended: bool


class Merged(NamedTuple):
    """What `merge` writes: rows of both files, by time."""

    rows: Array  # EVENT
    kind: Array  # uint8, of `fold`
    status: Array  # uint8
    origin: Array  # int64: index among the books, or minus one minus the index among the trades


class _Queue:
    """Rows of one file that wait to be merged."""

    def __init__(self, batches: Iterator[Raw]) -> None:
        self._batches = batches
        self.rows, self.kind, self.status = blank(0)
        self.text: Callable[[int], str] = str
        self.next = 0
        self.n = 0
        self.ended = False

    def refill(self) -> bool:
        """Read the next rows where none waits; False at the end."""
        while self.next == self.n and not self.ended:
            raw = next(self._batches, None)
            if raw is None:
                self.ended = True
                self.n = self.next = 0
                break
            self.rows, self.kind, self.status, self.text = raw
            self.next, self.n = 0, len(raw.rows)
        return not self.ended

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.rows, self.kind, self.status, self.next, self.n, self.ended)


@kernel
def merge(books: Any, trades: Any, clock: Any, out: Any) -> Any:
    """Merge two files (`Waiting`) into `out` (`Merged`) by time until one of them must be refilled.

    Returns (rows written, where the books go on, where the trades do). `clock` holds the latest time of each file,
    so that a row which goes back in time does not hold up the other file.
    """
    b, n_books, t, n_trades = books.at, books.n, trades.at, trades.n
    rows, kind, status, origin = out.rows, out.kind, out.status, out.origin
    n = 0
    while (b < n_books or books.ended) and (t < n_trades or trades.ended) and (b < n_books or t < n_trades):
        if b < n_books and books.status[b] == 0:
            clock[0] = max(clock[0], books.rows[b].ts)
        if t < n_trades and trades.status[t] == 0:
            clock[1] = max(clock[1], trades.rows[t].ts)
        if t < n_trades and (b >= n_books or clock[1] <= clock[0]):
            rows[n] = trades.rows[t]
            kind[n] = trades.kind[t]
            status[n] = trades.status[t]
            origin[n] = -1 - t
            t += 1
        else:
            rows[n] = books.rows[b]
            kind[n] = books.kind[b]
            status[n] = books.status[b]
            origin[n] = b
            b += 1
        n += 1
    return n, b, t
