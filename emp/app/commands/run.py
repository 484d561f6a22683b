"""Trade: mock, paper or live, with health, metrics and the console on loopback."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emp.app.wiring.examples import default_config
from emp.core.errors import EmpError, PositionLeftError, UsageError
from emp.core.platform import hang_up_is_ignored, on_signals, say

if TYPE_CHECKING:
    from emp.app.wiring.job import Job
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
    background = detach() if detached else None  # before anything is imported that may start a thread
    from emp.app.terminal.closing import closing_words
    from emp.app.terminal.terminal import Terminal
    from emp.app.wiring.alerts import receivers, telling
    from emp.app.wiring.daily import telling_days
    from emp.app.wiring.job import observing, trading
    from emp.app.wiring.live import open_log
    from emp.core.clock import LiveClock
    from emp.core.numba.announce import announce_compiling
    from emp.observe import logs

    settings = _configured(config, planner, flat=flat)
    registry = settings.model.registry if settings.mode == "paper" else None
    clock = LiveClock()
    front, told = _Front(settings, clock), receivers(settings.alerts)
    _make_room(settings, clock)
    assemble = (observing if settings.mode == "observe" else trading)(settings, config, clock)
    with contextlib.ExitStack() as until_told:
        with front:
            announce_compiling("compiling for this machine (a minute or two the first time); Ctrl-C ends it")
            running = assemble(front.board)
            path = running.folder.path
            with (
                open_log(running.folder) as stream,
                contextlib.closing(logs.configure(front.keep_log(stream), clock)),
                contextlib.closing(front.refusals),
            ):
                try:
                    front.show(path)
                    running.prepare()  # while SIGTERM still ends the process at once: nothing has begun
                    until_told.enter_context(_on_record(running.folder, registry, clock))
                    if background is not None:
                        _hand_over(background, running, front, as_json)
                    with (
                        telling(front.board, told, clock, path, running.left),
                        Terminal(front.board, front.address, path),
                        _heartbeat(settings, front.board, clock, running),
                        telling_days(path, registry, clock),
                    ):
                        asyncio.run(_until_stopped(running, seconds, flat=flat))
                except EmpError as error:
                    raise _naming(error, running.left()) from error
        summary = {**running.summary(), "url": front.url}
        running.folder.write_summary(summary)
        untold = _tell_days(running.folder, registry, clock, summary)
    if as_json:
        print(json.dumps(summary))
    else:
        for line in closing_words(summary):
            say(line)
    if running.left():
        raise PositionLeftError(running.left())
    if untold is not None:
        raise type(untold)(f"no evidence of this run was written: {untold}")


def _configured(config: Path, planner: Path | None, *, flat: bool) -> "SystemConfig":
    """What a file says, with what the command line says before it."""
    from emp.core.config.config import SystemConfig

    settings = SystemConfig.load(config)
    if planner is not None:
        decision = settings.decision.model_copy(update={"planner": str(planner)})
        settings = settings.model_copy(update={"decision": decision})
    if flat and settings.mode != "live":
        raise UsageError(f"--flat: mode is {settings.mode}: only a live account holds anything")
    return settings


class _Front:
    """What a run is looked at by: the board, and its server with the console, up while the block lasts."""

    def __init__(self, settings: "SystemConfig", clock: "Clock") -> None:
        from emp.app.console.console import Console
        from emp.app.console.token import read_token
        from emp.observe.board import Board
        from emp.observe.http import HttpServer, create_app

        http = settings.http
        token = read_token(http.token_file) if http.token_file is not None else ""
        self.board = Board(clock)
        self._console = Console(self.board, token, login=http.expose)
        self._server = HttpServer(
            create_app(self.board, self._console.routes, self._console.middleware, any_host=http.expose),
            http.host,
            http.port,
        )
        self.keep_log = self._console.keep_log
        self.refusals = self._console.refusals

    def __enter__(self) -> "_Front":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._console.close()

    @property
    def url(self) -> str:
        """Where it is served."""
        return self._server.url

    @property
    def address(self) -> str:
        """The same, with what lets a person in."""
        return self._console.address(self.url)

    def show(self, folder: Path) -> None:
        """Show the run of a folder."""
        self._console.attach(folder)
        self.board.folder, self.board.address = folder, self.address


@contextlib.contextmanager
def _on_record(folder: "RunFolder", registry: Path | None, clock: "Clock") -> Iterator[None]:
    """Sign that a paper run begins, where its days are to be evidence: one that is gone afterwards is missed. While the
    block lasts, until they are told, it counts as one that goes on; one that fails untraded is told at once.
    """
    if registry is None:
        yield
        return
    from emp.app.wiring.heads import sign_head
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
                else:
                    sign_head(folder, registry, clock, "ended")
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


def _tell_days(
    folder: "RunFolder", registry: Path | None, clock: "Clock", summary: dict[str, Any]
) -> EmpError | None:
    """Tell the days of a paper run, into its summary as well; what kept them from being told, or None."""
    if registry is None:
        return None
    try:
        summary["paper"] = _observed(folder, registry, clock)
    except EmpError as error:  # the run is as it was; `emp gates observe` writes its evidence later
        return error
    return None


def _naming(error: EmpError, left: str) -> EmpError:
    """The same error, which names what is left open."""
    return type(error)(f"{error}; {left}") if left else error


def _hand_over(background: "Detached", running: "Job", front: _Front, as_json: bool) -> None:
    """Tell who started a run in the background what it is, and end his part of it."""
    run, pid, folder = running.folder.manifest["run"], os.getpid(), str(running.folder.path)
    facts = {"run": run, "pid": pid, "url": front.url, "run_folder": folder}
    words = (
        f"run {run} goes on as pid {pid}: {front.address}; `emp stop {shlex.quote(folder)}` ends it in order"
    )
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
def _heartbeat(settings: "SystemConfig", board: "Board", clock: "Clock", running: "Job") -> Iterator[None]:
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


async def _until_stopped(running: "Job", seconds: float | None, *, flat: bool = False) -> None:
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
