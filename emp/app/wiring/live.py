"""Wiring of `emp run`: from a configuration to a live engine, its venue, its journal and its web page."""

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from emp.access.port import Guarded, MarketAccess
from emp.app.wiring.assembly import engine_limits
from emp.app.wiring.closing_only import models_to_start, refused_in_words
from emp.app.wiring.context import providers_of, slow_context
from emp.app.wiring.doors import open_ctrader, open_fix, open_kafka
from emp.app.wiring.governed import load_models
from emp.app.wiring.lease import halt_unknown, open_account
from emp.app.wiring.mock_market import open_mock
from emp.app.wiring.open_run import OpenRun, keep_models, open_run
from emp.app.wiring.rules import own_rule
from emp.app.wiring.unfinished import (
    account_of,
    brought_though_failed,
    decided_last,
    failed_earlier,
    first_model,
    written_account_of,
)
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument, find
from emp.engine.apart import compile_apart
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.guard import LatencyGuard
from emp.engine.journal_tap import JournalTap
from emp.engine.lease_keeper import LeaseKeeper
from emp.engine.live import Live
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
from emp.journal.account_file import AccountFile
from emp.journal.monitor_log import MonitorLog
from emp.journal.place import Place
from emp.journal.run import RunFolder
from emp.journal.swaps import read_swaps
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
    providers_of(config.context, config.instruments.catalogue)
    rule, models = own_rule(config), models_to_start(config)
    if isinstance(rule, PlannedRule) and not models.closing_only:
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
    account = open_account(account_of(config), lease, written_account_of(config))
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
    rule = own_rule(config)
    rates = _rates(config, instruments)
    _refuse_unknown_margin(config, instruments)
    run = open_run(config, instruments, models, rule, clock, account, lease)
    why = run.models.closing_only
    journal = _journal(config, instruments, run, clock)
    engine = _engine(config, instruments, run, journal, rule)
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
    driver = Driver(engine, access.send, ledger=run.ledger, taps=taps)
    guard = LatencyGuard(config.model.p99_ms, config.model.total_p99_ms)
    verdicts = deque[Verdict]()
    reader = None if source is None else _reader(config, source, run.folder)
    succession = Succession(driver, board, guard, run.models, reader, rule, verdicts)
    serving = run.models.serving.artifact.hash
    if brought_though_failed(run.ledger, serving, engine.failed_models):
        succession.goes_on_behind(decided_last(run.folder, clock))  # acted on before anything is seen
        verdicts.append(failed_earlier(serving, instruments[0].name))
    monitor = None
    if config.model.monitor:
        monitor = MonitorTap(
            instruments,
            engine.limits,
            succession.lineup,
            MonitorLog(run.folder.path, journal.market.events),
            board,
            lambda: guard.slow,
            verdicts,
            config.access.connection_protocol == "mock",
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
    for tap in (journal, monitor, viewer):
        if tap is not None:
            taps.attach(tap)
    live = Live(
        access=access,
        bus=bus,
        driver=driver,
        ledger=run.ledger,
        taps=taps,
        board=board,
        clock=clock,
        succession=succession,
        home=Home(run.folder.path, account, Place(run.folder.path, run.folder.ledger), rates, lease),
        context=slow_context(config.context, instruments, config.instruments.catalogue),
    )
    if why:
        board.raise_alarm("closing only", refused_in_words(why, [one.name for one in instruments]))
        live.owner.only_close(why)
    halt_unknown(run.unknown, lambda reason, name: live.owner.control("halt", reason, name))
    return Running(live, engine, driver, bus, journal, viewer, run.folder)


def _journal(config: SystemConfig, instruments: list[Instrument], run: OpenRun, clock: Clock) -> JournalTap:
    """What writes market data and the action log; the ledger goes on behind what they hold."""
    served = [first_model(run.folder), *(swap.after for swap in read_swaps(run.ledger))]
    hashes = list(dict.fromkeys(served))
    journal = JournalTap(run.folder, instruments, hashes, clock, config.journal.flush_seconds)
    run.ledger.at = journal.market.events
    return journal


def _engine(
    config: SystemConfig, instruments: list[Instrument], run: OpenRun, journal: JournalTap, rule: Rule | None
) -> Engine:
    serving, name = run.models.serving, run.folder.manifest["run"]
    engine = Engine(instruments, serving, engine_limits(config), name, journal.actions.model_hashes)
    if rule is not None:
        rule.attach(engine)
    engine.failed_models |= run.failed
    return engine


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
        return open_mock(config, instruments, clock)
    if config.mode == "mock" and protocol == "fix":
        from emp.sim.venues.fix.loopback import FixLoopback

        return FixLoopback(open_mock(config, instruments, clock), clock)
    if protocol == "recording":
        return _played(config, instruments, clock)
    access: MarketAccess
    if protocol == "kafka":
        access = open_kafka(config, clock)
    elif protocol == "ctrader":
        access = open_ctrader(config, credentials, clock)
    else:
        access = open_fix(config, credentials, clock)
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


def _played(config: SystemConfig, instruments: list[Instrument], clock: Clock) -> MarketAccess:
    from emp.access.paper.access import PaperAccess, Playback
    from emp.access.recordings import open_recording

    sources = [open_recording(path, one) for path, one in zip(config.recordings, instruments, strict=True)]
    speed = config.access.speed
    return PaperAccess(Playback(sources, clock, speed=speed), clock, speed=speed)
