"""A ledger that came back from a backup is taken as it is, once, and only where every row of it is whole."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.journal.high_water import mark_path, read_mark
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.restored import accept_restored, main

ROWS = 5


def written(path: Path, *, seal: bool = False) -> Path:
    """A ledger of a few rows."""
    ledger = Ledger(path, run="RUN", mode="live")
    for ts in range(1, ROWS + 1):
        ledger.record_control(Control(action="resume", ts=ts, reason="test"))
    if seal:
        ledger.seal()
    ledger.close()
    return path


def brought_back(source: Path, folder: Path) -> Path:
    """The ledger alone, as a backup keeps it: one file, without what lay beside it."""
    folder.mkdir()
    target = folder / "ledger.sqlite"
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    old.close()
    new.close()
    return target


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    return brought_back(written(tmp_path / "ledger.sqlite"), tmp_path / "b")


def test_a_ledger_without_its_companion_is_refused_until_it_is_accepted(restored: Path) -> None:
    with pytest.raises(JournalError, match="copied alone"):
        Ledger(restored, run="RUN", mode="live")
    assert accept_restored(restored) == ROWS
    ledger = Ledger(restored, run="RUN", mode="live")
    assert ledger.record_control(Control(action="resume", ts=9, reason="goes on")) == ROWS + 1
    ledger.close()


def test_an_end_that_is_lost_later_is_noticed_again(restored: Path) -> None:
    accept_restored(restored)
    with sqlite3.connect(restored) as db:
        db.execute("DELETE FROM events WHERE seq=?", (ROWS,))
    db.close()
    with pytest.raises(JournalError, match="has lost 1 acknowledged"):
        LedgerReader(restored)


def test_the_ledger_of_this_machine_is_not_touched(tmp_path: Path) -> None:
    path = written(tmp_path / "ledger.sqlite")
    before = read_mark(path)
    with pytest.raises(JournalError, match="was not restored"):
        accept_restored(path)
    assert read_mark(path) == before


def test_a_companion_on_a_disk_that_is_not_mounted_is_not_replaced(restored: Path, tmp_path: Path) -> None:
    companion = mark_path(restored)
    companion.symlink_to(tmp_path / "unmounted" / "mark")
    with pytest.raises(JournalError, match="which is not there: mount it"):
        accept_restored(restored)
    assert companion.is_symlink()


def test_a_row_that_was_changed_on_the_way_is_found_and_nothing_is_accepted(restored: Path) -> None:
    with sqlite3.connect(restored) as db:
        db.execute("UPDATE events SET payload=replace(payload, 'test', 'tost') WHERE seq=2")
    db.close()
    with pytest.raises(JournalError, match="event 2"):
        accept_restored(restored)
    assert not mark_path(restored).exists()


def test_a_run_that_ended_in_order_needs_no_companion(tmp_path: Path) -> None:
    restored = brought_back(written(tmp_path / "ledger.sqlite", seal=True), tmp_path / "b")
    assert accept_restored(restored) == ROWS + 0
    assert not mark_path(restored).exists()


def test_what_is_no_ledger_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.sqlite"
    other.write_text("no database")
    assert main([str(other)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not mark_path(other).exists()
    assert main([]) == 2


def test_the_program_names_where_a_ledger_ends(
    tmp_path: Path, restored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(restored, tmp_path / "second.sqlite")
    assert main([str(restored), str(tmp_path / "second.sqlite")]) == 0
    assert capsys.readouterr().err.count(f"ends at event {ROWS}") == 2
