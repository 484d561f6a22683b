"""The record of a model's days on paper, and what the two weeks lack that live trading asks for (roadmap J.5)."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from emp.core.errors import EmpError
from emp.engine.control_socket import goes_on
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Store
from emp.governance.gates import read_gates
from emp.governance.paper import Asked, days_of, judge_day, paper_lacks
from emp.governance.runs import begun_runs
from emp.journal.run import RunFolder


class Day(NamedTuple):
    """One day of one instrument on paper."""

    day: str  # YYYY-MM-DD
    instrument: str
    colour: str  # green, red, short
    why: str


class Weeks(NamedTuple):
    """What is on record; `lacks` is empty where live trading may follow."""

    days: list[Day]
    lacks: str


def paper_record(folder: RunFolder, now_ns: int) -> Weeks:
    """The days on record of the model, code and market of a run, in the registry that it names."""
    manifest = folder.manifest
    registry = manifest["config"].get("model", {}).get("registry")
    if manifest["mode"] != "paper":
        return Weeks([], f"a run of mode {manifest['mode']} is no trading on paper")
    if not registry:
        return Weeks([], "the run names no registry (model.registry) that could keep a record")
    asked = Asked(
        model=str(manifest["model_hashes"][-1]),
        code=str(manifest["code"]),
        protocol=str(manifest["config"]["access"]["connection_protocol"]),
        instruments=tuple(manifest["instruments"]),
        today=now_ns // DAY_NS,
    )
    try:
        signed, gates = Store(Path(registry)).signed(), read_gates()
    except EmpError as error:
        return Weeks([], str(error))
    evidence = {name: one.evidence for name, one in signed.items()}
    signers = {name: one.key for name, one in signed.items()}
    began = begun_runs(evidence)
    days = [
        Day(_date(day), name, judged.colour, judged.why)
        for day, parts in sorted(days_of(evidence, asked).items())
        for name in asked.instruments
        for judged in [judge_day(parts, gates, name, began)]
    ]

    def going(run: str) -> bool:
        """Whether it is this very run that goes on: what is not told of it yet is none against it."""
        return run == manifest["run"] and goes_on(folder.path)

    return Weeks(days, paper_lacks(evidence, asked, gates, going, signers))


def _date(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()
