"""NautilusTrader on the same quotes: `python peer_nautilus.py quotes.npy`, one JSON line with events per second.

Stands alone, since the peer may live in another interpreter (version 2 needs Python 3.12 or later; version 1
is the last for 3.11). Its backtest engine runs with an empty strategy callback and computes no features; only
`engine.run()` is timed, after every quote object has been made.
"""

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np

SYMBOL, VENUE = "GOOG", "XNAS"


def version_1(rows: list[list[int]]) -> Any:
    """An engine of the Cython generation, loaded and ready to run."""
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

    instrument = TestInstrumentProvider.equity(SYMBOL, VENUE)

    class Empty(Strategy):
        def on_start(self) -> None:
            self.subscribe_quote_ticks(instrument.id)

        def on_quote_tick(self, tick: Any) -> None:
            pass

    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    money = [Money(1_000_000, USD)]
    engine.add_venue(Venue(VENUE), OmsType.NETTING, AccountType.MARGIN, money, base_currency=USD)
    engine.add_instrument(instrument)
    engine.add_data(
        [
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
    )
    engine.add_strategy(Empty())
    return engine


def version_2(rows: list[list[int]]) -> Any:
    """An engine of the Rust generation, loaded and ready to run."""
    from nautilus_trader import model
    from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
    from nautilus_trader.execution import FixedFeeModel
    from nautilus_trader.trading import Strategy

    usd = model.Currency.from_str("USD")
    name = model.InstrumentId.from_str(f"{SYMBOL}.{VENUE}")
    instrument = model.Equity(name, model.Symbol(SYMBOL), usd, 2, model.Price.from_str("0.01"), 0, 0)

    class Empty(Strategy):
        def on_start(self) -> None:
            self.subscribe_quotes(name)

        def on_quote(self, quote: Any) -> None:
            pass

    engine = BacktestEngine(BacktestEngineConfig(bypass_logging=True, run_analysis=False))
    engine.add_venue(
        model.Venue(VENUE),
        model.OmsType.NETTING,
        model.AccountType.MARGIN,
        [model.Money(1e6, usd)],
        base_currency=usd,
        fee_model=FixedFeeModel(model.Money(0.0, usd)),
    )
    engine.add_instrument(instrument)
    engine.add_data(
        [
            model.QuoteTick(
                name,
                model.Price(bid / 100, 2),
                model.Price(ask / 100, 2),
                model.Quantity(max(1, bid_sz), 0),
                model.Quantity(max(1, ask_sz), 0),
                ts,
                ts,
            )
            for ts, bid, ask, bid_sz, ask_sz in rows
        ]
    )
    engine.add_strategy(Empty())
    return engine


def main(path: str) -> None:
    """Time one run over the quotes in `path`: int64[n, 5] of ts, bid, ask, bid size, ask size."""
    rows = np.load(path).tolist()
    installed = version("nautilus_trader")
    engine = version_1(rows) if installed.startswith("1.") else version_2(rows)
    began = time.perf_counter()
    engine.run()
    rate = len(rows) / (time.perf_counter() - began)
    print(json.dumps({"version": installed, "events_per_s": rate}))


if __name__ == "__main__":
    main(sys.argv[1])
