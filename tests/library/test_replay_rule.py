"""`emp replay --rule`, what explains such a run, and the example of the documentation."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.commands import said

ROOT = Path(__file__).parents[2]

RULE = """
def patient(seen, request):
    if seen.order_state == 0 and seen.position == 0:
        request.action, request.side, request.px, request.qty = 2, 1, seen.bid, 1


def failing(seen, request):
    request.px = seen.no_such_field
"""


@pytest.fixture
def quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = ["ts,bid,ask,bid_size,ask_size"]
    for k in range(3000):
        bid = 2000 + 0.1 * (k * k % 7)
        lines.append(f"{1_700_060_400_000 + 100 * k},{bid:.1f},{bid + 0.2:.1f},{1 + k % 5},{1 + k % 3}")
    (tmp_path / "quotes.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.py").write_text(RULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another test's folder
    return tmp_path / "quotes.csv"


def test_a_compiled_rule_asks_through_emp_though_nothing_of_the_library_was_used_before(quotes: Path) -> None:
    (quotes.parent / "compiled.py").write_text(
        "import numba\nimport emp\n\n\n@numba.njit\ndef rule(seen, request):\n"
        "    if seen.order_state == 0 and seen.position == 0:\n        emp.cross(request, 1, 1)\n"
    )
    code = "from emp.app.wiring.rules import load_rule; assert load_rule('compiled.py:rule').compiled"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=quotes.parent, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_recording_is_traded_by_a_rule_of_ones_own(
    quotes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["replay", str(quotes), "--instrument", "GC", "--model", "linear", "--json"]
    code, mine = said(capsys, *words, "--rule", "mine:patient")
    assert code == 0
    assert mine["actions"] >= 1
    folder = Path(mine["run_folder"])
    assert json.loads((folder / "manifest.json").read_text())["config"]["rule"]["name"] == "patient"
    again = said(capsys, *words, "--rule", "mine.py:patient")[1]
    assert again["run_folder"] == mine["run_folder"]
    assert again["action_log_sha256"] == mine["action_log_sha256"]

    (quotes.parent / "mine.py").write_text(RULE.replace("seen.position == 0", "seen.position < 2"))
    changed = said(capsys, *words, "--rule", "mine.py:patient")[1]
    assert changed["run_folder"] != mine["run_folder"]
    builtin = said(capsys, *words)[1]
    assert builtin["run_folder"] not in {mine["run_folder"], changed["run_folder"]}

    code, _ = said(capsys, "why", str(folder), "--json")
    assert code == 0
    code, line = said(capsys, "explain", str(folder), "2000")
    assert code != 0
    assert "decided by a rule of your own, patient" in line


def test_a_rule_that_fails_leaves_nothing_behind(quotes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", str(quotes), "--instrument", "GC", "--model", "linear", "--rule"]
    code, line = said(capsys, *words, "mine:failing")
    assert code != 0
    assert "rule failing, at event" in line
    assert "no_such_field" in line
    assert "Traceback" not in line
    assert not list((quotes.parent / "runs").glob("replay-*"))
    code, line = said(capsys, *words, "mine:nothing")
    assert "there is no nothing in mine" in line


@pytest.mark.parametrize(
    ("name", "shows"), [("own_rule", "own_rule"), ("own_model", "correlation of forecast")]
)
@pytest.mark.usefixtures("compiled_engine")
def test_the_example_runs_and_draws(tmp_path: Path, name: str, shows: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shows in done.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
