"""`emp context`: what holds, and what comes next; and that a broken calendar ends a start in one line."""

import json
from pathlib import Path

import pytest

from emp.app.cli import main

CALENDAR = """
events:
  - {name: statement, currencies: [EUR], time: "2026-12-09 14:00", zone: America/New_York, multiplier: 0.3, minutes: 5}
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["context", *arguments])
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def configuration(folder: Path, context: str) -> str:
    path = folder / "emp.yaml"
    path.write_text(f"mode: mock\ninstruments: {{names: [EURUSD]}}\ncontext: {context}\n")
    return str(path)


def test_what_holds_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(
        capsys, "--at", "2024-01-05T13:28:00", "--instrument", "EURUSD", "--days", "7", "--json"
    )
    assert code == 0
    (found,) = json.loads(out.splitlines()[-1])["instruments"]
    assert (found["multiplier"], found["reason"]) == (0.0, "macro: US employment report")
    assert [(one["from"], one["reason"]) for one in found["next"]] == [
        ("2024-01-11T13:28:00Z", "macro: US weekly jobless claims")
    ]
    _, out, _ = said(capsys, "--at", "2024-01-05T08:27:59-05:00", "--instrument", "EURUSD")
    assert out.startswith("EURUSD at 2024-01-05T13:27:59Z: size x 1\n")


def test_a_configurations_calendar_and_values(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "events.yaml").write_text(CALENDAR)
    path = configuration(tmp_path, f"{{calendar: {tmp_path}/events.yaml, volatility: {tmp_path}/none.csv}}")
    code, out, _ = said(capsys, "--config", path, "--at", "2026-12-09T19:00", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert answer["instruments"][0]["multiplier"] == 0.3
    assert "macro: statement; volatility: " in answer["instruments"][0]["reason"]
    assert "none.csv: cannot be read" in answer["failures"][0]


@pytest.mark.parametrize(
    ("text", "line"),
    [("events: [{}]", "events.yaml: events[0].name: expected a name"), (None, "events.yaml: cannot be read")],
)
def test_a_broken_calendar_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None, line: str
) -> None:
    if text is not None:
        (tmp_path / "events.yaml").write_text(text)
    code, _, err = said(capsys, "--config", configuration(tmp_path, f"{{calendar: {tmp_path}/events.yaml}}"))
    assert code != 0
    assert line in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("at", ["soon", "1960-01-01", "9999-01-01"])
def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], at: str) -> None:
    code, _, err = said(capsys, "--at", at)
    assert code != 0
    assert f"--at {at}" in err
