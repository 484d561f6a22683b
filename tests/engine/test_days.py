"""Several days of a recording through the whole engine: what is carried overnight, and what the limits make of it.

A made-up stock: Tuesday, the Wednesday before the Fourth of July, which closes at 13:00, a holiday, Friday and Monday.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.access.recordings import open_recording
from emp.core.codes import Action, Reason
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from tests.kit.models import LOOSE, buying_model

pytestmark = pytest.mark.usefixtures("compiled_engine")

LOTS = 4
ROWS = 400
TUESDAY, WEDNESDAY, FRIDAY, MONDAY = "2024-07-02", "2024-07-03", "2024-07-05", "2024-07-08"
OVERNIGHT = 100
"""Ticks by which Wednesday opens below Tuesday's close."""


def day(date: str, first: int, last: int, seed: int, start: str = "10:00") -> list[str]:
    """Quotes every 10 s, New York time: the price goes evenly from `first` to `last`, in ticks."""
    rng = np.random.default_rng(seed)
    at = np.datetime64(f"{date}T{start}:00") + 10 * np.arange(ROWS).astype("timedelta64[s]")
    bids = np.linspace(first, last, ROWS).round().astype(int)
    sizes = rng.integers(500, 1500, (2, ROWS))
    return [
        f"{t},{b / 100:.2f},{(b + 1) / 100:.2f},{bid_sz},{ask_sz}"
        for t, b, bid_sz, ask_sz in zip(at, bids, *sizes, strict=True)
    ]


def replayed(folder: Path, days: dict[str, list[str]], **limits: Any) -> tuple[dict[str, Any], Array]:
    """A run over the days' files with a model that only ever buys; its summary and its actions."""
    paths = []
    for date, lines in days.items():
        path = folder / f"AAPL_{date}.csv"
        path.write_text("\n".join(["ts_et,bid,ask,bid_size,ask_size", *lines]) + "\n")
        paths.append(path)
    stock = find("AAPL")
    model = buying_model(folder / "model")
    asked = msgspec.structs.replace(LOOSE, max_position_lots=LOTS, warmup_events=16, **limits)
    engine = Engine([stock], model, asked, "TESTRUN0")
    manifest = build_manifest(
        run="TESTRUN0", mode="replay", config={}, instruments=["AAPL"], model_hashes=[model.artifact.hash]
    )
    journal = RunFolder.open_or_create(folder / "run", manifest)
    run = Backtest(open_recording(paths, stock), engine, PaperVenue(stock, entry_ns=50_000_000), journal, [])
    return run.run(), read_actions(folder / "run" / "actions")


def of_day(rows: Array, date: str) -> Array:
    """The actions of one day, by UTC date: New York's session lies within it."""
    begin = np.datetime64(date, "ns").astype(np.int64)
    return rows[(rows["ts"] >= begin) & (rows["ts"] < begin + 86_400 * 10**9)]


def calm_week() -> dict[str, list[str]]:
    """A fall overnight, an early close, and calm days."""
    low = 20_000 - OVERNIGHT
    return {
        TUESDAY: day(TUESDAY, 20_000, 20_000, 1),
        # 400 rows of 10 s from 12:10: the last of them come after the early close at 13:00
        WEDNESDAY: day(WEDNESDAY, low, low, 2, "12:10"),
        FRIDAY: day(FRIDAY, low, low, 3),
    }


def test_an_overnight_move_is_no_days_loss_and_the_early_close_is_kept(tmp_path: Path) -> None:
    summary, rows = replayed(tmp_path, calm_week(), max_daily_loss=LOTS * OVERNIGHT / 2)
    assert summary["final_position"] == LOTS
    assert summary["halted_by"] == ""
    assert summary["overnight_pnl_ticks"] == -LOTS * OVERNIGHT
    assert summary["pnl_ticks"] < -LOTS * OVERNIGHT
    assert len(of_day(rows, WEDNESDAY)) == 300
    assert summary["quarantined"] == {"closed_hours": 100}
    assert not summary["halted"]


def test_the_drawdown_limit_sees_the_overnight_move_at_once_and_the_switch_holds(tmp_path: Path) -> None:
    summary, rows = replayed(tmp_path, calm_week(), max_drawdown=LOTS * OVERNIGHT / 2)
    assert summary["halted_by"] == "drawdown"
    assert summary["overnight_pnl_ticks"] == -LOTS * OVERNIGHT
    assert summary["final_position"] == 0
    first = of_day(rows, WEDNESDAY)[0]
    assert (first["action"], first["reason_code"]) == (Action.FLATTEN, Reason.DRAWDOWN)
    later = of_day(rows, FRIDAY)
    assert set(later["reason_code"]) == {Reason.HALTED}
    assert set(later["action"]) == {Action.HOLD}


def test_a_loss_within_a_day_counts_for_that_day_alone_and_halts_the_days_that_follow(tmp_path: Path) -> None:
    low = 20_000 - OVERNIGHT
    week = {**calm_week(), FRIDAY: day(FRIDAY, low, low - 60, 3), MONDAY: day(MONDAY, low - 60, low, 4)}
    summary, rows = replayed(tmp_path, week, max_daily_loss=LOTS * 40)
    assert summary["halted_by"] == "daily_loss"
    assert summary["final_position"] == 0
    halted = rows[rows["reason_code"] == Reason.DAILY_LOSS]
    friday = of_day(rows, FRIDAY)
    assert friday[0]["ts"] < halted[0]["ts"] <= friday[-1]["ts"]
    # the day's loss is counted from its first mark: the fall of more than 40 ticks, not the overnight one before
    fallen = low - (halted[0]["bid"] + halted[0]["ask"] - 1) / 2
    assert 40 < fallen <= 42
    assert set(of_day(rows, MONDAY)["reason_code"]) == {Reason.HALTED}


def test_losses_below_the_limit_on_each_day_never_add_up_to_a_days_loss(tmp_path: Path) -> None:
    days = {
        date: day(date, 20_000 - 30 * i, 20_000 - 30 * (i + 1), i)
        for i, date in enumerate((TUESDAY, FRIDAY, MONDAY))
    }
    summary, _ = replayed(tmp_path, days, max_daily_loss=LOTS * 40)
    assert summary["halted_by"] == ""
    assert summary["final_position"] == LOTS
    assert summary["overnight_pnl_ticks"] == 0
    assert summary["pnl_ticks"] < -LOTS * 80
