"""The newest lines of a run's log, kept as they are written."""

from collections import deque
from typing import NamedTuple

from emp.observe.logs import Lines

KEPT = 300


class Tail(NamedTuple):
    """Lines of the log and the number of the last of them, counted from the run's first."""

    lines: list[str]
    last: int


class LogTail:
    """Remembers the newest KEPT lines. One thread writes, any may read."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._count = 0

    def over(self, stream: Lines) -> Lines:
        """A stream that writes to `stream` and is remembered here."""
        return _Remembered(self, stream)

    def add(self, text: str) -> None:
        """Remember a line."""
        self._count += 1
        self._lines.append((self._count, text.rstrip("\n")))

    def after(self, count: int) -> Tail:
        """What is kept of the lines after the first `count`."""
        lines = list(self._lines)
        return Tail([text for n, text in lines if n > count], lines[-1][0] if lines else 0)


class _Remembered:
    def __init__(self, tail: LogTail, stream: Lines) -> None:
        self._tail, self._stream = tail, stream

    def write(self, text: str, /) -> int:
        self._tail.add(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()
