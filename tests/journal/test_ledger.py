"""The ledger: durable before it returns, once each, in one verified sequence, loud when the disk fails."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, DegradedMode, NewOrder, OrderUpdate, QueryOrder, RiskBreach
from emp.core.errors import CorruptLedgerError, JournalError
from emp.journal.ledger import Ledger, finish_sealing
from emp.journal.reader import LedgerReader
from emp.journal.records import Note, encode
from tests.kit.orders import cancel_order, new_order


def new(n: int, qty: int = 10, side: int = 1) -> NewOrder:
    return new_order(f"RUN-{n}", side, qty, 100 + n, instrument="GOOG", ts=n, seq=n)


def cancel(n: int, orig: int) -> CancelOrder:
    return cancel_order(f"RUN-{n}", f"RUN-{orig}", instrument="GOOG", ts=n)


def report(n: int, exec_id: str, status: OrderStatus, filled: int = 0, price: int = 100) -> OrderUpdate:
    return OrderUpdate(
        clOrdID=f"RUN-{n}", execID=exec_id, status=status, filled=filled, price=price, ts=n, instrument="GOOG"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_an_intent_is_recorded_once_and_a_different_one_under_its_id_is_refused(path: Path) -> None:
    ledger = Ledger(path, run="RUN", mode="paper")
    assert ledger.record_intent(new(1)) == 1
    assert ledger.record_intent(cancel(2, 1)) == 2
    assert ledger.record_intent(new(1)) == 1
    assert ledger.record_intent(QueryOrder(cl_ord_id="RUN-1", instrument="GOOG", ts=5)) == 3
    assert ledger.record_intent(QueryOrder(cl_ord_id="RUN-1", instrument="GOOG", ts=6)) == 4
    with pytest.raises(JournalError, match="intent RUN-1 contradicts event 1"):
        ledger.record_intent(msgspec.structs.replace(new(1), px=7))
    ledger.close()
    again = Ledger(path, run="RUN", mode="paper")
    assert again.record_intent(new(1)) == 1
    assert [e.body for e in again.events()][:2] == [new(1), cancel(2, 1)]
    assert again.quarantined() == [(1, encode(msgspec.structs.replace(new(1), px=7)))]
    again.close()


def test_a_report_is_recorded_once_and_a_contradiction_is_quarantined(path: Path) -> None:
    ledger = Ledger(path)
    ledger.record_intent(new(1))
    first = report(1, "e1", OrderStatus.PARTIALLY_FILLED, 4)
    assert ledger.record_report(first)
    assert not ledger.record_report(first)
    for _ in range(2):
        with pytest.raises(JournalError, match="report RUN-1 e1 contradicts event 2"):
            ledger.record_report(msgspec.structs.replace(first, filled=5))
    assert len(ledger.quarantined()) == 1
    assert ledger.record_report(report(1, "e2", OrderStatus.FILLED, 10))
    assert ledger.last_seq == 3
    ledger.close()


def test_what_is_recorded_is_seen_by_another_connection_before_the_call_returns(path: Path) -> None:
    ledger = Ledger(path)
    reader = LedgerReader(path)
    for n in range(1, 4):
        seq = ledger.record_intent(new(n))
        assert [e.seq for e in reader.events()] == list(range(1, seq + 1))
    with ledger.batch():
        ledger.record_intent(new(4))
        ledger.record_report(report(4, "e", OrderStatus.NEW))
        assert reader.last_seq == 3
    assert [e.seq for e in reader.events(3)] == [4, 5]
    with pytest.raises(JournalError, match="no event 9"):
        list(reader.events(9))
    reader.close()
    ledger.close()


def test_a_batch_that_raises_keeps_what_it_recorded(path: Path) -> None:
    ledger = Ledger(path)
    with ledger.batch():
        ledger.record_intent(new(1))

    def contradict() -> None:
        with ledger.batch():
            ledger.record_report(report(1, "e", OrderStatus.NEW))
            ledger.record_intent(new(1, qty=3))

    with pytest.raises(JournalError, match="contradicts"):
        contradict()
    ledger.close()
    reader = LedgerReader(path)
    assert reader.last_seq == 2
    assert len(reader.quarantined()) == 1
    reader.close()


def test_open_orders_and_fills_follow_from_the_events(path: Path) -> None:
    ledger = Ledger(path)
    for n in (1, 2, 3, 4, 5):
        ledger.record_intent(new(n, side=-1 if n == 2 else 1))
    ledger.record_report(report(1, "a", OrderStatus.PARTIALLY_FILLED, 4, 101))
    ledger.record_report(report(1, "b", OrderStatus.FILLED, 10, 102))
    ledger.record_report(report(2, "a", OrderStatus.PARTIALLY_FILLED, 3, 99))
    ledger.record_intent(cancel(6, 2))
    ledger.record_report(report(6, "a", OrderStatus.REJECTED))  # the cancel was refused: the order lives
    ledger.record_report(report(3, "b", OrderStatus.CANCELED, 0))
    ledger.record_report(report(3, "a", OrderStatus.PARTIALLY_FILLED, 2, 98))  # a fill told after the end
    ledger.record_intent(cancel(7, 4))
    ledger.record_report(report(7, "a", OrderStatus.CANCELED, 1, 97))  # the end, told under the cancel's id
    assert [(o.order.cl_ord_id, o.last.filled if o.last else None) for o in ledger.open_orders()] == [
        ("RUN-2", 3),
        ("RUN-5", None),
    ]
    assert [(f.cl_ord_id, f.side, f.qty, f.px) for f in ledger.fills()] == [
        ("RUN-1", 1, 4, 101),
        ("RUN-1", 1, 6, 102),
        ("RUN-2", -1, 3, 99),
        ("RUN-3", 1, 2, 98),
        ("RUN-4", 1, 1, 97),
    ]
    ledger.close()


def test_notes_keep_breaches_degradation_and_resets_in_the_same_sequence(path: Path) -> None:
    ledger = Ledger(path)
    breach = RiskBreach(reason="daily_loss", metric="pnl", value=-9.0, limit=-5.0, ts=3, instrument="GOOG")
    assert ledger.record_note(breach) == 1
    assert ledger.record_note(DegradedMode(reason="age", queue_depth=9, lag_ms=1.5, ts=4)) == 2
    assert ledger.record_note(Note(kind="reset", ts=5, instrument="GOOG", data={"why": "gap"})) == 3
    assert [n.kind for n in ledger.notes()] == ["risk_breach", "degraded_mode", "reset"]
    assert ledger.notes("risk_breach")[0].data == {
        "reason": "daily_loss",
        "metric": "pnl",
        "value": -9.0,
        "limit": -5.0,
    }
    ledger.close()


def test_only_one_process_writes_and_only_its_own_run(path: Path) -> None:
    ledger = Ledger(path, run="RUN", mode="paper")
    with pytest.raises(JournalError, match="in use by another process"):
        Ledger(path, run="RUN", mode="paper")
    ledger.close()
    with pytest.raises(JournalError, match="belongs to run RUN"):
        Ledger(path, run="OTHER", mode="paper")
    Ledger(path, run="RUN", mode="paper").close()


def test_a_sealed_ledger_is_one_file_and_takes_nothing_more(path: Path) -> None:
    ledger = Ledger(path)
    ledger.record_intent(new(1))
    assert not ledger.sealed
    ledger.seal()
    with pytest.raises(JournalError, match="sealed"):
        ledger.record_intent(new(2))
    ledger.close()
    assert {p.name for p in path.parent.iterdir()} == {"ledger.sqlite", "ledger.sqlite.lock"}
    again = Ledger(path)
    with pytest.raises(JournalError, match="sealed"):
        again.record_report(report(1, "e", OrderStatus.NEW))
    again.close()
    assert LedgerReader(path).sealed


def test_only_a_replay_is_cut(path: Path, tmp_path: Path) -> None:
    ledger = Ledger(path, run="RUN", mode="replay")
    for n in range(5):
        ledger.record_intent(new(n))
    ledger.truncate_to(2)
    assert ledger.record_intent(new(9)) == 3
    assert [e.seq for e in ledger.events()] == [1, 2, 3]
    with pytest.raises(JournalError, match="ends at 3"):
        ledger.truncate_to(4)
    ledger.close()
    live = Ledger(tmp_path / "live.sqlite")
    with pytest.raises(JournalError, match="never cut"):
        live.truncate_to(0)
    live.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE events SET payload=CAST(replace(CAST(payload AS TEXT), '10', '90') AS BLOB) WHERE seq=2",
        "UPDATE events SET payload='text' WHERE seq=2",
        "DELETE FROM events WHERE seq=2",
        "UPDATE events SET crc=crc+1 WHERE seq=3",
    ],
)
def test_a_changed_row_is_found_when_the_ledger_is_opened(path: Path, damage: str) -> None:
    ledger = Ledger(path)
    for n in range(4):
        ledger.record_intent(new(n))
    ledger.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(damage)
    db.close()
    with pytest.raises(JournalError, match=r"is corrupt \(event [23] does not follow"):
        Ledger(path)


def test_a_reading_that_is_left_before_its_end_does_not_complain_after_the_ledger_is_closed(
    path: Path,
) -> None:
    ledger = Ledger(path)
    for n in range(4):
        ledger.record_intent(new(n))
    events, others = ledger.events(), ledger.events()
    next(events)
    next(others)
    ledger.close()
    events.close()
    with pytest.raises(JournalError, match="cannot read ledger") as caught:
        next(others)
    assert not isinstance(caught.value, CorruptLedgerError)


@pytest.mark.parametrize("content", [b"not a database " * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_file_that_is_no_ledger_ends_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for opening in (Ledger, LedgerReader):
        with pytest.raises(JournalError) as caught:
            opening(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_torn_file_ends_in_one_line(path: Path) -> None:
    ledger = Ledger(path)
    for n in range(300):
        ledger.record_intent(new(n))
    ledger.seal()
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JournalError, match="is corrupt"):
        Ledger(path)


def test_a_foreign_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE events (x)")
    db.close()
    with pytest.raises(JournalError, match="is not a ledger"):
        Ledger(path)


def test_a_newer_schema_is_refused(path: Path) -> None:
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value='99' WHERE key='schema_version'")
    db.close()
    with pytest.raises(JournalError, match="schema version 99"):
        Ledger(path)


@pytest.mark.parametrize("place", ["missing/ledger.sqlite", "file/ledger.sqlite"])
def test_a_place_that_cannot_be_written_ends_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot write ledger"):
        Ledger(tmp_path / place)
    with pytest.raises(JournalError, match="no ledger at"):
        LedgerReader(tmp_path / place)


CHILD = """
    import resource, sys
    from emp.core.errors import CorruptLedgerError, JournalError
    from emp.journal.ledger import Ledger, finish_sealing
    from tests.journal.test_ledger import new
    ledger = Ledger(sys.argv[1])
    ledger.record_intent(new(0))
    print(0, flush=True)
"""


def child(code: str, path: Path) -> subprocess.Popen[str]:
    program = textwrap.dedent(CHILD) + textwrap.dedent(code)
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)], cwd=root, stdout=subprocess.PIPE, text=True
    )


def test_a_full_disk_halts_the_ledger_and_loses_nothing_it_acknowledged(path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse to grow any file, as a full disk does."""
    full = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
        n = 0
        try:
            while True:
                n += 1
                ledger.record_intent(new(n))
                print(n, flush=True)
        except JournalError as error:
            print(error)
        for retry in (lambda: ledger.record_intent(new(9999)), ledger.batch().__enter__, ledger.seal):
            try:
                retry()
                print("accepted")
            except JournalError as error:
                print("refused")
    """
    with child(full, path) as process:
        out, _ = process.communicate(timeout=60)
    lines = out.splitlines()
    assert lines[-3:] == ["refused"] * 3
    assert "cannot be written" in lines[-4]
    acknowledged = [int(line) for line in lines[:-4]]
    assert len(acknowledged) > 5
    survivor = Ledger(path)
    found = [e.body.decision_seq for e in survivor.events() if isinstance(e.body, NewOrder)]
    assert found == acknowledged
    survivor.record_intent(new(9999))
    survivor.close()


def test_a_write_that_finds_no_space_is_never_swallowed(path: Path) -> None:
    """The write-ahead log stands on /dev/full: every write to it ends in ENOSPC."""
    Ledger(path).close()
    path.with_name("ledger.sqlite-wal").symlink_to("/dev/full")
    with pytest.raises(JournalError, match=r"cannot (write|be written)"):
        Ledger(path).record_intent(new(1))


class FailingSync:
    """A connection whose commits fail as SQLite reports a failed fsync."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(statement, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


def test_every_commit_is_synced(path: Path) -> None:
    """No test without a power switch can see a missing sync: this pins the setting that makes SQLite do it."""
    ledger = Ledger(path)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


def test_a_failed_sync_is_not_retried(path: Path) -> None:
    ledger = Ledger(path)
    ledger.record_intent(new(1))
    real = ledger._db
    ledger._db = FailingSync(real)  # type: ignore[assignment]
    with pytest.raises(JournalError, match="disk I/O error"):
        ledger.record_intent(new(2))
    ledger._db = real
    for call in (lambda: ledger.record_intent(new(3)), lambda: ledger.record_note(Note(kind="x", ts=0))):
        with pytest.raises(JournalError, match="trading must halt"):
            call()
    ledger.close()
    assert LedgerReader(path).last_seq == 1


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    forever = """
        n = 0
        while True:
            n += 1
            ledger.record_intent(new(n))
            print(n, flush=True)
    """
    for trial in range(4):
        path = tmp_path / f"{trial}.sqlite"
        with child(forever, path) as process:
            assert process.stdout is not None
            acknowledged = [process.stdout.readline() for _ in range(1 + 37 * trial)]
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += process.stdout.readlines()
        last = int(acknowledged[-1])
        survivor = Ledger(path)
        assert survivor.last_seq - 1 in (last, last + 1)
        assert survivor.record_intent(new(last)) == last + 1
        survivor.close()


# --- an end that is lost --------------------------------------------------------------------------------------


def died(folder: Path, acknowledged: int) -> Path:
    """What a process leaves that was killed after so many intents: ledger, write-ahead file, companion."""
    folder.mkdir(exist_ok=True)
    path = folder / "ledger.sqlite"
    ledger = Ledger(path, run="RUN")
    for n in range(acknowledged):
        ledger.record_intent(new(n))
    left = folder / "left"
    left.mkdir()
    for file in folder.glob("ledger.sqlite*"):
        (left / file.name).write_bytes(file.read_bytes())
    ledger.close()
    assert (left / "ledger.sqlite-wal").stat().st_size > 10_000
    return left / "ledger.sqlite"


def refused(path: Path) -> str:
    """What a writer and a reader say of a ledger that has lost its end."""
    said = []
    for opened in (Ledger, LedgerReader):
        with pytest.raises(JournalError) as error:
            opened(path)
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


def test_what_a_killed_process_leaves_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(died(tmp_path, 9))
    assert ledger.last_seq == 9
    ledger.close()


def test_a_lost_write_ahead_file_is_found(tmp_path: Path) -> None:
    """SQLite opens what was there before it, and says nothing: ids would be given out again."""
    path = died(tmp_path, 9)
    path.with_name("ledger.sqlite-wal").unlink()
    assert "has lost 9 acknowledged events: it ends at 0" in refused(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_write_ahead_file_is_found(tmp_path: Path, kept: float) -> None:
    path = died(tmp_path, 9)
    wal = path.with_name("ledger.sqlite-wal")
    wal.write_bytes(wal.read_bytes()[: int(wal.stat().st_size * kept)])
    assert "acknowledged events: it ends at" in refused(path)


def test_a_bit_that_flips_in_the_write_ahead_file_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for k in range(20):
        path = died(tmp_path / str(k), 9)
        wal = path.with_name("ledger.sqlite-wal")
        data = bytearray(wal.read_bytes())
        data[int(rng.integers(32, len(data)))] ^= 1 << int(rng.integers(8))
        wal.write_bytes(data)
        try:
            ledger = Ledger(path)
        except JournalError:
            found += 1
        else:  # in what no transaction needs
            assert ledger.last_seq == 9
            ledger.close()
    assert found >= 15


def test_a_ledger_that_was_copied_alone_is_refused(tmp_path: Path) -> None:
    text = refused(died_checkpointed(tmp_path / "more"))
    assert "lacks its companion ledger.sqlite.mark" in text


def died_checkpointed(folder: Path) -> Path:
    """A ledger whose first rows are in the file itself, copied without what is beside it."""
    folder.mkdir()
    path = folder / "ledger.sqlite"
    ledger = Ledger(path, run="RUN")
    for n in range(5):
        ledger.record_intent(new(n))
    ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for n in range(5, 9):
        ledger.record_intent(new(n))
    alone = folder / "alone"
    alone.mkdir()
    (alone / "ledger.sqlite").write_bytes(path.read_bytes())
    ledger.close()
    return alone / "ledger.sqlite"


def test_an_older_copy_of_the_same_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path, run="RUN")
    first.record_intent(new(0))
    first.close()
    before = path.read_bytes()
    second = Ledger(path, run="RUN")
    second.record_intent(new(1))
    second.close()
    for file in tmp_path.glob("ledger.sqlite-*"):
        file.unlink()
    path.write_bytes(before)
    assert "has lost 1 acknowledged events" in refused(path)


def test_another_ledger_beside_the_companion_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one.sqlite", tmp_path / "other.sqlite"
    for path, qty in ((one, 1), (other, 2)):
        ledger = Ledger(path, run="RUN")
        ledger.record_intent(msgspec.structs.replace(new(0), qty=qty))
        ledger.close()
    other.with_name("other.sqlite.mark").write_bytes(one.with_name("one.sqlite.mark").read_bytes())
    assert "is another than its companion tells of" in refused(other)


def test_a_damaged_companion_is_said(tmp_path: Path) -> None:
    path = died(tmp_path, 3)
    path.with_name("ledger.sqlite.mark").write_bytes(b"7 1 2")
    assert "ledger.sqlite.mark is damaged" in refused(path)


def test_a_ledger_of_an_older_release_gets_its_companion(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    old = Ledger(path, run="RUN")
    old.record_intent(new(0))
    old.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM meta WHERE key='marked'")
    path.with_name("ledger.sqlite.mark").unlink()
    ledger = Ledger(path, run="RUN")
    ledger.record_intent(new(1))
    ledger.close()
    for file in tmp_path.glob("ledger.sqlite?wal"):
        file.unlink()
    reader = LedgerReader(path)
    assert reader.last_seq == 2
    reader.close()


def test_a_companion_that_cannot_be_written_halts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")

    def fails(_: object) -> None:
        raise OSError(5, "Input/output error")

    ledger._mark.write = fails  # type: ignore[union-attr, method-assign]
    with pytest.raises(JournalError, match="cannot be written"):
        ledger.record_intent(new(0))
    with pytest.raises(JournalError, match="cannot be written"):
        ledger.record_intent(new(1))
    ledger.close()


def test_a_seal_whose_log_stayed_is_finished_by_whoever_rests_on_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, run="R")
    ledger.record_note(Note(kind="one", ts=1))
    reader = LedgerReader(path)
    reader._db.execute("BEGIN")
    reader._db.execute(
        "SELECT count(*) FROM events"
    ).fetchone()  # it holds the log, as a crash would leave it
    ledger.seal()
    ledger.close()
    wal, mark = path.with_name("ledger.sqlite-wal"), path.with_name("ledger.sqlite.mark")
    assert wal.exists()
    assert mark.exists()
    reader._db.execute("COMMIT")
    kept = wal.read_bytes()
    reader.close()
    if not wal.exists():  # the last one to close folds it in
        wal.write_bytes(kept)
    finish_sealing(path)
    assert not wal.exists()
    assert not mark.exists()
    again = LedgerReader(path)
    assert again.sealed
    assert [note.kind for note in again.notes()] == ["one"]
    again.close()
    before = path.read_bytes()
    finish_sealing(path)
    assert path.read_bytes() == before, "nothing is left to do"
