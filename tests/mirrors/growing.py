"""A run's journal for tests of mirrors: written by the classes that a run writes it with, in this process."""

import os
from pathlib import Path

from emp.app.bench.mirrored.writer import Writer
from emp.core.disk import disk


def grow(writer: Writer, batches: int) -> None:
    for _ in range(batches):
        writer.batch()


def new_parts(writer: Writer) -> None:
    """As once a minute: what the tail holds goes into parts, and a new tail begins."""
    writer._tap._flush()


def die(writer: Writer) -> None:
    """Leave the files as a SIGKILL leaves them."""
    tap = writer._tap
    disk().close(tap._tail)
    for one in (tap.market._writer, tap.actions._writer):
        one.wait()
        one._writer.shutdown()
    tap._latency.close()
    disk().close(writer._monitor._file)
    writer._latency.close()
    writer._ledger.close()


def tear(run: Path, taken: int) -> None:
    """Cut the tail's last bytes, as of a batch that was being written."""
    with (run / "tail.bin").open("r+b") as file:
        file.truncate(max(0, os.fstat(file.fileno()).st_size - taken))
