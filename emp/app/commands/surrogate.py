"""Surrogates of the simulated market: train one, and hold it to the simulator before anything rests on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import takes_options

if TYPE_CHECKING:
    from emp.app.surrogate.validating import Judged

app = typer.Typer()

MODEL_HELP = "goog, tsla, zi, or a file that `emp sim calibrate` wrote."
TARGET_HELP = "Folder of a surrogate; or tau, tau:EVENTS (tau-leaping), or simulator (held to itself)."


@app.callback()
def _root() -> None:
    """Surrogates of the simulated market: train one, and hold it to the simulator before anything rests on it."""


class TrainOptions(NamedTuple):
    """What `emp surrogate train` takes."""

    out: Annotated[Path, typer.Option(help="Folder that the surrogate is written into.")] = Path("surrogate")
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "goog"
    kind: Annotated[str, typer.Option(help="graph, mlp, or linear.")] = "graph"
    rounds: Annotated[int, typer.Option(min=1, max=10, help="Of playing in the simulator and fitting.")] = 2
    episodes: Annotated[int, typer.Option(min=70, help="Of 40 decisions each, in each round.")] = 3_000
    epochs: Annotated[int, typer.Option(min=1, help="How often each leap is seen in a round.")] = 6
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same surrogate.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a surrogate: play in the simulator, fit what comes between decisions, play what looks best in it, again.

    What is written was not judged, and nothing takes it in the simulator's place before `emp surrogate validate` has.
    """
    from emp.app.surrogate.training import TrainSettings, train_surrogate
    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError
    from emp.train.data.leaps import KINDS

    if options.kind not in KINDS:
        raise UsageError(f"--kind {options.kind}: choose one of {', '.join(KINDS)}")
    settings = TrainSettings(
        options.model, options.kind, options.rounds, options.episodes, options.epochs, options.seed
    )
    with Work("surrogate") as work:
        trained = train_surrogate(settings, options.out, work.report)
    for k, (leaps, loss) in enumerate(zip(trained.leaps, trained.losses, strict=True), 1):
        typer.echo(f"round {k}: {leaps:,} leaps, loss {loss[0]:.3f} to {loss[-1]:.3f}")
    digest = trained.learned.manifest.hash
    typer.echo(
        f"{options.out}: surrogate {digest[:12]}; hold it to the simulator: emp surrogate validate {options.out}"
    )
    if options.as_json:
        print(
            json.dumps(
                {
                    "surrogate": digest,
                    "kind": options.kind,
                    "leaps": trained.leaps,
                    "losses": trained.losses,
                    "out": str(options.out),
                }
            )
        )


@app.command()
def validate(
    target: Annotated[str, typer.Argument(help=TARGET_HELP)],
    model: Annotated[
        str | None, typer.Option(help=f"{MODEL_HELP} Without it: the surrogate's own, or goog.")
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=50, help="Of each policy in each world, 40 decisions each.")
    ] = 4_000,
    seed: Annotated[int, typer.Option(min=0, help="Of states and luck.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Hold a surrogate to the simulator: is it the same to seven policies?

    Tests of equivalence at 5 %: alpha within 5 %, turnover within 10 %, distributions of fills and positions within a
    tenth of their deviation, rank correlation of the policies at least 0.9. A surrogate that is not shown to be
    equivalent is refused: exit code 1, and it must be trained again.
    """
    from emp.app.surrogate.validating import validate as judge
    from emp.app.terminal.progress import Work

    with Work("validate") as work:
        judged = judge(target, model, episodes, seed, work.report)
    _show(judged)
    if as_json:
        print(json.dumps(fields(judged)))
    if not judged.found.passed:
        raise typer.Exit(1)


@app.command()
def sweep(
    surrogate: Annotated[Path, typer.Argument(help="Folder of a surrogate that passed its validator.")],
    agents: Annotated[int, typer.Option(min=1, help="That are drawn and played in the surrogate.")] = 50,
    best: Annotated[int, typer.Option(min=1, help="Of them, played in the simulator too.")] = 5,
    episodes: Annotated[
        int, typer.Option(min=100, help="Of each agent; a tenth of them in the simulator.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Of agents, states and luck.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Play many agents in a surrogate, and those that look best in the simulator too, with it as control variate.

    A surrogate that was not judged, or did not pass, is refused.
    """
    import msgspec

    from emp.app.surrogate.sweeping import sweep as play
    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError

    if best > agents:
        raise UsageError(f"--best {best} of --agents {agents}: there are not as many")
    with Work("sweep") as work:
        found = play(surrogate, agents, best, episodes, seed, work.report)
    for one in found:
        c = one.controlled
        typer.echo(
            f"agent {one.agent}: {one.surrogate:+.1f} there, {c.value:+.1f} +- {c.error:.1f} in the simulator"
            f" (without it {c.plain:+.1f} +- {c.plain_error:.1f}; a simulated episode counts for {c.saving:.2f})"
        )
    if as_json:
        print(
            json.dumps(
                {"table": [msgspec.to_builtins(one) | {"saving": one.controlled.saving} for one in found]}
            )
        )


def fields(judged: "Judged") -> dict[str, Any]:
    """What `--json` prints of a judgement."""
    import msgspec

    found = judged.found
    return {
        "surrogate": judged.hash or judged.target,
        "model": judged.model,
        "passed": found.passed,
        "verdict": found.verdict,
        "episodes": found.episodes,
        "ranks": msgspec.to_builtins(found.ranks),
        "table": [
            msgspec.to_builtins(one) | {"paired_correlation": round(judged.paired[one.policy], 4)}
            for one in found.policies
        ],
    }


def _show(judged: "Judged") -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    found = judged.found
    table = Table(
        title=f"{judged.target} beside the simulator, {judged.model}, {found.episodes} episodes a policy"
    )
    table.title_justify = "left"
    table.add_column("policy")
    table.add_column("")
    for head in ("simulator", "surrogate", "difference (90 %)", "margin"):
        table.add_column(head, justify="right")
    table.add_column("verdict")
    for one in found.policies:
        for name in ("alpha", "turnover", "fills", "inventory"):
            q = getattr(one, name)
            table.add_row(
                one.policy if name == "alpha" else "",
                name,
                f"{q.truth:.3f}",
                f"{q.surrogate:.3f}",
                f"{q.difference:+.3f} ({q.low:+.3f} .. {q.high:+.3f})",
                f"{q.margin:.3f}",
                q.verdict,
            )
    q = found.ranks
    table.add_row(
        "all",
        "ranks",
        "",
        f"{q.surrogate:.3f}",
        f"({q.low:.3f} .. {q.high:.3f})",
        f"{q.margin:.1f}",
        q.verdict,
    )
    console = make_console()
    print_table(console, table)
    verdict = (
        "passed" if found.passed else "refused: not shown to be equivalent; train it again, or do not use it"
    )
    console.print(f"{judged.target}: {verdict}", highlight=False)
