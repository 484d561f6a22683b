"""Rollouts of policies in a surrogate beside the same ones in the reactive simulator."""

import json
from typing import Annotated, Any

import typer

from emp.app.bench.stopwatch import Stopwatch
from emp.core.errors import UsageError

app = typer.Typer()


@app.command()
def surrogate(
    target: Annotated[
        list[str] | None,
        typer.Option("--surrogate", help="Folder of a surrogate, tau, tau:EVENTS; may be given often."),
    ] = None,
    model: Annotated[str, typer.Option(help="The flow: goog, tsla, or a file.")] = "goog",
    episodes: Annotated[int, typer.Option(min=50, help="Of each policy, world and round.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    judged: Annotated[
        int, typer.Option(min=50, help="Episodes of each policy that the verdict is of.")
    ] = 1_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Rollouts a second in a surrogate over those in the simulator, with what equivalence says.

    Both decide 256 market events apart, with the same policies, orders, latencies and starts; each side's thread CPU
    time has everything in it: starting, deciding, the market. A ratio is worth something only where the verdict is
    "equivalent" throughout; with few episodes it says "undecided".
    """
    from emp.app.surrogate.validating import validate
    from emp.app.surrogate.worlds import SIMULATOR
    from emp.app.terminal.console import make_console
    from emp.app.terminal.progress import Work

    targets = list(dict.fromkeys(target or ["tau"]))
    if SIMULATOR in targets:
        raise UsageError("--surrogate: the simulator is what every surrogate is measured beside")
    with Work("surrogate") as work:
        rows = measure(targets, model, episodes, rounds, work.report)
        for name, row in zip(targets, rows[1:], strict=True):
            found = validate(name, model, judged, 0, work.report, write=False).found
            row |= {"verdict": found.verdict, "passed": found.passed}
    console = make_console()
    for row in rows:
        said = (
            ""
            if "verdict" not in row
            else f"  x {row['ratio']:.2f} ({_worst(row['ratios'])})  "
            + ("equivalent" if row["passed"] else ", ".join(f"{k} {v}" for k, v in row["verdict"].items()))
        )
        console.print(
            f"{row['world']:<24} {row['us_per_decision']:>7.2f} us a decision{said}", highlight=False
        )
    if as_json:
        first = rows[1]
        print(
            json.dumps(
                {
                    "model": model,
                    "ratio": first["ratio"],
                    "verdict": {
                        k: first["verdict"][k] for k in ("alpha", "turnover", "ranks", "fills", "inventory")
                    },
                    "passed": first["passed"],
                    "clock": "thread CPU time",
                    "table": rows,
                }
            )
        )


def _worst(ratios: list[float]) -> str:
    return f"rounds {min(ratios):.2f} to {max(ratios):.2f}"


def measure(
    targets: list[str], model: str, episodes: int, rounds: int, progress: Any
) -> list[dict[str, Any]]:
    """A row for the simulator and one for each target: microseconds a decision, and the ratio to the simulator.

    An unmeasured round that compiles goes before the others.
    """
    from emp.app.surrogate.validating import play_of
    from emp.app.surrogate.worlds import SIMULATOR, market_place, simulator
    from emp.league.yardsticks import yardsticks

    place = market_place(model, 0)
    worlds = {SIMULATOR: simulator(place)} | {name: play_of(name, place)[0] for name in targets}
    took: dict[str, list[float]] = {name: [] for name in worlds}
    decisions = episodes * place.decisions * len(yardsticks())
    for k in range(rounds + 1):
        for name, play in worlds.items():
            progress(f"{name}, round {k} of {rounds}", k / (rounds + 1))
            with Stopwatch() as watch:
                for me in yardsticks().values():
                    play(me, episodes if k else 2, k)
            if k:
                took[name].append(watch.cpu_s / decisions * 1e6)
    base = took[SIMULATOR]
    return [
        {
            "world": name,
            "us_per_decision": round(min(times), 3),
            "ratio": round(min(base) / min(times), 3),
            "ratios": [round(a / b, 3) for a, b in zip(base, times, strict=True)],
        }
        for name, times in took.items()
    ]
