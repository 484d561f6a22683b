"""Microseconds of a search ahead, and states it values a second, by the kernels that a decision would call."""

import json
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def plan(
    searches: Annotated[int, typer.Option(min=100, help="Searches of each kind and round.")] = 5_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Search a model of three actions: every action and outcome to depth 2 and 3, and by Gumbel search.

    Times are wall time of single searches inside compiled code, those of the round with the lowest median; states a
    second are per second of thread CPU time, the best of the rounds. The loss of a search is what its action is worth
    less than the best at depth 3, as a share of what an action drawn at random loses, over random trees with four
    outcomes.
    """
    from emp.app.bench.searches import CASES, measure
    from emp.app.terminal.console import make_console

    result = measure(searches, rounds)
    console = make_console()
    for name in CASES:
        us, rate = result[f"{name}_us"], result[f"{name}_nodes_per_s"]
        console.print(
            f"{name:<24} p50 {us['p50']} us  p99 {us['p99']} us  {rate:,} states/s", highlight=False
        )
    for row in result["gumbel"]:
        console.print(
            f"gumbel {row['simulations']:>3} simulations  p50 {row['us']['p50']} us  p99 {row['us']['p99']} us"
            f"  loss {row['loss']}",
            highlight=False,
        )
    told = "  ".join(f"depth {row['depth']} {row['loss']:.3f}" for row in result["full_width"])
    console.print(f"loss of the full width: {told}", highlight=False)
    console.print("peers: neither mctx nor gumbel-mcts is measured", highlight=False)
    if as_json:
        print(json.dumps(result))
