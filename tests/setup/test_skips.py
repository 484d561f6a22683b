"""What is skipped is said in one line, which the gate looks for."""

from pathlib import Path

from tests.kit.skipped import skipped_line

ROOT = Path(__file__).resolve().parents[2]


def test_each_reason_stands_once_with_its_count() -> None:
    assert skipped_line([]) == ""
    assert skipped_line(["Skipped: no data", "Skipped: no browser", "Skipped: no data"]) == (
        "skipped: 2 (no data); 1 (no browser)"
    )


def test_the_gate_refuses_what_that_line_says() -> None:
    assert "grep -q '^skipped: '" in (ROOT / ".ci/run").read_text()
