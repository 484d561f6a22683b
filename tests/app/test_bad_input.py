"""What a new user gets wrong ends in one clear line, a non-zero exit, and nothing half-written."""

import errno
import gzip
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.core.errors import JournalError
from emp.journal.run import RunFolder

pytestmark = pytest.mark.usefixtures("compiled_engine")

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def emp(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder; return its exit code and what it said on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def one_line(outcome: tuple[int, str], *words: str) -> None:
    code, said = outcome
    assert code != 0
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    assert lines[0].startswith("emp: ")
    assert "Traceback" not in said
    for word in words:
        assert word.lower() in said.lower(), said


def lobster(folder: Path, n: int = 400, seed: int = 1) -> tuple[Path, Path]:
    """A small LOBSTER pair of our own making, two levels deep."""
    rng = np.random.default_rng(seed)
    messages, books = [], []
    bid = 1000_00_00
    for k in range(n):
        bid += int(rng.integers(-1, 2)) * 100
        ask = bid + 300
        sizes = rng.integers(1, 500, 4)
        messages.append(f"{34200.5 + k * 0.01:.9f},1,{k + 1},{sizes[0]},{bid},1")
        books.append(f"{ask},{sizes[1]},{bid},{sizes[0]},{ask + 100},{sizes[2]},{bid - 100},{sizes[3]}")
    message = folder / "GOOG_2012-06-21_34200000_57600000_message_2.csv"
    book = folder / "GOOG_2012-06-21_34200000_57600000_orderbook_2.csv"
    message.write_text("\n".join(messages) + "\n")
    book.write_text("\n".join(books) + "\n")
    return message, book


def test_a_good_pair_is_read(emp: Run, tmp_path: Path) -> None:
    message, _ = lobster(tmp_path)
    main_code = 0
    try:
        main(["replay", str(message), "--instrument", "GOOG"])
    except SystemExit as ended:
        main_code = int(ended.code or 0)
    assert main_code == 0
    assert list(tmp_path.glob("runs/replay-GOOG-*/summary.json"))


def test_empty_file(emp: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    one_line(emp("replay", "a.csv", "--instrument", "GOOG"), "a.csv", "empty")
    assert not (tmp_path / "runs").exists()


def test_missing_file(emp: Run) -> None:
    one_line(emp("replay", "nowhere.csv", "--instrument", "GOOG"), "nowhere.csv")


def test_half_a_gzip(emp: Run, tmp_path: Path) -> None:
    message, book = lobster(tmp_path)
    packed = gzip.compress(message.read_bytes())
    message.with_suffix(".csv.gz").write_bytes(packed[: len(packed) // 2])
    message.unlink()
    one_line(emp("replay", message.with_suffix(".csv.gz"), "--instrument", "GOOG"), "message")
    assert book.exists()


def test_swapped_message_and_orderbook(emp: Run, tmp_path: Path) -> None:
    message, book = lobster(tmp_path)
    spare = tmp_path / "spare"
    message.rename(spare)
    book.rename(message)
    spare.rename(book)
    one_line(emp("replay", message, "--instrument", "GOOG"), "swapped")


def test_a_text_file(emp: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy low\nsell high\n" * 50)
    one_line(emp("replay", "notes.txt", "--instrument", "GOOG"), "notes.txt")


def test_a_negative_size_is_quarantined_and_a_level_without_one_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.chdir(tmp_path)
    message, book = lobster(tmp_path)
    rows = book.read_text().splitlines()
    rows[50] = rows[50].replace(rows[50].split(",")[1], "nan", 1)
    parts = rows[60].split(",")
    parts[3] = "-5"
    rows[60] = ",".join(parts)
    book.write_text("\n".join(rows) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["replay", str(message), "--instrument", "GOOG", "--json"])
    assert ended.value.code == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["rows"] == 400
    assert summary["quarantined"] == {"absurd_size": 1}
    assert summary["rows"] == summary["events"] + summary["merged"] + sum(summary["quarantined"].values())


def test_shuffled_rows(emp: Run, tmp_path: Path) -> None:
    message, book = lobster(tmp_path)
    order = np.random.default_rng(0).permutation(400)
    for path in (message, book):
        rows = path.read_text().splitlines()
        path.write_text("\n".join(rows[i] for i in order) + "\n")
    one_line(emp("replay", message, "--instrument", "GOOG"), "not in order of time")
    assert not list(tmp_path.glob("runs/*")), "nothing half-written"


def test_an_unknown_instrument_says_how_to_add_it(emp: Run, tmp_path: Path) -> None:
    message, _ = lobster(tmp_path)
    one_line(emp("replay", message, "--instrument", "GOGL"), "GOGL", "yaml")


def test_a_config_with_a_typo_names_the_path(emp: Run, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("mode: mock\ninstruments: {names: [GOOG]}\nrisk: {max_positon_lots: 3}\n")
    one_line(emp("run", "--config", config), "bad.yaml", "max_positon_lots")


def test_a_port_in_use(emp: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "c.yaml"
        config.write_text(f"mode: mock\ninstruments: {{names: [EURUSD]}}\nhttp: {{port: {port}}}\n")
        one_line(emp("run", "--config", config, "--seconds", 2), str(port))


@pytest.fixture
def ordinary_user(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give up root's rights for a while: root may write everywhere."""
    ours = [path for path in tmp_path.parents if path.is_relative_to(tmp_path_factory.getbasetemp().parent)]
    for folder in (tmp_path, *ours):
        folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read only", "not to be entered"])
def test_a_directory_that_may_not_be_written(
    tmp_path: Path, request: pytest.FixtureRequest, mode: int
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(mode)
    request.getfixturevalue("ordinary_user")
    with pytest.raises(JournalError, match=r"cannot create run folder .*locked.*: Permission denied"):
        RunFolder.create(locked / "run", {"run": "x"})


NAMING = [
    ("replay", "{}", "--instrument", "GOOG"),
    ("replay", "{}"),
    ("runs", "--runs", "{}"),
    ("status", "--runs", "{}"),
    ("why", "{}"),
    ("report", "{}"),
    ("stop", "{}"),
    ("init", "{}"),
    ("gates", "check", "{}"),
    ("reconcile", "{}", "{}"),
]


@pytest.mark.parametrize("command", NAMING, ids=" ".join)
def test_what_may_not_be_entered_is_one_line(
    emp: Run, tmp_path: Path, command: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """Another user's folder, or a name that is too long: `Path.exists` raises there before Python 3.14."""
    long = tmp_path / ("x" * 300)
    one_line(
        emp(*(word.format(long) for word in command))
    )  # which imports the command while that can be read
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    request.getfixturevalue("ordinary_user")
    one_line(emp(*(word.format(locked / "inside") for word in command)), "inside")


def test_runs_are_not_looked_for_in_a_file_or_on_a_machine_that_is_gone(
    emp: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    one_line(emp("runs", "--runs", tmp_path / "file"), "file: not a directory")

    def gone(runs: Path) -> list[Path]:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(runs))

    monkeypatch.setattr("emp.app.wiring.run_list.run_folders", gone)
    one_line(emp("runs", "--runs", tmp_path / "net"), "net: stale file handle")


def test_runs_below_a_file_cannot_be_made(emp: Run, tmp_path: Path) -> None:
    message, _ = lobster(tmp_path)
    (tmp_path / "file").touch()
    one_line(emp("replay", message, "--instrument", "GOOG", "--runs", tmp_path / "file" / "runs"), "file")


def test_a_damaged_model_is_refused(emp: Run, tmp_path: Path) -> None:
    message, _ = lobster(tmp_path)
    one_line(emp("replay", message, "--instrument", "GOOG", "--model", tmp_path), "artifact")


def test_a_report_of_nothing(emp: Run, tmp_path: Path) -> None:
    one_line(emp("report", tmp_path), "not a run folder")
    (tmp_path / "runs" / "mock-AB12").mkdir(parents=True)
    (tmp_path / "runs" / "mock-AB12" / "manifest.json").write_text("{")
    one_line(emp("report", ""), "name a run")
    one_line(emp("report", "CD34"), "no run CD34 in runs")
    (tmp_path / "AB12").mkdir()
    one_line(emp("report", "AB12"), "runs/mock-AB12")


def test_a_wrong_option(emp: Run) -> None:
    one_line(emp("replay", "x.csv"), "--instrument")
