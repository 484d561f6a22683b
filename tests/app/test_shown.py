"""Every command that prints tables, whatever reads it: a pipe, 40 and 80 columns, no colour, other locales.

All of it from a folder with spaces and letters beyond ASCII in its name.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

from emp.app.terminal.console import make_console
from emp.app.terminal.table import print_table
from tests.app.shown import COMMANDS, MARK, SIMULATED
from tests.kit.datasets import market, write_quotes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "Märkte – my own runs"
CUT = "…"
SGR = re.compile(r"\x1b\[([0-9;]*)m")
COLOURS = {str(code) for code in (*range(30, 50), *range(90, 108))}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
CONDITIONS = {
    "pipe": {"LC_ALL": "C"},
    "pipe POSIX, bytes of ASCII": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "40": {"LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
    "80": {"LC_ALL": "POSIX"},
}


class Shown(NamedTuple):
    """What a command said under a condition."""

    code: int
    text: str

    @property
    def plain(self) -> str:
        return CONTROL.sub("", self.text)


def prepare(folder: Path) -> None:
    """A folder as a user has one: his configuration and his recordings."""
    folder.mkdir()
    (folder / "emp.yaml").write_text(
        "mode: mock\nwarm_up_events: 20\ninstruments: {names: [GC]}\naccess: {speed: 50}\nhttp: {port: 0}\n"
    )
    write_quotes(market(1_500, 2, 0.5), str(folder / "GOOG_day.csv"))
    shutil.copy(folder / "GOOG_day.csv", folder / "AAPL_day.csv")  # of which the shipped models know nothing
    (folder / SIMULATED).write_text("34200.1,1,2,3,1020000,-1\n34200.2,4,1,5,1000000,1\n")
    books = "".join(f"1010000,4,1000000,{left},1020000,3,990000,6\n" for left in (9, 4))
    (folder / SIMULATED.replace("message", "orderbook")).write_text(books)


def read_all(terminal: int, process: "subprocess.Popen[bytes]") -> bytes:
    """What a process writes to its terminal until it ends."""
    found = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # Linux: the other side is closed
            part = b""
        if not part:
            process.wait()
            return found
        found += part


def said(condition: str, folder: Path) -> dict[str, Shown]:
    """What every command says, called under a condition: stdout and stderr together."""
    prepare(folder)
    codes = folder.parent / "codes.json"
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "LANG", "TERM")}
    kept = {
        k: v
        for k, v in kept.items()
        if not k.startswith("EMP_") or k in ("EMP_CACHE", "EMP_DATA", "EMP_STATE")
    }
    told = kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | CONDITIONS[condition]
    line = [sys.executable, "-m", "tests.app.shown", str(codes)]
    if condition.isdigit():
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, int(condition), 0, 0))
        with subprocess.Popen(
            line, cwd=folder, env=told, stdin=theirs, stdout=theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            output = read_all(ours, process)
        os.close(ours)
    else:
        output = subprocess.run(
            line, cwd=folder, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        ).stdout
    text = output.decode("utf-8", errors="surrogateescape")
    ended = json.loads(codes.read_text(encoding="utf-8"))
    found = {}
    for part in re.split(rf"^{MARK}(?=\w+\s)", CONTROL_AT_MARK.sub(MARK, text), flags=re.M)[1:]:
        name, _, words = part.partition("\n")
        found[name.strip()] = found.get(name.strip(), "") + words
    return {name: Shown(ended[name], words) for name, words in found.items()}


CONTROL_AT_MARK = re.compile(rf"(?:\x1b\[[0-9;?]*[A-Za-z])+{MARK}")


@pytest.fixture(scope="session", params=CONDITIONS)
def shown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Shown]]:
    """A condition, and what every command said under it."""
    return request.param, said(request.param, tmp_path_factory.mktemp("shown") / FOLDER)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_read_anywhere(shown: tuple[str, dict[str, Shown]], command: str) -> None:
    condition, found = shown
    code, text = found[command]
    assert code == 0, text
    assert "Traceback" not in text
    assert CUT not in text, "something was cut off"
    assert len(found[command].plain.split()) > 3, "it said nothing"
    if not condition.isdigit():
        assert "\x1b" not in text
    elif "NO_COLOR" in CONDITIONS[condition]:
        assert not {code for codes in SGR.findall(text) for code in codes.split(";")} & COLOURS


@pytest.mark.parametrize("command", ["run", "replay", "report"])
def test_a_path_is_whole(shown: tuple[str, dict[str, Shown]], command: str) -> None:
    found = shown[1]
    kind = "mock" if command == "run" else "replay-GOOG"
    name = rf"runs/{kind}-[0-9A-Z]{{8}}"
    if command == "report":
        spelled = "".join(
            re.escape(c) if c.isascii() else ".{1,3}" for c in FOLDER
        )  # a letter, or its bytes as ?
        name = rf"{spelled}/{name}/report\.html"
    assert re.search(name, found[command].plain), found[command].plain


def test_a_narrow_window_loses_no_figure(shown: tuple[str, dict[str, Shown]]) -> None:
    from emp.core.instrument import catalogue

    text = shown[1]["instruments"].plain
    words, lines = text.split(), text.splitlines()
    for one in catalogue().values():
        numbers = (one.tick, one.lot, one.point_value, one.taker_fee, one.maker_fee)
        cells = [one.name, one.venue.name.lower(), *(f"{number:.10g}" for number in numbers)]
        assert set(cells) <= set(words)
        if not shown[0].isdigit():
            assert any(set(cells) <= set(line.split()) for line in lines), "a row is broken into lines"


def printed(table: Table, columns: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    console: Console = make_console()
    with console.capture() as caught:
        print_table(console, table)
    return [line.rstrip() for line in caught.get().splitlines()]


def facts() -> Table:
    table = Table(title="facts", box=None)
    for name in ("name", "half life", "", "found"):
        table.add_column(name)
    table.add_row("one", "12.5", "[green]pass[/]", "a [1, 2] text of several words that goes on and on")
    table.add_row("", "13.5", "", "/a/path/that/is/long/and/has/no/space/in/it")
    return table


def test_a_table_is_as_wide_as_it_needs_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(facts(), 100, monkeypatch)
    assert len(lines) == 4
    assert lines[2].split(maxsplit=3) == [
        "one",
        "12.5",
        "pass",
        "a [1, 2] text of several words that goes on and on",
    ]


def test_the_last_column_is_wrapped_between_words_and_no_path_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(facts(), 68, monkeypatch)
    assert max(map(len, lines)) <= 68
    assert len(lines) == 6
    assert any(line.endswith("/a/path/that/is/long/and/has/no/space/in/it") for line in lines)


def test_where_nothing_helps_rows_become_lines_that_name_each_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(facts(), 40, monkeypatch) == [
        "facts",
        "name one",
        "  half life  12.5",
        "             pass",
        "  found      a [1, 2] text of several words that goes on and on",
        "name one",
        "  half life  13.5",
        "  found      /a/path/that/is/long/and/has/no/space/in/it",
    ]


def test_two_columns_without_names_stay_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(show_header=False, box=None)
    table.add_row("action log sha256", "a" * 64)
    assert printed(table, 40, monkeypatch) == ["action log sha256  " + "a" * 64]
