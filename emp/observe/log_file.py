"""The log of a run as a file that does not grow for ever: full ones are compressed beside it, the oldest removed."""

import gzip
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

MOST = 64 << 20
"""Bytes of the file that is written; a full one shrinks to about a tenth."""

KEPT = 8
"""Compressed files that are kept."""


class LogFile:
    """What `emp.observe.logs` writes to. Raises OSError where the file cannot be opened or written.

    path          the newest lines
    STEM-N.jsonl.gz   those before, N counting up
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()

    def _open(self) -> IO[str]:
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(handle).st_size
        return open(handle, "a", encoding="utf-8", buffering=1 << 16)

    def write(self, text: str) -> int:
        """Append a line."""
        written = self._file.write(text)
        self._size += len(text)
        if self._size >= MOST:
            self._turn()
        return written

    def flush(self) -> None:
        """Hand what is buffered to the system."""
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> "LogFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn(self) -> None:
        """Begin a new file; where the old one cannot be put aside, it goes on growing."""
        self._file.flush()
        numbers = self._numbers()
        full = self._path.with_name(f"{self._path.stem}-{max(numbers, default=0) + 1}.jsonl.gz")
        beside = full.with_name(f".{full.name}.tmp")
        try:
            with self._path.open("rb") as source, gzip.open(beside, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
            beside.chmod(0o600)
            beside.replace(full)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            self._size = 0  # tried again when as much has come again
            return
        self._file.close()
        os.truncate(self._path, 0)
        self._file = self._open()
        for number in sorted(numbers)[: max(0, len(numbers) + 1 - KEPT)]:
            with suppress(OSError):
                self._path.with_name(f"{self._path.stem}-{number}.jsonl.gz").unlink()

    def _numbers(self) -> list[int]:
        """Those of the compressed files."""
        names = [
            p.name.removesuffix(".jsonl.gz").rpartition("-")[2] for p in self._path.parent.glob(self._glob)
        ]
        return [int(name) for name in names if name.isdigit()]

    @property
    def _glob(self) -> str:
        return f"{self._path.stem}-*.jsonl.gz"
