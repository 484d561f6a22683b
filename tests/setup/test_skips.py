"""What is skipped is said in one line, which the gate looks for."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kit.skipped import skipped_line

ROOT = Path(__file__).resolve().parents[2]


def test_each_reason_stands_once_with_its_count() -> None:
    assert skipped_line([]) == ""
    assert skipped_line(["Skipped: no data", "Skipped: no browser", "Skipped: no data"]) == (
        "skipped: 2 (no data); 1 (no browser)"
    )


def test_long_drills_are_left_out_where_that_is_asked_and_nowhere_else() -> None:
    for given, left_out in (({"LONG": "0"}, True), ({"LONG": "1"}, False), ({}, False)):
        told = {name: value for name, value in os.environ.items() if name != "LONG"} | given
        drill = "tests/setup/test_setup.py::test_a_set_up_killed_at_any_moment_is_made_again"
        asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--setup-plan", drill]
        said = subprocess.run(asked, cwd=ROOT, env=told, capture_output=True, text=True, check=True).stdout
        assert ("skipped: 1 (long drills: make test LONG=1 runs them)" in said) == left_out, said


def test_make_leaves_them_out_and_the_gate_does_not() -> None:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "LONG"))
    }
    for words, value in (([], "0"), (["LONG=1"], "1")):
        shown = subprocess.run(
            ["make", "-n", "test", *words], cwd=ROOT, env=outside, capture_output=True, text=True, check=True
        )
        assert f"LONG={value} " in shown.stdout
    assert "make test LONG=1 " in (ROOT / ".ci/run").read_text()


def test_the_gate_refuses_what_that_line_says() -> None:
    assert "grep -q '^skipped: '" in (ROOT / ".ci/run").read_text()
