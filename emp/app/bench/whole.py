"""The whole table of native peers: simulator, event path and FIX, one after the other."""

import platform
from pathlib import Path
from typing import Any

from emp.app.bench import fix, path, sim
from emp.core.instrument import find
from emp.core.records import Array
from emp.sim.world.mock import MockMarket

QUOTES = 400_000
"""Events of the shipped flow where no recording is named."""
START_NS = 1_718_028_000_000_000_000  # 10 June 2024, 10:00 in New York: a trading day


def whole_table(
    peers: Path, recording: Path | None, instrument: str, events: int, rounds: int
) -> dict[str, Any]:
    """Every row of the native peers' table, and what it was measured on."""
    quotes = path.recorded([recording], instrument) if recording else shipped_quotes(instrument)
    _, market, messages, _ = sim.measure(events, rounds, None, peers)
    decided = path.measure(quotes, instrument, rounds, peers)
    _, wire = fix.measure(rounds, peers)
    return {
        "clock": "thread CPU time",
        "machine": f"{platform.machine()}, {_processor()}",
        "messages": messages,
        "quotes": len(quotes),
        "quotes_from": recording.name if recording else "shipped flow",
        "native": market + decided + wire,
    }


def shipped_quotes(instrument: str) -> Array:
    """EVENT rows of the flow that is shipped, on an ordinary trading day."""
    mock = MockMarket(find(instrument), start_ns=START_NS, n_events=QUOTES, batch=QUOTES)
    return next(mock.batches())


def _processor() -> str:
    """The CPU by the name it gives itself; "unknown" where it gives none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown")
