"""`emp sim`, `emp capacity`: one JSON object at the end, one clear line on a mistake."""

import json
from pathlib import Path

import pytest

import emp
from emp.app.cli import main

MESSAGES = "34200.1,1,2,3,1020000,-1\n34200.2,4,1,5,1000000,1\n34200.3,3,1,2,1000000,1\n"
BOOKS = "".join(f"1010000,4,1000000,{left},1020000,3,990000,6\n" for left in (9, 4, 2))


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    assert ended.value.code in (0, None)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    return json.loads(last)  # type: ignore[no-any-return]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    assert ended.value.code not in (0, None)
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "Traceback" not in error
    return error


def test_a_generated_recording_of_an_instrument_is_what_the_library_simulates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = str(tmp_path / "day.parquet")
    run(capsys, "sim", "generate", out, "--events", "2000", "--seed", "4", "--instrument", "GC", "--json")
    wanted = emp.simulate("zi", "GC", events=2000, seed=4, start_px=100_000)
    found = emp.load(out, "GC")
    assert found.events.tobytes() == wanted.events.tobytes()


def test_generate_is_reproducible(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = str(tmp_path / "e.parquet")
    first = run(capsys, "sim", "generate", out, "--events", "2000", "--seed", "4", "--json")
    again = run(capsys, "sim", "generate", out, "--events", "2000", "--seed", "4", "--json")
    other = run(capsys, "sim", "generate", out, "--events", "2000", "--seed", "5", "--json")
    assert first["sha256"] == again["sha256"] != other["sha256"]
    assert Path(out).stat().st_size > 1000


def test_verify_reads_lobster(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = tmp_path / "XYZ_2020-01-02_34200000_57600000_message_2.csv"
    message.write_text(MESSAGES)
    (tmp_path / "XYZ_2020-01-02_34200000_57600000_orderbook_2.csv").write_text(BOOKS)
    result = run(capsys, "sim", "verify", str(message), "--json")
    assert result["rates"] == [1.0, 1.0]
    assert result["misfits"] == 0
    assert result["name"] == "XYZ"


def test_mistakes_end_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no such file" in refused(capsys, "sim", "verify", str(tmp_path / "none.csv"))
    assert "no flow model file" in refused(capsys, "sim", "facts", "--model", "nothing.npz")
    text = tmp_path / "a.csv"
    text.write_text("a,b\n1,2\n")
    assert "an exchange log with order ids" in refused(capsys, "sim", "calibrate", str(text))
    undated = tmp_path / "message.csv"
    undated.write_text(MESSAGES)
    assert "no date" in refused(capsys, "sim", "verify", str(undated))
    assert "XNONE" in refused(capsys, "capacity", "--instrument", "XNONE")


def test_a_flow_is_judged_against_a_generated_recording(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "XYZ_2024-01-02_message_10.csv"
    written = run(capsys, "sim", "generate", str(out), "--events", "6000", "--seed", "4", "--json")
    assert written["file"] == str(out)
    assert (tmp_path / "XYZ_2024-01-02_orderbook_10.csv").is_file()
    found = run(capsys, "sim", "judge", "zi", str(out), "--sequences", "6", "--beside", "goog", "--json")
    assert (found["model"], found["recording"], found["sequences"]) == ("zi", "XYZ", 6)
    beside = found["beside"]
    assert isinstance(beside, list)
    assert [one["model"] for one in beside] == ["goog"]
    assert beside[0]["real"] == found["real"]  # the same sequences
    assert beside[0]["mean_l1"] != found["mean_l1"]
    assert found["fitted"] == {"mean_l1": None, "mean_w1": None}  # neither was fitted to it
    scores = found["scores"]
    assert isinstance(scores, list)
    assert len(scores) == 21
    assert {"name", "l1", "w1", "real"} <= scores[0].keys()
    assert found["mean_l1"] == pytest.approx(sum(one["l1"] for one in scores) / 21, abs=1e-5)
    real = found["real"]
    assert isinstance(real, dict)
    assert real["mean_w1"] == pytest.approx(sum(one["real"]["w1"] for one in scores) / 21, abs=1e-5)

    assert "pairs of sequences" in refused(capsys, "sim", "judge", "zi", str(out), "--sequences", "7")
    (tmp_path / "XYZ_2024-01-02_orderbook_10.csv").unlink()
    assert "books of 10 levels" in refused(capsys, "sim", "judge", "zi", str(out), "--sequences", "6")
    assert "no date" in refused(capsys, "sim", "generate", str(tmp_path / "message.csv"))
    assert "leave out --instrument" in refused(capsys, "sim", "generate", str(out), "--instrument", "GC")
