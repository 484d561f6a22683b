"""Wiring of evidence from a paper run: replayed first, so that only what its journal bears out is signed."""

from pathlib import Path
from typing import Any

from emp.app.wiring.rerun import Progress, verify_run
from emp.core.clock import Clock
from emp.core.errors import GovernanceError
from emp.engine.control_socket import is_served
from emp.engine.load import load_folder
from emp.engine.watched_days import DAY_NS, watched_days
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Gates
from emp.governance.paper import Asked, Source, already, judge_day, of_contest, of_day, pooled
from emp.journal.run import RunFolder, code_version


def observe_run(
    folder: RunFolder, home: Path, gates: Gates, clock: Clock, progress: Progress
) -> dict[str, Any]:
    """Write evidence of every day of a paper run into a registry, and of what all its model's days say together.

    What was written before is not written again. Returns the names of the evidence that is new, and by day and
    instrument what the day was.

    Raises:
        GovernanceError: it is no paper run, goes on, or was made by other code.
        JournalError: the replay does not find what the run has written.
    """
    manifest = folder.manifest
    if manifest["mode"] != "paper":
        raise GovernanceError(
            f"{folder.path}: a run of mode {manifest['mode']} says nothing of paper trading"
        )
    if is_served(folder.path):
        raise GovernanceError(f"{folder.path}: this run goes on: its days are evidence once it has ended")
    if manifest["code"] != code_version():
        raise GovernanceError(
            f"{folder.path}: made by {manifest['code']}, this is {code_version()}: observe it with that release"
        )
    run = verify_run(folder, progress)
    models = {path.name: load_folder(path) for path in sorted(folder.models.iterdir())}
    days = watched_days(folder, run.rows, run.terms, models.__getitem__)
    protocol = str(manifest["config"]["access"]["connection_protocol"])
    source = Source(str(manifest["run"]), protocol, str(manifest["code"]))
    store = Store(home)
    contest = of_contest(days, source)
    made = [of_day(one, source) for one in days] + ([] if contest is None else [contest])
    added = _add(store, made)
    today = clock.now_ns() // DAY_NS
    for model in dict.fromkeys(one.model for one in days):
        asked = Asked(model, source.code, protocol, tuple(manifest["instruments"]), today)
        added += _add(store, pooled(store.all(), asked, models[model].artifact))
    told = [
        {"day": one.day, "model": one.model, "instrument": name, **judge_day([e], gates, name)._asdict()}
        for one, e in zip(days, made, strict=False)
        for name in one.instruments
    ]
    return {"run": source.run, "protocol": protocol, "evidence": added, "days": told}


def _add(store: Store, made: list[Evidence]) -> list[str]:
    known = store.all()
    return [store.add(one) for one in made if not already(known, one)]
