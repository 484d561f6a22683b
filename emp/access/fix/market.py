"""Market data of one session: requests, the books, and the rows they make."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from emp.access.fix.book import (
    ASKS,
    BOOK,
    COUNT,
    MALFORMED,
    NOT_WHOLE,
    OFF_TICK,
    OVERFLOW,
    SUPERSEDED,
    SYMBOL,
    UNAPPLIED,
    UNKNOWN_ENTRY,
    UNKNOWN_SYMBOL,
    show,
)
from emp.access.fix.decode import SNAPSHOT, decode_bytes
from emp.access.fix.dialect import Dialect
from emp.access.fix.frame import Frame, Framer
from emp.access.fix.text import Scale
from emp.core.book import JUDGE, filled
from emp.core.codes import AssetClass, Quarantine
from emp.core.errors import ConfigError
from emp.core.instrument import Instrument
from emp.core.records import EVENT, Array

_FINER = 2
"""Decimals kept of a size beyond those of a lot, so that parts of lots at one price add up."""

STUCK_NS = 10_000_000_000
"""A book that has been crossed for so long has lost something that its numbers do not show."""

REASONS = {
    MALFORMED: Quarantine.MALFORMED,
    COUNT: Quarantine.MALFORMED,
    OFF_TICK: Quarantine.ABSURD_PRICE,
    OVERFLOW: Quarantine.OVERFLOW,
    UNKNOWN_SYMBOL: Quarantine.UNKNOWN_ORDER,
    NOT_WHOLE: Quarantine.UNKNOWN_ORDER,
    UNKNOWN_ENTRY: Quarantine.UNKNOWN_ORDER,
    UNAPPLIED: Quarantine.UNKNOWN_ORDER,
    SUPERSEDED: Quarantine.BACKWARDS,
}
"""Under which reason a message or entry that was not taken is counted."""

BROKEN = frozenset({MALFORMED, COUNT, OFF_TICK, OVERFLOW, UNAPPLIED})
"""Results after which a book needs a new snapshot."""


class Market:
    """The books of the instruments of one session, in the order given; rows carry that order as `instrument`.

    `start` (ns UTC) tells the requests of this start of the program from those of others.
    """

    def __init__(
        self, instruments: Sequence[Instrument], symbols: Sequence[str], dialect: Dialect, start: int = 0
    ) -> None:
        self.instruments = tuple(instruments)
        self.symbols = tuple(symbols)
        self.dialect = dialect
        self._quarantined: Counter[Quarantine] = Counter()
        self.books: Array = np.zeros(len(self.instruments), BOOK)
        self.rows: Array = np.zeros(len(self.instruments), EVENT)
        self.raw_books: Array = self.books.view(np.uint8)
        self.raw_rows: Array = self.rows.view(np.uint8)
        for book, instrument, symbol in zip(self.books, self.instruments, self.symbols, strict=True):
            _describe(book, instrument, symbol, dialect)
        # a venue may send again what another start of ours has asked for; and some take 16 characters at most
        self._asks = f"{ASKS}{np.base_repr(start // 1_000_000, 36).lower()}-"
        self.books["asks_len"] = len(self._asks)
        self.books["asks"][:, : len(self._asks)] = np.frombuffer(self._asks.encode(), np.uint8)
        self._request = 0
        self._row: Array = np.zeros(1, EVENT)
        self._crossed: dict[int, int] = {}  # book -> since when it was found crossed at each look

    @property
    def quarantined(self) -> Counter[Quarantine]:
        """Messages, entries, books and trades that did not become events, by reason."""
        for reason, n in enumerate(self.books["quarantined"].sum(axis=0)):
            if n:
                self._quarantined[Quarantine(reason)] += int(n)
        self.books["quarantined"] = 0
        return self._quarantined

    @property
    def sub_lot_levels(self) -> int:
        """Levels that were left out of events because they held less than one lot."""
        return int(self.books["judge"]["sub_lot"].sum())

    def warm_up(self) -> None:
        """Compile what the hot path runs, before a connection waits for it."""
        framer = Framer(market=self)
        framer.next(1)
        framer.next()
        decode_bytes(framer.wire, 0, SNAPSHOT, 0, 0, self.raw_books[:0], self.raw_rows[:0])
        show(self.books[0].copy(), self._row[0].copy())
        filled(0, np.zeros(1, JUDGE)[0])

    def invalidate(self) -> None:
        """Something was missed: every book waits for a snapshot, and its next event carries GAP."""
        self.books["n"] = 0
        self.books["whole"] = not self.dialect.snapshots
        self.books["gap"] |= self.books["seq"] > 0

    @property
    def whole(self) -> bool:
        """Whether every book is known."""
        return bool(self.books["whole"].all())

    def filled(self, instrument: str, px: int) -> None:
        """An order of ours has filled at `px` ticks: books far from it are not believed (`emp.core.book.filled`)."""
        names = [one.name for one in self.instruments]
        filled(px, self.books["judge"][names.index(instrument)])

    def stuck(self, now_ns: int) -> bool:
        """Whether a book was crossed at each look for STUCK_NS (monotonic); said once for each such time.

        A locked book is none: some venues' books are locked for hours.
        """
        found = False
        for i in np.flatnonzero(self.books["whole"] & (self.books["n"] > 1)).tolist():
            show(self.books[i], self._row[0])
            row = self._row[0]
            if not (row["n_bid"] and row["n_ask"] and row["bid_px"][0] > row["ask_px"][0]):
                self._crossed.pop(i, None)
            elif now_ns - self._crossed.setdefault(i, now_ns) >= STUCK_NS:
                del self._crossed[i]
                found = True
        return found

    def settle(self, result: int) -> bool:
        """Count what `decode` did not take; True when a new snapshot must be asked for."""
        if result in REASONS:
            self._quarantined[REASONS[result]] += 1
        return result in BROKEN

    def late(self, framer: Framer, frame: Frame, now_ns: int) -> tuple[int, int]:
        """Decode a frame that was not decoded on arrival: (rows, result)."""
        return decode_bytes(framer.wire, frame[3], frame[4], frame[7], now_ns, self.raw_books, self.raw_rows)

    def subscribe(self, symbols: Sequence[str] | None = None, depth: int | None = None) -> bytes:
        """Body of a MarketDataRequest under a new id: for all, in place of those before it, or for some symbols.

        `depth` is MarketDepth (264): 0 the whole book, 1 the best prices, None as the dialect says.
        """
        self._request += 1
        if symbols is None:
            self.books["asked"] = self._request
        return self._body(1, self.symbols if symbols is None else symbols, depth)

    @property
    def request(self) -> str:
        """The id (262) of the last subscription."""
        return f"{self._asks}{self._request}"

    def superseded(self, request: str) -> bool:
        """Whether an id is that of an earlier request of ours, in this start or in another."""
        return request.startswith(ASKS) and request != self.request

    def unsubscribe(self) -> bytes:
        """Body of the request that ends the last subscription."""
        return self._body(2, self.symbols, None)

    def _body(self, action: int, symbols: Sequence[str], depth: int | None) -> bytes:
        dialect = self.dialect
        body = f"262={self.request}|263={action}|264={dialect.depth if depth is None else depth}|"
        if dialect.incremental is not None:
            body += f"265={int(dialect.incremental)}|"
        body += f"267=2|269=0|269=1|146={len(symbols)}|"
        for symbol in symbols:
            body += f"{dialect.symbol_tag}={symbol}|" if dialect.symbol_tag == 55 else f"48={symbol}|22=8|"
        return body.replace("|", "\x01").encode()


def _describe(book: Array, instrument: Instrument, symbol: str, dialect: Dialect) -> None:
    """Write an instrument's scales and the venue's ways into its BOOK record."""
    name = symbol.encode()
    if not 0 < len(name) <= SYMBOL:
        raise ConfigError(f"{instrument.name}: the symbol {symbol!r} must have 1 to {SYMBOL} characters")
    scale = Scale(instrument)
    book["symbol"][: len(name)] = np.frombuffer(name, np.uint8)
    book["symbol_len"] = len(name)
    book["symbol_tag"] = dialect.symbol_tag
    book["seq_tag"] = dialect.seq_tag
    book["aggressor_tag"] = dialect.aggressor_tag
    book["keying"] = dialect.keying
    book["depth"] = dialect.depth
    book["px_decimals"], book["px_step"] = scale.px_decimals, scale.px_step
    book["sz_decimals"] = scale.lot_decimals + _FINER
    book["sz_step"] = scale.lot_step * 10**_FINER
    book["px_inverse"] = 1.0 / book["px_step"]
    book["sz_inverse"] = 1.0 / book["sz_step"]
    book["signed"] = instrument.asset_class is AssetClass.FX_FUT
    book["entry_time"] = dialect.entry_time
    book["ahead_ns"] = int(dialect.max_skew_s * 1e9)
    book["whole"] = not dialect.snapshots
