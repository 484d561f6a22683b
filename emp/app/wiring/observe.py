"""Wiring of `mode: observe`: a broker's market data journalled as a recording, without engine, model or orders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emp.access.port import MarketFeed
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.ids import run_id
from emp.core.instrument import Instrument
from emp.engine.observe import Observer
from emp.engine.observe_taps import DayJournal, ObserverView
from emp.engine.tap import Taps
from emp.journal.run import RunFolder, build_manifest
from emp.observe.board import Board


class Observing(NamedTuple):
    """What `emp run` holds while it observes."""

    observer: Observer
    bus: EventBus
    journal: DayJournal
    viewer: ObserverView
    folder: RunFolder


def assemble_observer(
    config: SystemConfig, instruments: Sequence[Instrument], feed: MarketFeed, board: Board, clock: Clock
) -> Observing:
    """Make the run's folder and everything in it; each start is a run of its own."""
    names = [one.name for one in instruments]
    manifest = build_manifest(
        run="",
        mode=config.mode,
        config=config.model_dump(mode="json"),
        instruments=names,
        model_hashes=[],
        facts=[msgspec.to_builtins(one) for one in instruments],
    )
    run = run_id(config.model_dump_json(), clock.now_ns())
    folder = RunFolder.create(config.run_dir / f"observe-{run}", {**manifest, "run": run})
    bus = EventBus(names, queue_bound=config.bus.queue_bound, max_age_ms=config.bus.max_age_ms, clock=clock)
    taps = Taps()
    journal = DayJournal(folder.market, instruments, clock, config.journal.flush_seconds)
    viewer = ObserverView(run, instruments, bus, clock, board, config.risk.stale_after_ms)
    taps.attach(journal)
    taps.attach(viewer)
    observer = Observer(
        feed=feed, instruments=instruments, bus=bus, taps=taps, board=board, clock=clock, folder=folder.path
    )
    return Observing(observer, bus, journal, viewer, folder)


def observed(running: Observing) -> dict[str, Any]:
    """The summary of `emp run`."""
    view = running.viewer.view()
    counts = [running.bus.counts(i) for i in range(len(view.instruments))]
    return {
        "mode": view.mode,
        "run": view.run,
        "run_folder": str(running.folder.path),
        "recording": str(Path(running.folder.market)),
        "days": list(running.journal.days),
        "events": running.journal.events,
        "received": sum(one.received for one in counts),
        "merged": sum(one.conflated for one in counts),
        "instruments": {
            one.name: {"events": one.events, "drops": dict(one.drops)} for one in view.instruments
        },
        "links": msgspec.to_builtins(dict(view.links)),
    }
