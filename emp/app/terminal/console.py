"""Consoles: as wide as the terminal, and without an end where the output is a pipe or a file."""

import os

from rich.console import Console

PIPE_COLUMNS = 10_000
"""Width where nobody looks: lines stay whole, so that paths and figures can be cut out of them."""


class _Unbroken(Console):
    """A reader that goes away ends words, not work: rich would exit."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def make_console(*, stderr: bool = True) -> Console:
    """A console on stderr, or on stdout. `NO_COLOR` and `COLUMNS` are followed."""
    made = _Unbroken(stderr=stderr, soft_wrap=True)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_COLUMNS
    return made
