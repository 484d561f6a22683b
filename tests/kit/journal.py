"""Rows in a run's journal without an engine that decides them."""

import numpy as np

from emp.app.wiring.live import Running
from emp.core.records import EVENT, MARKET_STATE, Array


def journal(running: Running, rows: Array) -> None:
    """Hand DECISION rows to the taps of a run, each with an event of its own."""
    n = len(rows)
    events = np.zeros(n, EVENT)
    events["seq"] = np.arange(1, n + 1)
    running.live._taps.batch(events, np.zeros(n, MARKET_STATE), rows, np.zeros((n, 3), np.int32))
