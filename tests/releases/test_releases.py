"""Runs of every earlier release, as they left them: read, shown, replayed, continued; or one line says why not.

Each archive beside this file holds three short runs of a release: over the built-in market, one that ended in order;
live through FIX, killed after it had traded; over a recording of our own making.
"""

import asyncio
import contextlib
import json
import sqlite3
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.app.wiring.live import Running, assemble_live
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.contracts import VenuePosition
from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.journal_tap import journalled_rows
from emp.engine.succession import Models
from emp.journal.reader import LedgerReader
from emp.journal.run import CONTINUED, RunFolder
from emp.observe.board import Board
from tests.kit.killed import Forgetful

HERE = Path(__file__).parent
RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in HERE.glob("*.tar.xz"))
KINDS = ("mock", "live", "replay")
EVERY = [(release, kind) for release in RELEASES for kind in KINDS]

pytestmark = pytest.mark.usefixtures("compiled_engine")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of all releases, unpacked; not to be changed."""
    folder = tmp_path_factory.mktemp("releases")
    for release in RELEASES:
        unpack(release, folder / release)
    return folder


def unpack(release: str, folder: Path) -> None:
    with tarfile.open(HERE / f"{release}.tar.xz") as archive:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not before Python 3.11.4
        archive.extractall(folder, **safely)  # type: ignore[arg-type]


def the_run(folder: Path, kind: str) -> RunFolder:
    (path,) = folder.glob(f"{kind}-*")
    return RunFolder(path)


def emp(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines on stdout, lines on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out.splitlines(), err.splitlines()


def held(run: RunFolder) -> int:
    """The position that a run's ledger tells of."""
    ledger = LedgerReader(run.ledger)
    with contextlib.closing(ledger):
        return sum(fill.side * fill.qty for fill in ledger.fills())


def test_there_are_releases_and_each_has_every_kind_of_run() -> None:
    assert len(RELEASES) >= 5


@pytest.mark.parametrize(("release", "kind"), EVERY)
def test_it_is_read(kept: Path, release: str, kind: str) -> None:
    run = the_run(kept / release, kind)
    rows = journalled_rows(run)
    if kind == "live" and not (run.path / "tail.bin").exists():
        assert not len(rows)  # rows went to the disk once a minute, and it was killed before
        return
    assert len(rows) > 20
    assert (np.diff(rows["seq"]) > 0).all()
    assert (rows["ask"] > rows["bid"]).all()
    assert rows["unit_ticks"].min() > 0.0
    if kind == "mock":
        names = run.summary().get("instruments", {"GC": run.summary()})
        assert names["GC"]["final_position"] == held(run)
    assert kind != "live" or any(rows["action"] != 0)


@pytest.mark.parametrize(("release", "kind"), EVERY)
def test_it_is_shown(
    kept: Path, release: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(kept / release, kind)
    code, out, err = emp(capsys, "report", str(run.path), "--out", str(tmp_path / "page.html"), "--json")
    if not len(journalled_rows(run)):
        assert (code, len(err)) == (3, 1)
        assert "was killed before its first were written" in err[0]
        return
    assert code == 0, err
    assert sum(json.loads(out[-1])["reasons"].values()) == len(journalled_rows(run))
    assert run.manifest["run"] in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("release", "kind"), EVERY)
def test_it_is_replayed_or_one_line_says_why_not(
    kept: Path, release: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = the_run(kept / release, kind)
    code, out, err = emp(capsys, "replay", str(run.path), "--json")
    if code == 0:
        assert json.loads(out[-1])["equal"]
        return
    assert len(err) == 1, err
    assert err[0].startswith(f"emp: {run.path}")
    if kind == "replay":
        assert "replay the recording itself (GOOG_2012" in err[0]
    elif not run.market.exists():
        assert f"release {run.manifest['code']} made this run, without journalling" in err[0]
    else:
        assert run.manifest["code"] in err[0], "it does not say which release wrote the run"
        assert "differs in" in err[0], (
            "it was refused for another reason than that the engine decides otherwise"
        )


class Gold(Forgetful):
    """A venue that holds what a run left there."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position
        self.name = "again"

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument="GC", qty=self.position, avg_px=100_000.0)]


def continued(folder: Path, position: int) -> Running:
    """The live run of the account whose run lies in the folder."""
    access = {
        "connection_protocol": "fix",
        "host": "127.0.0.1",
        "account": "7",
        "sender_comp_id": "EMP",
        "target_comp_id": "EMPVENUE",
    }
    config = SystemConfig(mode="live", run_dir=folder, instruments={"names": ["GC"]}, access=access)
    clock = LiveClock()
    return assemble_live(
        config, [find("GC")], Models(load_model("linear")), Gold(position), Board(clock), clock
    )


async def trade(running: Running) -> None:
    venue = running.live._access
    run = asyncio.create_task(running.live.run())
    connected = asyncio.create_task(running.live.connected.wait())
    await asyncio.wait([run, connected], return_when="FIRST_COMPLETED")
    connected.cancel()
    for _ in range(30):
        venue.tick(2)  # type: ignore[attr-defined]
        await asyncio.sleep(0.002)
    running.live.owner.stop()
    await run


@pytest.mark.parametrize("release", RELEASES)
def test_a_live_run_goes_on(release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unpack(release, tmp_path)
    before = the_run(tmp_path, "live")
    position, rows, kept_models = held(before), journalled_rows(before), before.models.exists()
    assert position != 0 or release == "1-ledger", "it holds nothing: the test shows little"
    running = continued(tmp_path, position)
    said = capsys.readouterr().err
    assert ("takes over from the model that served" in said) == (not kept_models)
    assert running.folder.path == before.path
    asyncio.run(trade(running))
    assert int(running.engine.desk.account["position"][0]) == held(before) == running.live._access.position  # type: ignore[attr-defined]
    ledger = LedgerReader(before.ledger)
    with contextlib.closing(ledger):
        assert ledger.sealed
        (note,) = ledger.notes(CONTINUED)
        assert note.data["code_before"] == before.manifest["code"]
    again = journalled_rows(before)
    assert len(again) > len(rows)
    assert (again[: len(rows)] == rows).all(), "what was logged before has changed"
    code, _, err = emp(capsys, "replay", str(before.path))
    assert code == 0 or (len(err) == 1 and before.manifest["code"] in err[0]), err
    assert emp(capsys, "report", str(before.path), "--out", str(tmp_path / "page.html"))[0] == 0


def test_a_ledger_of_a_later_release_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpack(RELEASES[-1], tmp_path)
    run = the_run(tmp_path, "mock")
    with contextlib.closing(sqlite3.connect(run.ledger)) as db, db:
        db.execute("UPDATE meta SET value='99' WHERE key='schema_version'")
    for command in ("replay", "report"):
        code, _, err = emp(capsys, command, str(run.path))
        assert code != 0
        assert len(err) == 1
        assert "schema version 99" in err[0]
