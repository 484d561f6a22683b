"""Microseconds of a search ahead, and states it values a second, by the kernels that a decision would call."""

import json
from contextlib import ExitStack
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def plan(
    searches: Annotated[int, typer.Option(min=100, help="Searches of each kind and round.")] = 5_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    peer_python: Annotated[
        str,
        typer.Option(help="Python interpreter that has mctx, gumbel-mcts or both, for the peers' figures."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Search a model of three actions: every action and outcome to depth 2 and 3, and by Gumbel search.

    Times are wall time of single searches inside compiled code, those of the round with the lowest median; states a
    second are per second of thread CPU time, the best of the rounds. The loss of a search is what its action is worth
    less than the best at depth 3, as a share of what an action drawn at random loses, over random trees with one
    outcome and with four. A peer's ratio is its time over that of the quickest search of ours that loses no more.
    """
    from emp.app.bench.search_peers.beside import Peer, beside, peers
    from emp.app.bench.searches import measure
    from emp.app.terminal.console import make_console

    with ExitStack() as running:
        found: dict[str, Peer] = running.enter_context(peers(peer_python)) if peer_python else {}

        def others() -> None:
            for peer in found.values():
                peer.round()

        result = measure(searches, rounds, others)
        result["peers"] = {
            name: {"version": peer.version, "rows": beside(result["ways"], peer.rows())}
            for name, peer in found.items()
        }
    for peer in result["peers"].values():
        peer["ratio"] = min(row["ratio"] for row in peer["rows"] if row["together"] == 1)
    _show(result, make_console())
    if as_json:
        print(json.dumps(result))


def _show(result: dict[str, Any], console: Any) -> None:
    """Print ours, then each peer's beside the quickest of ours that loses no more."""
    from emp.app.bench.searches import CASES

    def line(words: str) -> None:
        console.print(words, highlight=False)

    for name in CASES:
        us, rate = result[f"{name}_us"], result[f"{name}_nodes_per_s"]
        line(f"{name:<24} p50 {us['p50']} us  p99 {us['p99']} us  {rate:,} states/s")
    for row in result["ways"]:
        line(f"outcomes {row['outcomes']}  {_way(row):<22} p50 {row['us']['p50']:>7} us  loss {row['loss']}")
    for name, peer in result["peers"].items():
        for row in peer["rows"]:
            how = f"{row['method']} {row['simulations']}" + (
                f" x{row['together']}" if row["together"] > 1 else ""
            )
            line(
                f"{name} {peer['version']}  outcomes {row['outcomes']}  {how:<18} p50 {row['us']['p50']:>7} us"
                f"  loss {row['loss']:.3f}  {row['ratio']} times ours"
                f" ({_way(row['ours'])}, loss {row['ours']['loss']:.3f})"
            )
    if not result["peers"]:
        line("peers: none measured; --peer-python names an interpreter that has mctx or gumbel-mcts")


def _way(row: dict[str, Any]) -> str:
    return f"full to depth {row['n']}" if row["search"] == "depth" else f"gumbel {row['n']} simulations"
