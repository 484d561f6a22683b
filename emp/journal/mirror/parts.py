"""Market data or action log of a run that goes on, read by place: from the tail where it reaches, else from the parts.

What is handed out is durable, so that no crash of the machine can take back what a mirror has: a part is synced before
it is named, and the tail is synced here before it is believed.
"""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from emp.core.errors import JournalError
from emp.core.market_file import market_events
from emp.core.records import DECISION, EVENT, Array
from emp.journal.action_schema import from_table
from emp.journal.parts import list_parts, read_footer, read_parts
from emp.journal.tail import HEAD_BYTES, TailHead, Unit, parse_units, read_head, to_ours

READ_BYTES = 1 << 24
"""Of a tail at a time."""


class TailSync:
    """Brings a tail onto the disk for all that read it, once in `every_s` at most: the ledger shares that disk."""

    def __init__(self, every_s: float = 0.0) -> None:
        self._every_s = every_s
        self._lock = threading.Lock()
        self._head, self._size, self._next = b"", 0, 0.0

    def durable(self, file: int, head: bytes) -> int:
        """How many bytes of the tail that begins with `head` are durable."""
        with self._lock:
            now = time.monotonic()
            if head != self._head or now >= self._next:
                size = os.fstat(file).st_size
                if head != self._head or size != self._size:
                    os.fsync(file)
                self._head, self._size, self._next = head, size, now + self._every_s
            return self._size


class Tail:
    """The tail of a run, read on as it grows."""

    def __init__(self, path: Path, sync: TailSync) -> None:
        self._path = path
        self._sync = sync
        self.absent = False  # everything is in the parts
        self.head: TailHead | None = None  # None: absent, or being begun
        self.units: list[Unit] = []
        self.events = self.rows = 0  # in parts and tail together, where there is a head
        self._offset = 0

    def poll(self) -> None:
        """Read what has come, and see where the tail was begun again."""
        try:
            with self._path.open("rb") as file:
                self._read(file.fileno())
        except FileNotFoundError:
            self.absent, self.head, self.units = True, None, []
        except OSError as error:
            raise JournalError(f"cannot read {self._path}: {error.strerror}") from error
        except ValueError as error:
            raise JournalError(f"{self._path}: another release wrote it ({error})") from error

    def _read(self, file: int) -> None:
        head = read_head(os.pread(file, HEAD_BYTES, 0))
        if head is None or self.head is None or head.data != self.head.data:
            self.head = head
            self.rewind()
        self.absent = False
        if head is None:
            return
        durable = self._sync.durable(file, head.data)
        while self._offset < durable:
            data = os.pread(file, min(READ_BYTES, durable - self._offset), self._offset)
            if os.pread(file, len(head.data), 0) != head.data:
                return  # begun again meanwhile: what was read may be of either
            units, end = parse_units(data, 0, head.event, head.decision)
            if not units:
                return
            self.units += [to_ours(unit) for unit in units]
            self.events = units[-1].first + len(units[-1].events)
            self.rows = units[-1].first_row + len(units[-1].rows)
            self._offset += end

    def rewind(self) -> None:
        """Forget what was read: the next `poll` begins behind the head."""
        self.units = []
        if self.head is not None:
            self._offset, self.events, self.rows = len(self.head.data), self.head.events, self.head.rows

    def forget(self, events: int, rows: int) -> None:
        """Let go of units that lie before these places."""
        while self.units:
            first = self.units[0]
            if first.first + len(first.events) > events or first.first_row + len(first.rows) > rows:
                return
            del self.units[0]


class Rows:
    """One of the two journals that parts and tail hold: EVENT rows of `market/`, or DECISION rows of `actions/`."""

    def __init__(self, folder: Path, tail: Tail, *, market: bool) -> None:
        self._folder = folder
        self._tail = tail
        self._market = market
        self._what = "market journal" if market else "action log"
        self._ends: list[int] = []  # of parts that will not change any more
        self._open: tuple[Path, int, Array] | None = (
            None  # the part read last: its path, its first row, its rows
        )

    @property
    def end(self) -> int:
        """Rows that can be read; after a `poll` of the tail."""
        tail = self._tail
        if tail.head is not None:
            return tail.events if self._market else tail.rows
        self._index()
        return self._ends[-1] if self._ends and tail.absent else 0

    def read(self, after: int, limit: int) -> Array:
        """Rows [n], n <= limit, behind the first `after` ones; none where there are no more yet.

        Raises JournalError where the journal ends before `after`, or a part cannot be read.
        """
        tail = self._tail
        if tail.head is None and not tail.absent:
            return self._none()
        in_parts = None
        if tail.head is not None:
            in_parts = tail.head.events if self._market else tail.head.rows
        if after > self.end:
            raise JournalError(
                f"{self._what} {self._folder} ends at {self.end}, and {after} rows were read of it"
            )
        if in_parts is None or after < in_parts:
            return self._from_parts(after, limit, in_parts)
        return self._from_tail(after, limit)

    def _none(self) -> Array:
        return np.zeros(0, EVENT if self._market else DECISION)

    def _from_tail(self, after: int, limit: int) -> Array:
        found, left = [self._none()], limit
        for unit in self._tail.units:
            first, rows = (unit.first, unit.events) if self._market else (unit.first_row, unit.rows)
            rows = rows[max(0, after - first) :][:left]
            found.append(rows)
            left -= len(rows)
            if not left:
                break
        return np.concatenate(found)

    def _index(self, until: int | None = None) -> None:
        """Learn of parts that are final: all of them without a tail, else those that it goes on from."""
        for path in list_parts(self._folder, self._what)[len(self._ends) :]:
            end = (self._ends[-1] if self._ends else 0) + read_footer(path, self._what).rows
            if until is not None and end > until:
                break
            self._ends.append(end)

    def _from_parts(self, after: int, limit: int, until: int | None) -> Array:
        try:
            self._index(until)
            number = int(np.searchsorted(self._ends, after, side="right"))
            if number == len(self._ends):
                return self._none()
            first = self._ends[number - 1] if number else 0
            path = self._folder / f"part-{number:05d}.parquet"
            if self._open is None or self._open[:2] != (path, first):
                self._open = path, first, self._load(path)
        except FileNotFoundError:  # taken back by a start that goes on from the tail
            return self._none()
        return self._open[2][after - first :][:limit]

    def _load(self, path: Path) -> Array:
        for _, table in read_parts([path], self._what):
            return self._rows_of(table)
        return self._none()

    def _rows_of(self, table: pa.Table) -> Array:
        return market_events(table) if self._market else from_table(table)
