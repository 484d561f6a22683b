"""A replay in the compiled loop writes what it writes where Python handles every command, report and silence."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.records import Array
from emp.engine.replay import Backtest
from tests.kit.backtests import TIMINGS, backtest
from tests.kit.events import random_events
from tests.kit.models import engine

pytestmark = pytest.mark.usefixtures("compiled_engine")


def quiet_now_and_then(n: int, seed: int) -> Array:
    """Events with pauses of six seconds among them, in which an order that rests has to go."""
    events = random_events(n, seed)
    pause = np.zeros(n, np.int64)
    pause[n // 80 :: n // 80] = 6_000_000_000
    for name in ("ts", "ts_recv"):
        events[name] += np.cumsum(pause)
    return events


def written(tmp_path: Path, events: Array, run: str, drawdown: float, *, by_hand: bool) -> dict[str, Any]:
    """The summary of a replay, and its ledger row by row."""
    one = engine(tmp_path)
    one.desk.limits["max_drawdown"] = drawdown
    running = backtest(tmp_path, one, events, run)
    running.by_hand = by_hand
    summary = running.run()
    with closing(sqlite3.connect(tmp_path / run / "ledger.sqlite")) as db:
        rows = db.execute("SELECT * FROM events ORDER BY seq").fetchall()
    kept = {name: value for name, value in summary.items() if name not in TIMINGS}
    return {**kept, "ledger": rows, "account": one.desk.account.tobytes()}


@pytest.mark.parametrize("drawdown", [1e9, 40.0])
def test_the_compiled_loop_writes_what_python_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawdown: float
) -> None:
    """Row for row in the ledger, hash for hash in the action log: also where a loss limit closes the position."""
    events = quiet_now_and_then(8_000, 5)
    compiled = written(tmp_path, events, "compiled", drawdown, by_hand=False)
    monkeypatch.setattr(Backtest, "_calm", lambda _: False)
    python = written(tmp_path, events, "python", drawdown, by_hand=True)
    assert compiled == python
    kinds = [row[1] for row in compiled["ledger"]]
    assert compiled["halted"] == (drawdown < 1e9)
    assert kinds.count("intent") > (4 if compiled["halted"] else 100)
    assert compiled["halted"] or kinds.count("control") > 0
