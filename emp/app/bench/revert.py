"""How often a model that is as good as ever is reverted, and how soon one that is not: over simulated days.

Two linear models are trained on days of the shipped flow; one serves, the other stands by. Then the monitor that
`emp run` has looks at further days, each from its beginning: undisturbed ones, and ones on which something is broken
half-way: the log loss made 5 % worse, an input scaled by three, the sign of the forecasts turned.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emp.app.bench.reverted import Drill

app = typer.Typer()


@app.command()
def revert(
    days: Annotated[int, typer.Option(min=0, help="Undisturbed days.")] = 1000,
    spoiled: Annotated[int, typer.Option(min=0, help="Days of each kind of fault.")] = 20,
    events: Annotated[int, typer.Option(min=20_000, help="Messages of a day.")] = 130_000,
    seed: Annotated[int, typer.Option(min=0, help="Names the days.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder to keep models and days in; one that is there is gone on with."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Count false reverts and false drift alarms over undisturbed simulated days, and the delay until true ones."""
    import contextlib
    import tempfile

    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emp-revert-")))
        result = _revert(folder, days, spoiled, events, seed, jobs)
    _show(result)
    if as_json:
        print(json.dumps(result))
    wrong = max(result["false_reverts"], result["false_drift_alarms"])
    if days and wrong > result["allowed"]:
        raise typer.Exit(1)


def _revert(folder: Path, days: int, spoiled: int, events: int, seed: int, jobs: int) -> dict[str, Any]:
    """Look at every day that the folder does not hold yet, and count."""
    from emp.app.bench.reverted_days import CALM, Days
    from emp.app.terminal.progress import Work
    from emp.core.platform import usable_cores

    def train(drill: "Drill", into: Path) -> float:
        with Work("train two models on the flow") as work:
            return drill.train(into, lambda what, share: work.report(what, share))

    kept = Days(folder, events, seed, train)
    wanted = [(k, CALM) for k in range(days)]
    wanted += [(days + k, fault) for fault in FAULTS.values() for k in range(spoiled)]
    with Work("days") as work:
        done = sum((one.day, one.fault) in set(wanted) for one in kept.told())
        for one in kept.look(wanted, jobs or usable_cores()):
            done += 1
            work.report(f"day {one.day} {one.fault}".rstrip(), done / len(wanted))
    told = {(one.day, one.fault): one for one in kept.told()}
    calm = [told[k, CALM] for k in range(days)]
    return {
        "days": days,
        "events": events,
        "false_reverts": sum("failed" in one.alarms for one in calm),
        "reverted_by": sorted(one.gate for one in calm if one.gate),
        "false_drift_alarms": sum("drift" in one.alarms for one in calm),
        "false_baseline_alarms": sum("behind" in one.alarms for one in calm),
        "allowed": allowed(days),
        "faults": {
            name: delays_told([told[days + k, fault].delay for k in range(spoiled)])
            for name, fault in FAULTS.items()
        },
    }


def _show(result: dict[str, Any]) -> None:
    from emp.app.terminal.console import make_console

    console = make_console()
    console.print(
        f"{result['days']} undisturbed days of {result['events']:,} messages: {result['false_reverts']} false reverts,"
        f" {result['false_drift_alarms']} false drift alarms (at a level of 1 %, {result['allowed']} at most)",
        highlight=False,
    )
    for name, told in result["faults"].items():
        console.print(
            f"{name}: found on {told['found']} of {told['days']} days, after {told['median'] or '-'} events"
            f" (median; {told['worst'] or '-'} at worst)",
            highlight=False,
        )


def allowed(days: int) -> int:
    """The 99 % point of the number of false alarms at a level of 1 % a day."""
    import math

    chance, total, k = 0.0, 0.0, 0
    while True:
        chance = math.comb(days, k) * 0.01**k * 0.99 ** (days - k)
        total += chance
        if total >= 0.99:
            return k
        k += 1


def delays_told(delays: "list[int | None]") -> dict[str, Any]:
    """Days, days on which it was found, and events from the fault to the verdict."""
    found = sorted(one for one in delays if one is not None)
    return {
        "days": len(delays),
        "found": len(found),
        "median": found[len(found) // 2] if found else None,
        "worst": found[-1] if found else None,
    }


FAULTS = {
    "log loss 5 % worse": "worse",
    "forecasts with their sign turned": "flipped",
    "order flow imbalance times 3": "ofi_norm",
    "slope of the bid side times 3": "slope_bid",
    "queue imbalance times 3": "qimbalance",
}
