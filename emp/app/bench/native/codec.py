"""Our FIX decoding in a compiled loop, as the native codecs measure theirs: no Python between two messages."""

from collections.abc import Callable
from typing import Any

from emp.access.fix.book import BOOK
from emp.access.fix.decode import decode
from emp.access.fix.frame import Framer
from emp.access.fix.market import Market
from emp.access.fix.scan import next_frame
from emp.access.fix.wire import DATA, FRAME, PHASE, POS, START, WIRE
from emp.app.bench.stopwatch import Stopwatch
from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import EVENT


@kernel
def _repeat(wire: Any, size: int, times: int, raw_books: Any, raw_rows: Any) -> int:
    """Check and decode the same bytes `times` times; return how often the book came out whole."""
    w = wire.view(WIRE)[0]
    books, rows = raw_books.view(BOOK), raw_rows.view(EVENT)
    good = 0
    for i in range(times):
        w.s[START] = DATA
        w.s[POS] = DATA
        w.s[PHASE] = 0
        status, _, _, n, kind, _, flags, sent = next_frame(w, DATA + size, 0)
        if status == FRAME and flags == 0:
            written, _ = decode(w, n, kind, sent, i, books, rows)
            good += written
    return good


def decode_job(market: Market, message: bytes, times: int) -> Callable[[], Stopwatch]:
    """What decodes `message` `times` times and says how long that took.

    Raises DataError where a message did not become a book.
    """
    framer = Framer(b"FIX.4.4", b"VENUE", b"CLIENT", market=market)
    framer.write(message)
    _repeat(framer.wire, len(message), 1, market.raw_books, market.raw_rows)

    def job() -> Stopwatch:
        with Stopwatch() as watch:
            good = _repeat(framer.wire, len(message), times, market.raw_books, market.raw_rows)
        if good != times:
            raise DataError(f"{times - good} of {times} snapshots did not become a book")
        return watch

    return job
