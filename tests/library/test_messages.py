"""Errors of the library speak of its arguments, whatever room they come from, and are one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import emp
from emp.app.library.arguments import ARGUMENTS
from emp.core.errors import EmpError

ROOMS = ("access/recordings", "core", "engine", "model", "perception", "sim/flow", "train/data")
"""What `emp.load`, `features`, `labels`, `simulate` and `backtest` go through, beside live trading."""

OF_COMMANDS = {
    "--data": "recipes of `emp train`",
    "--detach": "a docstring",
    "--long": "an option of zstd",
    "--install": "WSL",
    "--out": "a command, whole",
    "--python": "a command, whole",
    "--flat": "a command, whole",
    "--reference": "a command, whole",
    "--ray": "of commands alone",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    (made / "table.csv").write_text("x,y\n1,2\n3,4\n")
    emp.simulate("zi", "GC", events=300, seed=1).save(made / "gc.parquet")
    off = "\n".join(f"2024-01-02T15:00:{i:02d}.5Z,100.{i:03d},101.5" for i in range(50))
    (made / "off.csv").write_text("timestamp,bid,ask\n" + off)
    return made


CALLS: list[tuple[Callable[[Path], Any], str]] = [
    (lambda at: emp.load(at / "table.csv", "GOGL"), "did you mean GOOG.* pass it as catalogue=FILE"),
    (lambda at: emp.backtest(at / "table.csv", "GOGL"), "pass it as catalogue=FILE"),
    (lambda at: emp.simulate("zi", "GOGL"), "pass it as catalogue=FILE of emp.load"),
    (lambda at: emp.load(at / "table.csv", "GOOG"), r"in a mapping file \(mappings=\[FILE\], see"),
    (lambda at: emp.backtest(at / "table.csv", "GOOG"), r"\(mappings=\[FILE\] of emp.load, see"),
    (lambda at: emp.load(at / "table.csv", "GOOG", mappings=str(at)), "Is a directory"),
    (lambda at: emp.load(at / "gc.parquet", "GOOG"), "holds GC, not GOOG"),
    (lambda at: emp.load(at, "GOOG"), "is a folder"),
    (lambda at: emp.load("a\0b", "GOOG"), "no path has a NUL"),
    (lambda at: emp.simulate("gog"), "or use flow with one of zi, goog, tsla"),
    (lambda at: emp.simulate("zi", start_px="dear"), "start_px is a whole number from 1 on, not 'dear'"),  # type: ignore[arg-type]
    (lambda at: emp.backtest(emp.Flow("zi", events="many"), "GC"), "Flow: events is a whole number from 1"),  # type: ignore[arg-type]
    (lambda at: emp.backtest(at / "gc.parquet", "GC", model="linaer"), "no model linaer: did you mean linear"),
    (lambda at: emp.labels(emp.simulate("zi", "GC", events=300), k_sigma="a"), "k_sigma is a number"),  # type: ignore[arg-type]
    (lambda at: emp.simulate("zi", "GC", events=300).save(at), "Is a directory|is a directory"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), CALLS)
def test_what_goes_wrong_is_told_in_arguments(folder: Path, call: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(EmpError, match=said) as caught:
        call(folder)
    assert "\n" not in str(caught.value)
    assert not re.search(r"(?<!\w)--[a-z]", re.sub(r"`[^`]*`", "", str(caught.value)))


def test_every_option_that_a_room_below_names_is_an_argument() -> None:
    """A new message there is either told in arguments too, or names an option within a whole command."""
    root = Path(emp.__file__).parent
    named = set()
    for room in ROOMS:
        for path in (root / room).rglob("*.py"):
            for line in path.read_text().splitlines():
                named.update(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line) if '"' in line else ())
    assert named - ARGUMENTS.keys() == OF_COMMANDS.keys()
