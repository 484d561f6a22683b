"""The status table of the README against what runs: each row names, in its last column, the command that proves it.

A row that says "no" names a command that must not exist yet: whoever adds it has to change the row.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from emp.core.numba.cache import PACKAGE
from emp.observe.validation import SkipCheckError

HEADING = "## What works today"
LONGEST_S = 300.0

_HURRIED = {
    "EMP_HTTP__PORT": "0",
    "EMP_WARM_UP_EVENTS": "50",
    "EMP_ACCESS__SPEED": "100",
}
"""A run proves itself in two seconds where its burn-in is short and its market fast."""


def status_table_holds() -> str:
    """Run the command of every row; a row of "no" must have none."""
    readme = PACKAGE.parent / "README.md"
    if not readme.exists():
        raise SkipCheckError("no checkout here: no README to check")
    rows = table(readme.read_text(encoding="utf-8"))
    wrong = [f"{name}: {why}" for name, absent, command in rows if (why := disproof(command, absent=absent))]
    assert rows, f"README.md has no table below {HEADING!r}"
    assert not wrong, "; ".join(wrong)
    return f"{len(rows)} rows of the README hold"


def table(readme: str) -> list[tuple[str, bool, str]]:
    """What each row of the status table is about, whether it says "no" of it, and the command it names."""
    text = readme.partition(HEADING)[2].partition("\n## ")[0]
    found = []
    for line in [line for line in text.splitlines() if line.startswith("|")][2:]:
        name, *cells, proof = (cell.strip() for cell in line.strip("|").split("|"))
        command = re.search(r"`(emp [^`]+)`", proof)
        assert command, f"README.md: the row {name!r} names no command in its last column"
        found.append((name, all(cell == "no" for cell in cells), command[1]))
    return found


def disproof(command: str, *, absent: bool) -> str:
    """Why a command does not prove its row; "" where it does."""
    code, said = _run(shlex.split(command)[1:])
    if absent:
        return "" if code != 0 and "No such command" in said else f"`{command}` exists: the row says no"
    return "" if code == 0 else f"`{command}` ended with {code}: {said.strip().splitlines()[-1:]}"


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code of an `emp` command in this checkout, and what it said; its run goes where nobody finds it."""
    with tempfile.TemporaryDirectory() as folder:
        told = {name: value for name, value in os.environ.items() if not name.startswith("EMP_")}
        told |= {name: os.environ[name] for name in ("EMP_CACHE",) if name in os.environ}
        told |= _HURRIED | {"EMP_RUN_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-m", "emp", *arguments],
            cwd=PACKAGE.parent,
            env=told,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    return done.returncode, done.stderr
