"""Reading a ledger: its events in sequence, verified, and what follows from them."""

import os
import sqlite3
import weakref
import zlib
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import cast
from urllib.parse import quote

from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.errors import CorruptLedgerError, JournalError
from emp.core.platform import exists
from emp.core.replacement import consents, replaced
from emp.journal.high_water import Mark, mark_path, read_mark
from emp.journal.records import Fill, Kind, LedgerEvent, Note, OpenOrder, note_head

MARKED = "marked"
"""Fact of a ledger that has, while it is not sealed, a companion with its newest acknowledged row."""

CHECKPOINT = "checkpoint"
"""Kind of the note that says what everything before it comes to, and name of the fact that says where the newest is."""

DAMAGED = "damaged"
"""Fact of a ledger of which a row was found changed while it was written."""

_FREQUENT = b'{"kind":"decision"'  # how the notes begin that come with every order
NOTES = f"kind='note' AND substr(payload, 1, {len(_FREQUENT)}) <> x'{_FREQUENT.hex()}'"
"""The notes that are few: what an index keeps at hand."""

SCHEMA_VERSION = 2
"""Version 1 lacked the column `at`; it is read as if nothing had been processed."""


def chained_crc(seq: int, kind: str, payload: bytes, before: int, at: int = 0) -> int:
    """CRC of one event, continued from the CRC of the one before it."""
    head = f"{seq} {kind} {at} " if at else f"{seq} {kind} "  # the second form is that of version 1
    return zlib.crc32(payload, zlib.crc32(head.encode(), before))


def is_blank(path: Path) -> bool:
    """Whether a ledger was being made when its process died: it holds no table, and nothing was ever acknowledged."""
    if exists(mark_path(path)):
        return False
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.Error:
        return False


class LedgerReader:
    """Reads a ledger, also while another process writes it: for mirrors, reports and audits."""

    _at_column = "at"

    def __init__(self, path: Path | str, *, whole: bool = True) -> None:
        """Look through the whole file first; without `whole` only at what is read of it, however old it is."""
        self.path = Path(path)
        if not (exists(self.path) and self.path.is_file()):
            raise JournalError(f"no ledger at {self.path}")
        if exists(self.path.with_name(self.path.name + "-journal")):
            self._roll_back()
        self._db = self._connect("ro")
        try:
            self._check(whole=whole)
        except BaseException:
            self.close()
            raise

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(os.fsencode(self.path.resolve()))}?mode={mode}"
        try:
            opened = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise JournalError(f"cannot open ledger {self.path}: {error}") from error
        # a ledger that is dropped, as by an engine that fails, lets go of its file; at the end of the process the
        # file stays as a crash would leave it
        weakref.finalize(self, opened.close).atexit = False
        return opened

    def _roll_back(self) -> None:
        """Finish what a crash has left of a change of the file itself (it was being made, or sealed): a reader may not.
        Where another process is at it, nothing happens.
        """
        db = self._connect("rw")
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            pass  # it is said where the ledger is read
        finally:
            db.close()

    def _check(self, *, whole: bool) -> None:
        """Refuse a file that is not a ledger of this version; with `whole` one of which any page is damaged."""
        mark = read_mark(self.path)  # before the rows: whoever writes them moves it on behind them
        try:
            if whole:
                self._check_pages()
            tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            if not {"meta", "events", "quarantined"} <= tables:
                raise JournalError(f"{self.path} is not a ledger: it has other tables or none")
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        version = self.meta("schema_version")
        if not version.isdigit() or not 1 <= int(version) <= SCHEMA_VERSION:
            raise JournalError(
                f"ledger {self.path} has schema version {version}, this release reads up to {SCHEMA_VERSION}:"
                " start a new run or use the release that wrote it"
            )
        self._at_column = "at" if int(version) > 1 else "0"
        if self.meta(DAMAGED):
            raise self._corrupt(self.meta(DAMAGED))
        self._check_end(mark)

    def _check_pages(self) -> None:
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self._corrupt(found)

    def _check_end(self, mark: Mark | None) -> None:
        """Refuse a ledger whose acknowledged end is missing: its write-ahead file is lost, cut or damaged."""
        remedy = (
            "bring back the files beside it, or move it away, check the venue's positions, start a new run"
        )
        if mark is None:
            if self.meta(MARKED) != "yes" or self.sealed:
                return
            mark = read_mark(self.path)  # it may have been made a moment ago
            if mark is None:
                raise JournalError(
                    f"ledger {self.path} lacks its companion {mark_path(self.path).name}: it was copied alone; {remedy}"
                )
        found = self._db.execute("SELECT crc FROM events WHERE seq=?", (mark.seq,)).fetchone()
        last = self._last()[0]
        if last < mark.seq:
            raise JournalError(
                f"ledger {self.path} has lost {mark.seq - last} acknowledged events: it ends at {last}; {remedy}"
            )
        if mark.seq and int(found[0]) != mark.crc:
            raise JournalError(
                f"ledger {self.path} is another than its companion tells of (event {mark.seq} differs); {remedy}"
            )

    def _corrupt(self, what: object) -> CorruptLedgerError:
        return CorruptLedgerError(
            f"ledger {self.path} is corrupt ({what}):"
            " move it away, check the venue's positions, start a new run",
            str(what),
        )

    def _unreadable(self, error: sqlite3.DatabaseError) -> JournalError:
        closed = isinstance(error, sqlite3.ProgrammingError)
        if closed or isinstance(error, sqlite3.OperationalError):
            return JournalError(f"cannot read ledger {self.path}: {error}")
        return self._corrupt(error)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def meta(self, key: str) -> str:
        """A fact of the run: `schema_version`, `run`, `mode`, `sealed`; empty where it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    @property
    def sealed(self) -> bool:
        """Whether the run ended in order; an unsealed ledger that nobody writes is a crashed run."""
        return self.meta("sealed") == "yes"

    def events(self, after_seq: int = 0) -> Generator[LedgerEvent, None, None]:
        """Yield the events after `after_seq` in sequence, each once the row behind it is found to follow from it.

        A row that was changed, its checksum and all, is told by the next one alone: nobody is to act on it before.
        Raises CorruptLedgerError there, JournalError where the file cannot be read.
        """
        row = self._db.execute("SELECT crc FROM events WHERE seq=?", (after_seq,)).fetchone()
        if row is None and after_seq > 0:
            raise JournalError(f"ledger {self.path} has no event {after_seq}: it ends at {self._last()[0]}")
        seq, crc = after_seq, 0 if row is None else int(row[0])
        query = f"SELECT seq, kind, payload, crc, {self._at_column} FROM events WHERE seq>? ORDER BY seq"
        try:
            rows = self._db.execute(query, (after_seq,))
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        verified: LedgerEvent | None = None
        try:
            for found, kind, payload, stored, at in rows:
                seq += 1
                whole = isinstance(payload, bytes) and isinstance(at, int)
                crc = chained_crc(seq, kind, payload, crc, at) if whole else -1
                if found != seq or stored != crc:
                    raise self._corrupt(f"event {seq} does not follow from those before it")
                if verified is not None:
                    yield verified
                verified = LedgerEvent(seq, cast(Kind, kind), payload, at)
            if verified is not None:
                yield verified
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        finally:
            with suppress(sqlite3.ProgrammingError):  # the ledger was closed first, and let go of it
                rows.close()  # here, and not where nobody needs it any more: it may be what keeps the file open

    def _row(self, seq: int) -> LedgerEvent:
        """One event, held against the row before it and the row behind it; JournalError where they do not follow."""
        query = f"SELECT seq, kind, payload, crc, {self._at_column} FROM events WHERE seq BETWEEN ? AND ? ORDER BY seq"
        try:
            rows = self._db.execute(query, (seq - 1, seq + 1)).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        before = int(rows.pop(0)[3]) if rows and rows[0][0] < seq else 0
        for n, (found, kind, payload, stored, at) in enumerate(rows, seq):
            whole = isinstance(payload, bytes) and isinstance(at, int)
            before = chained_crc(n, kind, payload, before, at) if whole else -1
            if found != n or stored != before:
                raise self._corrupt(f"event {n} does not follow from those before it")
        if not rows:
            raise self._corrupt(f"event {seq} is missing")
        return LedgerEvent(seq, cast(Kind, rows[0][1]), rows[0][2], rows[0][4])

    def checkpoint(self) -> LedgerEvent | None:
        """The newest checkpoint; None where there is none, or it is not whole: what it says must be told again."""
        try:
            told = self.meta(CHECKPOINT)
            if not told.isdigit():
                return None
            found = self._row(int(told))
        except (JournalError, sqlite3.Error):
            return None
        return found if found.is_note(CHECKPOINT) else None

    def story(self, name: str, until_seq: int | None = None) -> list[Command | OrderUpdate]:
        """Everything recorded of the order that has or had the id `name`, or that a command of that id is about, in
        order: its commands and reports up to event `until_seq`. Empty where no order of the ledger is.
        """
        first = self._intent(name)
        while first is not None and not isinstance(first[1], NewOrder):
            first = self._intent(first[1].orig)
        if first is None:
            return []
        names, told, ended = {first[1].cl_ord_id}, list[Command | OrderUpdate](), False
        for event in self.events(first[0] - 1):
            if until_seq is not None and event.seq > until_seq:
                break
            body = event.body if event.kind in ("intent", "query", "report") else None
            if isinstance(body, CancelOrder | Replace) and body.orig in names:
                names.add(body.cl_ord_id)
            elif isinstance(body, OrderUpdate) and body.clOrdID in names:
                refused = body.status is OrderStatus.REJECTED and body.clOrdID != first[1].cl_ord_id
                ended |= body.status.terminal and not refused
            elif not (isinstance(body, NewOrder | QueryOrder) and body.cl_ord_id in names):
                continue
            told.append(body)
            if ended and event.seq >= self._last_of(names):
                break
        return told

    def _intent(self, name: str) -> tuple[int, NewOrder | CancelOrder | Replace] | None:
        """The event number and the command of an id."""
        query = "SELECT seq FROM events WHERE cl_ord_id=? AND exec_id='' AND kind='intent' AND cl_ord_id<>''"
        row = self._db.execute(query, (name,)).fetchone()
        if row is None:
            return None
        body = self._row(int(row[0])).body
        assert isinstance(body, NewOrder | CancelOrder | Replace)
        return int(row[0]), body

    def _last_of(self, names: set[str]) -> int:
        """Number of the newest event under any of these ids."""
        asked = ", ".join("?" * len(names))
        query = f"SELECT max(seq) FROM events WHERE cl_ord_id IN ({asked}) AND cl_ord_id<>''"
        return int(self._db.execute(query, (*names,)).fetchone()[0])

    def _last(self) -> tuple[int, int]:
        row = self._db.execute("SELECT seq, crc FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest event, 0 where there is none."""
        return self._last()[0]

    def open_orders(self) -> list[OpenOrder]:
        """Orders with an intent and no terminal report, oldest first, each with its most advanced report."""
        return self._fold().open_orders()

    def fills(self) -> list[Fill]:
        """Quantities that reports added to an order's cumulative quantity, as they were recorded."""
        return self._fold().fills

    def _fold(self) -> "_Fold":
        fold = _Fold()
        for event in self.events():
            fold.add(event)
        return fold

    def notes(self, kind: str = "") -> list[Note]:
        """Notes of one kind, or all, oldest first."""
        if kind and not _FREQUENT.startswith(note_head(kind)):
            return self._few_notes(kind)
        found = [e.body for e in self.events() if (e.is_note(kind) if kind else e.kind == "note")]
        return [n for n in found if isinstance(n, Note)]

    def _few_notes(self, kind: str) -> list[Note]:
        """Notes of a kind, without the rows between them; each is held against the row before it."""
        head = note_head(kind)
        query = f"SELECT seq FROM events WHERE {NOTES} AND substr(payload, 1, {len(head)})=? ORDER BY seq"
        try:
            rows = self._db.execute(query, (head,)).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        found = [self._row(int(seq)).body for (seq,) in rows]
        return [one for one in found if isinstance(one, Note)]

    def quarantined(self) -> list[tuple[int, bytes]]:
        """(sequence number it contradicts, payload) of every message kept out."""
        rows = self._db.execute("SELECT against_seq, payload FROM quarantined ORDER BY id")
        return [(int(seq), bytes(payload)) for seq, payload in rows]


class _Fold:
    """Orders and fills as the ledger's events tell them."""

    def __init__(self) -> None:
        self.fills: list[Fill] = []
        self._orders: dict[str, NewOrder] = {}
        self._order_of: dict[str, str] = {}  # id of a cancel or replacement -> the order's first id
        self._pending: dict[str, Replace] = {}  # by the order's first id
        self._last: dict[str, OrderUpdate] = {}
        self._ended: set[str] = set()

    def add(self, event: LedgerEvent) -> None:
        """Take the next event in sequence."""
        body = event.body
        if isinstance(body, NewOrder):
            self._orders[body.cl_ord_id] = body
        elif isinstance(body, CancelOrder):
            self._order_of[body.cl_ord_id] = self._order_of.get(body.orig, body.orig)
        elif isinstance(body, Replace):
            name = self._order_of.get(body.orig, body.orig)
            self._order_of[body.cl_ord_id] = name
            self._pending[name] = body
        elif isinstance(body, OrderUpdate):
            self._report(event.seq, body)

    def _report(self, seq: int, update: OrderUpdate) -> None:
        name = self._order_of.get(update.clOrdID, update.clOrdID)
        if name not in self._orders:
            return
        if update.status is OrderStatus.REJECTED and update.clOrdID != self._orders[name].cl_ord_id:
            return  # a refused cancel or replacement leaves its order as it was
        pending = self._pending.get(name)
        if pending is not None and consents(self._orders[name], pending, update):
            self._orders[name] = replaced(self._orders[name], pending, update)
            del self._pending[name]
        known = self._last.get(name)
        qty = update.filled - (known.filled if known else 0)
        if qty > 0:
            self.fills.append(_fill(seq, self._orders[name], update, qty))
        if known is None or qty >= 0:
            self._last[name] = update
        if update.status.terminal:
            self._ended.add(name)

    def open_orders(self) -> list[OpenOrder]:
        """Orders whose end no report has told, oldest first."""
        orders = self._orders.items()
        return [OpenOrder(order, self._last.get(name)) for name, order in orders if name not in self._ended]


def _fill(seq: int, order: NewOrder, update: OrderUpdate, qty: int) -> Fill:
    return Fill(
        seq=seq,
        cl_ord_id=order.cl_ord_id,
        exec_id=update.execID,
        instrument=order.instrument,
        side=order.side,
        qty=qty,
        px=update.price,
        fee=update.fee,
        maker=update.maker,
        ts=update.ts,
    )
