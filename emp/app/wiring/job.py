"""A run that is assembled and not yet begun, whether it trades or only watches: what `emp run` runs and ends."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from emp.app.wiring import live as wiring
from emp.app.wiring.beside import compiled_beside, compiles_first
from emp.app.wiring.doors import open_feed
from emp.app.wiring.lease import stand_by
from emp.app.wiring.live import Running
from emp.app.wiring.mock_market import simulated_as
from emp.app.wiring.observe import assemble_observer, observed
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.instrument import find
from emp.core.platform import say
from emp.journal.run import RunFolder
from emp.observe.board import Board


class Job(NamedTuple):
    """A run that is assembled: how to run and end it, what a signal means to it, and what it was in the end."""

    folder: RunFolder
    run: Callable[[], Coroutine[Any, Any, None]]
    stop: Callable[[], None]
    connected: asyncio.Event
    signals: Mapping[signal.Signals, Callable[[], object]]
    summary: Callable[[], dict[str, Any]]
    prepare: Callable[[], object] = str  # what takes long and touches nothing
    left: Callable[[], str] = str  # what is still open at the venue, in words; "" where nothing is
    kill: Callable[[str], object] = str  # pulls the kill switch


def trading(settings: SystemConfig, path: Path, clock: Clock) -> Callable[[Board], Job]:
    """What makes a run that trades, once everything that can be wrong beforehand was looked at."""
    instruments, models, credentials = wiring.checked(settings, path)

    def assemble(board: Board) -> Job:
        if settings.mode == "mock" and settings.access.connection_protocol != "recording":
            for line in simulated_as(instruments):
                say(f"emp: {line}")
        if compiles_first():
            with compiled_beside(path):
                wiring.warm_up(settings, instruments, models)
        elif settings.lease.redis is not None:
            wiring.warm_up(settings, instruments, models)
        lease = stand_by(settings, board)
        try:
            access = wiring.open_access(settings, instruments, credentials, clock)
            running = wiring.assemble_live(settings, instruments, models, access, board, clock, path, lease)
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


def observing(settings: SystemConfig, path: Path, clock: Clock) -> Callable[[Board], Job]:
    """What makes a run that only watches."""
    credentials = settings.credentials(str(path))
    instruments = [find(name, settings.instruments.catalogue) for name in settings.instruments.names]

    def assemble(board: Board) -> Job:
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


def _summary(running: Running) -> dict[str, Any]:
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
        "closing_only": running.live.owner.closing_only,
        "breaches": list(view.breaches),
        "action_log_sha256": running.journal.actions.sha256,
        "model_hash": view.model,
        "model_swaps": dict(view.serving.swaps),
    }
