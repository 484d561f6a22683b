"""Wiring of `emp replay RUN`: a recorded live or paper run through the engine again."""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from pydantic import ValidationError

from emp.app.wiring.assembly import engine_limits
from emp.app.wiring.rules import recorded_rule
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument, find
from emp.core.platform import exists
from emp.core.records import DECISION, UNHASHED, Array, fieldwise_bytes
from emp.engine.carry import CARRIED
from emp.engine.earned import EARNED
from emp.engine.journal_tap import journalled_rows
from emp.engine.load import load_folder
from emp.engine.monitor_rerun import verify_monitor
from emp.engine.own import Rule
from emp.engine.rerun import Closed, Rerun, Terms
from emp.journal.actionlog import ActionLog
from emp.journal.reader import LedgerReader
from emp.journal.records import Note
from emp.journal.run import CONTINUED, RunFolder, other_release

Progress = Callable[[int, int], None]
"""Called with events and rows so far."""


def is_recorded_run(path: Path) -> bool:
    """Whether a folder is that of a run of `emp run`."""
    return exists(path / "ledger.sqlite") and (path / "market").is_dir()


def refuse_unrecorded(path: Path) -> None:
    """Say of a run that nothing can be replayed from why it cannot; any other path passes.

    Raises UsageError for a run of a recording, JournalError for a run of a release that journalled no market data.
    """
    if not exists(path / "manifest.json") or (path / "market").is_dir():
        return
    manifest = RunFolder(path).manifest
    files = ", ".join(str(one["name"]) for one in manifest.get("data", ()))
    if files:
        raise UsageError(f"{path} is a run over a recording: replay the recording itself ({files})")
    raise JournalError(
        f"{path}: release {_release(manifest)} made this run, without journalling its market data: it can be read, not"
        " replayed"
    )


def _release(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("code", "unknown"))


def assemble_rerun(folder: RunFolder) -> Rerun:
    """What replays a recorded run, with its own instruments, limits and models."""
    first = _terms(folder, folder.manifest)
    reader = LedgerReader(folder.ledger)
    if not _began_with_trading(reader):
        reader.close()
        raise JournalError(
            f"{folder.path}: release {_release(folder.manifest)} began this run, without journalling its market data:"
            " what came before it went on can be read, not replayed"
        )
    later = [
        (event.seq, {name: json.loads(str(body.data[name])) for name in ("config", "facts")})
        for event in reader.events()
        if isinstance(body := event.body, Note) and body.kind == CONTINUED and "config" in body.data
    ]
    reader.close()

    def terms(started: int) -> Terms:
        """Those of the process whose trading began with an entry of the ledger."""
        newest = [described for seq, described in later if seq < started]
        settled = _terms(folder, newest[-1]) if newest else first
        return settled._replace(rule=_rule(folder))

    return Rerun(folder, terms, lambda name: load_folder(folder.models / name))


def _began_with_trading(ledger: LedgerReader) -> bool:
    """Whether the ledger was begun by a release that records where each process begins, or is empty; what a process
    wrote that died before it began says nothing.
    """
    before = (CARRIED, CONTINUED, EARNED)
    told = (e for e in ledger.events() if not (isinstance(e.body, Note) and e.body.kind in before))
    first = next(told, None)
    return first is None or (isinstance(first.body, Control) and first.body.action == "begin")


def _terms(folder: RunFolder, described: Mapping[str, Any]) -> Terms:
    try:
        config = SystemConfig(**described["config"])
    except ValidationError as error:
        raise JournalError(
            f"{folder.path}: another release wrote its configuration: replay it with that one"
        ) from error
    facts = described.get("facts")
    instruments = (
        msgspec.convert(facts, list[Instrument])
        if facts
        else [find(name, config.instruments.catalogue) for name in folder.manifest["instruments"]]
    )
    return Terms(instruments, engine_limits(config))


def _rule(folder: RunFolder) -> Rule | None:
    """The user's own rule that decided in a run, with nothing remembered yet."""
    described = folder.manifest.get("rule")
    if described is None:
        return None
    return recorded_rule(SystemConfig(**folder.manifest["config"]), described, folder.planner)


def run_terms(folder: RunFolder) -> Terms:
    """Instruments and limits of a run of `emp run`, as they were when it began."""
    return _terms(folder, folder.manifest)


class Verified(NamedTuple):
    """A run that its journal bears out."""

    summary: dict[str, Any]
    rows: Array  # DECISION rows of the whole run
    terms: Callable[[int], Terms]  # of the process before whose trading the run had so many events
    closed: Closed  # lots, by day
    served: list[str]  # hashes of the models whose rows they are, in the order of `model_id`


def replay_run(folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Replay a recorded run and hold its action log against the run's own: the summary of `emp replay RUN`."""
    return verify_run(folder, progress).summary


def verify_run(folder: RunFolder, progress: Progress) -> Verified:
    """Replay a recorded run; hold its action log and what its monitor found against what is found now."""
    rerun = assemble_rerun(folder)
    recorded = journalled_rows(folder)
    names = list(folder.manifest["instruments"])
    with tempfile.TemporaryDirectory(prefix="emp-replay-") as scratch:
        log = ActionLog(Path(scratch) / "again", names, rerun.models[:1])
        own = ActionLog(Path(scratch) / "own", names, rerun.models[:1])
        done = 0
        for rows in rerun.rows(log.know):
            _compare(rows, recorded[done : done + len(rows)], done, folder)
            if len(rows):
                for model in log.model_hashes:
                    own.know(model)
                own.append(recorded[done : done + len(rows)])
            log.append(rows)
            done += len(rows)
            progress(rerun.events, done)
        if done != len(recorded):
            raise JournalError(
                f"{folder.path}: the replay ends after {done} rows, the run has {len(recorded)}"
            )
        digest, again = own.close(), log.close()
    engine = rerun.engine
    if engine is None:
        raise UsageError(f"{folder.path}: the run ended before it traded: there is nothing to replay")
    terms = terms_by_event(rerun)
    served = [load_folder(folder.models / name).artifact.hash for name in log.model_hashes]
    looked = verify_monitor(folder, recorded, terms, lambda name: load_folder(folder.models / name), served)
    accounts = engine.desk.account
    summary = {
        "run": folder.manifest["run"],
        "mode": folder.manifest["mode"],
        "processes": len(rerun.processes),
        "rows": rerun.events,
        "events": rerun.events,
        "merged": 0,
        "quarantined": {},
        "states": int(engine.desk.perception["events"].sum()),
        "actions": int(np.count_nonzero(recorded["action"])),
        "commands": rerun.commands,
        "fills": int(accounts["fills"].sum()),
        "final_position": int(accounts["position"].sum()),
        "pnl_ticks": float(accounts["pnl"].sum()),
        "fees": float(accounts["fees"].sum()),
        "financing": float(accounts["financing"].sum()),
        "instruments": {
            one.name: {
                "final_position": int(account["position"]),
                "pnl_ticks": float(account["pnl"]),
                "fees": float(account["fees"]),
                "fills": int(account["fills"]),
            }
            for one, account in zip(engine.instruments, accounts, strict=True)
        },
        "halted": engine.halted,
        "model_hash": engine.model.artifact.hash,
        "monitor_lines": looked,
        "action_log_sha256": again,
        "equal": again == digest,
    }
    return Verified(summary, recorded, terms, rerun.closed, served)


def terms_by_event(rerun: Rerun) -> Callable[[int], Terms]:
    """The terms of the process before whose trading a run had so many events."""
    started = {one.first: one.started for one in rerun.processes if one.started is not None}
    return lambda first: rerun.terms(started.get(first, 0))


def _compare(again: Array, recorded: Array, first: int, folder: RunFolder) -> None:
    """Raise JournalError at the first row that is not what the run wrote."""
    if len(again) == len(recorded) and fieldwise_bytes(again, UNHASHED) == fieldwise_bytes(
        recorded, UNHASHED
    ):
        return
    for k in range(len(again)):
        if k >= len(recorded):
            raise JournalError(f"{folder.path}: the run has no row {first + k}, which the replay makes")
        names = [
            name
            for name in DECISION.names or ()
            if name not in UNHASHED and again[name][k].tobytes() != recorded[name][k].tobytes()
        ]
        if names:
            raise JournalError(
                f"{folder.path}: row {first + k} differs in {', '.join(names)}: another machine or other sources?"
                f"{other_release(folder.manifest)}"
            )
