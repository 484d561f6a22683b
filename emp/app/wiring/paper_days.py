"""Wiring of evidence from a paper run: replayed first, so that only what its journal bears out is signed."""

import tempfile
from pathlib import Path
from typing import Any

from emp.app.wiring.rerun import Progress, verify_run
from emp.app.wiring.snapshot import snapshot
from emp.core.clock import Clock
from emp.core.errors import GovernanceError
from emp.engine.control_socket import is_served
from emp.engine.load import load_folder
from emp.engine.watched_days import DAY_NS, add_closed, watched_days
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Gates
from emp.governance.paper import Asked, Source, already, judge_day, of_contest, of_day, told_whole
from emp.governance.pooled import pooled
from emp.journal.run import RunFolder, code_version


def observe_run(
    folder: RunFolder, home: Path, gates: Gates, clock: Clock, progress: Progress
) -> dict[str, Any]:
    """Write evidence of every day of a paper run into a registry, and of what all its model's days say together.

    Of a run that goes on there is evidence of the days that are over, from a copy of it; what they say together is
    looked at once it has ended, since an interval over few days would stand beside all later ones. What was written
    before is not written again, wherever a call of this was broken off. Returns the names of the evidence that is new,
    by day and instrument what the day was, and days before the newest that are not over for the monitor yet (`open`).

    Raises:
        GovernanceError: it is no paper run, or was made by other code.
        JournalError: the replay does not find what the run has written.
    """
    manifest = folder.manifest
    if manifest["mode"] != "paper":
        raise GovernanceError(
            f"{folder.path}: a run of mode {manifest['mode']} says nothing of paper trading"
        )
    if manifest["code"] != code_version():
        raise GovernanceError(
            f"{folder.path}: made by {manifest['code']}, this is {code_version()}: observe it with that release"
        )
    if not is_served(folder.path):
        return _observe(folder, home, gates, clock, progress)
    with tempfile.TemporaryDirectory(prefix="emp-observe-") as scratch:
        copy = snapshot(folder, Path(scratch) / folder.path.name)
        return _observe(copy, home, gates, clock, progress, goes_on=True)


def _observe(
    folder: RunFolder,
    home: Path,
    gates: Gates,
    clock: Clock,
    progress: Progress,
    *,
    goes_on: bool = False,
) -> dict[str, Any]:
    manifest = folder.manifest
    run = verify_run(folder, progress)
    models = {path.name: load_folder(path) for path in sorted(folder.models.iterdir())}
    seen = watched_days(folder, run.rows, run.terms, models.__getitem__)
    add_closed(seen, run.closed)
    days = [one for one in seen if one.over or not goes_on]
    protocol = str(manifest["config"]["access"]["connection_protocol"])
    source = Source(str(manifest["run"]), protocol, str(manifest["code"]))
    store = Store(home)
    contest = of_contest(days, source)
    made = [of_day(one, source) for one in days] + ([] if contest is None else [contest])
    added = _add(store, made)
    today = clock.now_ns() // DAY_NS
    for model in [] if goes_on else dict.fromkeys(one.model for one in days):
        asked = Asked(model, source.code, protocol, tuple(manifest["instruments"]), today)
        added += _add(store, pooled(store.all(), asked, models[model].artifact))
    told = [
        {"day": one.day, "model": one.model, "instrument": name, **judge_day([e], gates, name)._asdict()}
        for one, e in zip(days, made, strict=False)
        for name in one.instruments
    ]
    newest = max((one.day for one in seen), default=0)
    left = sorted({one.day for one in seen if one.day < newest and not one.over})
    return {"run": source.run, "protocol": protocol, "evidence": added, "days": told, "open": left}


def _add(store: Store, made: list[Evidence]) -> list[str]:
    known = store.all()
    return [store.add(one) for one in made if not (already(known, one) or told_whole(known, one))]
