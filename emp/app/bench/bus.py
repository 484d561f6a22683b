"""Events per second through the bus, beside an asyncio.Queue that does none of its checks."""

import asyncio
import json
import time

import typer

from emp.app.terminal.console import make_console
from emp.core.records import Array

app = typer.Typer()

BATCH = 64


@app.command()
def bus(
    events: int = typer.Option(200_000, min=1_000, help="events per run"),
    rounds: int = typer.Option(5, min=1, help="runs of each, interleaved; the best counts"),
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Publish and consume events one by one and in batches; the peer only moves the same rows."""
    single = batched = peer = float("inf")
    for _ in range(rounds):
        single = min(single, asyncio.run(_through_bus(events, 1)))
        peer = min(peer, asyncio.run(_through_queue(events)))
        batched = min(batched, asyncio.run(_through_bus(events, BATCH)))
    result = {
        "events_per_s": round(events / single),
        "batch_events_per_s": round(events / batched),
        "event_us": round(single / events * 1e6, 3),
        "peers": {"asyncio.Queue": {"events_per_s": round(events / peer), "ratio": round(peer / single, 3)}},
    }
    console = make_console()
    console.print(f"one by one        {result['events_per_s']:>12,} events/s")
    console.print(f"in batches of {BATCH}  {result['batch_events_per_s']:>12,} events/s")
    console.print(f"asyncio.Queue     {round(events / peer):>12,} events/s, one by one")
    if as_json:
        print(json.dumps(result))


def _rows(n: int) -> Array:
    import numpy as np

    from emp.core.records import EVENT

    rows = np.zeros(n, EVENT)
    rows["seq"] = np.arange(n)
    rows["ts"] = rows["seq"] * 1_000
    return rows


async def _through_bus(n: int, batch: int) -> float:
    """Seconds to publish and release `n` events, the consumer looking after each batch."""
    from emp.bus.bus import EventBus
    from emp.core.clock import LiveClock

    rows = _rows(n)
    bus = EventBus(["X"], queue_bound=4_096, max_age_ms=1_000, clock=LiveClock())
    await bus.publish_async(rows[:1].copy())
    bus.release(0, 1)
    start = time.perf_counter()
    for at in range(1, n, batch):
        await bus.publish_async(rows[at : at + batch])
        bus.next_control()
        while (served := bus.peek(BATCH)) is not None:
            bus.release(served[0], len(served[1]))
    seconds = time.perf_counter() - start
    counts = bus.counts(0)
    if counts.delivered != n or counts.conflated or counts.quarantined:
        raise RuntimeError(f"the bus lost events: {counts}")
    return seconds


async def _through_queue(n: int) -> float:
    """Seconds to put and get `n` rows."""
    rows = _rows(n)
    queue: asyncio.Queue[Array] = asyncio.Queue(4_096)
    start = time.perf_counter()
    for at in range(n):
        await queue.put(rows[at : at + 1])
        await queue.get()
    return time.perf_counter() - start
