"""The event path: time per event through the live entry point, and events per second replayed in batches."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.bench.stopwatch import PEERS_HELP
from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE
from emp.core.errors import UsageError

app = typer.Typer()

ADAPTER_LIMIT_US = 20.0
BATCH = 16_384
"""Events that a reader yields at a time."""
ROWS = 512
"""Rows of the action log that the batch measurement writes round and round."""
GOALS = {"linear": {"total_p99_us": 30.0, "events_per_s": 700_000}}
STATE_SPACE = {"model_p99_us": 35.0, "total_p99_us": 60.0, "events_per_s": 25_000}
"""What is wanted of a kind of model, else of a state-space model."""
WAYS = {"batch": "decided", "traded": "with_orders", "own": "own_rule", "replayed": "journalled"}
"""Names of the three ways of `batch_round` in the table of native peers."""
STREAM, STREAM_MESSAGES = "goog", 20_000


@app.command()
def path(
    recordings: Annotated[list[Path], typer.Argument(help="Recorded files of one instrument.")],
    instrument: Annotated[str, typer.Option(help="Name in the catalogue.")],
    artifact: Annotated[
        str,
        typer.Option(
            "--artifact",
            "--model",
            help="Folder of a model artifact, or the kind of a shipped one.",
        ),
    ] = "linear",
    repeats: Annotated[int, typer.Option(help="Interleaved rounds; the best of each counts.")] = 5,
    nautilus: Annotated[
        str, typer.Option(help="Python interpreter that has nautilus_trader, for the peer's figure.")
    ] = sys.executable,
    peers: Annotated[Path | None, typer.Option(help=PEERS_HELP)] = None,
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """The event path: time per event through the live entry point, and events per second replayed in batches.

    Live: `Engine.process` on one event at a time, Python around the kernel included. Batch: decoded events in
    one array, every stage on: book, features, model, decision, risk, log row. With `--peers` (or EMP_PEERS) the native
    programs run in turn with ours, on the same best quotes.
    """
    from emp.app.bench.native.programs import peers_folder
    from emp.app.bench.native.table import show_table
    from emp.app.bench.own_model import own_costs, show_costs
    from emp.engine.choose import load_model

    folder = peers_folder(peers)
    model = load_model(artifact)
    events = recorded(list(recordings), instrument)
    rounds, peer = [], []
    with native_rounds(folder, events) as natives:
        for k in range(repeats):
            print(f"round {k + 1} of {repeats}", file=sys.stderr)
            rounds.append({**live_round(events, instrument, model), **batch_round(events, instrument, model)})
            measured = peer_round(nautilus, events)
            if measured is not None:
                peer.append(measured)
            if natives:
                natives.round()
    goals: dict[str, float] = {"adapter_p99_us": ADAPTER_LIMIT_US}
    goals |= GOALS.get(model.artifact.manifest.kind, STATE_SPACE)
    result = {"model": model.artifact.manifest.kind, **summarise(rounds, peer, goals)}
    result["own_model_ns"] = own_costs()
    result["native"] = natives.compare(rates(rounds)) if natives else []
    if evidence is not None:
        from emp.governance.collect import of_latency
        from emp.governance.evidence import Store

        config = {"instrument": instrument, "events": len(events), "rounds": repeats}
        result["evidence"] = Store(evidence).add(of_latency(model.artifact.hash, rounds, config))
    show(result)
    show_costs(result["own_model_ns"])
    if natives:
        show_table(result["native"], print)
    if as_json:
        print(json.dumps(result))


def recorded(recordings: list[Path], instrument: str) -> Any:
    """The EVENT rows of recorded files, in one array."""
    import numpy as np

    from emp.access.recordings import open_recording
    from emp.core.instrument import find

    return np.concatenate(list(open_recording(recordings, find(instrument)).batches()))


def measure(events: Any, instrument: str, rounds: int, peers: Path) -> list[dict[str, Any]]:
    """Rows of the native table alone: the linear model in batches, in turn with the peers."""
    from emp.engine.choose import load_model

    model = load_model("linear")
    with native_rounds(peers, events) as natives:
        ours = []
        for _ in range(rounds):
            ours.append(batch_round(events, instrument, model))
            natives.round()
    compared: list[dict[str, Any]] = natives.compare(rates(ours))
    return compared


@contextmanager
def native_rounds(peers: Path | None, events: Any) -> Iterator[Any]:
    """The native peers of the event path on the best quotes of EVENT rows; None without a folder of them."""
    from emp.app.bench.native.layout import write_quotes, write_stream
    from emp.app.bench.native.like import PATH
    from emp.app.bench.native.table import Natives
    from emp.sim.world.market import zero_intelligence
    from emp.sim.world.stream import message_stream

    if peers is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="emp-bench-") as scratch:
        data = Path(scratch)
        write_quotes(data, events)
        # the programs read these too, whatever they are asked for
        write_stream(data, STREAM, message_stream(zero_intelligence(1), STREAM_MESSAGES))
        expected = {"quotes": [float(len(events))], "last": [float(events["bid_px"][-1, 0])]}
        yield Natives(peers, data, PATH, STREAM, expected)


def rates(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Our rates of each way through the path, round by round."""
    from emp.app.bench.native.table import Rates

    return {
        label: Rates(
            [r[f"{how}_events_per_s"] for r in rounds], [r[f"{how}_events_per_cpu_s"] for r in rounds]
        )
        for how, label in WAYS.items()
    }


def fresh_engine(instrument: str, model: Any) -> Any:
    """An engine with the default limits, warmed up."""
    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.engine import Engine

    engine = Engine([find(instrument)], model, engine_limits(), "BENCH000")
    engine.warm_up()
    return engine


def live_round(events: Any, instrument: str, model: Any) -> dict[str, Any]:
    """One event at a time: us in the adapter and the model (inside the kernel), and in all (around the call), of wall
    time and of this thread's CPU time.
    """
    import numpy as np

    engine = fresh_engine(instrument, model)
    total, spent = np.zeros(len(events)), np.zeros(len(events))
    adapter, believed = [], []
    clock, thread_clock = time.perf_counter_ns, time.thread_time_ns
    for k in range(len(events)):
        event = events[k : k + 1]
        worked, began = thread_clock(), clock()
        output = engine.process(event)
        total[k] = clock() - began
        spent[k] = thread_clock() - worked
        if len(output.laps):
            adapter.append(output.laps[0, 0])
            believed.append(output.laps[0, 1])
    return {
        "adapter_us": quantiles(np.array(adapter)),
        "model_us": quantiles(np.array(believed)),
        "total_us": quantiles(total),
        "total_cpu_us": quantiles(spent),
    }


def quantiles(ns: Any) -> dict[str, float]:
    """p50 and p99 of nanoseconds, in us."""
    import numpy as np

    p50, p99 = np.percentile(ns, [50, 99]) / 1e3
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def batch_round(events: Any, instrument: str, model: Any) -> dict[str, float]:
    """Everything at once: events per second of wall time and of this thread's CPU time.

    `batch`: every stage runs on every event and every decision is logged, into rows that are written round and
    round, as a batch's rows are once the log has taken them; none is delivered. `traded`: the
    decisions are delivered to the paper venue, which answers, so order handling in Python is included.
    `own`: the same with a rule of one's own, compiled, that looks at what it is shown and asks for nothing.
    `replayed`: the same as `traded` with ledger, action log and checkpoints on disk, as `emp replay` runs.
    """
    import numpy as np

    from emp.core.records import DECISION
    from emp.engine.step import run_all

    engine = fresh_engine(instrument, model)
    engine.extend_calendar(int(events[0]["ts"]), int(events[-1]["ts"]))
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    run_all(engine.held, events[:0], rows, laps)
    wall, cpu = time.perf_counter(), time.thread_time()
    run_all(engine.held, events, rows, laps)
    wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu

    return {
        "batch_events_per_s": len(events) / wall,
        "batch_events_per_cpu_s": len(events) / cpu,
        **traded_round("traded", events, instrument, model, None),
        **traded_round("own", events, instrument, model, None, idle_rule()),
        **replayed_round(events, instrument, model),
    }


def idle_rule() -> Any:
    """A compiled rule that never finds what it waits for."""
    import numba

    from emp.engine.own import make_rule

    @numba.njit
    def idle(seen: Any, request: Any) -> None:
        if seen.expected_ticks[3] > 1e9 and seen.bid_px[9] > seen.ask_px[9]:
            request.qty = seen.bid_sz[0]

    return make_rule(idle)


def traded_round(
    name: str, events: Any, instrument: str, model: Any, folder: Any, rule: Any = None
) -> dict[str, float]:
    """Events per second of wall and of CPU time with the paper venue, journalled where there is a folder."""
    from emp.access.paper.venue import PaperVenue
    from emp.engine.replay import Backtest

    engine = fresh_engine(instrument, model)
    facts = engine.instruments[0]
    trading = Backtest(Decoded(events, facts), engine, PaperVenue(facts), folder, rule=rule)
    trading.warm_up()
    wall, cpu = time.perf_counter(), time.process_time()
    trading.run()
    return {
        f"{name}_events_per_s": len(events) / (time.perf_counter() - wall),
        f"{name}_events_per_cpu_s": len(events) / (time.process_time() - cpu),
    }


def replayed_round(events: Any, instrument: str, model: Any) -> dict[str, float]:
    """A run with its folder, in batches as a recording's reader gives them."""
    from emp.journal.run import RunFolder, build_manifest

    with tempfile.TemporaryDirectory() as scratch:
        hashes = [model.artifact.hash]
        manifest = build_manifest(
            run="BENCH000", mode="replay", config={}, instruments=[instrument], model_hashes=hashes
        )
        folder = RunFolder.create(Path(scratch) / "run", manifest)
        return traded_round("replayed", events, instrument, model, folder)


class Decoded:
    """Events that are decoded already, as a Source."""

    def __init__(self, events: Any, instrument: Any) -> None:
        from emp.access.port import ReadCounts

        self.instrument = instrument
        self.counts = ReadCounts(rows=len(events), events=len(events))
        self._events = events

    def batches(self) -> Iterator[Any]:
        """Yield the events as readers do, some at a time."""
        for at in range(0, len(self._events), BATCH):
            yield self._events[at : at + BATCH]


def peer_round(python: str, events: Any) -> dict[str, Any] | None:
    """Quotes per second of NautilusTrader's engine on the same events, empty callback; None without it."""
    import numpy as np

    quotes = np.stack(
        [events["ts"], *(events[n][:, 0] for n in ("bid_px", "ask_px", "bid_sz", "ask_sz"))], axis=1
    )
    script = Path(__file__).with_name("peer_nautilus.py")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "quotes.npy"
        np.save(file, quotes)
        try:
            ran = subprocess.run(
                [python, str(script), str(file)], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UsageError(f"--nautilus {python}: {error.strerror}") from None
    if ran.returncode != 0:
        return None
    # the peer's own logger may write behind the object on the same line
    measured: dict[str, Any] = json.JSONDecoder().raw_decode(ran.stdout[ran.stdout.index('{"version"') :])[0]
    return measured


def summarise(
    rounds: list[dict[str, Any]], peer: list[dict[str, Any]], goals: dict[str, float]
) -> dict[str, Any]:
    """Best of the rounds: noise of a shared machine only ever adds time."""
    result: dict[str, Any] = {
        name: min((r[name] for r in rounds), key=lambda q: q["p99"])
        for name in ("adapter_us", "model_us", "total_us", "total_cpu_us")
    }
    for name in (f"{how}_events_per_{per}" for how in WAYS for per in ("s", "cpu_s")):
        result[name] = round(max(r[name] for r in rounds))
    result["limits"] = goals
    result["peers"] = {}
    if peer:
        best = max(p["events_per_s"] for p in peer)
        result["peers"]["nautilus_trader"] = {
            "version": peer[0]["version"],
            "events_per_s": round(best),
            "ratio": round(result["batch_events_per_s"] / best, 2),
        }
    return result


def show(result: dict[str, Any]) -> None:
    """Print the figures beside their limits."""
    limits = result["limits"]
    for name in ("adapter_us", "model_us", "total_us", "total_cpu_us"):
        q, limit = result[name], limits.get(f"{name.removesuffix('_us').removesuffix('_cpu')}_p99_us")
        beside = f"  limit {limit} ({q['p99'] / limit:.2f} of it)" if limit else ""
        print(f"{name:12s} p50 {q['p50']:8.3f}  p99 {q['p99']:8.3f}{beside}")
    goal = limits["events_per_s"]
    for name, label in WAYS.items():
        wall, cpu = result[f"{name}_events_per_s"], result[f"{name}_events_per_cpu_s"]
        print(
            f"{label.replace('_', ' '):12s} {wall:9,} events/s, {cpu:9,} per CPU second  goal {goal:,} "
            f"({wall / goal:.2f} times, {cpu / goal:.2f} per CPU second)"
        )
    for name, peer in result["peers"].items():
        print(
            f"{name} {peer['version']} {peer['events_per_s']:,} events/s: {peer['ratio']} times as fast as the peer"
        )
    if not result["peers"]:
        print("nautilus_trader is not installed: no peer figure (extra 'bench', or --nautilus PYTHON)")
