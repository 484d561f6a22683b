"""Tables that lose nothing: where a window is too narrow for the columns, each row becomes lines of its own."""

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

PROSE = 24
"""Columns that the last column keeps at least where its words are wrapped."""


def print_table(console: Console, table: Table) -> None:
    """Print a table as wide as the window lets it be.

    Names of columns may be wrapped between words, and so may what the last column says. Where that is not enough, each
    row is printed as lines: what the first column says, then every other cell beside the name of its column. Such a
    line is never cut or broken: a figure or a path that is longer than the window goes on in the next line of the
    terminal, and is copied whole.
    """
    if _natural(console, table) <= console.width or _squeezed(console, table):
        console.print(table)
        return
    if table.title is not None:
        console.print(table.title, style="italic", highlight=False)
    for line in _lines(console, table):
        console.print(line, soft_wrap=True)


def _natural(console: Console, table: Table) -> int:
    """Columns that the table takes where nothing is wrapped."""
    return Measurement.get(console, console.options.update(max_width=100_000), table).maximum


def _squeezed(console: Console, table: Table) -> bool:
    """Make the columns as narrow as their cells are, but for the last; whether the table fits then."""
    names = [_text(console, column.header).plain if table.show_header else "" for column in table.columns]
    cells = [[_text(console, cell).plain for cell in column.cells] for column in table.columns]
    widest = [max(map(cell_len, [name, *column])) for name, column in zip(names, cells, strict=True)]
    narrow = [
        max(map(cell_len, [*name.split(), *column, ""])) for name, column in zip(names, cells, strict=True)
    ]
    room = console.width - (_natural(console, table) - sum(widest)) - sum(narrow[:-1])
    words = [word for text in [names[-1], *cells[-1]] for word in text.split()]
    prose = min(widest[-1], PROSE) if any(" " in text for text in cells[-1]) else 0
    if room < max(map(cell_len, words), default=0) or room < prose:
        return False
    for column, width in zip(table.columns[:-1], narrow[:-1], strict=True):
        column.width, column.no_wrap = width, False
    table.columns[-1].max_width = room
    return True


def _text(console: Console, cell: object) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell), highlight=False)


def _lines(console: Console, table: Table) -> list[Text]:
    """Every row in lines; a table of two columns without a header has one line a row."""
    names = [_text(console, column.header).plain if table.show_header else "" for column in table.columns]
    widest = max(cell_len(name) for name in names)
    found = []
    named = Text()
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (_text(console, cell) for cell in cells)
        if not table.show_header:
            found.append(Text("  ").join([first, *others]))
            continue
        named = first if first.plain else named  # a name that stands once for several rows
        found.append(Text(f"{names[0]} ") + named if names[0] else named)
        found += [
            Text(f"  {name:<{widest}}  ") + text
            for name, text in zip(names[1:], others, strict=True)
            if text.plain
        ]
    return found
