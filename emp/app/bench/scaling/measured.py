"""What a fleet is made of, measured on this machine: processes of one engine, the shape of an event's cost, the size of
a record, renewals of a lease.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from emp.app.bench.scaling.engine import Measured
from emp.core.errors import UsageError
from emp.core.records import EVENT, Array

if TYPE_CHECKING:
    from emp.access.port import Source

SHAPED = 5_000
"""Events from which the shape of an event's cost is taken."""

WARM = 500
"""Events before them, whose cost does not count: the first call costs some hundred times the mean."""

SIMULATED = 20_000
"""Events of a shipped flow from which its rate is taken."""

RENEWALS = 300
"""Of a lease, one after the other."""


class Series(msgspec.Struct, frozen=True):
    """How often something happens in a market."""

    name: str
    events: int
    rate: float  # events a second
    bursts: list[float]  # events in each second, over the rate


def engines(
    sizes: Sequence[int], events: int, rounds: int, progress: Callable[[float], None]
) -> list[Measured]:
    """A process of each number of instruments, in turn; of each the one that took least CPU: noise only ever adds."""
    best: dict[int, Measured] = {}
    for k in range(rounds):
        for j, n in enumerate(sizes):
            found = _engine(n, events)
            if n not in best or found.cpu_s < best[n].cpu_s:
                best[n] = found
            progress((k * len(sizes) + j + 1) / (rounds * len(sizes)))
    return [best[n] for n in sizes]


def _engine(n: int, events: int) -> Measured:
    command = [sys.executable, "-W", "ignore", "-m", "emp.app.bench.scaling.engine", str(n), str(events)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Measured)
    except (IndexError, msgspec.MsgspecError):
        why = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise UsageError(f"an engine of {n} instruments could not be measured: {why}") from None


def memory_of(found: Sequence[Measured]) -> tuple[float, float]:
    """Bytes of an engine, and of each instrument more: the straight line through what was measured."""
    n = np.array([one.instruments for one in found], float)
    rss = np.array([one.rss for one in found], float)
    if len(found) < 2:
        return float(rss[0]), 0.0
    slope, fixed = np.polyfit(n, rss, 1)
    return float(fixed), float(slope)


def shape_of_cost(rows: Array) -> Array:
    """How much an event costs over the mean event, float64[n - WARM]: CPU time of `Engine.process`, one at a time."""
    from emp.app.bench.path import fresh_engine
    from emp.app.bench.scaling.engine import LIKE, MODEL
    from emp.engine.choose import load_model

    engine = fresh_engine(LIKE, load_model(MODEL))
    for k in range(WARM):
        engine.process(rows[k : k + 1])
    rows = rows[WARM:]
    took = np.zeros(len(rows))
    for k in range(len(rows)):
        began = time.thread_time_ns()
        engine.process(rows[k : k + 1])
        took[k] = time.thread_time_ns() - began
    return took / took.mean()


def record_bytes(rows: Array) -> float:
    """Mean bytes of an event as a record of Kafka's topic, key and value."""
    from emp.app.bench.scaling.engine import LIKE
    from emp.core.records import DECISION
    from emp.journal.mirror.follow import Batch
    from emp.journal.mirror.records import records_of

    after = dict.fromkeys(("ledger", "market", "actions", "monitor", "latency"), 0)
    batch = Batch(after, [], rows, np.zeros(0, DECISION), [], [], ())
    return statistics.mean(len(one.key) + len(one.value) for one in records_of("run", (LIKE,), batch))


def renewals_per_s() -> float | None:
    """Leases that a Redis of this machine renews a second, one after the other; None where there is none."""
    try:
        import redis  # noqa: F401

        from emp.app.bench.mirrored.processes import redis_server
        from emp.journal.lease.redis_store import RedisStore
    except ModuleNotFoundError:
        return None
    with tempfile.TemporaryDirectory(prefix="emp-scale-") as scratch:
        try:
            server, address = redis_server(Path(scratch))
        except UsageError:
            return None
        server.start()
        try:
            store = RedisStore(address, "scale", 5.0)
            marks = [one.mark for one in store.look(["S"])]
            token = store.take(["S"], "bench", 5_000_000, marks, floor=0, waited=False)
            began = time.perf_counter()
            for _ in range(RENEWALS):
                store.renew(["S"], "bench", token, 5_000_000, [""], sure=True)
            return RENEWALS / (time.perf_counter() - began)
        finally:
            server.kill()


def shipped_series(seed: int) -> list[Series]:
    """The flows that are shipped: their rates are those of the recordings that they were calibrated to."""
    from emp.sim.flow.shipped import SHIPPED, named_flow
    from emp.sim.world.market import Market

    found = []
    for name in SHIPPED:
        market, rows = Market(named_flow(name), seed, 100_000), np.zeros(SIMULATED, EVENT)
        market.run(2**62, SIMULATED, rows=rows)
        found.append(series_of(f"flow of {name}", rows["ts"]))
    return found


def recorded_series(named: Sequence[str]) -> list[Series]:
    """Recordings, NAME=FILE each.

    Raises:
        UsageError: one has no name before it.
    """
    from emp.access.recordings import open_recording
    from emp.core.instrument import find

    found = []
    for text in named:
        name, _, file = text.partition("=")
        if not file:
            raise UsageError(f"{text}: must be NAME=FILE, the name being the instrument's in the catalogue")
        source: Source = open_recording([Path(file)], find(name))
        found.append(series_of(text, np.concatenate([rows["ts"] for rows in source.batches()])))
    return found


def series_of(name: str, ts: Array) -> Series:
    """The rate of a market and what each second brings beside it, from when its events came (ns, ascending).

    Raises:
        UsageError: they are not of ten seconds.
    """
    seconds = (ts - ts[0]) // 1_000_000_000 if len(ts) else ts
    last = int(seconds[-1]) if len(ts) else 0
    if last < 10:
        raise UsageError(f"{name}: ten seconds or more are needed, to know how often something happens")
    counts = np.bincount(seconds, minlength=last + 1)[:last]
    return Series(name, int(counts.sum()), float(counts.mean()), (counts / counts.mean()).tolist())
