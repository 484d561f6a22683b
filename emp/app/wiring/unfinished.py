"""A live run that ended without its ledger being sealed: found by account and venue, whatever else has changed since.

Its positions and orders are at the venue, whoever wrote its ledger. So a run of an older release, or of other limits
or defaults, is recovered as well; what cannot be recovered is refused with what to do, and never passed over.
"""

import contextlib
import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument
from emp.core.platform import say
from emp.engine.carry import carried_note, is_worth_carrying
from emp.engine.earned import earned_note
from emp.engine.journal_tap import newest_rows
from emp.engine.monitor import LEVEL
from emp.engine.reconciliation.units import changed_units, in_units
from emp.engine.verdict import Verdict
from emp.journal.account_file import AccountState, Carried
from emp.journal.files import is_folder, is_link, is_there, listed
from emp.journal.ledger import Ledger, finish_sealing
from emp.journal.reader import LedgerReader, is_blank
from emp.journal.records import Note
from emp.journal.run import CONTINUED, RunFolder
from emp.journal.swaps import MODEL_SWAP, Swap, read_swaps

_ACCOUNT = ("connection_protocol", "host", "account", "sender_comp_id", "target_comp_id")
"""The settings of the section `access` that say whose money it is; ports and symbols are ways there."""


def unfinished_run(config: SystemConfig, instruments: Sequence[str]) -> RunFolder | None:
    """The folder of this account's unfinished live run, where there is one.

    Raises UsageError where there are several, or it has other instruments; JournalError where its manifest or its
    ledger cannot be read: each says which folder, and what to do.
    """
    if config.mode != "live":
        return None
    account = _account(config.model_dump(mode="json"))
    found = [run for run in _live_runs(config.run_dir) if _account(run.manifest.get("config")) == account]
    found = [run for run in found if not _sealed(run)]
    if len(found) > 1:
        names = ", ".join(str(run.path) for run in found)
        raise UsageError(
            f"{names}: unfinished live runs of the same account: move all but the newest away after comparing them"
            " with the venue's orders and positions"
        )
    if not found:
        return None
    (run,) = found
    theirs = list(run.manifest.get("instruments", ()))
    if theirs != list(instruments):
        raise UsageError(
            f"{run.path}: an unfinished live run of this account, in {', '.join(theirs)}: start once with"
            f" instruments.names: [{', '.join(theirs)}] and end it in order; then with {', '.join(instruments)}"
        )
    return run


def close_unbegun(config: SystemConfig, instruments: Sequence[Instrument]) -> None:
    """Close runs of this account that recorded nothing and are of other instruments, or of other units of them: a start
    that an older release refused has left them, and they would be taken for a run that goes on. Nothing was sent.
    """
    if config.mode != "live":
        return
    account = _account(config.model_dump(mode="json"))
    for run in _live_runs(config.run_dir):
        ours = _account(run.manifest.get("config")) == account
        if ours and _is_of_others(run, instruments) and not _sealed(run) and _is_unbegun(run):
            ledger = Ledger(run.ledger, run=run.manifest["run"], mode=run.manifest["mode"])
            ledger.seal()
            ledger.close()
            say(f"emp: {run.path}: a start that was refused left this run, with nothing in it: closed")


def account_of(config: SystemConfig) -> dict[str, object]:
    """The settings that say whose money a live run trades, in one spelling."""
    return dict(zip(_ACCOUNT, _account(config.model_dump(mode="json")), strict=True))


def written_account_of(config: SystemConfig) -> dict[str, object]:
    """The same settings as they are written: releases before the one spelling knew the account by these."""
    written = config.access.model_dump(mode="json", include=set(_ACCOUNT))
    return {name: written[name] for name in _ACCOUNT}


def refuse_elsewhere(state: AccountState, continued: RunFolder | None) -> None:
    """Refuse to begin anew beside an unfinished run of the same account that lies somewhere else.

    Raises UsageError with where it lies; where its folder is gone, that is said, and what is known of the account is
    carried over.
    """
    folder = Path(state.folder)
    if not state.open or (continued is not None and continued.path.resolve() == folder.resolve()):
        return
    if not is_there(folder / "ledger.sqlite"):
        say(
            f"emp: {folder}, the last live run of this account, did not end in order and is gone: its loss of the day"
            " and its halts are carried over, its orders and positions are taken from the venue"
        )
        return
    if not _sealed(RunFolder(folder)):
        raise UsageError(
            f"{folder}: an unfinished live run of this account lies there: set run_dir to {folder.parent} to go on with"
            " it, or move it away after comparing it with the venue's orders and positions"
        )


def refuse_other_units(run: RunFolder, ledger: Ledger, instruments: Sequence[Instrument]) -> None:
    """UsageError where a run that goes on is counted in other ticks or lots than its instruments have now."""
    notes = ledger.notes(CONTINUED)
    facts = json.loads(str(notes[-1].data.get("facts") or "null")) if notes else run.manifest.get("facts")
    before = {str(one["name"]): one for one in facts or ()}
    for one in instruments:
        changed = changed_units(before.get(one.name, {}), msgspec.to_builtins(one))
        if changed:
            raise UsageError(
                f"{run.path}: {one.name} was counted in other units when this run ended ({changed}): go on with the"
                " catalogue as it was and end the run in order, then begin with the other; or move it away: what"
                " is known of the account is converted"
            )


def refuse_parts_of_lots(state: AccountState, instruments: Sequence[Instrument]) -> None:
    """UsageError where what an account's run has left is no whole number of the lots of now."""
    for one in instruments:
        if one.name in state.instruments:
            in_units(state.instruments[one.name], one)


def carry_over(
    state: AccountState, instruments: Sequence[Instrument], ledger: Ledger, clock: Clock, serving: str = ""
) -> None:
    """Let a new run begin with what the account's run before it has lost that day, held and halted, and whether the
    model that is `serving`, by its hash, had failed, on whatever instrument: with all of it, or a process that dies
    meanwhile leaves an empty ledger, and the next one begins here again.

    Raises UsageError where what is held is no whole number of the lots of now.
    """
    known = {}
    failed = serving if serving in failed_before(state) else ""
    for one in instruments:
        left = state.instruments.get(one.name)
        if left is None:
            known[one.name] = Carried(failed=failed)
        else:
            known[one.name] = msgspec.structs.replace(in_units(left, one), failed=failed)
            changed = changed_units(msgspec.to_builtins(left), msgspec.to_builtins(one))
            if changed:
                say(
                    f"emp: {one.name}: other units than those of run {state.run} ({changed}): what it left is"
                    " converted, the size that it had earned begins anew"
                )
    worth = {name: left for name, left in known.items() if is_worth_carrying(left)}
    with ledger.batch():
        for name, left in worth.items():
            ledger.record_note(carried_note(name, left, clock.now_ns()))
        for name, left in known.items():
            if left.earned:
                ledger.record_note(earned_note(name, left.earned, clock.now_ns()))
    for name, left in worth.items():
        words = f"loss of the day {left.day_pnl:g}, drawdown {left.drawdown:g}, position {left.position:+d}"
        halted = f", halted ({left.halted}): `emp resume` lets it trade" if left.halted else ""
        barred = ", its model had failed: `emp resume` lets it open" if left.failed else ""
        claimed = sum(one.side * one.qty for one in left.claims)
        doubt = f", told and not borne out by the venue {claimed:+d} lots" if left.claims else ""
        say(f"emp: {name}: carried over from run {state.run}: {words}{halted}{barred}{doubt}")


def failed_before(state: AccountState) -> set[str]:
    """Hashes of the models that have failed in an account's runs and that nobody has let open again."""
    return {name for one in state.instruments.values() for name in one.failed.split()}


def note_continuation(run: RunFolder, ledger: Ledger, manifest: Mapping[str, Any], clock: Clock) -> None:
    """Record that a run goes on by another release, under another configuration, or with other facts of its
    instruments: what differs, and what holds from now on, since a replay needs it.
    """
    before, now = run.manifest.get("config", {}), manifest["config"]
    changed = sorted(_differences(before, now))
    if run.manifest.get("facts") != manifest.get("facts"):
        changed.append("facts")
    code = run.manifest.get("code", "unknown")
    if changed or code != manifest["code"] or ledger.notes(CONTINUED):
        data = {"code": manifest["code"], "code_before": code, "changed": ", ".join(changed)}
        data |= {name: json.dumps(manifest.get(name)) for name in ("config", "facts")}
        ledger.record_note(Note(kind=CONTINUED, ts=clock.now_ns(), data=data))


RELEASE = "release"
"""Why a model takes over in a run that goes on: the one before cannot be loaded, or may not serve any more."""


def replaced_model(run: RunFolder, before: str, after: str, clock: Clock) -> list[Swap]:
    """That another model takes over where a run goes on: behind the last decision of each instrument."""
    return [
        Swap(instrument=name, seq=seq, ts=ts, before=before, after=after, reason=RELEASE)
        for name, (seq, ts) in zip(run.manifest["instruments"], decided_last(run, clock), strict=True)
    ]


def decided_last(run: RunFolder, clock: Clock) -> list[tuple[int, int]]:
    """seq and ts of the last decision of each instrument of a run; (0, now) where there is none."""
    n = len(run.manifest["instruments"])
    rows = newest_rows(run, n)
    return [
        (int(rows[k]["seq"][0]), int(rows[k]["ts"][0])) if k in rows else (0, clock.now_ns())
        for k in range(n)
    ]


def brought_though_failed(ledger: LedgerReader, serving: str, failed: Container[str]) -> bool:
    """Whether a run goes on with a model that had failed, which has taken over because the one before could not serve
    any more, and the owner has not let it trade since.
    """
    swaps = list(read_swaps(ledger))
    if serving not in failed or not swaps or (swaps[-1].reason, swaps[-1].after) != (RELEASE, serving):
        return False
    trusted = False
    for event in ledger.events():
        body = event.body
        if isinstance(body, Note) and body.kind == MODEL_SWAP:
            trusted = False
        elif isinstance(body, Control) and body.action == "resume":
            trusted = True
    return not trusted


def failed_earlier(model: str, instrument: str) -> Verdict:
    """What is to be done about such a model is what is done about one that fails now."""
    return Verdict(model, "earlier", instrument, -math.log(LEVEL), "it had failed before it took over")


def first_model(run: RunFolder) -> str:
    """Hash of the model that a run began with; "" where its manifest names none."""
    return str(next(iter(run.manifest.get("model_hashes", ())), ""))


def _live_runs(runs: Path) -> Iterator[RunFolder]:
    """Each once, though another name is a link to it."""
    known = set[Path]()
    for path in sorted(listed(runs, "live-*"), key=is_link):
        if not is_folder(path) or path.resolve() in known:
            continue
        known.add(path.resolve())
        yield RunFolder(path)


def _account(config: object) -> tuple[object, ...]:
    access = config.get("access") if isinstance(config, dict) else None
    if not isinstance(access, dict):
        return (None,) * len(_ACCOUNT)
    return tuple(_one_name(name, access) for name in _ACCOUNT)


def _one_name(name: str, access: Mapping[str, object]) -> object:
    """A setting of `_ACCOUNT` in the one spelling that all have which reach the same: two would be two accounts."""
    value = access.get(name)
    if name == "host" and isinstance(value, str):
        return value.strip().lower().removesuffix(".")
    if name == "account" and isinstance(value, str) and access.get("connection_protocol") == "ctrader":
        with contextlib.suppress(ValueError):
            return str(int(value))
    return value


def _is_of_others(run: RunFolder, instruments: Sequence[Instrument]) -> bool:
    """Whether a run began with other instruments, or counted these in other ticks or lots."""
    before = {str(one["name"]): one for one in run.manifest.get("facts") or ()}
    names = list(run.manifest.get("instruments", ()))
    if names != [one.name for one in instruments]:
        return True
    return any(changed_units(before.get(one.name, {}), msgspec.to_builtins(one)) for one in instruments)


def _is_unbegun(run: RunFolder) -> bool:
    """Whether a run's process came no further than its ledger: not even that it began is recorded."""
    ledger = LedgerReader(run.ledger)
    try:
        return not ledger.last_seq and not listed(run.actions)
    finally:
        ledger.close()


def _sealed(run: RunFolder) -> bool:
    if not is_there(run.ledger) or is_blank(run.ledger):
        return run.finished or not listed(run.actions)  # it died before it could send anything
    try:
        ledger = LedgerReader(run.ledger, whole=False)  # of each run there ever was, however long
    except JournalError as error:
        raise JournalError(
            f"{error}; {run.path} is a live run of this account and may hold positions"
        ) from error
    try:
        sealed = ledger.sealed
    finally:
        ledger.close()
    if sealed:
        finish_sealing(run.ledger)
    return sealed


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Names of the settings that are not the same in two dumped configurations."""
    for name in before.keys() | now.keys():
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{at}{name}.")
        elif one != other:
            yield f"{at}{name}"
