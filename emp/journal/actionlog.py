"""The action log: one row per decision, as Parquet parts, with a hash that names the whole stream."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.core.columns import SLICE_ROWS
from emp.core.errors import JournalError
from emp.core.records import DECISION, Array
from emp.journal.action_schema import (
    HEADER_KEY,
    canonical_bytes,
    continues,
    from_table,
    header,
    is_action_log,
    models_of,
    to_table,
)
from emp.journal.parts import PartWriter, ToTable, list_parts, read_parts

PART_ROWS = 1 << 17
_WHAT = "action log"
_NAMES = ("instrument_name", "action_name", "reason", "model_hash")


class ActionLog:
    """Appends DECISION rows to `folder`/part-NNNNN.parquet.

    `instruments` and `model_hashes` say what the columns `instrument` and `model_id` index. A folder that
    holds rows already must be continued with `truncate_to` before anything is appended.

    The hash is SHA-256 over the header and the rows in order, without the columns of records.UNHASHED; how
    the rows were cut into batches and parts does not enter it. A model that comes later (`know`) begins a new
    header, which is hashed before the first row that follows it.
    """

    def __init__(self, folder: Path | str, instruments: Sequence[str], model_hashes: Sequence[str]) -> None:
        self.folder = Path(folder)
        self._instruments = list(instruments)
        self._first_head = self._head = self._next_head = header(instruments, model_hashes)
        self._writer = PartWriter(self.folder, DECISION, PART_ROWS, _WHAT, dictionary=_NAMES)
        self._closed = False
        self._must_resume = bool(self._writer.parts)
        self._begin_hash()

    def _begin_hash(self) -> None:
        self._hash = hashlib.sha256(_framed(self._head))
        self.rows = 0
        """Rows appended so far."""

    @property
    def model_hashes(self) -> list[str]:
        """The models whose rows the log holds, and those it was told of: what `model_id` indexes."""
        return models_of(self._next_head)

    def rows_in_parts(self) -> int:
        """Rows that earlier processes left in whole parts."""
        return sum(table.num_rows for _, table in _tables(self._writer.parts))

    def know(self, model_hash: str) -> None:
        """Say that rows of another model may follow."""
        known = self.model_hashes
        if model_hash not in known:
            self._next_head = header(self._instruments, [*known, model_hash])

    def _turn_page(self) -> None:
        """Begin a part under the newest header."""
        self._writer.hand_over(self._to_table())
        self._head = self._next_head
        if self.rows:
            self._hash.update(_framed(self._head))
        else:
            self._begin_hash()

    @property
    def sha256(self) -> str:
        """Hash of what was appended so far."""
        return self._hash.copy().hexdigest()

    def append(self, rows: Array) -> None:
        """Take DECISION rows, shape (n,); they are on disk after `flush`, or soon after a part is full.

        A part that could not be written raises JournalError at the next part, flush or close.
        """
        if self._must_resume:
            raise JournalError(
                f"action log {self.folder} holds rows already: resume it or use another folder"
            )
        if self._closed:
            raise JournalError(f"action log {self.folder} is closed")
        if len(rows) and self._next_head != self._head:
            self._turn_page()
        self._digest(rows)
        self._writer.append(rows, self._to_table())

    def _to_table(self) -> ToTable:
        """What makes rows under the present header a table."""
        head = self._head
        return lambda rows: to_table(rows, head)

    def _digest(self, rows: Array) -> None:
        for start in range(0, len(rows), SLICE_ROWS):
            self._hash.update(canonical_bytes(rows[start : start + SLICE_ROWS]).data)
        self.rows += len(rows)

    def flush(self) -> None:
        """Write the rows held in memory as a part of their own; all rows are durable on return."""
        self._writer.flush(self._to_table())

    def close(self) -> str:
        """Write what is left and return the hash of the whole log."""
        self._closed = True
        self._writer.close(self._to_table())
        return self.sha256

    def truncate_to(self, n_rows: int) -> None:
        """Keep the first `n_rows` rows, as a resumed run needs it; the hash is made again from the files."""
        self._writer.forget_buffered()
        self._head = self._next_head = self._first_head
        self._begin_hash()
        kept = 0
        for path, table in _tables(self._writer.parts, self._head):
            left = n_rows - self.rows
            if left <= 0:
                break
            kept += 1
            self._next_head = table.schema.metadata[HEADER_KEY]
            if self._next_head != self._head:
                self._turn_page()
            self._digest(from_table(table.slice(0, left)))
            if table.num_rows > left:
                self._writer.drop_after(kept)
                self._writer.write_part(path, table.slice(0, left))
                break
        if self.rows < n_rows:
            raise JournalError(f"action log {self.folder} has {self.rows} rows, not the {n_rows} wanted")
        self._writer.drop_after(kept)
        self._next_head = header(
            self._instruments, models_of(self._next_head)
        )  # with the columns of this release
        self._must_resume = False


def _tables(parts: Sequence[Path], head: bytes | None = None) -> Iterator[tuple[Path, pa.Table]]:
    for path, table in read_parts(parts, _WHAT):
        found = (table.schema.metadata or {}).get(HEADER_KEY)
        if found is None or not is_action_log(table.schema):
            raise JournalError(f"{path} is not a part of an action log of this release")
        if head is not None and not continues(found, head):
            raise JournalError(f"{path} was written for other instruments or models than this run's")
        head = found
        yield path, table


def read_actions(folder: Path | str) -> Array:
    """All DECISION rows of a log, in order."""
    return np.concatenate(
        [np.zeros(0, DECISION), *(from_table(t) for _, t in _tables(list_parts(Path(folder), _WHAT)))]
    )


def read_columns(folder: Path | str, names: Sequence[str]) -> Array:
    """Some columns of all rows of a log, in order, read without the others; what an older log lacks is 0."""
    kind = np.dtype([(name, DECISION[name]) for name in names])
    parts = [np.zeros(0, kind)]
    for path in list_parts(Path(folder), _WHAT):
        try:
            file = pq.ParquetFile(path)
            there = [name for name in names if name in file.schema_arrow.names]
            table = file.read(columns=there)
        except (OSError, pa.ArrowException) as error:
            raise JournalError(f"{path}: cannot be read: {error}") from error
        rows = np.zeros(table.num_rows, kind)
        for name in there:
            rows[name] = table[name].to_numpy()
        parts.append(rows)
    return np.concatenate(parts)


def actions_sha256(folder: Path | str) -> str:
    """Hash of a log made again from its files: equal to what `close` returned."""
    digest, before = hashlib.sha256(), b""
    for _, table in _tables(list_parts(Path(folder), _WHAT)):
        head = table.schema.metadata[HEADER_KEY]
        if head != before:
            digest.update(_framed(head))
        before = head
        digest.update(canonical_bytes(from_table(table)).data)
    if not before:
        raise JournalError(f"no action log in {folder}")
    return digest.hexdigest()


def _framed(head: bytes) -> bytes:
    return len(head).to_bytes(8, "little") + head
