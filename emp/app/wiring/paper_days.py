"""Wiring of evidence from a paper run: replayed first, so that only what its journal bears out is signed."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emp.app.wiring.heads import Journal, refuse_changed, refuse_cut, refuse_other, sign_head
from emp.app.wiring.rerun import Progress, verify_run
from emp.app.wiring.snapshot import snapshot
from emp.core.clock import Clock
from emp.core.code_version import code_version
from emp.core.errors import EmpError, GovernanceError
from emp.core.platform import exists, say
from emp.engine.control_socket import goes_on, is_served
from emp.engine.journal_tap import journalled_rows
from emp.engine.load import load_folder
from emp.engine.rerun import processes
from emp.engine.timed import refuse_more_times
from emp.engine.watched_days import DAY_NS, WatchedDay, add_closed, watched_days
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Gates
from emp.governance.heads import heads_of, in_doubt, unsigned_of
from emp.governance.paper import Asked, already, doubted, judge_day, of_contest, of_day, told_whole
from emp.governance.paper_source import source_of
from emp.governance.pooled import pooled
from emp.governance.runs import begun_runs, of_end, of_start, untold_runs
from emp.journal.held import held_by, written_by
from emp.journal.latency_log import HOUR_NS
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder


def record_start(folder: RunFolder, home: Path, clock: Clock) -> str:
    """Sign in a registry that a paper run begins, before it sees its market; the name of the evidence.

    Raises:
        GovernanceError: this machine cannot sign there what its days will say.
    """
    manifest = folder.manifest
    now = clock.now_ns()
    model = str(manifest["model_hashes"][0])
    source, names = source_of(manifest), list(manifest["instruments"])
    sign_found(folder.path.parent, home, clock)
    return Store(home).add(of_start(model, source, names, now, folder.manifest_sha256))


def sign_found(runs: Path, home: Path, clock: Clock) -> None:
    """Sign of every paper run of a folder that is not told to its end and that no process has how far it had come: what
    it could have traded besides is in doubt until then, and no longer.
    """
    evidence = Store(home).all()
    for run in untold_runs(evidence, code_version()):
        path = runs / f"paper-{run}"
        if exists(path) and not goes_on(path):
            try:
                sign_head(RunFolder(path), home, clock, "found", evidence)
            except EmpError as error:  # it counts as it did
                say(f"emp: {error}")


def observe_run(
    folder: RunFolder, home: Path, gates: Gates, clock: Clock, progress: Progress, *, ending: bool = False
) -> dict[str, Any]:
    """Write evidence of every day of a paper run into a registry, and of what all its model's days say together.

    Of a run that goes on there is evidence of the days that are over, from a copy of it; what they say together is
    looked at once it has ended, since an interval over few days would stand beside all later ones. What was written
    before is not written again, wherever a call of this was broken off. Returns the names of the evidence that is new,
    by day and instrument what the day was, and days before the newest that are not over for the monitor yet (`open`).
    `ending` is said by the process that was the run, and holds it until its days are told.

    Raises:
        GovernanceError: it is no paper run, was made by other code, or a process has it that does not serve it.
        JournalError: the replay does not find what the run has written, or it has less than was signed of it.
    """
    refuse_other(folder)
    if not is_served(folder.path):
        _refuse_held(folder.path, ending=ending)
        if ending:  # before a replay that may be broken off
            sign_head(folder, home, clock, "ended")
        return _observe(folder, home, gates, clock, progress)
    with tempfile.TemporaryDirectory(prefix="emp-observe-") as scratch:
        known = Store(home).all()  # before the copy is made: it lacks what is signed of the run after it
        copy = snapshot(folder, Path(scratch) / folder.path.name)
        return _observe(copy, home, gates, clock, progress, known)


def _refuse_held(path: Path, *, ending: bool) -> None:
    """Raise GovernanceError where a process has a run that is not served: it may trade yet, and nothing says so."""
    pid = written_by(path) if ending else held_by(path)
    if pid is not None:
        raise GovernanceError(
            f"{path}: the run is starting or ending (pid {pid}): observe it once it trades or has ended"
        )


def _observe(
    folder: RunFolder,
    home: Path,
    gates: Gates,
    clock: Clock,
    progress: Progress,
    of_copy: Mapping[str, Evidence] | None = None,
) -> dict[str, Any]:
    """Of a folder, or of the copy of a run that goes on: then with the evidence that there was before it was copied."""
    manifest, source, store = folder.manifest, source_of(folder.manifest), Store(home)
    first, goes_on = str(manifest["model_hashes"][0]), of_copy is not None
    doubtful: list[int] = []
    known = store.all() if of_copy is None else of_copy
    refuse_other(folder)  # a copy has a manifest of its own
    refuse_changed(folder, known)
    journal = refuse_cut(folder, known)
    if not goes_on and never_traded(folder):
        doubtful = _in_doubt(folder, store, clock, journal)
        ended = _add(store, [of_end(first, source, [], journal.events, doubtful)])
        return {"run": source.run, "protocol": source.protocol, "evidence": ended, "days": [], "open": []}
    run = verify_run(folder, progress)
    untimed = refuse_more_times(folder, run.rows, run.served)
    models = {path.name: load_folder(path) for path in sorted(folder.models.iterdir())}
    seen = watched_days(folder, run.rows, run.terms, models.__getitem__)
    add_closed(seen, run.closed)
    for one in seen:
        one.unsigned = unsigned_of(journal.unsigned, one.day)
        one.untimed = unsigned_of(untimed[one.model], one.day)
        if one.untimed and goes_on:  # its last hour's times are written soon after it
            one.over &= journal.newest_ns // HOUR_NS > one.day * 24 + one.untimed[-1] + 1
    days = [one for one in seen if one.over or not goes_on]
    today = clock.now_ns() // DAY_NS
    _refuse_ahead(folder, days, today)
    contest = of_contest(days, source)
    made = [of_day(one, source) for one in days] + ([] if contest is None else [contest])
    added = _add(store, made)
    for model in [] if goes_on else dict.fromkeys(one.model for one in days):
        asked = Asked(model, source.code, source.protocol, tuple(manifest["instruments"]), today)
        added += _add(store, pooled(store.all(), asked, models[model].artifact))
    if not goes_on:
        doubtful = _in_doubt(folder, store, clock, journal)
        added += _add(store, [of_end(first, source, [one.day for one in days], journal.events, doubtful)])
    began = begun_runs(store.all())
    told = [
        {
            "day": one.day,
            "model": one.model,
            "instrument": name,
            **doubted(
                judge_day([e], gates, name, began), source.run if one.day in doubtful else ""
            )._asdict(),
        }
        for one, e in zip(days, made, strict=False)
        for name in one.instruments
    ]
    newest = max((one.day for one in seen), default=0)
    left = sorted({one.day for one in seen if one.day < newest and not one.over})
    return {"run": source.run, "protocol": source.protocol, "evidence": added, "days": told, "open": left}


def _in_doubt(folder: RunFolder, store: Store, clock: Clock, journal: Journal) -> list[int]:
    """Days of which a run that no process has could have traded more than its journal says: until now, unless that was
    signed before.
    """
    sign_head(folder, store.home, clock, "found")
    heads = heads_of(store.all(), str(folder.manifest["run"]))
    return in_doubt(heads, journal.events, journal.newest_ns, clock.now_ns())


def _refuse_ahead(folder: RunFolder, days: Sequence[WatchedDay], today: int) -> None:
    """Raise GovernanceError where a day has not come yet: what is signed for it would stand there until it has."""
    ahead = [one.day for one in days if one.day > today]
    if ahead:
        raise GovernanceError(
            f"{folder.path}: events are stamped with day {max(ahead)}, which is {max(ahead) - today} days ahead of this"
            " machine's clock: nothing is signed, and the run counts as not told"
        )


def never_traded(folder: RunFolder) -> bool:
    """Whether a run has ended before it traded: no day is in it.

    Raises:
        GovernanceError: the ledger is another run's.
    """
    if len(journalled_rows(folder)):
        return False
    reader = LedgerReader(folder.ledger)
    try:
        if reader.meta("run") != folder.manifest["run"]:
            raise GovernanceError(f"{folder.ledger}: is the ledger of run {reader.meta('run')}")
        return all(one.started is None for one in processes(reader))
    finally:
        reader.close()


def _add(store: Store, made: list[Evidence]) -> list[str]:
    known = store.all()
    new = [store.add_unless(_is_known, one) for one in made if not _is_known(known, one)]
    return [name for name in new if name is not None]


def _is_known(known: Mapping[str, Evidence], one: Evidence) -> bool:
    return already(known, one) or told_whole(known, one)
