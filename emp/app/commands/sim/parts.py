"""What the commands of the simulator share: options, progress, words."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from emp.app.terminal.completion import INSTRUMENTS

START_PX = 58_000
"""Ticks at which sessions of `emp sim trade` begin."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Charged = Annotated[
    str, typer.Option(help="Name in the catalogue; its fees are charged.", autocompletion=INSTRUMENTS)
]
Model = Annotated[str, typer.Option(help="zi, goog, tsla, or a file that `emp sim calibrate` wrote.")]


class ProgressBar:
    """Progress on stderr; yields a function that takes the share done."""

    def __init__(self, name: str) -> None:
        from emp.app.terminal.progress import Work

        self._name = name
        self._work = Work(name)

    def __enter__(self) -> Callable[[float], None]:
        self._work.__enter__()
        return lambda share: self._work.report(self._name, share)

    def __exit__(self, *error: Any) -> None:
        self._work.__exit__(*error)


def standard_console() -> Any:
    """Where tables and words go."""
    from emp.app.terminal.console import make_console

    return make_console()


def show(console: Any, table: Any) -> None:
    """Print a table that loses nothing in a narrow window."""
    from emp.app.terminal.table import print_table

    print_table(console, table)


def say(text: str) -> None:
    """Print a line as it is."""
    standard_console().print(text, highlight=False, soft_wrap=True)
