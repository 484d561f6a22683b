"""NautilusTrader on the same quotes: `python peer_nautilus.py quotes.npy`, one JSON line with events per second.

Stands alone, since the peer may live in another interpreter. Its engine runs with an empty strategy callback
and computes no features; only `engine.run()` is timed, after every quote object has been made.
"""

import json
import sys
import time

import numpy as np
from nautilus_trader.backtest.config import BacktestEngineConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.identifiers import Venue
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy


class Empty(Strategy):
    """Receives every quote and does nothing."""

    def on_start(self) -> None:
        """Subscribe."""
        for instrument in self.cache.instruments():
            self.subscribe_quote_ticks(instrument.id)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        """Do nothing."""


def main(path: str) -> None:
    """Time one run over the quotes in `path`: int64[n, 5] of ts, bid, ask, bid size, ask size."""
    rows = np.load(path).tolist()
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        Venue("XNAS"), OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000, USD)], base_currency=USD
    )
    instrument = TestInstrumentProvider.equity("GOOG", "XNAS")
    engine.add_instrument(instrument)
    quotes = [
        QuoteTick(
            instrument.id,
            Price(bid / 100, 2),
            Price(ask / 100, 2),
            Quantity.from_int(max(1, bid_sz)),
            Quantity.from_int(max(1, ask_sz)),
            ts,
            ts,
        )
        for ts, bid, ask, bid_sz, ask_sz in rows
    ]
    engine.add_data(quotes)
    engine.add_strategy(Empty())
    began = time.perf_counter()
    engine.run()
    print(json.dumps({"events_per_s": len(quotes) / (time.perf_counter() - began)}))


main(sys.argv[1])
