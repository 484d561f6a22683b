"""Paper runs on record: each is signed when it begins and once all its days are told.

So no day can be chosen: a run that is not on record from its beginning makes no green day, and one that began and was
not told to its end, because its folder is gone, its journal does not bear it out, or it is shorter than what was signed
of it (`emp.governance.heads`), makes a red one. A run that goes on in a folder that is there is waited for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Kind, new_evidence
from emp.governance.heads import reached
from emp.governance.paper_source import Source

BEGUN: Kind = "begun"
TOLD: Kind = "told"

Going = Callable[[str], bool]
"""Whether a run goes on, by its name."""


class Untold(NamedTuple):
    """A run that began and was not told to its end."""

    run: str
    day: int  # the first of which nothing is on record


def of_start(
    model: str, source: Source, instruments: Sequence[str], now_ns: int, manifest_sha256: str = ""
) -> Evidence:
    """Evidence that a run begins, of the model that serves first; its manifest says where its market comes from."""
    config = {
        **source._asdict(),
        "day": now_ns // DAY_NS,
        "instruments": list(instruments),
        "ts": now_ns,
        "manifest_sha256": manifest_sha256,
    }
    return msgspec.structs.replace(new_evidence(BEGUN, model, [], config), code=source.code)


def of_end(
    model: str, source: Source, days: Sequence[int], events: int = 0, doubtful: Sequence[int] = ()
) -> Evidence:
    """Evidence that all days of a run that has ended are told, up to so many events; none where it ended before it
    traded. Of `doubtful` days it could have traded more than its journal says.
    """
    config = {"days": sorted(set(days)), "events": events, "doubtful": list(doubtful)}
    made = new_evidence(TOLD, model, [], {**source._asdict(), **config})
    return msgspec.structs.replace(made, code=source.code)


def start_ns(evidence: Mapping[str, Evidence], run: str) -> int:
    """When a run was signed as it began, ns; 0 where it was not."""
    began = (one for one in evidence.values() if one.kind == BEGUN and one.config.get("run") == run)
    return min((ts for one in began if type(ts := one.config.get("ts")) is int), default=0)


def doubtful_days(
    evidence: Mapping[str, Evidence], code: str, protocol: str, instrument: str
) -> dict[str, set[int]]:
    """Runs of this code, behind this kind of market access and in this instrument, with the days of which they could
    have traded more than they were told of; none that has no such day.
    """
    mine, found = _begun_as(evidence, code, protocol, instrument), dict[str, set[int]]()
    for one in evidence.values():
        days = {day for day in one.config.get("doubtful", ()) if type(day) is int}
        if one.kind == TOLD and days and (run := str(one.config.get("run"))) in mine:
            found.setdefault(run, set()).update(days)
    return found


def _begun_as(
    evidence: Mapping[str, Evidence], code: str, protocol: str, instrument: str
) -> dict[str, list[Evidence]]:
    """What was signed as runs of this code, behind this kind of market access and in this instrument began, by run."""
    found: dict[str, list[Evidence]] = {}
    for one in evidence.values():
        if (
            one.kind == BEGUN
            and (one.code, one.config.get("protocol")) == (code, protocol)
            and instrument in one.config.get("instruments", ())
        ):
            found.setdefault(str(one.config.get("run")), []).append(one)
    return found


def manifests(evidence: Mapping[str, Evidence], run: str) -> set[str]:
    """Hashes of the manifests with which a run was signed when it began: one, where all is right."""
    return {
        str(one.config.get("manifest_sha256"))
        for one in evidence.values()
        if one.kind == BEGUN and one.config.get("run") == run
    }


def begun_runs(evidence: Mapping[str, Evidence]) -> dict[str, int]:
    """Runs that were signed when they began, with the day on which they did."""
    return {
        str(one.config["run"]): day
        for one in evidence.values()
        if one.kind == BEGUN and type(day := one.config.get("day")) is int
    }


def _told_runs(evidence: Mapping[str, Evidence]) -> set[str]:
    """Runs that were told to their end, by what names every day of theirs that is on record and all events that were
    signed: those that it does not know were traded after it.
    """
    least = reached(evidence)
    days: dict[str, set[Any]] = {}
    for one in evidence.values():
        if one.kind == "paper":
            days.setdefault(str(one.config.get("run")), set()).add(one.config.get("day"))
    return {
        run
        for one in evidence.values()
        if one.kind == TOLD
        and days.get(run := str(one.config.get("run")), set()) <= set(one.config.get("days", ()))
        and least.get(run, 0) <= one.config.get("events", 0)
    }


def untold(
    evidence: Mapping[str, Evidence], code: str, protocol: str, instrument: str, going: Going
) -> list[Untold]:
    """Runs of this code, behind this kind of market access and in this instrument, whose days are not all on record,
    whichever model they served: a run that is gone does not say which did.
    """
    told = _told_runs(evidence)
    over: dict[str, int] = {}
    for one in evidence.values():
        day, run = one.config.get("day"), str(one.config.get("run"))
        if one.kind == "paper" and one.config.get("over") is True and type(day) is int:
            over[run] = max(over.get(run, day), day)
    return [
        Untold(run, max(over.get(run, day - 1) + 1, day))
        for run, begun in _begun_as(evidence, code, protocol, instrument).items()
        for one in begun
        if run not in told and type(day := one.config.get("day")) is int and not going(run)
    ]


def untold_runs(evidence: Mapping[str, Evidence], code: str) -> list[str]:
    """Runs of this code that began and were not told to their end, whatever they traded."""
    told = _told_runs(evidence)
    begun = [str(one.config["run"]) for one in evidence.values() if one.kind == BEGUN and one.code == code]
    return [run for run in dict.fromkeys(begun) if run not in told]
