"""The action log: one row per decision, as Parquet parts, with a hash that names the whole stream."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.core.errors import JournalError
from emp.core.records import DECISION, Array
from emp.journal.action_schema import (
    HEADER_KEY,
    SLICE_ROWS,
    canonical_bytes,
    continues,
    from_table,
    header,
    models_of,
    schema,
    to_table,
)
from emp.journal.files import sync_file, sync_folder

PART_ROWS = 1 << 17


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
        self._buffer = np.zeros(PART_ROWS, DECISION)
        self._spare = np.zeros(PART_ROWS, DECISION)
        self._buffered = 0
        self._writer = ThreadPoolExecutor(1, "actionlog")
        self._pending: Future[None] | None = None
        self._closed = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".part-*.tmp"):
                leftover.unlink()
        except OSError as error:
            raise self._failed(error) from error
        self._parts = _parts(self.folder)
        self._must_resume = bool(self._parts)
        self._begin_hash()

    def _begin_hash(self) -> None:
        self._hash = hashlib.sha256(_framed(self._head))
        self.rows = 0
        """Rows appended so far."""

    @property
    def model_hashes(self) -> list[str]:
        """The models whose rows the log holds, and those it was told of: what `model_id` indexes."""
        return models_of(self._next_head)

    def know(self, model_hash: str) -> None:
        """Say that rows of another model may follow."""
        known = self.model_hashes
        if model_hash not in known:
            self._next_head = header(self._instruments, [*known, model_hash])

    def _turn_page(self) -> None:
        """Begin a part under the newest header."""
        if self._buffered:
            self._hand_over()
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
        done = 0
        while done < len(rows):
            take = min(len(rows) - done, PART_ROWS - self._buffered)
            self._buffer[self._buffered : self._buffered + take] = rows[done : done + take]
            self._buffered += take
            done += take
            if self._buffered == PART_ROWS:
                self._hand_over()

    def _digest(self, rows: Array) -> None:
        for start in range(0, len(rows), SLICE_ROWS):
            self._hash.update(canonical_bytes(rows[start : start + SLICE_ROWS]).data)
        self.rows += len(rows)

    def flush(self) -> None:
        """Write the rows held in memory as a part of their own; all rows are durable on return."""
        if self._buffered:
            self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        """Let the writer thread make a part of the buffer; compression must not stall the engine."""
        self._wait()
        path = self.folder / f"part-{len(self._parts):05d}.parquet"
        rows, head = self._buffer[: self._buffered], self._head
        self._pending = self._writer.submit(lambda: self._write_part(path, to_table(rows, head)))
        self._parts.append(path)
        self._buffer, self._spare = self._spare, self._buffer
        self._buffered = 0

    def _wait(self) -> None:
        """Wait for the writer; whatever stopped it is raised here."""
        if self._pending is not None:
            self._pending.result()

    def _write_part(self, path: Path, table: pa.Table) -> None:
        beside = path.with_name(f".{path.name}.tmp")
        try:
            pq.write_table(
                table,
                beside,
                compression="zstd",
                compression_level=1,
                use_dictionary=["instrument_name", "action_name", "reason", "model_hash"],
                write_statistics=["ts", "seq"],
            )
            sync_file(beside)
            beside.replace(path)
            sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> JournalError:
        what = error.strerror or os.strerror(error.errno) if error.errno else str(error)
        return JournalError(f"cannot write action log {self.folder}: {what}")

    def close(self) -> str:
        """Write what is left and return the hash of the whole log."""
        try:
            self.flush()
        finally:
            self._closed = True
            self._writer.shutdown()
        return self.sha256

    def truncate_to(self, n_rows: int) -> None:
        """Keep the first `n_rows` rows, as a resumed run needs it; the hash is made again from the files."""
        self._wait()
        self._buffered = 0
        self._head = self._next_head = self._first_head
        self._begin_hash()
        kept: list[Path] = []
        for path, table in _tables(self._parts, self._head):
            left = n_rows - self.rows
            if left <= 0:
                break
            kept.append(path)
            self._next_head = table.schema.metadata[HEADER_KEY]
            if self._next_head != self._head:
                self._turn_page()
            self._digest(from_table(table.slice(0, left)))
            if table.num_rows > left:
                self._drop(kept)
                self._write_part(path, table.slice(0, left))
                break
        if self.rows < n_rows:
            raise JournalError(f"action log {self.folder} has {self.rows} rows, not the {n_rows} wanted")
        self._drop(kept)
        self._must_resume = False

    def _drop(self, kept: list[Path]) -> None:
        """Remove the parts after those kept, last first, so that a crash leaves no hole."""
        try:
            for path in reversed(self._parts[len(kept) :]):
                path.unlink()
            sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error) from error
        self._parts = list(kept)


def _parts(folder: Path) -> list[Path]:
    """Parts in order; a hole in their numbers is an error."""
    parts = sorted(folder.glob("part-*.parquet"))
    for number, path in enumerate(parts):
        if path.name != f"part-{number:05d}.parquet":
            raise JournalError(f"action log {folder} lacks part-{number:05d}.parquet")
    return parts


def _tables(parts: Sequence[Path], head: bytes | None = None) -> Iterator[tuple[Path, pa.Table]]:
    for path in parts:
        try:
            with pq.ParquetFile(path) as file:
                table = file.read()
        except (OSError, pa.ArrowException) as error:
            raise JournalError(
                f"action log part {path} cannot be read: {str(error).splitlines()[0]}"
            ) from error
        found = (table.schema.metadata or {}).get(HEADER_KEY)
        if found is None or not table.schema.equals(schema(found)):
            raise JournalError(f"{path} is not a part of an action log of this release")
        if head is not None and not continues(found, head):
            raise JournalError(f"{path} was written for other instruments or models than this run's")
        head = found
        yield path, table


def read_actions(folder: Path | str) -> Array:
    """All DECISION rows of a log, in order."""
    return np.concatenate([np.zeros(0, DECISION), *(from_table(t) for _, t in _tables(_parts(Path(folder))))])


def actions_sha256(folder: Path | str) -> str:
    """Hash of a log made again from its files: equal to what `close` returned."""
    digest, before = hashlib.sha256(), b""
    for _, table in _tables(_parts(Path(folder))):
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
