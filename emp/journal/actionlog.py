"""The action log: one row per decision, as Parquet parts, with a hash that names the whole stream."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.core.columns import SLICE_ROWS, values_of
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
from emp.journal.parts import (
    TOTAL_KEY,
    PartWriter,
    ToTable,
    list_parts,
    parts_for,
    read_footer,
    read_parts,
    total_rows,
    with_facts,
)

PART_ROWS = 1 << 17
HASH_KEY = b"emp.hash"
"""Fact of a part: state of the log's hash at its end."""

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

    def __init__(
        self,
        folder: Path | str,
        instruments: Sequence[str],
        model_hashes: Sequence[str],
        *,
        resumable: bool = False,
    ) -> None:
        """With `resumable`, each part says what the log's hash rests on at its end, so that a run of any age goes on
        without its rows being read; the hash itself takes eight times as long.
        """
        self.folder = Path(folder)
        self._instruments = list(instruments)
        self._first_head = self._head = self._next_head = header(instruments, model_hashes)
        self._writer = PartWriter(self.folder, DECISION, PART_ROWS, _WHAT, dictionary=_NAMES)
        self._closed = False
        self._must_resume = bool(self._writer.parts)
        self._resumable = resumable
        self._begin_hash()

    def _begin_hash(self) -> None:
        self._hash: Any = (_rolling() if self._resumable else hashlib.sha256)(_framed(self._head))
        self.rows = 0
        """Rows appended so far."""

    @property
    def model_hashes(self) -> list[str]:
        """The models whose rows the log holds, and those it was told of: what `model_id` indexes."""
        return models_of(self._next_head)

    def rows_in_parts(self) -> int:
        """Rows that earlier processes left in whole parts."""
        return total_rows(self._writer.parts, _WHAT)

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
        while len(rows):
            part = rows[: self._writer.room]
            self._digest(part)
            self._writer.append(part, self._to_table())
            rows = rows[len(part) :]

    def _to_table(self) -> ToTable:
        """What makes a part of the rows up to here, under the present header."""
        head, told = self._head, {TOTAL_KEY: str(self.rows).encode()}
        if self._resumable:
            told[HASH_KEY] = self._hash.state()
        return lambda rows: with_facts(to_table(rows, head), told)

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
        """Keep the first `n_rows` rows, as a resumed run needs it, and bring the hash to where they end: from what the
        parts say of it, else by reading them.
        """
        self._writer.forget_buffered()
        parts = self._writer.parts
        total = total_rows(parts, _WHAT)
        if total < n_rows:
            raise JournalError(f"action log {self.folder} has {total} rows, not the {n_rows} wanted")
        kept, before = parts_for(parts, total, n_rows, _WHAT)
        whole = kept if kept and n_rows == before + read_footer(parts[kept - 1], _WHAT).rows else kept - 1
        first = self._resume_after(parts[: max(0, whole)])
        for path, table in _tables(parts[first:kept], self._head):
            left = n_rows - self.rows
            self._next_head = table.schema.metadata[HEADER_KEY]
            if self._next_head != self._head:
                self._turn_page()
            self._digest(from_table(table.slice(0, left)))
            if table.num_rows > left:
                self._writer.drop_after(kept)
                self._writer.write_part(path, self._to_table()(from_table(table.slice(0, left))))
        self._writer.drop_after(kept)
        self._next_head = header(
            self._instruments, models_of(self._next_head)
        )  # with the columns of this release
        self._must_resume = False

    def _resume_after(self, parts: Sequence[Path]) -> int:
        """Bring hash and header to the end of the last of these parts that says what they are there; return how many
        need not be read: all of them, or none.
        """
        self._head = self._next_head = self._first_head
        self._begin_hash()
        if not parts or not self._resumable:
            return 0
        footer = read_footer(parts[-1], _WHAT)
        if not {HASH_KEY, TOTAL_KEY, HEADER_KEY} <= footer.facts.keys():
            return 0
        _check_part(parts[-1], footer.schema, self._first_head)
        try:
            self._hash = _rolling().of(footer.facts[HASH_KEY])
        except ValueError as error:
            raise JournalError(f"{parts[-1]} is damaged ({error})") from error
        self.rows = int(footer.facts[TOTAL_KEY])
        self._head = self._next_head = footer.facts[HEADER_KEY]
        return len(parts)


def _rolling() -> Any:
    """The hash that can be continued; compiled, which who only reads a log need not wait for."""
    from emp.core.rolling_hash import RollingSha256

    return RollingSha256


def _check_part(path: Path, schema: pa.Schema, before: bytes | None) -> bytes:
    """The header of a part, where it is one of an action log whose rows may follow those under `before`."""
    found: bytes | None = (schema.metadata or {}).get(HEADER_KEY)
    if found is None or not is_action_log(schema):
        raise JournalError(f"{path} is not a part of an action log of this release")
    if before is not None and not continues(found, before):
        raise JournalError(f"{path} was written for other instruments or models than this run's")
    return found


def _tables(parts: Sequence[Path], head: bytes | None = None) -> Iterator[tuple[Path, pa.Table]]:
    for path, table in read_parts(parts, _WHAT):
        head = _check_part(path, table.schema, head)
        yield path, table


def read_actions(folder: Path | str) -> Array:
    """All DECISION rows of a log, in order."""
    return np.concatenate(
        [np.zeros(0, DECISION), *(from_table(t) for _, t in _tables(list_parts(Path(folder), _WHAT)))]
    )


def time_span(folder: Path | str) -> tuple[int, int] | None:
    """Times of the first and the last row of a log, ns, from what its parts say of themselves; None without rows."""
    spans = [span for path in list_parts(Path(folder), _WHAT) if (span := _ts_of(path)) is not None]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else None


def _ts_of(path: Path) -> tuple[int, int] | None:
    try:
        metadata = pq.read_metadata(path)
        column = metadata.schema.names.index("ts")
        groups = [metadata.row_group(k).column(column).statistics for k in range(metadata.num_row_groups)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise JournalError(f"{path}: cannot be read: {error}") from error
    known = [one for one in groups if one is not None and one.has_min_max]
    return (min(one.min for one in known), max(one.max for one in known)) if known else None


def newest_first(folder: Path | str) -> Iterator[Array]:
    """DECISION rows of a log, a part at a time, the newest part first."""
    for path in reversed(list_parts(Path(folder), _WHAT)):
        for _, table in _tables([path]):
            yield from_table(table)


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
            rows[name] = values_of(table[name])
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
