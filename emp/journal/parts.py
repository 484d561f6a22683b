"""Rows on their way to numbered Parquet parts: two buffers, a thread that compresses, files whole or absent."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.core.background import background
from emp.core.disk import disk, make_folders, write_new
from emp.core.errors import JournalError
from emp.core.records import Array
from emp.journal.files import listed, refuse_dangling

TOTAL_KEY = b"emp.rows"
"""Fact of a part: rows of the journal up to its end."""

ToTable = Callable[[Array], pa.Table]


class PartWriter:
    """Appends rows of one dtype to `folder`/part-NNNNN.parquet.

    `what` names the journal in messages ("action log"). A part that could not be written raises JournalError at
    the next part, flush or close. Used by one thread at a time; compression runs in a thread of its own.
    """

    def __init__(
        self,
        folder: Path,
        dtype: np.dtype[Any],
        part_rows: int,
        what: str,
        *,
        dictionary: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._what = what
        self._dictionary = list(dictionary)
        self._buffer = np.zeros(part_rows, dtype)
        self._spare = np.zeros(part_rows, dtype)
        self._buffered = 0
        self._writer = background().worker(what.replace(" ", "-"))
        self._pending: Future[None] | None = None
        try:
            refuse_dangling(folder)
            make_folders(folder)
            for leftover in listed(folder, ".part-*.tmp"):
                disk().unlink(leftover)
        except OSError as error:
            raise self._failed(error) from error
        self.parts = list_parts(folder, what)

    @property
    def buffered(self) -> int:
        """Rows that wait in memory for their part to be full."""
        return self._buffered

    @property
    def room(self) -> int:
        """Rows until the part at hand is full."""
        return len(self._buffer) - self._buffered

    def append(self, rows: Array, to_table: ToTable) -> None:
        """Take rows; every part that becomes full is made a table by `to_table` and written."""
        done = 0
        while done < len(rows):
            take = min(len(rows) - done, len(self._buffer) - self._buffered)
            self._buffer[self._buffered : self._buffered + take] = rows[done : done + take]
            self._buffered += take
            done += take
            if self._buffered == len(self._buffer):
                self.hand_over(to_table)

    def flush(self, to_table: ToTable) -> None:
        """Write the rows held in memory as a part of their own; all rows are durable on return."""
        self.hand_over(to_table)
        self.wait()

    def hand_over(self, to_table: ToTable) -> None:
        """Let the writer thread make a part of what is buffered; compression must not stall the caller."""
        if not self._buffered:
            return
        self.wait()
        path = self.folder / f"part-{len(self.parts):05d}.parquet"
        rows = self._buffer[: self._buffered]
        self._pending = self._writer.submit(lambda: self.write_part(path, to_table(rows)))
        self.parts.append(path)
        self._buffer, self._spare = self._spare, self._buffer
        self._buffered = 0

    def checkpoint(self, to_table: ToTable) -> None:
        """Let the writer thread write what is buffered under the number of the part that it will be of, and go on: that
        part grows until it is full, so that little is lost by a crash and few files are made.
        """
        if not self._buffered:
            return
        self.wait()
        path = self.folder / f"part-{len(self.parts):05d}.parquet"
        rows = self._buffer[: self._buffered].copy()
        self._pending = self._writer.submit(lambda: self.write_part(path, to_table(rows)))

    def forget_buffered(self) -> None:
        """Drop what no part holds yet."""
        self.wait()
        self._buffered = 0

    def wait(self) -> None:
        """Wait for the writer; whatever stopped it is raised here."""
        if self._pending is not None:
            self._pending.result()

    def write_part(self, path: Path, table: pa.Table) -> None:
        """Write one part, durably."""
        beside = path.with_name(f".{path.name}.tmp")
        try:
            whole = pa.BufferOutputStream()
            pq.write_table(
                table,
                whole,
                compression="zstd",
                compression_level=1,
                use_dictionary=self._dictionary or False,
                write_statistics=["ts", "seq"],
            )
            write_new(beside, whole.getvalue())
            disk().replace(beside, path)
            disk().sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error) from error

    def drop_after(self, kept: int) -> None:
        """Remove the parts after the first `kept`, last first, so that a crash leaves no hole."""
        try:
            for path in reversed(self.parts[kept:]):
                disk().unlink(path)
            disk().sync_folder(self.folder)
        except OSError as error:
            raise self._failed(error) from error
        self.parts = self.parts[:kept]

    def close(self, to_table: ToTable) -> None:
        """Write what is left and end the thread."""
        try:
            self.flush(to_table)
        finally:
            self._writer.shutdown()

    def _failed(self, error: OSError) -> JournalError:
        what = error.strerror or os.strerror(error.errno) if error.errno else str(error)
        return JournalError(f"cannot write {self._what} {self.folder}: {what}")


class Footer(NamedTuple):
    """What the end of a part tells without its rows being read."""

    rows: int
    facts: dict[bytes, bytes]  # of its schema
    schema: pa.Schema


def read_footer(path: Path, what: str) -> Footer:
    """The footer of a part; JournalError in one line where it cannot be read."""
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            schema = file.schema_arrow
            return Footer(file.metadata.num_rows, dict(schema.metadata or {}), schema)
    except (OSError, pa.ArrowException) as error:
        raise JournalError(f"{what} part {path} cannot be read: {str(error).splitlines()[0]}") from error


def total_rows(parts: Sequence[Path], what: str) -> int:
    """Rows in all parts: the last one says it, where a release wrote it that counts; else every footer is read."""
    if not parts:
        return 0
    told = read_footer(parts[-1], what).facts.get(TOTAL_KEY, b"")
    return int(told) if told.isdigit() else sum(read_footer(path, what).rows for path in parts)


def parts_for(parts: Sequence[Path], total: int, n_rows: int, what: str) -> tuple[int, int]:
    """How many of the parts, which hold `total` rows, the first `n_rows` rows need, and how many rows come before the
    last of them: read from the end, since a run goes on near its end.
    """
    kept, before = len(parts), total
    while kept:
        before -= read_footer(parts[kept - 1], what).rows
        if before < n_rows:
            return kept, before
        kept -= 1
    return 0, 0


def with_facts(table: pa.Table, facts: Mapping[bytes, bytes]) -> pa.Table:
    """A table whose schema tells more."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **facts})


def list_parts(folder: Path, what: str) -> list[Path]:
    """Parts in order; a hole in their numbers is an error."""
    parts = listed(folder, "part-*.parquet")
    for number, path in enumerate(parts):
        if path.name != f"part-{number:05d}.parquet":
            raise JournalError(f"{what} {folder} lacks part-{number:05d}.parquet")
    return parts


def read_parts(parts: Sequence[Path], what: str) -> Iterator[tuple[Path, pa.Table]]:
    """Yield each part with its table; JournalError in one line where one cannot be read."""
    for path in parts:
        try:
            with path.open("rb") as raw, pq.ParquetFile(raw) as file:
                yield path, file.read()
        except (OSError, pa.ArrowException) as error:
            raise JournalError(f"{what} part {path} cannot be read: {str(error).splitlines()[0]}") from error
