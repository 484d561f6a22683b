"""Rows in a run's journal without an engine that decides them."""

import contextlib
import sqlite3
from pathlib import Path

import numpy as np

from emp.app.wiring.live import Running
from emp.core.records import EVENT, MARKET_STATE, Array


def journal(running: Running, rows: Array) -> None:
    """Hand DECISION rows to the taps of a run, each with an event of its own."""
    n = len(rows)
    events = np.zeros(n, EVENT)
    events["seq"] = np.arange(1, n + 1)
    running.live._taps.batch(events, np.zeros(n, MARKET_STATE), rows, np.zeros((n, 3), np.int32))


def unseal(ledger: Path) -> None:
    """Let a sealed ledger look as if its process had died."""
    with contextlib.closing(sqlite3.connect(ledger)) as db, db:
        db.execute("UPDATE meta SET value='no' WHERE key='sealed'")
        db.execute("DELETE FROM meta WHERE key='marked'")  # its companion has gone with the orderly end
