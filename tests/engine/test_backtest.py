"""A recording through the whole engine: the same inputs give the same log, however the run goes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.account import apply_fill
from emp.core.approval import Approved, command_of
from emp.core.codes import Action, EventFlag, OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, Replace
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from tests.kit.backtests import backtest, differences_after_a_kill
from tests.kit.control import degrade
from tests.kit.events import random_events
from tests.kit.models import LOOSE, engine

pytestmark = pytest.mark.usefixtures("compiled_engine")


def replayed(tmp_path: Path, events: Array, run: str = "run", batch: int = 500) -> Backtest:
    return backtest(tmp_path, engine(tmp_path), events, run, batch=batch)


@pytest.fixture(scope="module")
def market() -> Array:
    return random_events(6000, 3)


def test_one_run_trades_and_accounts_for_every_row(tmp_path: Path, market: Array) -> None:
    summary = replayed(tmp_path, market).run()
    assert summary["rows"] == len(market)
    assert summary["rows"] == summary["events"] + summary["merged"] + sum(summary["quarantined"].values())
    assert summary["fills"] > 5
    rows = read_actions(tmp_path / "run" / "actions")
    assert len(rows) == summary["states"]
    assert set(rows["reason_code"]) <= {int(r) for r in Reason}
    reader = LedgerReader(tmp_path / "run" / "ledger.sqlite")
    fills = reader.fills()
    assert summary["final_position"] == sum(f.side * f.qty for f in fills)
    cash = sum(-f.side * f.qty * f.px for f in fills)
    last_mid = (market["bid_px"][-1, 0] + market["ask_px"][-1, 0]) / 2
    expected = cash + summary["final_position"] * last_mid - summary["fees"]
    assert summary["pnl_ticks"] == pytest.approx(expected, abs=1e-6)


def test_no_place_in_a_queue_is_given_up_for_nothing(tmp_path: Path) -> None:
    summary = replayed(tmp_path, random_events(20_000, 5)).run()
    found = summary["requotes"]
    assert found["followed"] > 100
    assert found["same_price"] == 0
    reader = LedgerReader(tmp_path / "run" / "ledger.sqlite")
    bodies = [e.body for e in reader.events()]
    reader.close()
    assert sum(isinstance(b, Replace) for b in bodies) > 20  # enough to tell
    assert any(isinstance(b, OrderUpdate) and b.replacement for b in bodies)


@pytest.mark.parametrize("batch", [1, 137, 6000])
def test_the_log_does_not_depend_on_how_the_source_is_cut(
    tmp_path: Path, market: Array, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replayed(tmp_path, market[:1500], "whole").run()
    if batch == 1:  # a checkpoint on the disk after each event is another matter, and takes most of a minute
        monkeypatch.setattr(Backtest, "_checkpoint", lambda self, journal: None)
    cut = replayed(tmp_path, market[:1500], "cut", batch).run()
    assert cut["action_log_sha256"] == whole["action_log_sha256"]
    assert cut["fills"] == whole["fills"]


@pytest.mark.parametrize("die_after", [1, 4, 9])
def test_a_run_that_dies_goes_on_and_ends_the_same(tmp_path: Path, market: Array, die_after: int) -> None:
    assert not differences_after_a_kill(lambda run: replayed(tmp_path, market, run), die_after)


def test_duplicates_and_regressions_never_reach_perception(tmp_path: Path, market: Array) -> None:
    clean = replayed(tmp_path, market[:2000], "clean").run()
    dirty = np.concatenate(
        [market[:700], market[650:700], market[700:1500], market[100:110], market[1500:2000]]
    )
    noisy = replayed(tmp_path, dirty, "noisy").run()
    assert noisy["action_log_sha256"] == clean["action_log_sha256"]
    assert noisy["quarantined"] == {"backwards": 10, "duplicate": 50}
    assert noisy["rows"] == noisy["events"] + sum(noisy["quarantined"].values())


def until_it_rests(e: Engine, events: Array) -> tuple[NewOrder, int]:
    """Run the engine until an order of its own rests; return it and the index of the next event."""
    k = 0
    while True:
        output = e.process(events[k:])
        k += output.consumed
        order = command_of(output.commands[0])
        e.sent(output.commands[0])
        if isinstance(order, NewOrder) and not order.immediate:
            e.on_report(report(order, OrderStatus.NEW))
            return order, k
        e.on_report(report(order, OrderStatus.CANCELED))


def test_nothing_rests_on_a_book_that_may_not_be_believed(tmp_path: Path, market: Array) -> None:
    e = engine(tmp_path)
    events = market.copy()
    _, k = until_it_rests(e, events)
    crossed = events[k : k + 1].copy()
    crossed["flags"] = EventFlag.VISIBLE
    crossed["bid_px"][0, 0] = crossed["ask_px"][0, 0] + 1
    output = e.process(crossed)
    assert [type(c) for c in output.commands] == [CancelOrder]
    assert output.rows[0]["reason_code"] == Reason.STALE
    assert e.quarantined() == {"crossed": 1}


def report(order: Any, status: OrderStatus, filled: int = 0, exec_id: str = "") -> OrderUpdate:
    return OrderUpdate(
        clOrdID=order.cl_ord_id,
        execID=exec_id or f"{order.cl_ord_id}{status}{filled}",
        status=status,
        filled=filled,
        price=order.px,
        ts=order.ts + 1,
        instrument=order.instrument,
        side=order.side,
        leaves=0 if status.terminal else order.qty - filled,
    )


def test_the_kill_switch_cancels_closes_and_stays_until_flat(tmp_path: Path, market: Array) -> None:
    e = engine(tmp_path)
    e.process(market[:400])
    apply_fill(e.desk.account[0], 1, 5, 10_000, 0.0)
    commands = e.flatten(Reason.KILL_SWITCH, 1)
    assert e.halted
    (closing,) = [c for c in commands if isinstance(c, Approved)]
    close = closing.intent
    assert isinstance(close, NewOrder)
    assert closing.closing
    assert (close.side, close.qty, close.immediate) == (-1, 5, True)
    e.sent(closing)
    assert e.on_timer(2).commands == [], "nothing twice while an answer is due"
    rest = e.on_report(report(close, OrderStatus.CANCELED, filled=2)).commands
    (again,) = [c for c in rest if isinstance(c, Approved)]
    assert again.intent.qty == 3
    e.sent(again)
    e.on_report(report(again.intent, OrderStatus.FILLED, filled=3))
    assert e.desk.account["position"][0] == 0
    assert not e.flattening
    output = e.process(market[400:800])
    assert set(output.rows["action"]) == {Action.HOLD}
    assert set(output.rows["reason_code"]) == {Reason.HALTED}


def test_a_daily_loss_limit_flattens_with_a_risk_breach(tmp_path: Path, market: Array) -> None:
    import msgspec

    e = engine(tmp_path, msgspec.structs.replace(LOOSE, max_daily_loss=50.0))
    e.process(market[:300])
    apply_fill(e.desk.account[0], 1, 1, 10_200, 0.0)
    output = e.process(market[300:])
    assert output.rows[-1]["reason_code"] == Reason.DAILY_LOSS
    (breach,) = output.messages
    assert breach.metric == "daily_pnl"  # type: ignore[union-attr]
    assert [type(command_of(c)) for c in output.commands] == [NewOrder]
    assert e.halted


def test_an_order_does_not_rest_on_a_silent_feed(tmp_path: Path, market: Array) -> None:
    e = engine(tmp_path)
    order, k = until_it_rests(e, market)
    last = int(market["ts"][k - 1])
    assert e.on_timer(last + LOOSE.stale_after_ns).commands == []
    (cancel,) = e.on_timer(last + LOOSE.stale_after_ns + 1).commands
    assert isinstance(cancel, CancelOrder)
    assert (cancel.orig, cancel.reason) == (order.cl_ord_id, Reason.STALE)


def test_a_replay_withdraws_orders_in_a_silence_as_live_does(tmp_path: Path, market: Array) -> None:
    replayed(tmp_path, market[:2000], "calm").run()
    calm = read_actions(tmp_path / "calm" / "actions")
    resting = calm["seq"][calm["reason_code"] == Reason.KEEP_RESTING]
    rests = resting[len(resting) // 2]
    last = int(np.flatnonzero(market["seq"] == rests)[0])
    quiet = market[:2000].copy()
    quiet["ts"][last + 1 :] += 20_000_000_000
    replayed(tmp_path, quiet).run()
    reader = LedgerReader(tmp_path / "run" / "ledger.sqlite")
    withdrawn = [
        event.body
        for event in reader.events()
        if isinstance(event.body, CancelOrder) and event.body.reason == Reason.STALE
    ]
    assert [c.ts for c in withdrawn] == [int(quiet["ts"][last]) + LOOSE.stale_after_ns + 1]


def test_an_impossible_report_halts_trading(tmp_path: Path, market: Array) -> None:
    e = engine(tmp_path)
    k = 0
    while True:
        output = e.process(market[k:])
        k += output.consumed
        if output.commands:
            break
    order = command_of(output.commands[0])
    e.sent(output.commands[0])
    messages = e.on_report(report(order, OrderStatus.FILLED, filled=order.qty + 1)).messages
    assert any(getattr(m, "topic", "") == "risk_breach" for m in messages)
    assert e.halted


def test_degraded_mode_means_size_zero(tmp_path: Path, market: Array) -> None:
    e = engine(tmp_path)
    degrade(e)
    output = e.process(market)
    assert output.consumed == len(market)
    assert not output.commands
    assert set(output.rows["reason_code"][100:]) == {Reason.DEGRADED}
    degrade(e, active=False)
    later = market.copy()
    later["ts"] += 10**9 + market["ts"][-1] - market["ts"][0]
    assert e.process(later).commands


@pytest.mark.real_data
def test_killed_half_way_and_started_again_the_goog_day_gives_the_same_log(
    tmp_path: Path, data_dir: Path
) -> None:
    day = data_dir / "lobster" / "GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"

    def command(runs: str) -> list[str]:
        arguments = ["replay", str(day), "--instrument", "GOOG", "--runs", str(tmp_path / runs), "--json"]
        return [sys.executable, "-m", "emp", *arguments]

    def summary(runs: str, seed: str, **settings: str) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONHASHSEED": seed, **settings}
        ran = subprocess.run(command(runs), capture_output=True, text=True, env=environment, check=True)
        parsed: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        return parsed

    whole = summary("whole", "1", EMP_CACHE=str(tmp_path / "cold"))  # compiles everything, the others load it
    assert whole["rows"] == 147_916
    assert whole["rows"] == whole["events"] + whole["merged"] + sum(whole["quarantined"].values())
    victim = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("*/checkpoint/state.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not list((tmp_path / "killed").glob("*/summary.json")), "it was to die half-way"
    again = summary("killed", "2")
    for key in ("action_log_sha256", "fills", "final_position", "pnl_ticks", "states", "quarantined"):
        assert again[key] == whole[key], key
