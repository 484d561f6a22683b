"""What only some systems have stands in one module, and a system that cannot run the package is told so in one line."""

import ast
import sys
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.core.platform import WINDOWS

EMP = Path(__file__).parents[2] / "emp"

ELSEWHERE = {
    "app/bench/search_peers/rounds.py",  # a benchmark, which asks first whether the call is there
}
LINUX = {
    "O_DIRECTORY",
    "sched_getaffinity",
    "sched_setaffinity",
    "fdatasync",
    "CLOCK_MONOTONIC",
    "CLOCK_BOOTTIME",
    "fcntl",
}
"""Names of `os`, `time` and the like that macOS or Windows lack, or know otherwise."""


def named_of_the_system(source: str) -> set[str]:
    """Of these names those that are asked of a module of Python, or imported."""
    found = set()
    for one in ast.walk(ast.parse(source)):
        if (
            isinstance(one, ast.Attribute)
            and isinstance(one.value, ast.Name)
            and one.value.id in ("os", "time")
        ):
            found.add(one.attr)
        elif isinstance(one, ast.Import):
            found |= {alias.name for alias in one.names}
        elif isinstance(one, ast.ImportFrom) and one.module in ("os", "time", "fcntl"):
            found |= {one.module, *(alias.name for alias in one.names)}
    return found & LINUX


def test_what_only_linux_has_stands_in_one_module() -> None:
    there = {
        str(path.relative_to(EMP)): names
        for path in EMP.rglob("*.py")
        if (names := named_of_the_system(path.read_text(encoding="utf-8")))
    }
    assert there.pop("core/platform.py")
    assert there.keys() <= ELSEWHERE, there


def test_windows_is_told_of_wsl_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert (said.out + said.err).strip() == f"emp: {WINDOWS}"
    assert "WSL2" in WINDOWS
