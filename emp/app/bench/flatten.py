"""Flattening under load: from the trigger to the last byte, and to flat, against a venue in another process."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emp.app.bench.flattening.trials import Trial

app = typer.Typer()

LAST_BYTE_MS, FLAT_MS = 20.0, 200.0
"""What is wanted of the 99th percentile."""

OVER = ("fix", "ctrader")


@app.command()
def flatten(
    over: Annotated[str, typer.Option(help="fix, or ctrader for the Open API.")] = "fix",
    trials: Annotated[int, typer.Option(min=1, help="Pulls of the trigger.")] = 500,
    starting: Annotated[
        bool, typer.Option("--starting", help="Pull it while the engine starts, after a crash.")
    ] = False,
    orders: Annotated[int, typer.Option(min=5, help="That rest, over five instruments.")] = 20,
    events: Annotated[float, typer.Option(min=10, help="Of the market, per second.")] = 10_000.0,
    refused: Annotated[float, typer.Option(min=0, max=1, help="Share of cancels that are refused.")] = 0.05,
    round_trip: Annotated[float, typer.Option(min=0, help="To the venue and back, ms.")] = 20.0,
    faults: Annotated[
        bool,
        typer.Option(
            "--faults",
            help="5 % of market data lost and 5 % twice, as reports; 5 % of closing orders refused; a stall of 300 ms.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of refusals, quotes and the moments of the trigger.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Time how long it takes to get flat: from the trigger to the last byte, and to flat.

    The engine as `emp run` wires it, its ledger on this machine's disk, over a socket (the Open API's with TLS) to a
    venue in another process. With --faults the trigger is pulled while the feed or the engine's loop stands still, in
    turn: times are from when the loop hears of it, and those from the trigger stand beside them.
    Exit code 1 where a trial ended otherwise than flat.
    """
    from emp.app.bench.flattening.terms import Faults, Terms
    from emp.core.errors import UsageError

    if over not in OVER:
        raise UsageError(f"--over: {over} is none of {', '.join(OVER)}")
    if faults and starting:
        raise UsageError("--faults is of an engine that trades: leave --starting out")
    terms = Terms(
        over=over,
        orders=orders,
        events_per_s=events,
        refused=refused,
        round_trip_s=round_trip / 1e3,
        seed=seed,
        faults=Faults() if faults else None,
    )
    with tempfile.TemporaryDirectory(prefix="emp-flatten-") as scratch:
        os.environ["EMP_STATE"] = str(Path(scratch) / "state")  # its account is nobody's
        found = asyncio.run(_all(terms, Path(scratch), trials, starting=starting))
    result = summary(found)
    _show(result, blind="the start before that" if starting else "blind before that" if faults else "")
    if as_json:
        print(json.dumps({"over": over, "starting": starting, "faults": faults, **result}))
    if result["wrong"]:
        raise typer.Exit(1)


async def _all(terms: Any, folder: Path, trials: int, *, starting: bool) -> "list[Trial]":
    from emp.app.bench.flattening.trials import while_starting, while_trading
    from emp.app.bench.flattening.venue import venue_process
    from emp.app.terminal.console import make_console
    from emp.engine.choose import load_model

    model, found = load_model("linear"), []
    console = make_console()
    with venue_process(terms, folder) as venue:
        way = while_starting if starting else while_trading
        async for trial in way(terms, venue, folder, model, trials):
            found.append(trial)
            if len(found) % 50 == 0:
                console.print(f"{len(found)} of {trials}")
    return found


def summary(found: "list[Trial]") -> dict[str, Any]:
    """p50, p99 and the maximum of each time in ms, and what was not as it must be."""
    result: dict[str, Any] = {"trials": len(found)}
    for name in ("last_byte_ms", "arrived_ms", "flat_ms", "venue_flat_ms", "blind_ms"):
        result[name] = quantiles([float(getattr(one, name)) for one in found])
    result["from_trigger_ms"] = quantiles([one.blind_ms + one.flat_ms for one in found])
    result["commands"] = sum(one.commands for one in found)
    result["refused"] = sum(one.refused for one in found)
    result["events_per_s"] = quantiles([one.events_per_s for one in found])["p50"]
    result["wrong"] = [f"trial {k}: {one.wrong}" for k, one in enumerate(found, 1) if one.wrong]
    result["limits"] = {"last_byte_ms": LAST_BYTE_MS, "flat_ms": FLAT_MS}
    return result


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p99 (the nearest rank, no interpolation) and the maximum."""
    ordered = sorted(values)
    rank = max(0, -(-len(ordered) * 99 // 100) - 1)
    return {
        "p50": round(ordered[(len(ordered) - 1) // 2], 2),
        "p99": round(ordered[rank], 2),
        "max": round(ordered[-1], 2),
    }


def _show(result: dict[str, Any], *, blind: str) -> None:
    from emp.app.terminal.console import make_console

    console = make_console(stderr=False)
    names = {
        "last_byte_ms": "to the last byte",
        "arrived_ms": "to the venue's reading it",
        "flat_ms": "to flat",
        "venue_flat_ms": "to flat at the venue",
    }
    if blind:
        names |= {"blind_ms": blind, "from_trigger_ms": "from the trigger to flat"}
    for name, label in names.items():
        q, limit = result[name], result["limits"].get(name)
        beside = f"   p99 wanted {limit:g}" if limit else ""
        console.print(f"{label:26} p50 {q['p50']:8.2f}  p99 {q['p99']:8.2f}  max {q['max']:8.2f} ms{beside}")
    console.print(
        f"{result['trials']} trials, {result['commands']} commands in first waves, {result['refused']} refusals, "
        f"{result['events_per_s']:,.0f} events/s reached the engine"
    )
    for line in result["wrong"]:
        console.print(line)
