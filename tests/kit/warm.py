"""Compiling ahead: what takes half a minute on a new machine must not run against a test's own time limit."""

from pathlib import Path

from tests.kit.backtests import backtest
from tests.kit.events import random_events
from tests.kit.models import engine


def compile_engine(folder: Path) -> None:
    """Compile the engine's step for a linear model, live and in replay, or load it from the cache."""
    made = engine(folder)
    made.warm_up()
    backtest(folder, made, random_events(0, 0)).warm_up()
