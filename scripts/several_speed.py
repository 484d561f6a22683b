"""How many events a second one engine takes of 1, 2 and 5 instruments: python scripts/several_speed.py [--events 40000]

The events are those of the built-in markets, as many in all whatever the number of instruments, played together through
the whole live path on paper, as fast as its loop takes them: door, bus, engine, ledger and journal. Prints a line each:
events a second of wall clock and of CPU time (compiled before), and the 99th percentile of a decision.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import ReadCounts, Source
from emp.app.wiring.live import Running, assemble_live, open_log
from emp.app.wiring.mock_market import open_mock
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.instrument import Instrument, find
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.observe import logs
from emp.observe.board import Board

NAMES = ("GOOG", "TSLA", "AAPL", "GC", "6B")
SPEED = 1e9
"""Recorded seconds per second: as fast as the loop takes events."""


class Made:
    """Events of an instrument, made before anything is measured."""

    def __init__(self, instrument: Instrument, rows: Array) -> None:
        self.instrument, self.counts, self.rows = instrument, ReadCounts(), rows

    def batches(self) -> Any:
        """Yield EVENT rows, 1,024 at a time."""
        yield from np.array_split(self.rows, max(1, len(self.rows) // 1_024))


def config_of(names: tuple[str, ...], folder: Path) -> SystemConfig:
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


def made(names: tuple[str, ...], events: int, folder: Path) -> list[Source]:
    """So many events of all instruments together, those of a second beside each other."""
    instruments = [find(name) for name in names]
    market = open_mock(config_of(names, folder), instruments, LiveClock())
    markets = getattr(market, "markets", (market,))
    parts: list[list[Array]] = [[] for _ in markets]
    at = markets[0].seen_ns
    while sum(len(rows) for one in parts for rows in one) < events:
        at += 1_000_000_000
        for part, one in zip(parts, markets, strict=True):
            part.append(one.until(at))
    return [Made(one, np.concatenate(part)) for one, part in zip(instruments, parts, strict=True)]


def played(names: tuple[str, ...], events: int, folder: Path) -> dict[str, float]:
    """Play them once; what it took."""
    clock, sources = LiveClock(), made(names, events, folder)
    access = PaperAccess(Playback(sources, clock, speed=SPEED), clock, speed=SPEED)
    config, models = config_of(names, folder), Models(load_model("mamba3"))
    running = assemble_live(config, [one.instrument for one in sources], models, access, Board(clock), clock)
    with open_log(running.folder) as stream, logs.configured(stream, clock):
        running.live.prepare()
        wall, cpu = time.perf_counter(), time.process_time()
        asyncio.run(running.live.run())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return told(running, wall, cpu)


def told(running: Running, wall_s: float, cpu_s: float) -> dict[str, float]:
    """Events a second, and what share of them the bus merged."""
    view = running.viewer.view()
    n = len(view.instruments)
    bus = [running.bus.counts(i) for i in range(n)]
    received = sum(one.received for one in bus)
    return {
        "instruments": n,
        "events": received,
        "merged": sum(one.conflated for one in bus),
        "events_per_s": round(received / wall_s),
        "events_per_cpu_s": round(received / cpu_s),
        "decision_p99_us": round(view.p99_total_ms * 1e3, 1),
    }


def main() -> None:
    """Play 1, 2 and 5 instruments, the first once before it counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emp-several-") as scratch:
        played(NAMES[:2], 2_000, Path(scratch))
        for n in (1, 2, 5):
            found = played(NAMES[:n], asked.events, Path(scratch))
            print(json.dumps(found) if asked.json else "  ".join(f"{k} {v:,}" for k, v in found.items()))


if __name__ == "__main__":
    main()
