"""A progress bar on stderr with the time left, silent where that is not a terminal."""

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


class Work:
    """Work of which the done share is known; use as a context manager."""

    def __init__(self, name: str) -> None:
        console = make_console()
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), TimeRemainingColumn()]
        if console.width >= BAR_COLUMNS:
            columns[1:1] = [BarColumn(), TimeElapsedColumn()]
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(name, total=1.0)

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

    def bytes_read(self, done: int, total: int) -> None:
        """Say how much of a file is read."""
        self._bar.update(self._task, completed=done / max(1, total))
