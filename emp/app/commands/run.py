"""Trade: mock, paper or live, with health, metrics and the console on loopback."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.wiring.examples import default_config
from emp.core.errors import EmpError, PositionLeftError, UsageError
from emp.core.platform import hang_up_is_ignored, on_signals, say

if TYPE_CHECKING:
    from emp.app.wiring.live import Running
    from emp.core.clock import Clock
    from emp.core.config.config import SystemConfig
    from emp.core.platform import Detached
    from emp.journal.run import RunFolder
    from emp.observe.board import Board

app = typer.Typer()

FLAT_S = 0.1
"""Between two looks at whether anything is held any more."""


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="YAML file; without it: emp.yaml here, else the shipped mock.yaml.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop by itself after so long.")] = None,
    detached: Annotated[
        bool, typer.Option("--detach", help="Go on in the background, where no terminal can end it.")
    ] = False,
    flat: Annotated[
        bool, typer.Option("--flat", help="Trade nothing: close all that the account holds, then end.")
    ] = False,
    planner: Annotated[
        Path | None,
        typer.Option(help="Folder of a planner that decides in the rule's place; before what the file says."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Trade in the mode the configuration says: mock, paper or live; or, in mode observe, record a broker's market.

    Ctrl-C ends in order: resting orders are withdrawn, the journal is sealed. So do SIGTERM and the end of the
    terminal (SIGHUP), unless it was started with --detach or nohup. SIGUSR1 is the kill switch: everything is
    cancelled, the position is closed, and trading stays halted. SIGUSR2 reads the section `model` of FILE again and
    lets the artifact it names take over between two events.
    """
    from emp.core.platform import detach

    config = config or default_config()
    background = detach() if detached else None
    from emp.app.console.console import Console
    from emp.app.console.token import read_token
    from emp.app.terminal.closing import closing_words
    from emp.app.terminal.terminal import Terminal
    from emp.app.wiring.alerts import receivers, telling
    from emp.app.wiring.daily import telling_days
    from emp.app.wiring.live import open_log
    from emp.core.clock import LiveClock
    from emp.core.config.config import SystemConfig
    from emp.core.numba.announce import announce_compiling
    from emp.observe import logs
    from emp.observe.board import Board
    from emp.observe.http import HttpServer, create_app

    settings = SystemConfig.load(config)
    if planner is not None:
        decision = settings.decision.model_copy(update={"planner": str(planner)})
        settings = settings.model_copy(update={"decision": decision})
    if flat and settings.mode != "live":
        raise UsageError(f"--flat: mode is {settings.mode}: only a live account holds anything")
    token = read_token(settings.http.token_file) if settings.http.token_file is not None else ""
    told = receivers(settings.alerts)
    clock = LiveClock()
    _make_room(settings, clock)
    assemble = (_observing if settings.mode == "observe" else _trading)(settings, config, clock)
    board = Board(clock)
    console = Console(board, token, login=settings.http.expose)
    server = HttpServer(
        create_app(board, console.routes, console.middleware, any_host=settings.http.expose),
        settings.http.host,
        settings.http.port,
    )
    server.start()
    announce_compiling("compiling for this machine (a minute or two the first time); Ctrl-C ends it")
    with contextlib.ExitStack() as until_told:
        try:
            running = assemble(board)
            with open_log(running.folder) as stream:
                log = logs.configure(console.keep_log(stream), clock)
                try:
                    console.attach(running.folder.path)
                    board.folder = running.folder.path
                    running.prepare()  # while SIGTERM still ends the process at once: nothing has begun
                    until_told.enter_context(_on_record(running.folder, _paper_registry(settings), clock))
                    if background is not None:
                        _hand_over(background, running, server.url, console.address(server.url), as_json)
                    with (
                        telling(board, told, clock, running.folder.path, running.left),
                        Terminal(board, console.address(server.url), running.folder.path),
                        _heartbeat(settings, board, clock, running),
                        telling_days(running.folder.path, _paper_registry(settings), clock),
                    ):
                        asyncio.run(_until_stopped(running, seconds, flat=flat))
                except EmpError as error:
                    raise _naming(error, running.left()) from error
                finally:
                    log.close()
        finally:
            server.stop()
            console.close()
        summary = {**running.summary(), "url": server.url}
        running.folder.write_summary(summary)
        failed = None
        registry = _paper_registry(settings)
        if registry is not None:
            try:
                summary["paper"] = _observed(running.folder, registry, clock)
            except EmpError as error:  # the run is as it was; `emp gates observe` writes its evidence later
                failed = error
    if as_json:
        print(json.dumps(summary))
    else:
        for line in closing_words(summary):
            say(line)
    if running.left():
        raise PositionLeftError(running.left())
    if failed is not None:
        raise type(failed)(f"no evidence of this run was written: {failed}")


def _paper_registry(settings: "SystemConfig") -> Path | None:
    """Where evidence of the run's days goes; None where it makes none."""
    return settings.model.registry if settings.mode == "paper" else None


@contextlib.contextmanager
def _on_record(folder: "RunFolder", registry: Path | None, clock: "Clock") -> Iterator[None]:
    """Sign that a paper run begins, where its days are to be evidence: one that is gone afterwards is missed. While the
    block lasts, until they are told, it counts as one that goes on; one that fails untraded is told at once.
    """
    if registry is None:
        yield
        return
    from emp.app.wiring.paper_days import never_traded, observe_run, record_start
    from emp.governance.gates import read_gates
    from emp.journal.held import held

    with held(folder.path):
        record_start(folder, registry, clock)
        try:
            yield
        except EmpError:
            try:
                if never_traded(folder):
                    observe_run(folder, registry, read_gates(), clock, lambda *_: None, ending=True)
            except EmpError as error:  # why the run failed is what is raised
                say(f"emp: no evidence of this run was written: {error}")
            raise


def _observed(folder: "RunFolder", registry: Path, clock: "Clock") -> dict[str, Any]:
    """Write evidence of a paper run's days into the registry; what was written."""
    from emp.app.commands.replay import ReplayBar
    from emp.app.wiring.paper_days import observe_run
    from emp.governance.gates import read_gates

    with ReplayBar(f"replay of {folder.path.name}") as bar:
        found = observe_run(folder, registry, read_gates(), clock, bar.replayed, ending=True)
    for one in found["days"]:
        say(f"emp: paper day {one['day']}, {one['instrument']}: {one['colour']} {one['why']}".rstrip())
    say(f"emp: {len(found['evidence'])} new pieces of evidence in {registry}")
    return found


def _naming(error: EmpError, left: str) -> EmpError:
    """The same error, which names what is left open."""
    return type(error)(f"{error}; {left}") if left else error


class Job(NamedTuple):
    """A run that is assembled: how to run and end it, what a signal means to it, and what it was in the end."""

    folder: "RunFolder"
    run: Callable[[], Coroutine[Any, Any, None]]
    stop: Callable[[], None]
    connected: asyncio.Event
    signals: Mapping[signal.Signals, Callable[[], object]]
    summary: Callable[[], dict[str, Any]]
    prepare: Callable[[], object] = str  # what takes long and touches nothing
    left: Callable[[], str] = str  # what is still open at the venue, in words; "" where nothing is
    kill: Callable[[str], object] = str  # pulls the kill switch


def _trading(settings: "SystemConfig", path: Path, clock: "Clock") -> Callable[["Board"], Job]:
    """What makes a run that trades, once everything that can be wrong beforehand was looked at."""
    from emp.app.wiring.beside import compiled_beside, compiles_first
    from emp.app.wiring.lease import stand_by
    from emp.app.wiring.live import assemble_live, checked, open_access, warm_up
    from emp.app.wiring.mock_market import simulated_as

    instruments, models, credentials = checked(settings, path)
    if settings.mode == "mock" and settings.access.connection_protocol != "recording":
        for line in simulated_as(instruments):
            say(f"emp: {line}")

    def assemble(board: "Board") -> Job:
        if compiles_first():
            with compiled_beside(path):
                warm_up(settings, instruments, models)
        elif settings.lease.redis is not None:
            warm_up(settings, instruments, models)
        lease = stand_by(settings, board)
        try:
            access = open_access(settings, instruments, credentials, clock)
            running = assemble_live(settings, instruments, models, access, board, clock, path, lease)
        except BaseException:
            if lease is not None:
                lease.stop()
            raise
        live = running.live
        return Job(
            running.folder,
            live.run,
            live.owner.stop,
            live.connected,
            {signal.SIGUSR1: partial(live.owner.kill, "operator"), signal.SIGUSR2: live.owner.reload},
            partial(_summary, running),
            live.prepare,
            live.left_open if settings.mode == "live" else live.left_closing,
            live.owner.kill,
        )

    return assemble


def _observing(settings: "SystemConfig", path: Path, clock: "Clock") -> Callable[["Board"], Job]:
    """What makes a run that only watches."""
    from emp.app.wiring.doors import open_feed
    from emp.app.wiring.observe import assemble_observer, observed
    from emp.core.instrument import find

    credentials = settings.credentials(str(path))
    instruments = [find(name, settings.instruments.catalogue) for name in settings.instruments.names]

    def assemble(board: "Board") -> Job:
        feed = open_feed(settings, credentials, clock)
        running = assemble_observer(settings, instruments, feed, board, clock)
        observer = running.observer
        nothing = partial(observer.ignored, "a signal about trading")
        return Job(
            running.folder,
            observer.run,
            observer.stop,
            observer.connected,
            {signal.SIGUSR1: nothing, signal.SIGUSR2: nothing},
            partial(observed, running),
        )

    return assemble


def _hand_over(background: "Detached", running: Job, url: str, address: str, as_json: bool) -> None:
    """Tell who started a run in the background what it is, and end his part of it."""
    run, pid, folder = running.folder.manifest["run"], os.getpid(), str(running.folder.path)
    facts = {"run": run, "pid": pid, "url": url, "run_folder": folder}
    words = f"run {run} goes on as pid {pid}: {address}; `emp stop {shlex.quote(folder)}` ends it in order"
    background.ready(json.dumps(facts) if as_json else words)


def _make_room(settings: "SystemConfig", clock: "Clock") -> None:
    """Let the oldest runs give way, where the configuration says how much all of them may take."""
    if settings.journal.keep_gb is None:
        return
    from emp.journal.retention import make_room

    for one in make_room(settings.run_dir, int(settings.journal.keep_gb * 1e9), clock.now_ns() / 1e9):
        say(
            f"emp: run {one.name} removed ({one.bytes / 1e6:,.0f} MB): journal.keep_gb is {settings.journal.keep_gb:g}"
        )


@contextlib.contextmanager
def _heartbeat(settings: "SystemConfig", board: "Board", clock: "Clock", running: Job) -> Iterator[None]:
    """Beat for `emp watch` on another machine, where the configuration names one."""
    if settings.heartbeat.to is None:
        yield
        return
    from emp.core.config.secrets import heartbeat_key
    from emp.observe.heartbeat import Heart

    heart = Heart(board, clock, settings.heartbeat.to, heartbeat_key())
    heart.start()
    ended = False
    try:
        yield
        ended = not running.left()
    finally:
        heart.stop(over=ended)


async def _until_stopped(running: Job, seconds: float | None, *, flat: bool = False) -> None:
    """Run until a signal, the market's end or the time asked for; with `flat` until nothing is held any more."""
    loop = asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[], object]] = {
        signal.SIGINT: running.stop,
        signal.SIGTERM: running.stop,
        **running.signals,
    }
    if not hang_up_is_ignored():
        handlers[signal.SIGHUP] = running.stop
    on_signals(loop, handlers)

    async def stop_in_time() -> None:
        await running.connected.wait()
        await asyncio.sleep(seconds or 0.0)
        running.stop()

    async def stop_when_flat() -> None:
        await running.connected.wait()
        while running.left():
            await asyncio.sleep(FLAT_S)
        running.stop()

    if flat:
        running.kill("flat")
    enders = [stop_in_time()] if seconds is not None else []
    timers = [asyncio.create_task(one) for one in [*enders, *([stop_when_flat()] if flat else [])]]
    try:
        await running.run()
    finally:
        for timer in timers:
            timer.cancel()
        await asyncio.gather(*timers, return_exceptions=True)


def _summary(running: "Running") -> dict[str, Any]:
    view = running.viewer.view()
    bus = [running.bus.counts(i) for i in range(len(view.instruments))]
    return {
        "mode": view.mode,
        "run": view.run,
        "run_folder": str(running.folder.path),
        "events": sum(one.events for one in view.instruments),
        "received": sum(c.received for c in bus),
        "merged": sum(c.conflated for c in bus),
        "actions": running.journal.actions.rows,
        "commands": view.commands,
        "fills": sum(one.fills for one in view.instruments),
        "instruments": {
            one.name: {
                "final_position": one.position,
                "pnl_ticks": round(one.pnl_ticks, 3),
                "pnl_money": round(one.pnl_ticks * one.money_per_tick, 6),
                "currency": one.currency,
                "fees": round(one.fees_ticks, 3),
                "fills": one.fills,
                "drops": dict(one.drops),
            }
            for one in view.instruments
        },
        "infer_us": {
            "p50": round(view.p50_infer_ms * 1e3, 3),
            "p90": round(view.p90_infer_ms * 1e3, 3),
            "p99": round(view.p99_infer_ms * 1e3, 3),
        },
        "total_us": {"p99": round(view.p99_total_ms * 1e3, 3)},
        "halted": view.halted,
        "breaches": list(view.breaches),
        "action_log_sha256": running.journal.actions.sha256,
        "model_hash": view.model,
        "model_swaps": dict(view.serving.swaps),
    }
