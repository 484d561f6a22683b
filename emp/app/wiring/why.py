"""Wiring of `emp why`: few columns of all rows of a run, picked and counted.

It answers over a day within a second, most of which is Python beginning: nothing here, or in what it imports, may need
the engine, compiled code or data frames.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from emp.core.codes import Action, Reason
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.journal.logged import logged_columns
from emp.journal.run import RunFolder

COLUMNS = (
    "ts",
    "seq",
    "instrument",
    "action",
    "reason_code",
    "edge_ticks",
    "gain",
    "inventory",
    "pnl_ticks",
    "latency_ms",
)
"""What `emp why` looks at."""


def instrument_of_run(folder: RunFolder, asked: str | None) -> int:
    """Index of the instrument that is asked for; a run of one needs no name."""
    names = list(folder.manifest["instruments"])
    if asked is None and len(names) == 1:
        return 0
    if asked not in names:
        missing = (
            "--instrument is missing" if asked is None else f"--instrument {asked} is none of this run's"
        )
        raise UsageError(f"{missing}; it has {', '.join(names)}")
    return names.index(asked)


def read_why(folder: RunFolder) -> Array:
    """The columns COLUMNS of every row of a run, of a live one too."""
    return logged_columns(folder, COLUMNS)


def moment(text: str, day_ns: int) -> int:
    """Nanoseconds of "13:30", "13:30:05.5" on the day of `day_ns`, of an ISO stamp, or of a number of ns; UTC."""
    if text.isdecimal():
        return int(text)
    day = datetime.fromtimestamp(day_ns / 1e9, UTC).date().isoformat()
    try:
        found = datetime.fromisoformat(f"{day}T{text}" if "-" not in text else text)
    except ValueError:
        raise UsageError(f"{text}: expected HH:MM, HH:MM:SS, a stamp like 2012-06-21T13:30, or ns") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6) * 1_000


def by_reason(rows: Array) -> list[dict[str, Any]]:
    """How often each action and reason came, with the means of edge and gain and the first and last seq."""
    found = []
    pairs = rows["action"].astype(np.int64) * 1_000 + rows["reason_code"]
    for pair in np.unique(pairs):
        mine = rows[pairs == pair]
        found.append(
            {
                "action": Action(int(pair) // 1_000).name.lower(),
                "reason": Reason(int(pair) % 1_000).name.lower(),
                "n": len(mine),
                "share": len(mine) / len(rows),
                "edge_ticks": float(mine["edge_ticks"].mean()),
                "gain": float(mine["gain"].mean()),
                "first_seq": int(mine["seq"][0]),
                "last_seq": int(mine["seq"][-1]),
            }
        )
    return sorted(found, key=lambda one: -one["n"])


def chosen(rows: Array, reason: str | None, action: str | None) -> Array:
    """The rows of a reason or an action, by name."""
    for text, kinds, column in ((reason, Reason, "reason_code"), (action, Action, "action")):
        if text is None:
            continue
        names = {one.name.lower(): int(one) for one in kinds}
        if text.lower() not in names:
            raise UsageError(f"{text} is no {column.removesuffix('_code')}: one of {', '.join(names)}")
        rows = rows[rows[column] == names[text.lower()]]
    return rows


def find_folder(name: str, runs: Path) -> RunFolder:
    """A run by what a person calls it."""
    from emp.journal.find import find_run

    return RunFolder(find_run(name, runs))
