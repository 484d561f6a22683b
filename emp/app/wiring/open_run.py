"""The folder, ledger and models of a run that begins or goes on, with what the account's run before it left."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from emp.app.wiring.assembly import describe_rule
from emp.app.wiring.closing_only import refuse_unless_held
from emp.app.wiring.governed import refuse_unpromoted
from emp.app.wiring.lease import succeed
from emp.app.wiring.unfinished import (
    carry_over,
    close_unbegun,
    failed_before,
    first_model,
    note_continuation,
    refuse_elsewhere,
    refuse_other_units,
    refuse_parts_of_lots,
    replaced_model,
    unfinished_run,
)
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.errors import ArtifactError, GovernanceError, UsageError
from emp.core.ids import run_id
from emp.core.instrument import Instrument
from emp.core.platform import say
from emp.engine.lease_keeper import LeaseKeeper
from emp.engine.load import load_folder
from emp.engine.own import Rule
from emp.engine.planning import PlannedRule
from emp.engine.succession import Models
from emp.journal.account_file import AccountFile, AccountState
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import RunFolder, build_manifest
from emp.journal.swaps import FALLBACKS, read_swaps
from emp.model.artifact import is_whole, save
from emp.plan.artifact import save_planner


class OpenRun(NamedTuple):
    """What a run is written to and served by."""

    folder: RunFolder
    ledger: Ledger
    models: Models
    failed: set[str]  # hashes of models that may not open
    unknown: list[str]  # instruments of which nobody knows what they have lost today


def open_run(
    config: SystemConfig,
    instruments: list[Instrument],
    models: Models,
    rule: Rule | None,
    clock: Clock,
    account: AccountFile | None,
    lease: LeaseKeeper | None,
) -> OpenRun:
    """Go on with the account's unfinished run, or begin one.

    Raises UsageError or JournalError with what to do where neither can be, GovernanceError where it may only close and
    nothing is held; then no new folder is left.
    """
    manifest = build_manifest(
        run="",
        mode=config.mode,
        config=config.model_dump(mode="json"),
        instruments=[one.name for one in instruments],
        model_hashes=[models.serving.artifact.hash],
        facts=[msgspec.to_builtins(one) for one in instruments],
    )
    close_unbegun(config, instruments)
    folder = unfinished_run(config, manifest["instruments"])
    state = AccountState() if account is None else account.read()
    unknown: list[str] = []
    if lease is not None:
        folder, state, unknown = succeed(lease, folder, state)
    continued = folder is not None
    refuse_elsewhere(state, folder)
    refuse_unless_held(models, state, continued=continued)
    if folder is None:
        refuse_parts_of_lots(
            state, instruments
        )  # a folder that is there would be taken for a run that goes on
        folder = _new_folder(config, manifest, models, rule, clock)
    ledger = _ledger(folder, config, instruments, continued=continued)
    if not ledger.last_seq:  # new, or its process died before it had taken over what the run before it left
        carry_over(state, instruments, ledger, clock, models.serving.artifact.hash)
    if continued:
        note_continuation(folder, ledger, manifest, clock)
        models = _continued(folder, ledger, config, models, clock)
    if models.closing_only:
        ledger.record_note(Note(kind=CLOSED_ONLY, ts=clock.now_ns(), data={"why": models.closing_only}))
    if account is not None:
        account.say_who(folder.path, 0 if lease is None else lease.token, manifest["instruments"])
    keep_models(folder, models)
    if isinstance(rule, PlannedRule):
        save_planner(folder.planner, rule.artifact.manifest, rule.artifact.tensors)
    return OpenRun(folder, ledger, models, _failed(state, ledger), unknown)


def _new_folder(
    config: SystemConfig, manifest: Mapping[str, Any], models: Models, rule: Rule | None, clock: Clock
) -> RunFolder:
    """The folder of a run that begins; what is not the release's own is marked in its manifest."""
    run = run_id(config.model_dump_json(), models.serving.artifact.hash, clock.now_ns())
    marked: dict[str, Any] = {"model_standing": dict(models.standing)} if models.standing else {}
    if rule is not None:
        marked["rule"] = describe_rule(rule)
    return RunFolder.create(config.run_dir / f"{config.mode}-{run}", {**manifest, **marked, "run": run})


def _ledger(
    folder: RunFolder, config: SystemConfig, instruments: list[Instrument], *, continued: bool
) -> Ledger:
    """The run's ledger; UsageError where it goes on and is counted in other units."""
    ledger = Ledger(folder.ledger, run=folder.manifest["run"], mode=config.mode)
    try:
        if continued:
            refuse_other_units(folder, ledger, instruments)
    except UsageError:
        ledger.close()
        raise
    return ledger


def keep_models(folder: RunFolder, models: Models) -> None:
    """Keep copies of the artifacts in the run's folder: with them, the ledger, and the planner where one decides, it is
    replayed for ever.
    """
    for model in (models.serving, models.standby, models.challenger, models.linear):
        if model is not None and not is_whole(folder.models / model.artifact.hash):
            save(folder.models / model.artifact.hash, model.artifact.manifest, model.artifact.tensors)


def _continued(
    folder: RunFolder, ledger: Ledger, config: SystemConfig, models: Models, clock: Clock
) -> Models:
    """The models of a run that goes on: what served last serves again, and nothing stands by behind a fallback.

    Where that may not serve any more (it was withdrawn since), or cannot be loaded (an older release kept no artifacts,
    or saw the market with other eyes), the configured model takes over, which the ledger tells: what the run holds at
    the venue must be looked after. So it does where the run has closed only: what served then was asked for nothing.
    """
    swaps = list(read_swaps(ledger))
    served = swaps[-1].after if swaps else first_model(folder)
    if served == models.serving.artifact.hash:
        return models
    try:
        if not models.closing_only:
            if any(ledger.notes(CLOSED_ONLY)):
                raise GovernanceError("it has closed only")
            refuse_unpromoted(config, served)
        last = load_folder(folder.models / served)
    except (ArtifactError, GovernanceError) as error:
        ours = models.serving.artifact.manifest.kind
        say(f"emp: {folder.path}: {ours} takes over from the model that served: {error}")
        for swap in replaced_model(folder, served, models.serving.artifact.hash, clock):
            ledger.record_note(swap.note)
        return models
    if models.closing_only:
        return models._replace(serving=last)
    fell_back = bool(swaps) and swaps[-1].reason in FALLBACKS
    standby, role = (None, "fallback") if fell_back else (models.standby, "primary")
    return Models(last, standby, models.challenger, models.linear, role)


CLOSED_ONLY = "closed_only"
"""Kind of the ledger's note that a process of the run may open nothing, and why."""


def _failed(state: AccountState, ledger: Ledger) -> set[str]:
    """Hashes of models that have failed in the account's runs, as far as it is known, and were not brought back."""
    found = failed_before(state)
    for swap in read_swaps(ledger):
        if swap.reason == "failed":
            found = found | {swap.before}
        elif swap.reason == "reload":  # the owner brought it; a release took what was configured
            found = found - {swap.after}
    return found
