"""What taps cost the engine: the same events with nobody watching, with a journal, and with a busy tap beside it."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from emp.app.terminal.console import make_console

if TYPE_CHECKING:
    from emp.core.records import Array
    from emp.engine.tap import Taps

app = typer.Typer()

INSTRUMENT = "BTCUSDT"


@app.command()
def tap(
    events: int = typer.Option(8_000, min=1_000, help="events per round"),
    rounds: int = typer.Option(6, min=1, help="rounds of each, interleaved; the median counts"),
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Process events one by one through the driver; print thread CPU time and p99 of the wall time per event.

    `journal` writes market data and action log as a live run does; `busy` adds a tap that computes in Python without
    a pause: the worst that an observer can be.
    """
    from emp.engine.choose import load_model
    from emp.engine.limits import EngineLimits
    from emp.engine.serving import synthetic_events

    model, limits = load_model("linear"), EngineLimits(max_position_lots=0)
    rows = synthetic_events(events)
    from emp.core.background import SLICE_S

    sys.setswitchinterval(SLICE_S)
    ways: dict[str, Callable[[Path], Any]] = {"alone": _alone, "journal": _journal, "busy": _busy}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        for k in range(rounds):
            for name, way in ways.items():
                with way(Path(scratch) / f"{name}{k}") as taps:
                    found[name].append(_measure(rows, model, limits, taps))
    result = {
        name: {
            "cpu_us": round(statistics.median(cpu for cpu, _ in runs), 3),
            "wall_p99_us": round(statistics.median(p99 for _, p99 in runs), 3),
        }
        for name, runs in found.items()
    }
    console = make_console()
    for name, one in result.items():
        console.print(
            f"{name:8}  {one['cpu_us']:8.2f} us of CPU an event, wall p99 {one['wall_p99_us']:8.1f} us"
        )
    if as_json:
        print(
            json.dumps(
                {**result, "tap_cpu_us": round(result["journal"]["cpu_us"] - result["alone"]["cpu_us"], 3)}
            )
        )


def _measure(rows: "Array", model: Any, limits: Any, taps: "Taps | None") -> tuple[float, float]:
    """(thread CPU us an event, wall us at p99) of one round."""
    import numpy as np

    from emp.core.instrument import find
    from emp.engine.driver import Driver
    from emp.engine.engine import Engine

    driver = Driver(Engine([find(INSTRUMENT)], model, limits, "BENCH000"), lambda _: None, taps=taps)
    driver.events(rows[:1])
    took = np.zeros(len(rows) - 1)
    cpu = 0.0
    for k in range(1, len(rows)):
        while taps is not None and not taps.room:
            time.sleep(0.001)
        began, began_cpu = time.perf_counter(), time.thread_time()
        driver.events(rows[k : k + 1])
        took[k - 1] = time.perf_counter() - began
        cpu += time.thread_time() - began_cpu
    return cpu / len(took) * 1e6, float(np.percentile(took, 99)) * 1e6


@contextmanager
def _alone(_: Path) -> "Iterator[None]":
    yield None


@contextmanager
def _journal(path: Path) -> "Iterator[Taps]":
    from emp.core.clock import LiveClock
    from emp.core.instrument import find
    from emp.engine.journal_tap import JournalTap
    from emp.engine.tap import Taps
    from emp.journal.run import RunFolder

    folder = RunFolder.create(path, {"run": "BENCH000"})
    taps = Taps()
    taps.attach(JournalTap(folder, [find(INSTRUMENT)], ["bench"], LiveClock()))
    yield taps
    taps.close()


@contextmanager
def _busy(path: Path) -> "Iterator[Taps]":
    from emp.engine.tap import Tap

    class Busy(Tap):
        """Computes in Python for a millisecond at every batch."""

        name = "busy"

        def on_batch(self, batch: Any) -> None:
            """Count for a while."""
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass

    with _journal(path) as taps:
        taps.attach(Busy())
        yield taps
