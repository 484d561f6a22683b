"""`emp.backtest` and `emp replay` of several instruments: what they give, and what they refuse in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import emp
from emp.access.recordings.journalled import journalled_parts
from emp.app.cli import main
from emp.app.report.data import read_run
from emp.core.codes import Reason
from emp.core.errors import EmpError
from emp.core.records import UNHASHED, fieldwise_bytes
from emp.engine.choose import load_model
from tests.kit.commands import said
from tests.kit.planners import random_planner


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GOOG.parquet and TSLA.parquet, of the same hours."""
    made = tmp_path_factory.mktemp("recorded")
    for name, flow, seed in (("GOOG", "goog", 2), ("TSLA", "tsla", 3)):
        emp.simulate(flow, name, events=2_000, seed=seed).save(made / f"{name}.parquet")
    return made


def named(folder: Path, *names: str) -> list[str]:
    return [f"{name}={folder / name}.parquet" for name in names]


def test_a_replay_of_two_is_one_run_with_a_section_for_each(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--model", "linear", "--runs", str(tmp_path), "--json")
    code, told = said(capsys, "replay", *named(folder, "GOOG", "TSLA"), *runs)
    assert code == 0
    code, again = said(capsys, "replay", *named(folder, "GOOG", "TSLA"), *runs)
    assert again["run_folder"] == told["run_folder"]
    assert again["action_log_sha256"] == told["action_log_sha256"]
    for name in ("GOOG", "TSLA"):
        code, alone = said(capsys, "replay", *named(folder, name), *runs)
        own = told["instruments"][name]
        assert own == {key: alone[key] for key in own}
    assert told["account"]["pnl_money"] == {
        "USD": pytest.approx(sum(0.01 * one["pnl_ticks"] for one in told["instruments"].values()))
    }
    with pytest.raises(SystemExit) as ended:
        main(["report", told["run_folder"], "--out", str(tmp_path / "page.html")])
    assert not ended.value.code
    page = (tmp_path / "page.html").read_text()
    assert "id='GOOG'" in page
    assert "id='TSLA'" in page
    assert "together" in page
    capsys.readouterr()
    seq = str(read_run(Path(told["run_folder"]))[1].rows["seq"][-1])
    with pytest.raises(SystemExit) as ended:
        main(["explain", told["run_folder"], seq, "--instrument", "TSLA"])
    assert not ended.value.code, capsys.readouterr().err


def test_whose_file_is_whose_is_part_of_what_a_run_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of files that name no instrument, and are called alike."""
    files = []
    for name, first in (("a", 100), ("b", 200)):
        files.append(tmp_path / name / "day.csv")
        files[-1].parent.mkdir()
        lines = [f"{1_700_060_000 + k},{first + k % 3}.00,{first + k % 3}.05,100,200" for k in range(200)]
        files[-1].write_text("\n".join(["timestamp,bid_price,ask_price,bid_size,ask_size", *lines]))
    runs = ("--model", "linear", "--runs", str(tmp_path / "runs"), "--json")
    found = []
    for first, second in (files, files[::-1]):
        code, told = said(capsys, "replay", f"GOOG={first}", f"TSLA={second}", *runs)
        assert code == 0, told
        found.append(told["run_folder"])
    assert found[0] != found[1]


def test_several_files_of_one_are_named_so_as_often(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    market = emp.load(folder / "GOOG.parquet", "GOOG")
    for name, part in (("morning", market[:900]), ("noon", market[900:])):
        part.save(tmp_path / f"{name}.parquet")
    files = [tmp_path / "noon.parquet", tmp_path / "morning.parquet"]
    words = [f"GOOG={files[0]}", f"TSLA={folder / 'TSLA.parquet'}", f"GOOG={files[1]}"]
    found = emp.backtest({"GOOG": files[::-1], "TSLA": folder / "TSLA.parquet"}, model="linear")
    code, told = said(capsys, "replay", *words, "--model", "linear", "--runs", str(tmp_path), "--json")
    assert code == 0, told
    assert told["instruments"]["GOOG"]["events"] > 1_900  # both parts, though the later one was named first
    assert found.summary["instruments"] == told["instruments"]
    for one, other in zip(read_run(Path(told["run_folder"])), (found["GOOG"], found["TSLA"]), strict=True):
        assert fieldwise_bytes(one.rows, UNHASHED) == fieldwise_bytes(other.rows, UNHASHED)


@pytest.fixture
def days(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """GOOG's recording in two files, the earlier one first in time and last by name."""
    market = emp.load(folder / "GOOG.parquet", "GOOG")
    files = tmp_path / "z.parquet", tmp_path / "a.parquet"
    market[:900].save(files[0])
    market[900:].save(files[1])
    return files


def without_stamps(path: Path, rows: int) -> None:
    """Take the venue's time from the first rows of a journal's part."""
    table = pq.ParquetFile(path).read()
    at = table.schema.get_field_index("ts")
    ts = table["ts"].cast("int64").to_numpy().copy()
    ts[:rows] = 0
    field = table.schema.field(at)
    pq.write_table(table.set_column(at, field, pa.array(ts).cast(field.type)), path)


@pytest.mark.parametrize("rows", [1, 1_100])
def test_rows_that_no_venue_stamped_move_no_file_to_another_place(days: tuple[Path, Path], rows: int) -> None:
    without_stamps(days[1], rows)
    assert journalled_parts(days) == [*days]
    if rows > 1:  # nothing says when any of it was
        assert journalled_parts(days[::-1]) == [*days[::-1]]


def test_a_file_that_is_named_twice_or_missing_is_refused(days: tuple[Path, Path]) -> None:
    again = days[0].parent / "." / ".." / days[0].parent.name / days[0].name
    with pytest.raises(EmpError, match=r"z.parquet: is named twice"):
        emp.backtest([*days, again], "GOOG", model="linear")
    with pytest.raises(EmpError, match=r"gone.parquet: no such file"):
        emp.backtest([*days, days[0].with_name("gone.parquet")], "GOOG", model="linear")
    quotes = days[0].with_name("day.csv")
    lines = [f"{1_700_060_000 + k},{100 + k % 3}.00,{100 + k % 3}.05,100,200" for k in range(200)]
    quotes.write_text("\n".join(["timestamp,bid_price,ask_price,bid_size,ask_size", *lines]))
    with pytest.raises(EmpError, match=r"day.csv: is named twice"):
        emp.load([quotes, quotes], "GOOG")


def test_the_order_in_which_files_are_named_names_no_other_run(
    folder: Path, days: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for first, second in (days, days[::-1]):
        words = [f"GOOG={first}", f"TSLA={folder / 'TSLA.parquet'}", f"GOOG={second}"]
        code, told = said(capsys, "replay", *words, "--model", "linear", "--runs", str(tmp_path), "--json")
        assert code == 0, told
        found.append(told["run_folder"])
    assert found[0] == found[1]


@pytest.mark.parametrize("by", ["planner", "context"])
def test_a_planner_and_the_slow_context_are_for_each_what_they_are_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    random_planner(tmp_path / "planner", load_model("linear").artifact.hash)
    (tmp_path / "events.yaml").write_text(
        "events: [{name: release, currencies: [USD], time: 2023-11-15T15:01:00+00:00, minutes: 0.5}]\n"
    )
    (tmp_path / "emp.yaml").write_text(
        f"mode: mock\ninstruments: {{names: [GOOG]}}\ncontext: {{calendar: {tmp_path}/events.yaml}}\n"
    )
    option = ("--planner", "planner") if by == "planner" else ("--config", "emp.yaml")
    words = (option[0], str(tmp_path / option[1]), "--model", "linear", "--runs", str(tmp_path), "--json")
    code, told = said(capsys, "replay", *named(folder, "GOOG", "TSLA"), *words)
    assert code == 0, told
    for one, name in zip(read_run(Path(told["run_folder"])), ("GOOG", "TSLA"), strict=True):
        code, alone = said(capsys, "replay", *named(folder, name), *words)
        own = told["instruments"][name]
        assert own == {key: alone[key] for key in own}
        (rows,) = (run.rows.copy() for run in read_run(Path(alone["run_folder"])))
        rows["instrument"] = one.rows["instrument"]
        assert fieldwise_bytes(one.rows, UNHASHED) == fieldwise_bytes(rows, UNHASHED)
        if by == "planner":
            assert (rows["reason_code"] == Reason.PLANNED).any()
        else:
            assert set(rows["context_mult"].tolist()) == {0.0, 1.0}


def test_the_library_gives_what_the_command_gives(folder: Path) -> None:
    market = emp.load(folder / "GOOG.parquet", "GOOG")
    found = emp.backtest({"GOOG": market, "TSLA": folder / "TSLA.parquet"}, model="linear")
    alone = emp.backtest(market, model="linear")
    rows = found["GOOG"].rows
    assert fieldwise_bytes(rows, UNHASHED) == fieldwise_bytes(alone.rows, UNHASHED)
    frame = found.frame()
    assert len(frame) == len(rows) + len(found["TSLA"].rows)
    assert set(frame["instrument"].to_pylist()) == {"GOOG", "TSLA"}
    assert (np.diff(frame["ts"].cast("int64").to_numpy()) >= 0).all()
    assert set(found["TSLA"].frame()["instrument"].to_pylist()) == {"TSLA"}
    assert found.fills().column_names[0] == "instrument"
    assert found.summary["instruments"]["GOOG"] == found["GOOG"].summary
    assert {key: alone.summary[key] for key in found["GOOG"].summary} == found["GOOG"].summary
    titles = [axis.get_title() for axis in found.plot().axes]
    assert any(title.startswith("GOOG:") for title in titles)
    assert any(title.startswith("TSLA:") for title in titles)
    one = emp.backtest({"GOOG": market}, model="linear")["GOOG"]
    assert fieldwise_bytes(one.rows, UNHASHED) == fieldwise_bytes(alone.rows, UNHASHED)


def test_a_rule_and_a_model_of_ones_own_see_which_instrument_it_is(folder: Path) -> None:
    seen_at: dict[int, int] = {}

    def rule(seen: Any, request: Any) -> None:
        seen_at[int(seen.instrument)] = seen_at.get(int(seen.instrument), 0) + 1
        if seen.order_state == 0 and seen.position == 0:
            emp.cross(request, 1, 1)

    def model(x: Any, forecast: Any) -> None:
        emp.believe(forecast, 0, 0.1)

    found = emp.backtest(
        {"GOOG": folder / "GOOG.parquet", "TSLA": folder / "TSLA.parquet"}, rule=rule, model=emp.Model(model)
    )
    assert set(seen_at) == {0, 1}
    assert all(found[name].summary["fills"] for name in ("GOOG", "TSLA"))
    assert set(found["GOOG"].summary["spans"]) >= {"not known"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("GOOG=GOOG.parquet", "TSLA.parquet"),
            "TSLA.parquet: of several instruments each recording is named",
        ),
        (("GOOG=GOOG.parquet", "TSLA="), "TSLA=: of several instruments each recording is named"),
        (("GOOG=GOOG.parquet", "NOSUCH=TSLA.parquet"), "NOSUCH"),
        (("GOOG=GOOG.parquet", "TSLA=none.parquet"), "none.parquet"),
        (("GOOG=GOOG.parquet", "TSLA=text.csv"), "text.csv"),
        (("GOOG=GOOG.parquet", "TSLA=TSLA.parquet", "--swaps", "SWAPS"), "--swaps"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    line: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "text.csv").write_text("this is no recording\n")
    if "SWAPS" in words:
        words = (*words[:-1], str(tmp_path), "--model", "linear")
    code, told = said(capsys, "replay", *words, "--runs", str(tmp_path / "runs"))
    assert code != 0
    assert line in told
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists()


def test_the_library_refuses_in_one_line(folder: Path) -> None:
    market, yen = emp.load(folder / "GOOG.parquet", "GOOG"), emp.simulate("goog", "GBPJPY", events=50)
    refused: list[tuple[dict[Any, Any], str]] = [
        ({}, "each recording is named"),
        ({"TSLA": market}, "of GOOG, not of TSLA"),
        ({"GOOG": emp.Flow("goog")}, "a Flow is traded alone"),
        ({3: market}, "which instrument"),
        ({"GOOG": market, "GBPJPY": yen}, "nothing says what JPY are worth in USD"),
    ]
    for given, line in refused:
        limits = {"account": {"currency": "USD", "max_gross": 1e6}} if "GBPJPY" in given else None
        with pytest.raises(EmpError, match=line):
            emp.backtest(given, model="linear", limits=limits)
    found = emp.backtest({"GOOG": market, "TSLA": folder / "TSLA.parquet"}, model="linear")
    with pytest.raises(EmpError, match="AAPL was not traded here; there are GOOG, TSLA"):
        found["AAPL"]
