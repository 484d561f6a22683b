"""How far a paper run had come while it went on: its journal so far, hour by hour, signed.

A journal whose end was cut off with all that belongs to it is whole in itself, and so is one that was signed as told to
its end while its process traded on. Either is shorter than what was signed of it.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

import msgspec

from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Kind, new_evidence
from emp.governance.paper_source import Source

REACHED: Kind = "reached"


class Head(NamedTuple):
    """Events of a run's journal, first and end, and the digest of all in between (`emp.journal.digest`)."""

    first: int
    end: int
    sha256: str
    files: tuple[tuple[str, int, str], ...] = ()  # beside it: name, bytes that it had, and their SHA-256


def of_head(model: str, source: Source, head: Head, now_ns: int) -> Evidence:
    """Evidence that a run's journal had come so far; `model` is the one that served first."""
    config = {**source._asdict(), "day": now_ns // DAY_NS, **head._asdict()}
    return msgspec.structs.replace(new_evidence(REACHED, model, [], config), code=source.code)


def heads_of(evidence: Mapping[str, Evidence], run: str) -> list[Head]:
    """What was signed of a run's journal, in the order of its events."""
    mine = [one.config for one in evidence.values() if one.kind == REACHED and one.config.get("run") == run]
    return sorted(msgspec.convert([[told[name] for name in Head._fields] for told in mine], list[Head]))


def reached(evidence: Mapping[str, Evidence]) -> dict[str, int]:
    """Events that every run had at least, as far as that was signed."""
    found: dict[str, int] = {}
    for one in evidence.values():
        if one.kind == REACHED:
            run = str(one.config["run"])
            found[run] = max(found.get(run, 0), cast(int, one.config["end"]))
    return found
