"""`emp soak`: what grows is told with its interval, what is too much is bad, and a real run is measured and ended."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.app.soak.judge import DAY_S, LEAST_S, Limits, growth, judge
from emp.app.soak.page import write_page
from emp.app.soak.record import Day, Weeks
from emp.app.soak.samples import Probe, Sample
from emp.core.clock import LiveClock
from emp.core.ids import generator
from emp.core.usage import is_measurable, usage_of
from emp.engine.control_socket import ask, is_served
from emp.observe.board import Board, InstrumentView, View
from emp.observe.http import HttpServer, create_app

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(p99_ms=0.35, total_p99_ms=0.85, memory=8_000_000_000, descriptors=1_024)
LOOK = Sample(
    at_s=0.0,
    cpu_s=0.0,
    busiest_s=0.0,
    rss=300_000_000,
    written=0,
    descriptors=20,
    folder=10_000_000,
    free=50_000_000_000,
    p99_ms=0.05,
    total_p99_ms=0.07,
    lag_ms=1.0,
    queue=2,
    decisions=0,
    drops=0,
    overflows=0,
    healthy=True,
)
linux = pytest.mark.skipif(not is_measurable(), reason="this system does not tell what a process takes")


def looks(n: int = 400, every: float = 5.0, **changes: Any) -> list[Sample]:
    """A run that is well: a tenth of a core, 10 decisions a second; `changes` are values, or functions of the time."""
    found = []
    for k in range(n):
        at = k * every
        usual = {"at_s": at, "cpu_s": 0.1 * at, "busiest_s": 0.05 * every, "decisions": int(10 * at)}
        own = {name: value(at) if callable(value) else value for name, value in changes.items()}
        found.append(LOOK._replace(**{**usual, **own}))
    return found


def late(at: float) -> int:
    return int(at > 900)


def verdicts(samples: list[Sample]) -> dict[str, str]:
    return {line.what: line.verdict for line in judge(samples, LIMITS).lines}


def test_a_run_that_is_well() -> None:
    judged = judge(looks(), LIMITS)
    assert judged.verdict == "ok"
    assert judged.figures["cores"] == pytest.approx(0.1)
    assert judged.figures["decisions_a_second"] == pytest.approx(10.0)
    assert judged.figures["rss_a_day"] == 0.0


@pytest.mark.parametrize(
    ("changes", "what", "verdict"),
    [
        ({"p99_ms": lambda at: 0.36 if at == 500 else 0.05}, "p99 of the model", "bad"),
        ({"total_p99_ms": lambda at: 0.86 if at == 500 else 0.05}, "p99 of a decision", "bad"),
        ({"busiest_s": 4.5}, "processor", "bad"),
        ({"rss": lambda at: 300_000_000 + int(600_000_000 * at / DAY_S)}, "memory", "bad"),
        ({"rss": lambda at: 300_000_000 + int(100_000_000 * at / DAY_S)}, "memory", "warn"),
        ({"descriptors": lambda at: 20 + int(at / 60)}, "descriptors", "bad"),
        ({"folder": lambda at: int(4e9 * at / DAY_S)}, "disk", "bad"),
        ({"folder": lambda at: int(3e9 * at / DAY_S)}, "disk", "ok"),
        ({"decisions": 5}, "decisions", "bad"),
        ({"overflows": late, "drops": late}, "events not taken as they came", "bad"),
        ({"drops": lambda at: int(at)}, "events not taken as they came", "ok"),
        ({"healthy": lambda at: at != 500, "why": "no market data"}, "health", "warn"),
    ],
)  # fmt: skip
def test_what_is_too_much(changes: dict[str, Any], what: str, verdict: str) -> None:
    found = verdicts(looks(**changes))
    assert found.pop(what) == verdict
    assert set(found.values()) <= {"ok"}


def test_ten_minutes_are_needed_to_tell_growth() -> None:
    found = verdicts(looks(n=int(LEAST_S / 5)))
    assert [what for what, verdict in found.items() if verdict == "short"] == [
        "memory",
        "disk",
        "descriptors",
    ]
    assert judge(looks(n=int(LEAST_S / 5)), LIMITS).verdict == "short"
    assert judge(looks(n=2, p99_ms=1.0), LIMITS).verdict == "bad"  # of what can be told, it is told


@given(st.floats(-1e9, 1e9), st.floats(0.0, 1e6), st.integers(0, 9))
def test_growth_is_a_day_and_not_moved_by_what_comes_and_goes(slope: float, noise: float, seed: int) -> None:
    at = np.arange(0.0, 4_000.0, 5.0)
    values = 1e8 + slope * at / DAY_S
    values[:100] -= 5e7  # while it was warming up
    spikes = values + noise * (generator(seed, "soak").random(len(at)) < 0.05)
    found = growth(at, spikes)
    assert found is not None
    assert found.low <= found.a_day <= found.high
    assert found.a_day == pytest.approx(slope, abs=1e-3 * abs(slope) + 1.0)


def test_the_interval_covers_what_is_there() -> None:
    """95 % of the time, up to chance over 300 runs."""
    at = np.arange(0.0, 4_000.0, 5.0)
    inside = 0
    for seed in range(300):
        values = 1e8 + 2e7 * at / DAY_S + generator(seed, "cover").normal(0, 1e5, len(at))
        found = growth(at, values)
        assert found is not None
        inside += found.low <= 2e7 <= found.high
    assert 270 <= inside <= 297


def test_the_page_has_everything(tmp_path: Path) -> None:
    samples = looks(p99_ms=1.0)
    weeks = Weeks([Day("2024-03-06", "EURUSD", "green", "")], "1 green day <only>")
    write_page(tmp_path / "page.html", "Soak <of> it", "sub", samples, judge(samples, LIMITS), weeks)
    page = (tmp_path / "page.html").read_text()
    assert "Soak &lt;of&gt; it" in page
    assert "<td class='bad'>bad</td><td>p99 of the model</td>" in page
    assert "1 green day &lt;only&gt;" in page
    assert page.count("<svg") == 6


@linux
def test_usage_is_what_a_process_takes() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "b = bytes(range(256)) * 400_000\nprint(flush=True)\nwhile True: pass"],
        stdout=subprocess.PIPE,
    ) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        before = usage_of(busy.pid)
        assert before is not None
        assert before.rss > 100_000_000
        assert set(before.threads_s) == {busy.pid}
        after = before
        while after.cpu_s < before.cpu_s + 0.2:
            found = usage_of(busy.pid)
            assert found is not None
            after = found
        # threads are looked at before the process, which may run on between the two
        assert before.cpu_s <= after.threads_s[busy.pid] <= after.cpu_s
        busy.kill()
        busy.wait()
    assert usage_of(busy.pid) is None


@linux
def test_a_look_reads_what_the_run_says(tmp_path: Path) -> None:
    board = Board(LiveClock())
    server = HttpServer(create_app(board), "127.0.0.1", 0)
    server.start()
    try:
        (tmp_path / "market").mkdir()
        (tmp_path / "market" / "part").write_bytes(bytes(5_000))
        drops = {"duplicate": 4, "overflow": 2}
        first = InstrumentView(
            name="X", tick=1.0, event_lag_ms=1.5, queue_depth=3, drops=drops, reasons={"no_edge": 7}
        )
        second = InstrumentView(name="Y", tick=1.0, event_lag_ms=2.5, queue_depth=4, reasons={"stale": 5})
        now = LiveClock().now_ns()
        view = View(mode="mock", run="R", model="m", now_ns=now, started_ns=now, instruments=(first, second))
        board.publish(msgspec.structs.replace(view, p99_infer_ms=0.03, p99_total_ms=0.04))
        found = Probe(os.getpid(), server.url, tmp_path).look(3.0)
    finally:
        server.stop()
    assert found is not None
    assert (found.at_s, found.p99_ms, found.total_p99_ms, found.lag_ms) == (3.0, 0.03, 0.04, 2.5)
    assert (found.queue, found.decisions, found.drops, found.overflows) == (7, 12, 6, 2)
    assert found.folder >= 5_000
    assert found.rss > 10_000_000


def environment(folder: Path) -> dict[str, str]:
    fast = {"EMP_WARM_UP_EVENTS": "50", "EMP_ACCESS__SPEED": "100", "EMP_HTTP__PORT": "0"}
    return os.environ | fast | {"EMP_RUN_DIR": str(folder / "runs"), "PYTHONPATH": str(ROOT)}


def emp(folder: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "emp", *words],
        cwd=folder,
        env=environment(folder) | settings,
        capture_output=True,
        text=True,
    )


@linux
def test_a_run_is_started_measured_and_ended(tmp_path: Path) -> None:
    config = str(ROOT / "examples/mock.yaml")
    done = emp(
        tmp_path,
        "soak",
        "--config",
        config,
        "--hours",
        "0.001",
        "--every",
        "0.2",
        "--json",
        "-o",
        "page.html",
    )
    assert done.returncode in (0, 1), done.stderr  # a machine that is busy enough may be too slow
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["rss"] > 50_000_000
    assert said["paper"]["lacks"] == "a run of mode mock is no trading on paper"
    with (tmp_path / "page.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == said["looks"]
    assert [float(row["at_s"]) for row in rows] == sorted(float(row["at_s"]) for row in rows)
    folder = tmp_path / said["run_folder"]
    assert (folder / "summary.json").exists()  # it ended in order
    assert not is_served(folder)


@linux
def test_a_run_under_way_is_measured_and_goes_on(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    config = str(ROOT / "examples/mock.yaml")
    begun = emp(tmp_path, "run", "--config", config, "--detach", "--json", EMP_HTTP__PORT=port)
    assert begun.returncode == 0, begun.stderr
    folder = tmp_path / json.loads(begun.stdout.splitlines()[-1])["run_folder"]
    try:
        words = ("--hours", "0.001", "--every", "0.2", "--json", "-o", "page.html")
        done = emp(tmp_path, "soak", "--run", str(folder), *words)
        assert done.returncode in (0, 1), done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["looks"] > 1
        assert is_served(folder)
    finally:
        ask(folder, {"do": "stop", "reason": "test"})


@linux
def test_a_run_whose_port_nobody_knows_is_left_alone(tmp_path: Path) -> None:
    begun = emp(tmp_path, "run", "--config", str(ROOT / "examples/mock.yaml"), "--detach", "--json")
    folder = tmp_path / json.loads(begun.stdout.splitlines()[-1])["run_folder"]
    try:
        refused = emp(tmp_path, "soak", "--run", str(folder), "--hours", "0.001")
        assert refused.returncode == 2
        assert "name its port in http.port" in refused.stderr
        assert is_served(folder)
    finally:
        ask(folder, {"do": "stop", "reason": "test"})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--run", "x", "--config", "y"), "either --config, or --run"),
        (("--config", "missing.yaml"), "missing.yaml"),
        (("--run", "nothing"), "no run nothing"),
    ],
)
def test_what_is_wrong_ends_in_one_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = emp(tmp_path, "soak", *words)
    assert done.returncode != 0
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
