"""The ledger: every intent before it is sent, every report before it is applied, durably, in one sequence.

One SQLite file per run (write-ahead log, `synchronous=FULL`: a commit returns after the disk has it). Each
row carries a CRC chained over all rows before it, so that a changed, missing or reordered row is found,
which SQLite alone would not notice; how far it was acknowledged stands in a file beside it (`high_water`).
A failed write or sync is never retried: the kernel may have marked the lost pages clean, so the ledger
refuses everything after it and the engine must halt.
"""

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emp.core.contracts import Command, Control, OrderUpdate, QueryOrder, RiskBreach
from emp.core.disk import disk
from emp.core.errors import CorruptLedgerError, JournalError
from emp.core.platform import exists, lock
from emp.journal.files import remove
from emp.journal.high_water import HighWater, Mark, mark_path
from emp.journal.reader import (
    CHECKPOINT,
    DAMAGED,
    MARKED,
    NOTES,
    SCHEMA_VERSION,
    LedgerReader,
    chained_crc,
)
from emp.journal.records import Body, Kind, LedgerEvent, Note, encode

_NOTES = f"CREATE INDEX IF NOT EXISTS events_notes ON events (seq) WHERE {NOTES}"
_ONCE = "CREATE UNIQUE INDEX events_once ON events (cl_ord_id, exec_id, kind) WHERE cl_ord_id <> ''"
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, cl_ord_id TEXT NOT NULL, exec_id TEXT NOT NULL,
        payload BLOB NOT NULL, crc INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT 0)""",
    _NOTES,
    _ONCE,
    """CREATE TABLE quarantined (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, cl_ord_id TEXT NOT NULL, exec_id TEXT NOT NULL,
        payload BLOB NOT NULL, against_seq INTEGER NOT NULL, UNIQUE (against_seq, payload))""",
)


class Ledger(LedgerReader):
    """Writes the ledger of one run; only one process may at a time.

    `run` and `mode` name the run when the file is made and must agree when it is opened again. Used from one
    thread at a time. Every method raises JournalError once a write or sync has failed.
    """

    def __init__(self, path: Path | str, *, run: str = "", mode: str = "live") -> None:
        self.path = Path(path)
        self.at = 0
        """Market events that the engine has processed; recorded with every entry, so that a replay finds its place."""
        self.unread = 0
        """Events that opening it did not look at: older than the newest checkpoint."""
        self._checkpoint = 0  # its event number
        self._dead = ""
        self._in_batch = False
        self._mark: HighWater | None = None
        self._lock = self._take_lock()
        try:
            disk().close(disk().open(self.path, os.O_RDWR | os.O_CREAT))  # its owner's alone
            self._db = self._connect("rwc")
        except OSError as error:
            self._lock.close()
            raise JournalError(f"cannot write ledger {self.path}: {error.strerror}") from error
        except BaseException:
            self._lock.close()
            raise
        try:
            self._open(run, mode)
            self._seq, self._chain = self._verify()
            self._sealed = self.sealed
            self._mark = self._begin_mark()
        except BaseException:
            self.close()
            raise

    def _begin_mark(self) -> HighWater | None:
        """The companion that tells how far the ledger was acknowledged; a replay's is made again, and needs none."""
        if self._sealed or self.meta("mode") == "replay":
            return None
        mark = HighWater(self.path, Mark(self._seq, self._chain))
        if self.meta(MARKED) != "yes":
            with self._transaction():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, 'yes')", (MARKED,))
        return mark

    def _take_lock(self) -> "_Lock":
        try:
            return _Lock(self.path)
        except BlockingIOError as error:
            raise JournalError(
                f"ledger {self.path} is in use by another process: stop that one first"
            ) from error
        except OSError as error:
            raise JournalError(f"cannot write ledger {self.path}: {error.strerror}") from error

    def _open(self, run: str, mode: str) -> None:
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            new = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if new:
                self._create(run, mode)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise JournalError(f"cannot write ledger {self.path}: {error}") from error
            raise self._corrupt(error) from error
        self._check(whole=self.checkpoint() is None)
        self._upgrade()
        found = (self.meta("run"), self.meta("mode"))
        if not new and run and found != (run, mode):
            raise JournalError(
                f"ledger {self.path} belongs to run {found[0]} ({found[1]}), not to {run} ({mode}):"
                " give this run a folder of its own"
            )

    def _upgrade(self) -> None:
        """Bring a ledger of an older release to this one's schema; its rows stay as they are."""
        if not self.sealed:
            try:
                self._db.execute(_NOTES)
            except sqlite3.OperationalError as error:
                raise JournalError(f"cannot write ledger {self.path}: {error}") from error
        if self.meta("schema_version") == str(SCHEMA_VERSION):
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("ALTER TABLE events ADD COLUMN at INTEGER NOT NULL DEFAULT 0")
        self._db.execute("DROP INDEX events_once")
        self._db.execute(_ONCE)
        self._db.execute("UPDATE meta SET value=? WHERE key='schema_version'", (str(SCHEMA_VERSION),))
        self._db.execute("COMMIT")
        self._at_column = "at"

    def _create(self, run: str, mode: str) -> None:
        facts = [("schema_version", str(SCHEMA_VERSION)), ("run", run), ("mode", mode), ("sealed", "no")]
        self._db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            self._db.execute(statement)
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", facts)
        self._db.execute("COMMIT")
        disk().sync_folder(self.path.parent)

    def _verify(self) -> tuple[int, int]:
        """Hold every row against the one before it, from the newest checkpoint on: what is older need not be read for
        what it comes to, and is read again while trading goes on (`emp.engine.history`).
        """
        found = self.checkpoint()
        self._checkpoint = 0 if found is None else found.seq
        self.unread = max(0, self._checkpoint - 1)
        for _ in super().events(self.unread):
            pass
        return self._last()

    def events(self, after_seq: int = 0) -> Generator[LedgerEvent, None, None]:
        """As a reader's; that a row was changed is noted, so that no later start goes on with this ledger."""
        try:
            yield from super().events(after_seq)
        except CorruptLedgerError as error:
            with suppress(JournalError):  # it cannot be written either: that is told as well
                self.note_damage(error.what)
            raise

    @property
    def since_checkpoint(self) -> int:
        """Rows after the newest checkpoint."""
        return self._seq - self._checkpoint

    def close(self) -> None:
        """Let go of the file without sealing it; whatever was recorded is durable already."""
        self._db.close()
        if self._mark is not None:
            self._mark.close()
        self._lock.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Record several things in one transaction: durable, all of them, when the block is left.

        The commit happens even when the block raises, since what it recorded has happened. Inside another batch it
        is that one's.
        """
        if self._in_batch:
            yield
            return
        self._begin()
        self._in_batch = True
        try:
            yield
        finally:
            self._in_batch = False
            self._commit()

    def record_intent(self, command: Command) -> int:
        """Make an intent durable before it may be sent; return its sequence number.

        The identical intent again, after a restart, returns the number it has. A different one under the same
        id raises JournalError and is kept in `quarantined`. A QueryOrder is kept too, but changes nothing at
        the venue and may be repeated.
        """
        if isinstance(command, QueryOrder):
            return self._once("query", command.cl_ord_id, str(command.ts), command)[0]
        return self._once("intent", command.cl_ord_id, "", command)[0]

    def record_report(self, update: OrderUpdate) -> bool:
        """Make a report durable before it is applied; False where the identical one is there already.

        Another payload under the same (clOrdID, execID) raises JournalError and is kept in `quarantined`.
        """
        return self._once("report", update.clOrdID, update.execID, update)[1]

    def record_control(self, control: Control) -> int:
        """Make a control input durable before it is applied; return its sequence number."""
        with self._transaction():
            return self._append("control", "", "", encode(control))

    def record_note(self, note: Note | RiskBreach) -> int:
        """Make a note or an alarm durable; return its sequence number."""
        kept = note if isinstance(note, Note) else Note.of(note)
        with self._transaction():
            return self._append("note", "", "", encode(kept))

    def record_checkpoint(self, note: Note) -> int:
        """Make durable what every event before this one comes to: a start reads no further back."""
        with self._transaction():
            seq = self._append("note", "", "", encode(note))
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CHECKPOINT, str(seq)))
        self._checkpoint = seq
        return seq

    def note_damage(self, what: str) -> None:
        """Remember that a row was changed: nobody goes on with this ledger."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DAMAGED, what))

    def seal(self) -> None:
        """End the run: nothing may be recorded after this, and the ledger becomes one file without a log."""
        with self._transaction():
            self._db.execute("UPDATE meta SET value='yes' WHERE key='sealed'")
        self._sealed = True
        with suppress(sqlite3.OperationalError):  # a reader has it open: the log stays beside the file
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.execute("PRAGMA journal_mode=DELETE")
            remove(mark_path(self.path))

    def truncate_to(self, seq: int) -> None:
        """Forget what came after `seq`: only for a replay, whose market and venue will say it all again."""
        if self.meta("mode") != "replay":
            raise JournalError(f"ledger {self.path} is of a {self.meta('mode')} run: it is never cut")
        if not 0 <= seq <= self._seq:
            raise JournalError(f"ledger {self.path} cannot be cut to event {seq}: it ends at {self._seq}")
        with self._transaction():
            self._db.execute("DELETE FROM events WHERE seq>?", (seq,))
            self._db.execute("DELETE FROM quarantined WHERE against_seq>?", (seq,))
            self._db.execute("UPDATE meta SET value='no' WHERE key='sealed'")
            self._db.execute("DELETE FROM meta WHERE key=? AND CAST(value AS INTEGER)>?", (CHECKPOINT, seq))
        self._seq, self._chain = self._last()
        self._sealed = False

    def _once(self, kind: Kind, cl_ord_id: str, exec_id: str, body: Body) -> tuple[int, bool]:
        payload = encode(body)
        with self._transaction():
            row = self._db.execute(
                "SELECT seq, payload FROM events WHERE cl_ord_id=? AND exec_id=? AND kind=? AND cl_ord_id<>''",
                (cl_ord_id, exec_id, kind),
            ).fetchone()
            if row is None:
                return self._append(kind, cl_ord_id, exec_id, payload), True
            if row[1] != payload:
                self._db.execute(
                    "INSERT OR IGNORE INTO quarantined (kind, cl_ord_id, exec_id, payload, against_seq)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (kind, cl_ord_id, exec_id, payload, row[0]),
                )
        if row[1] == payload:
            return int(row[0]), False
        raise JournalError(
            f"{kind} {cl_ord_id} {exec_id}".rstrip() + f" contradicts event {row[0]} of ledger {self.path}:"
            " kept in quarantine, trading must halt until it is explained"
        )

    def _append(self, kind: Kind, cl_ord_id: str, exec_id: str, payload: bytes) -> int:
        if self._sealed:
            raise JournalError(f"ledger {self.path} is sealed: start a new run")
        seq = self._seq + 1
        crc = chained_crc(seq, kind, payload, self._chain, self.at)
        self._db.execute(
            "INSERT INTO events (seq, kind, cl_ord_id, exec_id, payload, crc, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, kind, cl_ord_id, exec_id, payload, crc, self.at),
        )
        self._seq, self._chain = seq, crc
        return seq

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._in_batch:
            self._begin()
        try:
            yield
        except sqlite3.Error as error:
            raise self._fail(error) from error
        finally:
            if not self._in_batch and not self._dead:
                self._commit()

    def _begin(self) -> None:
        if self._dead:
            raise JournalError(self._dead)
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._fail(error) from error

    def _commit(self) -> None:
        if self._dead:
            return
        try:
            self._db.execute("COMMIT")
            if self._mark is not None:
                self._mark.write(Mark(self._seq, self._chain))
        except (sqlite3.Error, OSError) as error:
            raise self._fail(error) from error

    def _fail(self, error: sqlite3.Error | OSError) -> JournalError:
        self._dead = (
            f"ledger {self.path} cannot be written ({error}): trading must halt; free the disk, then restart"
        )
        if self._db.in_transaction:
            with suppress(sqlite3.Error):  # reported already; a restart reads what the disk has
                self._db.execute("ROLLBACK")
        return JournalError(self._dead)


def finish_sealing(path: Path) -> None:
    """Bring a seal onto the disk whose process died before it had ended: a write-ahead file is still beside the ledger,
    and may be in memory alone. Whoever begins a new run rests on it. JournalError where that cannot be done.
    """
    if not exists(path.with_name(path.name + "-wal")):
        return
    ledger = Ledger(path)
    try:
        ledger.seal()
    finally:
        ledger.close()


class _Lock:
    """An advisory lock beside the ledger, gone with the process that holds it."""

    def __init__(self, path: Path) -> None:
        self._file = disk().open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            lock(self._file)
        except OSError:
            disk().close(self._file)
            raise

    def close(self) -> None:
        if self._file >= 0:
            disk().close(self._file)
            self._file = -1
