"""Durability: what a synced intent and a decision's row cost, beside the disk's own sync and bare SHA-256."""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.terminal.console import make_console
from emp.core.platform import sync_data

app = typer.Typer()

ROWS = 100_000  # fewer than a part: what is timed as appending contains no compression


@app.command()
def journal(
    folder: Annotated[Path | None, typer.Option(help="On the disk to measure; else the current one.")] = None,
    intents: Annotated[int, typer.Option(min=100, help="Intents recorded one by one.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of the action log; the best counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Record intents and decisions in a scratch folder, interleaved with the bare operations beneath them."""
    console = make_console()
    with tempfile.TemporaryDirectory(prefix=".emp-bench-", dir=folder or Path.cwd()) as scratch:
        with console.status("syncing intents"):
            result = _intents(Path(scratch), intents)
        with console.status("logging decisions"):
            actions = _actions(Path(scratch), rounds)
    result["limits"]["sha256"] = actions.pop("sha256")
    result |= actions
    intent, sync = result["intent_us"], result["limits"]["fdatasync"]["us"]
    console.print(
        f"intent on disk  p50 {intent['p50']} us  p99 {intent['p99']} us"
        f"   (fdatasync alone: p50 {sync['p50']}, p99 {sync['p99']})"
    )
    console.print(f"intents in one batch  {result['batched_intents_per_s']:,} per second")
    console.print(
        f"decisions hashed and buffered  {result['append_rows_per_s']:,} rows/s"
        f"   (SHA-256 alone: {result['limits']['sha256']['rows_per_s']:,})"
    )
    console.print(f"decisions on disk, compressed  {result['durable_rows_per_s']:,} rows/s")
    if as_json:
        print(json.dumps(result))


def _intents(scratch: Path, n: int) -> dict[str, Any]:
    """Latency of `record_intent`, turn about with an append and fdatasync of as many bytes."""
    from emp.core.codes import Reason
    from emp.core.contracts import NewOrder
    from emp.journal.ledger import Ledger
    from emp.journal.records import encode

    def order(i: int) -> NewOrder:
        return NewOrder(
            cl_ord_id=f"BENCH000-{i:08d}",
            instrument="GOOG",
            side=1,
            qty=100,
            px=57_000 + i,
            immediate=False,
            ts=i,
            reason=Reason.POST_EDGE,
            decision_seq=i,
        )

    ledger = Ledger(scratch / "ledger.sqlite", run="BENCH000", mode="bench")
    bare = os.open(scratch / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def record(command: NewOrder) -> None:
        ledger.record_intent(command)

    def sync(command: NewOrder) -> None:
        os.write(bare, encode(command))
        sync_data(bare)

    ours: list[int] = []
    disk: list[int] = []
    for i in range(n):
        command, turns = order(i), [(ours, record), (disk, sync)]
        for times, work in turns if i % 2 else reversed(turns):  # neither always follows the other
            begin = time.perf_counter_ns()
            work(command)
            times.append(time.perf_counter_ns() - begin)
    os.close(bare)
    begin = time.perf_counter_ns()
    with ledger.batch():
        for i in range(n, 2 * n):
            ledger.record_intent(order(i))
    batched = time.perf_counter_ns() - begin
    ledger.close()
    intent, bare_us = _quantiles(ours), _quantiles(disk)
    return {
        "intent_us": intent,
        "batched_intents_per_s": round(n / batched * 1e9),
        "limits": {"fdatasync": {"us": bare_us, "ratio": round(intent["p50"] / bare_us["p50"], 2)}},
    }


def _quantiles(ns: list[int]) -> dict[str, float]:
    ordered = sorted(ns)
    return {name: round(ordered[int(len(ordered) * q)] / 1e3, 1) for name, q in (("p50", 0.5), ("p99", 0.99))}


def _actions(scratch: Path, rounds: int) -> dict[str, Any]:
    """Rows per second of the action log, and of SHA-256 over the same bytes."""
    import numpy as np

    from emp.core.records import DECISION
    from emp.journal.action_schema import canonical_bytes
    from emp.journal.actionlog import ActionLog

    rng = np.random.default_rng(0)
    rows = np.zeros(ROWS, DECISION)
    for name in ("edge_ticks", "sigma_ticks", "p", "q", "mean"):
        rows[name] = rng.normal(size=rows[name].shape)
    rows["ts"] = np.cumsum(rng.integers(0, 10**8, ROWS))
    bid = 57_000 + np.cumsum(rng.integers(-1, 2, ROWS))
    rows["bid"], rows["ask"] = bid, bid + 10
    raw = canonical_bytes(rows).tobytes()
    append = durable = bare = float("inf")
    for turn in range(rounds):
        log = ActionLog(scratch / f"actions-{turn}", ["GOOG"], ["bench"])
        begin = time.perf_counter()
        for start in range(0, ROWS, 1024):
            log.append(rows[start : start + 1024])
        appended = time.perf_counter()
        log.close()
        closed = time.perf_counter()
        hashlib.sha256(raw).digest()
        hashed = time.perf_counter()
        append, durable = min(append, appended - begin), min(durable, closed - begin)
        bare = min(bare, hashed - closed)
    return {
        "append_rows_per_s": round(ROWS / append),
        "durable_rows_per_s": round(ROWS / durable),
        "sha256": {"rows_per_s": round(ROWS / bare), "ratio": round(bare / append, 2)},
    }
