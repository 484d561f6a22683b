"""Wiring of `emp run`: from a configuration to a live engine, its venue, its journal and its web page."""

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emp.access.port import Guarded, MarketAccess
from emp.app.wiring.assembly import describe_rule, engine_limits
from emp.app.wiring.context import providers_of, slow_context
from emp.app.wiring.doors import open_ctrader, open_fix
from emp.app.wiring.governed import load_models, refuse_unpromoted
from emp.app.wiring.lease import halt_unknown, open_account, succeed
from emp.app.wiring.mock_market import open_mock
from emp.app.wiring.rules import own_rule
from emp.app.wiring.unfinished import (
    account_of,
    brought_though_failed,
    carry_over,
    failed_before,
    failed_earlier,
    first_model,
    note_continuation,
    refuse_elsewhere,
    refuse_other_units,
    refuse_parts_of_lots,
    replaced_model,
    unfinished_run,
)
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.errors import ArtifactError, ConfigError, GovernanceError, JournalError, UsageError
from emp.core.ids import run_id
from emp.core.instrument import Instrument, find
from emp.core.platform import say
from emp.engine.apart import compile_apart
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.guard import LatencyGuard
from emp.engine.journal_tap import JournalTap
from emp.engine.lease_keeper import LeaseKeeper
from emp.engine.live import Live
from emp.engine.load import load_folder
from emp.engine.monitor_tap import MonitorTap
from emp.engine.own import Rule
from emp.engine.planning import PlannedRule
from emp.engine.portfolio import exposure_records, needs_rates
from emp.engine.rates import RateFile
from emp.engine.succession import Models, Succession
from emp.engine.tap import Taps
from emp.engine.upkeep import Home
from emp.engine.verdict import Verdict
from emp.engine.view import Viewer
from emp.journal.account_file import AccountFile, AccountState
from emp.journal.ledger import Ledger
from emp.journal.monitor_log import MonitorLog
from emp.journal.place import Place
from emp.journal.run import RunFolder, build_manifest
from emp.journal.swaps import FALLBACKS, read_swaps
from emp.model.artifact import is_whole, save
from emp.observe.board import Board
from emp.observe.log_file import LogFile


class Running(NamedTuple):
    """What `emp run` holds while it runs."""

    live: Live
    engine: Engine
    driver: Driver
    bus: EventBus
    journal: JournalTap
    viewer: Viewer
    folder: RunFolder


def checked(config: SystemConfig, source: Path) -> tuple[list[Instrument], Models, dict[str, Secret]]:
    """Everything that can be wrong before anything is opened or written: instruments, model, credentials."""
    credentials = config.credentials(str(source))
    instruments = [find(name, config.instruments.catalogue) for name in config.instruments.names]
    if (config.mode == "mock" or config.access.connection_protocol == "recording") and len(instruments) > 1:
        raise ConfigError(f"{source}: instruments.names: a built-in or recorded market has one instrument")
    providers_of(config.context, config.instruments.catalogue)
    rule, models = own_rule(config), load_models(config)
    if isinstance(rule, PlannedRule):
        rule.refuse_other(models.serving.artifact.hash)
    return instruments, models, credentials


def warm_up(config: SystemConfig, instruments: list[Instrument], models: Models) -> None:
    """Compile, or load, what the engine will run: one that stands by does so before it has to take over."""
    Engine(instruments, models.serving, engine_limits(config), "WARMING0").warm_up()


def assemble_live(
    config: SystemConfig,
    instruments: list[Instrument],
    models: Models,
    access: MarketAccess,
    board: Board,
    clock: Clock,
    source: Path | None = None,
    lease: LeaseKeeper | None = None,
) -> Running:
    """Make the run's folder and everything in it; the run is named by its configuration and its start.

    A live run of the same account whose process died is continued in its own folder, by the model that served when
    it died, whatever release and settings it had: see `emp.app.wiring.unfinished`. A new one begins with what the
    account's last run had lost that day and halted. One engine on this machine trades an account at a time; with a
    `lease` one on all machines, and what is known of the account is what the holder before has left with it. `source`
    is the configuration's file, read again where a model is to be reloaded.
    """
    if config.mode != "live":
        return _assemble(config, instruments, models, access, board, clock, source, None, None)
    account = open_account(account_of(config), lease)
    try:
        return _assemble(config, instruments, models, access, board, clock, source, account, lease)
    except BaseException:
        account.close()
        raise


def _assemble(
    config: SystemConfig,
    instruments: list[Instrument],
    models: Models,
    access: MarketAccess,
    board: Board,
    clock: Clock,
    source: Path | None,
    account: AccountFile | None,
    lease: LeaseKeeper | None,
) -> Running:
    model = models.serving
    manifest = build_manifest(
        run="",
        mode=config.mode,
        config=config.model_dump(mode="json"),
        instruments=[one.name for one in instruments],
        model_hashes=[model.artifact.hash],
        facts=[msgspec.to_builtins(one) for one in instruments],
    )
    rule = own_rule(config)
    rates = _rates(config, instruments)
    _refuse_unknown_margin(config, instruments)
    folder = unfinished_run(config, manifest["instruments"])
    state = AccountState() if account is None else account.read()
    unknown: list[str] = []
    if lease is not None:
        folder, state, unknown = succeed(lease, folder, state)
    continued = folder is not None
    refuse_elsewhere(state, folder)
    if folder is None:
        refuse_parts_of_lots(
            state, instruments
        )  # a folder that is there would be taken for a run that goes on
        folder = _new_folder(config, manifest, models, rule, clock)
    run = folder.manifest["run"]
    ledger = _ledger(folder, config, instruments, continued=continued)
    if not ledger.last_seq:  # new, or its process died before it had taken over what the run before it left
        carry_over(state, instruments, ledger, clock, model.artifact.hash)
    if continued:
        note_continuation(folder, ledger, manifest, clock)
        models = _continued(folder, ledger, config, models, clock)
    if account is not None:
        account.say_who(folder.path, 0 if lease is None else lease.token, manifest["instruments"])
    served = [first_model(folder), *(swap.after for swap in read_swaps(ledger))]
    keep_models(folder, models)
    journal = JournalTap(
        folder, instruments, list(dict.fromkeys(served)), clock, config.journal.flush_seconds
    )
    ledger.at = journal.market.events
    engine = Engine(instruments, models.serving, engine_limits(config), run, journal.actions.model_hashes)
    if rule is not None:
        rule.attach(engine)
    engine.failed_models |= _failed(state, ledger)
    if lease is not None:
        engine.token = lease.token
        if isinstance(access, Guarded):
            access.guard(lease.valid)
    bus = EventBus(
        [one.name for one in instruments],
        queue_bound=config.bus.queue_bound,
        max_age_ms=config.bus.max_age_ms,
        clock=clock,
        contiguous=config.access.connection_protocol == "mock",
    )
    taps = Taps(journal.market.events, journal.actions.rows)
    driver = Driver(engine, access.send, ledger=ledger, taps=taps)
    guard = LatencyGuard(config.model.p99_ms, config.model.total_p99_ms)
    verdicts = deque[Verdict]()
    if continued and brought_though_failed(ledger, models.serving.artifact.hash, engine.failed_models):
        verdicts.append(failed_earlier(models.serving.artifact.hash, instruments[0].name))
    succession = Succession(
        driver,
        board,
        guard,
        models,
        None if source is None else _reader(config, source, folder),
        rule,
        verdicts,
    )
    monitor = None
    if config.model.monitor:
        log = MonitorLog(folder.path, journal.market.events)
        own_market = config.access.connection_protocol == "mock"
        monitor = MonitorTap(
            instruments,
            engine.limits,
            succession.lineup,
            log,
            board,
            lambda: guard.slow,
            verdicts,
            own_market,
        )
    viewer = Viewer(
        driver,
        bus,
        clock,
        board,
        succession.view,
        mode=config.mode,
        stale_after_ms=config.risk.stale_after_ms,
        monitor=monitor,
    )
    taps.attach(journal)
    if monitor is not None:
        taps.attach(monitor)
    taps.attach(viewer)
    live = Live(
        access=access,
        bus=bus,
        driver=driver,
        ledger=ledger,
        taps=taps,
        board=board,
        clock=clock,
        succession=succession,
        home=Home(folder.path, account, Place(folder.path, folder.ledger), rates, lease),
        context=slow_context(config.context, instruments, config.instruments.catalogue),
    )
    halt_unknown(unknown, lambda reason, name: live.control("halt", reason, name))
    return Running(live, engine, driver, bus, journal, viewer, folder)


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
    """Keep copies of the artifacts in the run's folder: with them and the ledger it can be replayed for ever."""
    for model in (models.serving, models.standby, models.challenger, models.linear):
        if model is not None and not is_whole(folder.models / model.artifact.hash):
            save(folder.models / model.artifact.hash, model.artifact.manifest, model.artifact.tensors)


def _continued(
    folder: RunFolder, ledger: Ledger, config: SystemConfig, models: Models, clock: Clock
) -> Models:
    """The models of a run that goes on: what served last serves again, and nothing stands by behind a fallback.

    Where that may not serve any more (it was withdrawn since), or cannot be loaded (an older release kept no artifacts,
    or saw the market with other eyes), the configured model takes over, which the ledger tells: what the run holds at
    the venue must be looked after.
    """
    swaps = list(read_swaps(ledger))
    served = swaps[-1].after if swaps else first_model(folder)
    if served == models.serving.artifact.hash:
        return models
    try:
        refuse_unpromoted(config, served)
        last = load_folder(folder.models / served)
    except (ArtifactError, GovernanceError) as error:
        ours = models.serving.artifact.manifest.kind
        say(f"emp: {folder.path}: {ours} takes over from the model that served: {error}")
        for swap in replaced_model(folder, served, models.serving.artifact.hash, clock):
            ledger.record_note(swap.note)
        return models
    fell_back = bool(swaps) and swaps[-1].reason in FALLBACKS
    standby, role = (None, "fallback") if fell_back else (models.standby, "primary")
    return Models(last, standby, models.challenger, models.linear, role)


def _failed(state: AccountState, ledger: Ledger) -> set[str]:
    """Hashes of models that have failed in the account's runs, as far as it is known, and were not brought back."""
    found = failed_before(state)
    for swap in read_swaps(ledger):
        if swap.reason == "failed":
            found = found | {swap.before}
        elif swap.reason == "reload":  # the owner brought it; a release took what was configured
            found = found - {swap.after}
    return found


def _reader(config: SystemConfig, source: Path, folder: RunFolder) -> Callable[[], Models]:
    """What reads, keeps and compiles the models that the section `model` of the configuration's file names now. Whether
    they may serve is asked as the run itself was: its mode, market and instruments are not what the file says by now.
    """

    def read() -> Models:
        models = load_models(config.model_copy(update={"model": SystemConfig.load(source).model}))
        keep_models(folder, models)
        for model in (models.serving, models.standby):
            if model is not None:
                compile_apart(folder.models / model.artifact.hash)
        return models

    return read


def open_access(
    config: SystemConfig, instruments: list[Instrument], credentials: Mapping[str, Secret], clock: Clock
) -> MarketAccess:
    """The market that the configuration names; on paper, our orders stay here."""
    protocol = config.access.connection_protocol
    if protocol == "mock":
        return open_mock(config, instruments[0], clock)
    if config.mode == "mock" and protocol == "fix":
        from emp.sim.venues.fix.loopback import FixLoopback

        return FixLoopback(open_mock(config, instruments[0], clock), clock)
    if protocol == "recording":
        return _recording(config, instruments[0], clock)
    access: MarketAccess = (
        open_ctrader(config, credentials, clock)
        if protocol == "ctrader"
        else open_fix(config, credentials, clock)
    )
    if config.mode == "live":
        return access
    from emp.access.paper.access import PaperAccess

    return PaperAccess(access, clock)


def _refuse_unknown_margin(config: SystemConfig, instruments: list[Instrument]) -> None:
    """UsageError where margin is limited and nobody says how much there is, or what a lot asks."""
    if config.account.min_margin_level is None or config.access.connection_protocol == "ctrader":
        return
    if config.account.equity is None:
        raise UsageError(
            "account.equity: must be given with account.min_margin_level: this venue states no margin"
        )
    for one in instruments:
        if not one.margin:
            raise UsageError(
                f"account.min_margin_level: nothing says what {one.name} asks as margin: give its 'margin'"
                " (1 / leverage) in a catalogue"
            )


def _rates(config: SystemConfig, instruments: list[Instrument]) -> RateFile | None:
    """Where conversion rates are told that no instrument of the run says; UsageError where nobody does."""
    needed = needs_rates(instruments, exposure_records(instruments, engine_limits(config).account))
    if not needed:
        return None
    if config.account.rates is None:
        raise UsageError(
            f"account.rates: no instrument of the run says what {', '.join(needed)} are worth in"
            f" {config.account.currency}: name a YAML file with a line per currency, as in 'JPY: 0.0067'"
        )
    return RateFile(config.account.rates, needed)


def open_log(folder: RunFolder) -> LogFile:
    """The run's log file, for `emp.observe.logs`."""
    path = folder.path / "log.jsonl"
    try:
        return LogFile(path)
    except OSError as error:
        raise JournalError(
            f"cannot write {path}: {error.strerror or os.strerror(error.errno or 0)}"
        ) from error


def _recording(config: SystemConfig, instrument: Instrument, clock: Clock) -> MarketAccess:
    from emp.access.paper.access import PaperAccess, Playback
    from emp.access.recordings import open_recording

    assert config.access.recording is not None
    source = open_recording(config.access.recording, instrument)
    speed = config.access.speed
    return PaperAccess(Playback(source, clock, speed=speed), clock, speed=speed)
