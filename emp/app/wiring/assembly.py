"""Wiring: from names and files to the objects that run. The one place where worlds and engine are joined."""

import shutil
from collections.abc import Mapping as Named
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from emp.access.paper.venue import PaperVenue
from emp.access.port import Source
from emp.access.recordings import open_recording
from emp.access.recordings.mapping import Mapping
from emp.access.recordings.source import Progress, files_of
from emp.access.together import Together
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
from emp.core.instrument import Instrument, find
from emp.core.platform import exists
from emp.engine.breakers import BreakerLimits
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel, load_folder
from emp.engine.own import Rule
from emp.engine.portfolio import AccountLimits, exposure_records, needs_rates
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
    recordings: Named[str, Sequence[Path]],
    catalogue: Path | None,
    model: LoadedModel,
    limits: EngineLimits,
    runs: Path,
    progress: Progress | None = None,
    swaps_of: Path | None = None,
    reading: Reading = AS_USUAL,
) -> tuple[Backtest, RunFolder]:
    """A backtest of one instrument, or of several together, with its run folder, new or to be continued.

    `recordings` are the files of each instrument, by its name in the catalogue.
    The run is named by its inputs, so the same inputs find the folder that an interrupted run left. A finished
    one is made again: it would say the same. Other models take over where they did in the run `swaps_of`.
    """
    instruments = [find(name, catalogue) for name in recordings]
    refuse_unknown_rates(instruments, limits)
    if swaps_of is not None and len(instruments) > 1:
        raise UsageError(
            "--swaps: events of several instruments have no numbers in common: replay one at a time"
        )
    successions = [] if swaps_of is None else journalled(RunFolder(swaps_of), instruments[0].name)
    if successions and successions[0].swap.before != model.artifact.hash:
        raise UsageError(f"--model: in {swaps_of} another one served first: {successions[0].swap.before}")
    bytes_read = BytesRead(progress)
    sources = [
        open_recording(
            list(files),
            one,
            progress=bytes_read.of(one.name),
            mappings=reading.mappings,
            accept_losses=reading.accept_losses,
        )
        for one, files in zip(instruments, recordings.values(), strict=True)
    ]
    context = recorded_context(reading.context, instruments, catalogue)
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
            **_described(instruments, recordings),
            "swaps": [msgspec.to_builtins(one.swap) for one in successions],
            "reading": own,
            **({} if reading.rule is None else {"rule": describe_rule(reading.rule)}),
        },
        instruments=[one.name for one in instruments],
        model_hashes=[model.artifact.hash],
        data_files=_read_in_order(recordings, reading),
        facts=facts_of(instruments),
    )
    run = run_id(msgspec.json.encode(manifest).decode())
    manifest["run"] = run
    path = runs / f"replay-{'-'.join(recordings)}-{run}"
    forgets = reading.rule is not None and not reading.rule.resumable
    if exists(path) and (exists(path / "summary.json") or forgets):
        shutil.rmtree(path)
    folder = RunFolder.open_or_create(path, manifest)
    engine = Engine(instruments, model, limits, run)
    venues = paper_venues(engine, entry_ns)
    source = joined(sources)
    running = Backtest(source, engine, venues, folder, successions, context=context, rule=reading.rule)
    return running, folder


def joined(sources: Sequence[Source]) -> Source | Together:
    """The recording of one instrument, or those of several in order of time."""
    return sources[0] if len(sources) == 1 else Together(sources)


def paper_venues(engine: Engine, entry_ns: int | None) -> list[PaperVenue]:
    """A paper venue for each instrument of an engine; the engine's shadows are as far away from theirs as we are."""
    venues = [PaperVenue(one, entry_ns=entry_ns) for one in engine.instruments]
    for i, venue in enumerate(venues):
        engine.desk.facts["round_trip_ns"][i] = venue.venue["entry_ns"][0]
    return venues


def refuse_unknown_rates(instruments: Sequence[Instrument], limits: EngineLimits) -> None:
    """UsageError where several instruments have limits together in a money into which nothing converts: each of them
    would be barred for ever.
    """
    needed = needs_rates(instruments, exposure_records(instruments, limits.account))
    if needed and len(instruments) > 1:
        raise UsageError(
            f"limits of the account: nothing says what {', '.join(needed)} are worth in {limits.account.currency}:"
            " replay a recording of that spot pair with them"
        )


class BytesRead:
    """How much of all recordings has been read."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._read: dict[str, tuple[int, int]] = {}

    def of(self, name: str) -> Progress | None:
        """What an instrument's source tells of its bytes; None where nobody wants to know."""
        progress = self._progress
        if progress is None:
            return None

        def read(done: int, total: int) -> None:
            self._read[name] = done, total
            progress(sum(n for n, _ in self._read.values()), sum(n for _, n in self._read.values()))

        return read


def _read_in_order(recordings: Named[str, Sequence[Path]], reading: Reading) -> list[Path]:
    """All files, those of an instrument by name; of several instruments in their order, which says whose is which."""
    found: dict[Path, None] = {}
    for files in recordings.values():
        found |= dict.fromkeys(sorted({item.path for item in files_of(files, reading.mappings)}))
    return list(found)


def _described(instruments: Sequence[Instrument], files: Named[str, Sequence[Path]]) -> dict[str, object]:
    """The instrument as the configuration of a run of one has it; of several, which files are whose."""
    if len(instruments) == 1:
        return {"instrument": msgspec.to_builtins(instruments[0])}
    return {"recordings": {name: sorted(path.name for path in paths) for name, paths in files.items()}}


def facts_of(instruments: Sequence[Instrument]) -> list[dict[str, object]]:
    """The instruments as the manifest of a run of several has them; of one its configuration does."""
    return [] if len(instruments) == 1 else [msgspec.to_builtins(one) for one in instruments]


def describe_rule(rule: Rule) -> dict[str, str]:
    """A rule of one's own as a manifest names it."""
    reached = {"values": rule.values} if rule.values else {}
    return {"name": rule.name, "sha256": rule.hash, **reached}


def journalled(folder: RunFolder, instrument: str) -> list[Planned]:
    """The swaps that a run's ledger tells of an instrument, each with the artifact that the run kept."""
    ledger = LedgerReader(folder.ledger)
    try:
        return [
            Planned(swap, load_folder(folder.models / swap.after)) for swap in read_swaps(ledger, instrument)
        ]
    finally:
        ledger.close()
