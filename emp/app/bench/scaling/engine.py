"""One engine of many instruments, measured in a process of its own: `python -m emp.app.bench.scaling.engine N EVENTS`.

The events are those of the built-in market, dealt out to the instruments in turn, as many in all whatever the number of
instruments, and played together through the whole live path on paper, as fast as its loop takes them: door, bus, engine
(perception, the served model, decision, risk), ledger and journal. Prints one JSON object.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import ReadCounts
from emp.app.wiring.live import assemble_live, open_log
from emp.app.wiring.mock_market import open_mock
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.instrument import Instrument, find
from emp.core.records import EVENT, Array
from emp.core.usage import usage_of
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.observe import logs
from emp.observe.board import Board
from emp.sim.world.mock import MockMarket

LIKE = "GOOG"
"""What every instrument is a copy of."""

MODEL = "mamba3"
"""The model that is shipped as the one to serve."""

SPEED = 1e9
"""Recorded seconds per second: as fast as the loop takes events."""


class Measured(msgspec.Struct, frozen=True):
    """What a process of one engine took."""

    instruments: int
    events: int
    merged: int  # of them, by back-pressure
    cpu_s: float  # of all threads, from the first event that was asked for to the last that was handed over
    rss: int  # bytes, afterwards
    written: int  # bytes of the run's folder
    starts_cpu_s: float  # from the wiring until it asks for an event: without imports; compiled before


class Made:
    """Events of an instrument, made before anything is measured."""

    def __init__(self, instrument: Instrument, rows: Array) -> None:
        self.instrument, self.counts, self.rows = instrument, ReadCounts(), rows
        self.asked_s = 0.0  # CPU time of the process when the first was asked for

    def batches(self) -> Any:
        """Yield EVENT rows, 1,024 at a time."""
        self.asked_s = time.process_time()
        yield from np.array_split(self.rows, max(1, len(self.rows) // 1_024))


class Timed(PaperAccess):
    """Paper trading that knows when its market was over."""

    ended_s = 0.0  # CPU time of the process

    def ended(self, error: Exception | None) -> None:
        """As its base."""
        self.ended_s = time.process_time()
        super().ended(error)


def copies(n: int) -> list[Instrument]:
    """So many instruments, alike but for their names."""
    return [msgspec.structs.replace(find(LIKE), name=f"S{k:05d}", symbols=()) for k in range(n)]


def dealt(rows: Array, instruments: Sequence[Instrument]) -> list[Made]:
    """Rows given to instruments in turn; each numbers its own."""
    sources: list[Made] = []
    for k, one in enumerate(instruments):
        mine = rows[k :: len(instruments)].copy()
        mine["seq"] = np.arange(1, len(mine) + 1)
        sources.append(Made(one, mine))
    return sources


def market_rows(events: int, folder: Path) -> Array:
    """EVENT rows of the built-in market, at least so many."""
    clock = LiveClock()
    market = open_mock(config_of((LIKE,), folder), [find(LIKE)], clock)
    assert isinstance(market, MockMarket), "one instrument has one market"
    parts, at = [np.zeros(0, EVENT)], market.seen_ns
    while sum(map(len, parts)) < events:
        at += 1_000_000_000
        parts.append(market.until(at))
    return np.concatenate(parts)[:events]


def config_of(names: Sequence[str], folder: Path) -> SystemConfig:
    """A paper run over recordings, whose files are never opened."""
    return SystemConfig.model_validate(
        {
            "mode": "paper",
            "run_dir": folder,
            "seed": 1,
            "instruments": {"names": names},
            "access": {
                "connection_protocol": "recording",
                "recording": dict.fromkeys(names, folder / "none"),
                "speed": SPEED,
            },
            "model": {"fallback_impl": "none", "monitor": False},
            "context": {"enabled": False},
        }
    )


def measure(n: int, events: int, folder: Path) -> Measured:
    """Play the events once, in this process."""
    rows = market_rows(events, folder)
    made = time.process_time()
    clock, instruments = LiveClock(), copies(n)
    sources = dealt(rows, instruments)
    access = Timed(Playback([*sources], clock, speed=SPEED), clock, speed=SPEED)
    config = config_of([one.name for one in instruments], folder)
    running = assemble_live(config, instruments, Models(load_model(MODEL)), access, Board(clock), clock)
    with open_log(running.folder) as stream, logs.configured(stream, clock):
        running.live.prepare()
        asyncio.run(running.live.run())
        taken = usage_of(os.getpid())
    began = min(one.asked_s for one in sources)
    counts = [running.bus.counts(i) for i in range(n)]
    return Measured(
        instruments=n,
        events=sum(one.received for one in counts),
        merged=sum(one.conflated for one in counts),
        cpu_s=access.ended_s - began,
        rss=taken.rss if taken is not None else 0,
        written=_size(folder),
        starts_cpu_s=began - made,
    )


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


def main() -> None:
    """Measure what the command line asks for."""
    n, events = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="emp-scale-") as scratch:
        print(json.dumps(msgspec.to_builtins(measure(n, events, Path(scratch)))))


if __name__ == "__main__":
    main()
