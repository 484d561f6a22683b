"""Instruments, frames and books for the FIX tests."""

from collections.abc import Sequence

from emp.access.fix.book import show
from emp.access.fix.dialect import CTRADER, Dialect
from emp.access.fix.frame import Framer
from emp.access.fix.market import Market
from emp.core.instrument import Instrument
from emp.core.records import Array, empty_events
from tests.kit.instruments import currency_pair

EURUSD = currency_pair()


class Screen:
    """A market fed with whole messages, one at a time."""

    def __init__(
        self,
        dialect: Dialect = CTRADER,
        instruments: Sequence[Instrument] = (EURUSD,),
        symbols: Sequence[str] = ("1",),
        start: int = 0,
    ) -> None:
        self.market = Market(instruments, symbols, dialect, start)
        self.framer = Framer(market=self.market)
        self.result = 0

    def show(self, message: bytes) -> list[Array]:
        """Rows that the message makes, whatever its sequence number."""
        rows: list[Array] = []
        for frame in self.framer.frames(message):
            written, self.result = self.market.late(self.framer, frame, 7)
            self.market.settle(self.result)
            rows += [row.copy() for row in self.market.rows[:written]]
        return rows

    def cached(self, which: int = 0) -> Array:
        """What a book holds, as a row, whether it would be believed or not."""
        [row] = empty_events(1)
        show(self.market.books[which], row)
        return row


def levels(row: Array) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Bids and asks of a row as (price, size), best first."""
    bids = [(int(row["bid_px"][i]), int(row["bid_sz"][i])) for i in range(row["n_bid"])]
    asks = [(int(row["ask_px"][i]), int(row["ask_sz"][i])) for i in range(row["n_ask"])]
    return bids, asks
