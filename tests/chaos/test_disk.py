"""What a disk keeps when its power fails: no less than was synced, and a beginning of what was not."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from emp.core.contracts import Control
from emp.core.disk import write_new, writes_to
from emp.core.errors import JournalError
from emp.journal.files import write_atomically
from emp.journal.ledger import Ledger
from emp.sim.chaos.disk import SECTOR, SimDisk
from emp.sim.chaos.loop import Died, Process, VirtualLoop
from emp.sim.chaos.vfs import SqliteFiles


class Box(NamedTuple):
    disk: SimDisk
    loop: VirtualLoop
    home: Path
    sqlite: SqliteFiles

    def power_fails(self) -> list[str]:
        self.disk.process_died(self.loop.process)
        return self.disk.power_lost()


def made(tmp_path: Path, seed: int) -> Box:
    (tmp_path / "box").mkdir()
    (tmp_path / "graves").mkdir()
    loop = VirtualLoop()
    loop.process = Process("engine")
    draw = np.random.default_rng(seed)
    disk = SimDisk(tmp_path / "box", tmp_path / "graves", loop, draw)
    return Box(disk, loop, tmp_path / "box", SqliteFiles(disk, loop, draw))


@pytest.fixture(params=range(6))
def box(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    found = made(tmp_path, request.param)
    found.sqlite.register()
    with writes_to(found.disk):
        yield found
    found.sqlite.unregister()
    found.disk.close_all()


def appended(box: Box, path: Path, parts: list[bytes], sync_after: int) -> None:
    file = box.disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for k, part in enumerate(parts):
        box.disk.write(file, part)
        if k + 1 == sync_after:
            box.disk.sync(file)


def test_what_was_synced_stays_and_a_beginning_of_the_rest(box: Box) -> None:
    path = box.home / "tail"
    parts = [bytes([65 + k]) * 700 for k in range(6)]
    appended(box, path, parts, 3)
    box.disk.sync_folder(box.home)
    box.power_fails()
    whole, left = b"".join(parts), path.read_bytes()
    assert left == whole[: len(left)], "no hole, and nothing in another order"
    assert len(left) >= 2_100
    assert len(left) % 700 == 0 or len(left) % SECTOR == 0, "a torn write is torn at a sector"


def test_power_takes_everything_sometimes_and_nothing_sometimes(tmp_path: Path) -> None:
    lengths = set()
    for seed in range(40):
        (tmp_path / str(seed)).mkdir()
        box = made(tmp_path / str(seed), seed)
        appended(box, box.home / "tail", [b"x" * 1_500] * 3, 1)
        box.disk.sync_folder(box.home)
        box.power_fails()
        lengths.add((box.home / "tail").stat().st_size)
        box.disk.close_all()
    assert min(lengths) == 1_500
    assert max(lengths) == 4_500
    assert any(length % 1_500 for length in lengths), "torn"


def test_a_name_is_lost_without_a_sync_of_its_folder(tmp_path: Path) -> None:
    found = set()
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        box = made(tmp_path / str(seed), seed)
        with writes_to(box.disk):
            write_new(box.home / "a", b"old")
            box.disk.sync_folder(box.home)
            write_new(box.home / "b", b"new")
            box.disk.replace(box.home / "b", box.home / "a")
        box.power_fails()
        found.add((box.home / "a").read_bytes())
        box.disk.close_all()
    assert found == {b"old", b"new"}


def test_an_atomic_write_is_durable_when_it_returns(box: Box) -> None:
    for data in (b"first", b"second", b"third"):
        write_atomically(box.home / "state", data)
    box.power_fails()
    assert (box.home / "state").read_bytes() == b"third"


def test_what_was_removed_comes_back_unless_the_folder_was_synced(box: Box) -> None:
    write_atomically(box.home / "a", b"data")
    box.disk.unlink(box.home / "a")
    box.disk.sync_folder(box.home)
    box.power_fails()
    assert not (box.home / "a").exists()


def test_full_failing_and_dead(box: Box) -> None:
    file = box.disk.open(box.home / "a", os.O_WRONLY | os.O_CREAT)
    box.disk.free = 10
    with pytest.raises(OSError, match="No space left"):
        box.disk.write(file, b"x" * 11)
    box.disk.failing_syncs = 1
    with pytest.raises(OSError, match="Input/output"):
        box.disk.sync(file)
    box.disk.sync(file)
    box.disk.crash_in = 1
    killed: list[Process] = []
    box.disk.on_crash = lambda process: (killed.append(process), box.loop.kill(process))[0]
    box.disk.write(file, b"x")
    with pytest.raises(Died):
        box.disk.write(file, b"y")
    assert killed == [box.loop.process]
    with pytest.raises(Died):
        box.disk.open(box.home / "b", os.O_WRONLY | os.O_CREAT)
    assert not (box.home / "b").exists()


def halted(ts: int) -> Control:
    return Control(action="halt", ts=ts)


def test_an_acknowledged_row_of_the_ledger_survives_power(box: Box) -> None:
    ledger = Ledger(box.home / "ledger.sqlite", run="A", mode="live")
    for k in range(12):
        ledger.record_control(halted(k))
    process = box.loop.process
    box.loop.kill(process)
    ledger._db.close()
    assert box.sqlite.left == []
    box.disk.process_died(process)
    (box.home / "ledger.sqlite-shm").unlink(missing_ok=True)
    box.disk.power_lost()
    box.loop.process = Process("again")
    again = Ledger(box.home / "ledger.sqlite", run="A", mode="live")
    assert again.last_seq == 12
    again.close()


def test_without_syncs_it_would_not(tmp_path: Path) -> None:
    """The model must be able to lose what was not synced, or the test above says nothing."""
    kept = set()
    for seed in range(12):
        (tmp_path / str(seed)).mkdir()
        box = made(tmp_path / str(seed), seed)
        box.sqlite.register()
        with writes_to(box.disk):
            path = box.home / "some.sqlite"
            db = sqlite3.connect(path, isolation_level=None)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE t (x)")
            db.execute("PRAGMA synchronous=OFF")
            for k in range(8):
                db.execute("INSERT INTO t VALUES (?)", (k,))
            process = box.loop.process
            box.loop.kill(process)
            db.close()
            box.disk.power_lost()
            (box.home / "some.sqlite-shm").unlink(missing_ok=True)
            box.loop.process = Process("reader")
            db = sqlite3.connect(path, isolation_level=None)
            try:
                kept.add(db.execute("SELECT count(*) FROM t").fetchone()[0])
            except sqlite3.Error:
                kept.add(-1)
            db.close()
        box.sqlite.unregister()
        box.disk.close_all()
    assert len(kept) > 2, kept
    assert min(kept) < 8


@pytest.mark.parametrize("fault", ["full", "sync"])
def test_a_ledger_that_cannot_be_written_is_dead(box: Box, fault: str) -> None:
    ledger = Ledger(box.home / "ledger.sqlite", run="A", mode="live")
    ledger.record_control(halted(1))
    if fault == "full":
        box.disk.free = 100
    else:
        box.disk.failing_syncs = 1
    for _ in range(2):
        with pytest.raises(JournalError, match="cannot be written"):
            ledger.record_control(halted(2))
    ledger.close()


def test_a_file_that_sqlite_opened_keeps_its_own_name(box: Box) -> None:
    """SQLite keeps the pointer to a file's name, and makes the names of its companions from it."""
    ledger = Ledger(box.home / "ledger.sqlite", run="A", mode="live")
    ledger.record_control(halted(1))
    assert (box.home / "ledger.sqlite-shm").exists()
    assert not Path("-shm").exists()
    ledger.close()
