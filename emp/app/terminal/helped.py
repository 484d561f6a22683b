"""How help is laid out: a sentence a command in a list, paragraphs that whoever prints them breaks, narrow windows."""

import inspect
import shutil
from functools import cache
from typing import Any

NARROW = 60
"""Columns below which a table of options has no room: it would cut their very names."""


NAMES = 18
"""Columns for names in a narrow window; a longer one has a line of its own."""


def narrow_columns() -> int | None:
    """How wide help without tables is to be; None where there is room for tables."""
    columns = shutil.get_terminal_size().columns
    return columns - 1 if columns < NARROW else None  # some lines are broken a column too late


@cache
def _narrow(context: Any) -> Any:
    """A kind of context whose lists leave room for what they say."""

    class Formatter(context.formatter_class):
        def write_dl(self, rows: Any, col_max: int = NAMES, col_spacing: int = 2) -> None:
            super().write_dl(rows, min(col_max, NAMES), col_spacing)

    return type("NarrowContext", (context,), {"formatter_class": Formatter})


def lay_out(command: Any) -> None:
    """Prepare the help of a command, and of those below it, for the window that it is read in."""
    paragraphs = [" ".join(part.split()) for part in inspect.cleandoc(command.help or "").split("\n\n")]
    command.help = "\n\n".join(paragraphs)
    sentence, stop, _ = paragraphs[0].partition(". ")
    command.short_help = sentence + stop.strip()
    if narrow_columns():
        command.rich_markup_mode = None
        command.context_class = _narrow(command.context_class)
    for below in getattr(command, "commands", {}).values():
        lay_out(below)
