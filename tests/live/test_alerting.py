"""Alerts of a run that trades, and of one whose engine is gone: real processes, a real receiver."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.receiving import Hook, hook
from tests.live.test_run import ROOT, start

SOON_S = 120.0
KEY = "a key of the test alone"


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SOON_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def page_of(process: Any) -> str:
    """Where a run serves, from its own words."""
    said = ""
    for line in process.stderr:
        said += line.strip()
        found = re.search(r"(http://127\.0\.0\.1:\d+)/", said)
        if found:
            return found[1]
    raise AssertionError(said)


def emp(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "emp", *words], cwd=folder, capture_output=True, text=True, check=False
    )


@contextmanager
def watching(folder: Path, receiver: Hook) -> Iterator[tuple[str, Any]]:
    """`emp watch` as a second machine would run it; where it listens, and the process."""
    config = folder / "watch.yaml"
    config.write_text(
        f"mode: mock\ninstruments:\n  names: [BTCUSDT]\nalerts:\n  webhook: {receiver.url}/watch\n"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable,
        "-m",
        "emp",
        "watch",
        "--listen",
        where,
        "--silent-after",
        "10",
        "--config",
        str(config),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, env=os.environ | {"EMP_HEARTBEAT_KEY": KEY}
    )
    try:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield where, process
    finally:
        process.kill()
        process.communicate()


def test_a_kill_is_told_and_taken_back_and_a_dead_engine_is_told_by_who_watches(tmp_path: Path) -> None:
    with hook() as owner, hook() as outside, watching(tmp_path, outside) as (where, watcher):
        told = {
            "EMP_ALERTS__WEBHOOK": f"{owner.url}/run",
            "EMP_HEARTBEAT__TO": where,
            "EMP_HEARTBEAT_KEY": KEY,
        }
        with start(tmp_path, **told) as run:
            page_of(run)
            folder = next(tmp_path.glob("mock-*"))
            assert "lives" in watcher.stderr.readline()
            until(lambda: emp(tmp_path, "kill", str(folder)).returncode == 0, "it takes no control")
            until(lambda: ("killed", "firing") in owner.named(), "nobody was told of the kill")
            assert outside.posts == []
            run.send_signal(signal.SIGKILL)
            run.communicate()
            assert watcher.wait(SOON_S) == 10
        (gone,) = outside.posts
    assert gone.body["alert"] in ("engine_gone", "position_without_engine")
    assert gone.body["run"] == json.loads((folder / "manifest.json").read_text())["run"]
    assert owner.named().count(("killed", "firing")) == 1
    (killed,) = [one for one in owner.posts if one.body["alert"] == "killed"]
    assert killed.body["severity"] == "critical"
    lines = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    assert any(line["alert"]["name"] == "killed" for line in lines)


def test_a_test_alert_says_who_took_it(tmp_path: Path) -> None:
    config = tmp_path / "emp.yaml"
    with hook() as receiver:
        config.write_text(
            f"mode: mock\ninstruments:\n  names: [BTCUSDT]\nalerts:\n  webhook: {receiver.url}/a\n"
            f"  push: {receiver.url}/topic\n"
        )
        done = emp(tmp_path, "alert")
        assert (done.returncode, done.stdout) == (0, "webhook: taken\npush: taken\n")
        assert [post.path for post in receiver.posts] == ["/a", "/"]
        receiver.status = 403
        done = emp(tmp_path, "alert", "--json")
        assert done.returncode == 1
        told = json.loads(done.stdout)["receivers"]
        assert told["webhook"] == {"taken": False, "why": "127.0.0.1 answers 403"}
    config.write_text("mode: mock\ninstruments:\n  names: [BTCUSDT]\n")
    done = emp(tmp_path, "alert")
    assert done.returncode != 0
    assert done.stderr.strip().endswith(
        "names nobody to tell: set alerts.webhook, alerts.push or alerts.email"
    )
    assert str(ROOT) not in done.stderr
