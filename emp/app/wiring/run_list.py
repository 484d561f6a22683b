"""What is known of the runs in a folder, whatever state they were left in: `emp runs`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emp.core.errors import EmpError
from emp.engine.control_socket import goes_on
from emp.engine.view_parts import money_of
from emp.journal.actionlog import newest_first, time_span
from emp.journal.find import run_folders
from emp.journal.run import RunFolder, instruments_of

ENDED, RUNNING, UNFINISHED, UNREADABLE = "ended", "running", "unfinished", "unreadable"
UNTOLD = ("run", "run_folder", "url")
"""Entries of a summary that differ between any two runs."""


def known_runs(runs: Path) -> list[dict[str, Any]]:
    """One record per run folder, oldest first by the market time at which it began; those without decisions last.

    Keys: run, folder, mode, instruments, model_hash, state, began, ended (the market time of the first and the last
    decision, ISO UTC), pnl_ticks, fees (in ticks), fills, halted, pnl_money and fees_money (by currency); None
    where it cannot be known, or where ticks of several instruments do not add up. What cannot be read at all says why
    in `reason`.
    """
    found = [_described(path) for path in run_folders(runs)]
    return sorted(found, key=lambda one: (one["began"] is None, one["began"] or "", one["folder"]))


def _described(path: Path) -> dict[str, Any]:
    nothing = dict.fromkeys(("mode", "instruments", "model_hash", "began", "ended", *_RESULT))
    record: dict[str, Any] = {"run": path.name.rpartition("-")[2], "folder": str(path), **nothing}
    try:
        folder = RunFolder(path)
        record |= {name: folder.manifest.get(name) for name in ("run", "mode", "instruments")}
        record["model_hash"] = (folder.manifest.get("model_hashes") or [None])[-1]
        record["state"] = ENDED if folder.finished else RUNNING if goes_on(path) else UNFINISHED
        record |= _result(folder, folder.summary()) if folder.finished else _so_far(folder)
        span = time_span(folder.actions)
        record["began"], record["ended"] = (_stamp(ts) for ts in span) if span else (None, None)
    except (EmpError, OSError) as error:
        record["state"], record["reason"] = UNREADABLE, str(error)
    return record


_RESULT = ("pnl_ticks", "fees", "fills", "halted", "pnl_money", "fees_money")


def _result(folder: RunFolder, summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary says; that of `emp run` has ticks by instrument."""
    parts = summary.get("instruments")
    names = folder.manifest["instruments"]
    told = [parts.get(name, {}) for name in names] if isinstance(parts, dict) else [summary]
    found: dict[str, Any] = {"fills": summary.get("fills"), "halted": summary.get("halted")}
    for name, money in (("pnl_ticks", "pnl_money"), ("fees", "fees_money")):
        if all(name in part for part in told):
            ticks = [part[name] for part in told]
            found[name], found[money] = _ticks(folder, ticks), _money(folder, ticks)
    return found


def _so_far(folder: RunFolder) -> dict[str, Any]:
    """What the newest decision of each instrument says of a run that has not ended; nothing where one has none."""
    pnl: dict[int, float] = {}
    n = len(folder.manifest["instruments"])
    for rows in newest_first(folder.actions):
        for row in reversed(rows):
            pnl.setdefault(int(row["instrument"]), float(row["pnl_ticks"]))
            if len(pnl) == n:
                break
        break
    if len(pnl) < n:  # what one has come to is not known from there
        return {}
    ticks = [pnl[i] for i in range(n)]
    return {"pnl_ticks": _ticks(folder, ticks), "pnl_money": _money(folder, ticks)}


def _ticks(folder: RunFolder, ticks: Sequence[float]) -> float | None:
    """Ticks of all instruments together; None where they are not worth the same."""
    worth = {money_of(one) for one in instruments_of(folder.manifest)}
    return sum(ticks) if len(ticks) == 1 or len(worth) == 1 else None


def _money(folder: RunFolder, ticks: Sequence[float]) -> dict[str, float] | None:
    """What ticks of each instrument are worth, by currency; None where that of one is not known."""
    worth = [money_of(one) for one in instruments_of(folder.manifest)]
    if len(worth) != len(ticks) or not all(currency for _, currency in worth):
        return None
    found: dict[str, float] = {}
    for n, (each, currency) in zip(ticks, worth, strict=True):
        found[currency] = found.get(currency, 0.0) + n * each
    return found


def _stamp(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def differences(folders: list[RunFolder]) -> list[tuple[str, list[Any]]]:
    """Names and values, one per run, of what is not the same in the configuration and in the summary of each."""
    flat = [_flat({**folder.manifest["config"], **_told(folder)}) for folder in folders]
    names = dict.fromkeys(name for one in flat for name in one)
    table = [(name, [one.get(name) for one in flat]) for name in names]
    return [(name, values) for name, values in table if any(value != values[0] for value in values)]


def _told(folder: RunFolder) -> dict[str, Any]:
    told = folder.summary() if folder.finished else {}
    return {name: value for name, value in told.items() if name not in UNTOLD}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Plain values by their path, a.b.c; a list is one value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat
