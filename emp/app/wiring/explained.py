"""Wiring of `emp explain` and `emp why`: the rows of a run, and the fees and limits under which they were decided."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.app.wiring.rerun import run_terms
from emp.core.codes import Action, Reason
from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.records import DECISION, Array
from emp.engine.engine import EngineLimits
from emp.engine.explain import Rules, rules_of
from emp.engine.journal_tap import journalled_rows
from emp.journal.actionlog import read_columns
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL

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
"""What `emp why` looks at: few columns, so that a day takes less than a second."""


def rules_of_run(folder: RunFolder, name: str) -> Rules:
    """Fees and limits of an instrument in a run of a recording or of `emp run`, as they were when it began."""
    config = folder.manifest["config"]
    if "limits" in config:
        facts = msgspec.convert(config["instrument"], Instrument)
        return rules_of(facts, msgspec.convert(config["limits"], EngineLimits))
    terms = run_terms(folder)
    return rules_of(next(one for one in terms.instruments if one.name == name), terms.limits)


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


def decided_at(folder: RunFolder, seq: int, instrument: int) -> Any:
    """The DECISION row of an event; UsageError names the nearest where there is none."""
    rows = journalled_rows(folder)
    rows = rows[rows["instrument"] == instrument]
    found = rows[rows["seq"] == seq]
    if len(found):
        return found[-1]
    if not len(rows):
        raise UsageError(f"{folder.path} has no decision of that instrument")
    near = rows["seq"][np.abs(rows["seq"] - seq).argmin()]
    raise UsageError(f"{folder.path} has no decision at seq {seq}; the nearest is at {near}")


def read_why(folder: RunFolder) -> Array:
    """The columns COLUMNS of every row of a run, of a live one too."""
    if (folder.path / TAIL).exists():
        rows = journalled_rows(folder)
        kept = np.zeros(len(rows), [(name, DECISION[name]) for name in COLUMNS])
        for name in COLUMNS:
            kept[name] = rows[name]
        return kept
    return read_columns(folder.actions, COLUMNS)


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
