"""Wiring: from names and files to the objects that run. The one place where worlds and engine are joined."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from emp.access.paper.venue import PaperVenue
from emp.access.recordings import open_recording
from emp.access.recordings.mapping import Mapping
from emp.access.recordings.source import Progress, files_of
from emp.app.wiring.context import described, recorded_context
from emp.core.config.config import (
    COOL_DOWN_EVENTS,
    WARM_UP_EVENTS,
    Account,
    Breakers,
    Context,
    Model,
    Risk,
    SystemConfig,
)
from emp.core.errors import UsageError
from emp.core.ids import run_id
from emp.core.instrument import find
from emp.core.platform import exists
from emp.engine.breakers import BreakerLimits
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel, load_folder
from emp.engine.own import Rule
from emp.engine.portfolio import AccountLimits
from emp.engine.replay import Backtest, Planned
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder, build_manifest
from emp.journal.swaps import read_swaps

MS = 1_000_000


def engine_limits(config: SystemConfig | None = None) -> EngineLimits:
    """The engine's limits from the owner's configuration; without one, from its defaults."""
    risk = config.risk if config else Risk()
    model = config.model if config else Model()
    return EngineLimits(
        max_position_lots=risk.max_position_lots,
        max_order_lots=risk.max_order_lots,
        max_daily_loss=risk.max_daily_loss_ticks,
        max_drawdown=risk.max_drawdown_ticks,
        orders_per_minute=float(risk.max_orders_per_minute),
        turnover_per_minute=float(risk.max_turnover_per_minute_lots),
        turnover_per_hour=float(risk.max_turnover_per_hour_lots),
        stale_after_ns=int(risk.stale_after_ms * MS),
        depth_share=risk.depth_share,
        warmup_events=config.warm_up_events if config else WARM_UP_EVENTS,
        cooldown_events=config.cool_down_events if config else COOL_DOWN_EVENTS,
        state_ttl_ns=int(model.state_ttl_s * 1_000 * MS),
        breakers=_breaker_limits(config.breakers if config else Breakers()),
        account=_account_limits(config.account if config else Account()),
    )


def _account_limits(account: Account) -> AccountLimits:
    return AccountLimits(
        currency=account.currency or "",
        max_gross=account.max_gross_exposure or 0.0,
        max_net=account.max_net_exposure or 0.0,
        max_daily_loss=account.max_daily_loss or 0.0,
        halt_at=account.halt_at,
        rate_max_age_ns=int(account.rate_max_age_s * 1_000 * MS),
        min_margin_level=account.min_margin_level or 0.0,
        equity=account.equity or 0.0,
        margin_max_age_ns=int(account.margin_max_age_s * 1_000 * MS),
    )


def _breaker_limits(breakers: Breakers) -> BreakerLimits:
    return BreakerLimits(
        rejects=breakers.rejects,
        reject_window_ns=int(breakers.reject_window_s * 1_000 * MS),
        reject_pause_ns=int(breakers.reject_pause_s * 1_000 * MS),
        answer_ns=int(breakers.answer_s * 1_000 * MS),
        decision_ns=int(breakers.decision_p99_ms * MS),
        cool_down_ns=int(breakers.cool_down_s * 1_000 * MS),
    )


class Reading(NamedTuple):
    """How recordings are read, how far away the paper venue is, in which context they are traded, and by what rule."""

    mappings: Sequence[Mapping] = ()  # the user's own formats
    accept_losses: bool = False
    latency_ms: float | None = None  # round trip; without one, the venue's usual
    context: Context = Context()  # what multiplies size, when
    rule: Rule | None = None  # decides in place of the built-in one


AS_USUAL = Reading()


def assemble_replay(
    recordings: Sequence[Path],
    instrument: str,
    catalogue: Path | None,
    model: LoadedModel,
    limits: EngineLimits,
    runs: Path,
    progress: Progress | None = None,
    swaps_of: Path | None = None,
    reading: Reading = AS_USUAL,
) -> tuple[Backtest, RunFolder]:
    """A backtest of one instrument with its run folder, new or to be continued.

    The run is named by its inputs, so the same inputs find the folder that an interrupted run left. A finished
    one is made again: it would say the same. Other models take over where they did in the run `swaps_of`.
    """
    facts = find(instrument, catalogue)
    successions = [] if swaps_of is None else journalled(RunFolder(swaps_of), facts.name)
    if successions and successions[0].swap.before != model.artifact.hash:
        raise UsageError(f"--model: in {swaps_of} another one served first: {successions[0].swap.before}")
    source = open_recording(
        list(recordings),
        facts,
        progress=progress,
        mappings=reading.mappings,
        accept_losses=reading.accept_losses,
    )
    context = recorded_context(reading.context, [facts], catalogue)
    entry_ns = None if reading.latency_ms is None else int(reading.latency_ms * MS)
    own = {
        "mappings": [msgspec.to_builtins(one) for one in reading.mappings],
        "accept_losses": reading.accept_losses,
        "latency_ms": reading.latency_ms,
        "context": described(reading.context),
    }
    manifest = build_manifest(
        run="",
        mode="replay",
        config={
            "limits": msgspec.to_builtins(limits),
            "instrument": msgspec.to_builtins(facts),
            "swaps": [msgspec.to_builtins(one.swap) for one in successions],
            "reading": own,
            **({} if reading.rule is None else {"rule": describe_rule(reading.rule)}),
        },
        instruments=[facts.name],
        model_hashes=[model.artifact.hash],
        data_files=sorted({item.path for item in files_of(recordings, reading.mappings)}),
    )
    run = run_id(msgspec.json.encode(manifest).decode())
    manifest["run"] = run
    path = runs / f"replay-{facts.name}-{run}"
    forgets = reading.rule is not None and not reading.rule.resumable
    if exists(path) and (exists(path / "summary.json") or forgets):
        shutil.rmtree(path)
    folder = RunFolder.open_or_create(path, manifest)
    engine = Engine([facts], model, limits, run)
    venue = PaperVenue(facts, entry_ns=entry_ns)
    engine.desk.facts["round_trip_ns"] = venue.venue["entry_ns"]  # the shadow is as far away as we are
    running = Backtest(source, engine, venue, folder, successions, context=context, rule=reading.rule)
    return running, folder


def describe_rule(rule: Rule) -> dict[str, str]:
    """A rule of one's own as a manifest names it."""
    return {"name": rule.name, "sha256": rule.hash}


def journalled(folder: RunFolder, instrument: str) -> list[Planned]:
    """The swaps that a run's ledger tells of an instrument, each with the artifact that the run kept."""
    ledger = LedgerReader(folder.ledger)
    try:
        return [
            Planned(swap, load_folder(folder.models / swap.after)) for swap in read_swaps(ledger, instrument)
        ]
    finally:
        ledger.close()
