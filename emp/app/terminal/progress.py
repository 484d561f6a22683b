"""How far long work is, with the time left: a bar on stderr, or now and then a line where that is not a terminal."""

import sys
import time
from types import TracebackType

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from emp.app.terminal.console import make_console

BAR_COLUMNS = 76
"""Columns that a bar with its words needs; in a narrower window there are words alone."""

LINE_EVERY_S = 30.0
"""Between two lines in a log; what takes less says nothing there."""


class Work:
    """Work of which the done share is known; use as a context manager."""

    def __init__(self, name: str) -> None:
        console = make_console()
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), TimeRemainingColumn()]
        if console.width >= BAR_COLUMNS:
            columns[1:1] = [BarColumn(), TimeElapsedColumn()]
        self._lines = not console.is_terminal
        self._bar = Progress(*columns, console=console, disable=self._lines)
        self._name, self._task = name, self._bar.add_task(name, total=1.0)
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "Work":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def report(self, text: str, share: float) -> None:
        """Say what is being done and which share of all is done."""
        self._bar.update(self._task, description=text, completed=share)
        self._line(f"{self._name}: {text}", share)

    def bytes_read(self, done: int, total: int) -> None:
        """Say how much of a file is read."""
        share = done / max(1, total)
        self._bar.update(self._task, completed=share)
        self._line(self._name, share)

    def _line(self, text: str, share: float) -> None:
        now = time.monotonic()
        if not self._lines or now < self._said + LINE_EVERY_S:
            return
        self._said = now
        left = (now - self._began) * (1.0 - share) / share if share > 0.0 else None
        about = (
            ""
            if left is None
            else f", about {left / 60.0:.0f} min left"
            if left >= 90.0
            else f", about {left:.0f} s left"
        )
        try:
            print(f"{text} ({share:.0%}{about})", file=sys.stderr, flush=True)
        except OSError:  # nobody reads it any more: the work goes on
            self._lines = False
