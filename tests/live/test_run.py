"""`emp run` from the outside: it trades the built-in market, serves HTTP, stops in order, fails in one line."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import ReadCounts
from emp.app.wiring.live import assemble_live
from emp.app.wiring.mock_market import market_hours_ns
from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, OrderStatus, Reason, Session
from emp.core.config.config import SystemConfig
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate
from emp.core.instrument import catalogue
from emp.core.records import DECISION, EVENT, Array
from emp.core.sessions import session_table
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.journal.actionlog import actions_sha256, read_actions
from emp.journal.reader import LedgerReader
from emp.observe.board import Board
from tests.kit.anew import in_real_time
from tests.kit.http import fetch_good
from tests.kit.journal import journal
from tests.kit.listener import Listener
from tests.kit.orders import cleared

from .world import Venue

ROOT = Path(__file__).resolve().parents[2]
TOLD = ("EMP_DATA", "EMP_CACHE", "EMP_STATE")


class Started(subprocess.Popen[str]):
    """A run that is killed where the test fails, instead of being waited for."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start(folder: Path, *arguments: str, config: Path = ROOT / "examples/mock.yaml", **settings: str):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMP_") or k in TOLD}
    environment |= {"EMP_RUN_DIR": str(folder), "EMP_HTTP__PORT": "0", "EMP_WARM_UP_EVENTS": "50"} | settings
    return Started(
        [sys.executable, "-m", "emp", "run", "--config", str(config), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )


def test_it_trades_serves_and_stops_by_itself(tmp_path: Path) -> None:
    with start(tmp_path, "--seconds", "8", "--json", EMP_ACCESS__SPEED="200") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["events"] > 800
    assert summary["fills"] > 0
    assert summary["infer_us"]["p99"] > 0
    folder = Path(summary["run_folder"])
    assert actions_sha256(folder / "actions") == summary["action_log_sha256"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    reader = LedgerReader(folder / "ledger.sqlite")
    assert reader.sealed
    assert reader.open_orders() == []
    assert sum(f.side * f.qty for f in reader.fills()) == summary["instruments"]["GOOG"]["final_position"]
    said = [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert said[:3] == ["link up", "link up", "connected"]


def test_a_signal_ends_it_in_order_and_health_and_metrics_answer_before(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with start(tmp_path, "--json", EMP_HTTP__PORT=str(port)) as process:
        text = "{}"
        for _ in range(600):
            time.sleep(0.1)
            try:
                text = fetch_good(port, "health")
                break
            except OSError:
                assert process.poll() is None, process.communicate()
        health = json.loads(text)
        assert (health["status"], health["reasons"], health["model"]["role"]) == ("ok", [], "primary")
        assert 'queue_depth{instrument="GOOG"}' in fetch_good(port, "metrics")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["halted"] is False


def refusal(process) -> str:
    with process:
        out, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert out == ""
    (line,) = err.strip().splitlines()
    assert line.startswith("emp: ")
    return line


def test_what_is_wrong_is_one_line_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        wrong = {
            f"http.port: {port} on 127.0.0.1 is in use": start(tmp_path, EMP_HTTP__PORT=str(port)),
            "unknown instrument": start(tmp_path, EMP_INSTRUMENTS__NAMES="NOPE"),
            "no such file": start(tmp_path, config=tmp_path / "absent.yaml"),
            "EMP_MDOE: no such setting; did you mean EMP_MODE?": start(tmp_path, EMP_MDOE="live"),
            "EMP_FIX_USERNAME, EMP_FIX_PASSWORD": start(tmp_path, config=ROOT / "examples/paper.yaml"),
        }
        for expected, process in wrong.items():
            assert expected.lower() in refusal(process).lower()
    assert list(tmp_path.iterdir()) == []


def test_the_built_in_market_starts_when_markets_trade() -> None:
    sunday = 1_795_365_952_000_000_000  # 2026-11-22
    assert market_hours_ns([catalogue()["GC"]], sunday) == 1_795_014_000_000_000_000, "Wednesday, 15:00 UTC"
    for instrument in catalogue().values():
        now = market_hours_ns([instrument], sunday)
        assert 1_795_014_000_000_000_000 - now < 24 * 3_600_000_000_000
        table = session_table(instrument, now, now)
        row = table[np.searchsorted(table["start"], now, side="right") - 1]
        assert row["session_id"] not in (Session.CLOSED, Session.HALT), instrument.name


class Recorded:
    """A source of three hundred events, one per millisecond."""

    def __init__(self) -> None:
        self.instrument = catalogue()["EURUSD"]
        self.counts = ReadCounts()

    def batches(self) -> Iterator[Array]:
        rows = np.zeros(300, EVENT)
        rows["seq"] = np.arange(1, 301)
        rows["ts"] = 1_700_000_000_000_000_000 + rows["seq"] * 1_000_000
        rows["flags"], rows["n_bid"], rows["n_ask"] = EventFlag.VISIBLE, 1, 1
        rows["bid_px"][:, 0], rows["ask_px"][:, 0] = 100, 102
        rows["bid_sz"][:, 0] = rows["ask_sz"][:, 0] = 50
        yield rows[:150]
        yield rows[150:]


def order(number: int, ts: int, immediate: bool) -> NewOrder:
    return NewOrder(
        cl_ord_id=f"o{number}",
        instrument="EURUSD",
        side=1,
        qty=2,
        px=102 if immediate else 100,
        immediate=immediate,
        ts=ts,
        reason=Reason.CROSS_EDGE,
        decision_seq=1,
    )


def test_a_recording_plays_at_its_pace_and_orders_fill_on_paper() -> None:
    async def scenario() -> tuple[int, float, list[OrderUpdate]]:
        clock, source = LiveClock(), Recorded()
        access = Listener(PaperAccess(Playback([source], clock, speed=2.0), clock, speed=2.0))
        reports: list[OrderUpdate] = []
        access.on_report(reports.append)
        await access.connect([source.instrument])
        seen, start = 0, time.monotonic()
        async for rows in access.events():
            seen += len(rows)
            if seen in (100, 110):
                access.send(cleared(order(seen, int(rows["ts"][0]), immediate=seen == 100)))
        took = time.monotonic() - start
        ts = int(rows["ts"][0])
        access.send(CancelOrder(cl_ord_id="c", orig="o110", instrument="EURUSD", ts=ts, reason=Reason.HALTED))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if len(reports) == 3:
                break
        assert [p.qty for p in await access.positions()] == [2]
        await access.close()
        return seen, took, reports

    seen, took, reports = asyncio.run(scenario())
    assert seen == 300
    assert took >= 0.14
    assert [(r.clOrdID, r.status) for r in reports] == [
        ("o100", OrderStatus.FILLED),
        ("o110", OrderStatus.NEW),
        ("o110", OrderStatus.CANCELED),
    ]
    assert (reports[0].price, reports[0].filled) == (102, 2)


@in_real_time
def test_the_loop_turns_while_a_batch_of_a_recording_is_read() -> None:
    class Slow(Recorded):
        def batches(self) -> Iterator[Array]:
            for rows in super().batches():
                time.sleep(0.3)
                yield rows

    async def longest_silence() -> float:
        source = Slow()
        access = Listener(Playback([source], LiveClock(), speed=1e6))
        await access.connect([source.instrument])
        gaps = [time.monotonic()]

        async def beat() -> None:
            while True:
                await asyncio.sleep(0.005)
                gaps.append(time.monotonic())

        beating = asyncio.create_task(beat())
        assert sum([len(rows) async for rows in access.events()]) == 300
        beating.cancel()
        return float(np.diff(gaps).max())

    assert asyncio.run(longest_silence()) < 0.2


def test_only_a_live_run_that_died_is_continued(tmp_path: Path) -> None:
    def folder_of(mode: str, *, end: bool) -> Path:
        access = {"connection_protocol": "fix" if mode == "live" else "mock"}
        config = SystemConfig(mode=mode, run_dir=tmp_path, instruments={"names": ["GC"]}, access=access)
        clock = LiveClock()
        running = assemble_live(
            config, [catalogue()["GC"]], Models(load_model("linear")), Venue(), Board(clock), clock
        )
        journal(running, np.zeros(3, DECISION))
        running.live._taps.close()
        ledger = running.live._ledger
        if end:
            ledger.seal()
        ledger.close()
        if running.live._account is not None:
            running.live._account.close()
        return running.folder.path

    died = folder_of("live", end=False)
    assert folder_of("live", end=False) == died
    assert len(read_actions(died / "actions")) == 6
    assert folder_of("live", end=True) == died
    assert folder_of("live", end=True) != died
    assert folder_of("mock", end=False) != folder_of("mock", end=False)


def test_a_signal_while_the_engine_compiles_ends_it_at_once(tmp_path: Path) -> None:
    """It was heard only when the compiler was through: minutes, the first time."""
    hook = tmp_path / "sitecustomize.py"
    hook.write_text(
        "import time\n"
        "import emp.engine.succession as s\n"
        "from emp.core.numba.jit import kernel\n"
        "def slow(self):\n"
        "    kernel(lambda x: x)(1)\n"
        "    print('compiling', flush=True)\n"
        "    time.sleep(60)\n"
        "s.Succession.warm_up = slow\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with start(tmp_path, PYTHONPATH=path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert said.startswith("compiling for this machine (a minute or two the first time)"), said
    assert process.returncode != 0
