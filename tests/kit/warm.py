"""Compiling ahead: what takes half a minute on a new machine must not run against a test's own time limit."""

from pathlib import Path

from emp.access.ctrader.feed import Feed
from emp.access.fix.dialect import MOCK
from emp.access.fix.market import Market
from emp.core.instrument import find
from emp.sim.flow.shipped import shipped_flow
from emp.sim.world.day import DayConfig, DayMarket
from emp.sim.world.mock import MockMarket
from tests.kit.backtests import backtest
from tests.kit.events import START_NS, random_events
from tests.kit.instruments import currency_pair
from tests.kit.models import engine


def compile_engine(folder: Path) -> None:
    """Compile the engine's step for a linear model, live and in replay, or load it from the cache."""
    made = engine(folder)
    made.warm_up()
    backtest(folder, made, random_events(0, 0)).warm_up()


def compile_market() -> None:
    """Compile the built-in market: its flow, a halt and the auction that ends it."""
    instrument = find("BTCUSDT")  # trades at all hours
    rules = DayConfig(halts=((START_NS, 1.0),), pause_s=1.0)
    market = DayMarket(shipped_flow(), 1, 100_000, START_NS, instrument, rules)
    for _ in MockMarket(instrument, market=market, start_ns=START_NS, n_events=200).batches():
        pass
    assert market.auctions


def compile_feeds() -> None:
    """Compile what reads a broker's messages: FIX and cTrader."""
    Market([currency_pair()], ["1"], MOCK).warm_up()
    for depth in (False, True):
        assert not list(Feed(1, depth).receive(b"", START_NS))
