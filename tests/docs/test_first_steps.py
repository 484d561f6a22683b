"""A newcomer's first backtest, here and with hftbacktest: both scripts run and find the same market."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

DAY = "lobster/GOOG_2012-06-21_34200000_57600000_{}_10.csv.zst"


def fills(said: str) -> int:
    found = re.search(r"([\d,]+) fills", said)
    assert found, said
    return int(found[1].replace(",", ""))


@pytest.mark.long
def test_both_first_backtests_run_and_fill_alike(data_dir: Path, compiled_engine: None) -> None:
    pytest.importorskip("hftbacktest", reason="hftbacktest is not installed: pip install emp[bench]")
    files = [str(data_dir / DAY.format(part)) for part in ("message", "orderbook")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "firststeps"), *files, "--once", "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = (json.loads(done.stdout.splitlines()[-1])[who] for who in ("emp", "hftbacktest"))
    assert ours["lines"] < 20 < theirs["lines"]
    assert fills(ours["said"]) == pytest.approx(fills(theirs["said"]), rel=0.1)  # two models of one queue


def test_without_the_files_it_says_how() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "firststeps")],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "python scripts/firststeps MESSAGES BOOKS" in done.stderr
