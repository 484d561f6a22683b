"""The planner: train a model of transitions, hold what it imagines to what comes, and see what it is worth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE, takes_options

if TYPE_CHECKING:
    from emp.app.planner.gate import Gated

app = typer.Typer()

MODEL_HELP = "Artifact that forecasts: a folder, or the kind of a shipped one."
DATA_HELP = (
    "A series, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often. Without it: five recordings below "
    "EMP_DATA whose feeds show sizes."
)


@app.callback()
def _root() -> None:
    """The planner: train a model of transitions, hold what it imagines to what comes, and see what it is worth."""


class TrainOptions(NamedTuple):
    """What `emp plan train` takes."""

    out: Annotated[Path, typer.Option(help="Folder that the planner is written into.")] = Path("planner")
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "linear"
    data: Annotated[list[str] | None, typer.Option(help=DATA_HELP)] = None
    flow: Annotated[
        list[str] | None,
        typer.Option(help="FLOW:INSTRUMENT, a simulated market; may be given often. none: no such market."),
    ] = None
    step: Annotated[int, typer.Option(min=1, max=1_000, help="Visible events between two choices.")] = 20
    depth: Annotated[int, typer.Option(min=1, max=3, help="Of the search.")] = 3
    outcomes: Annotated[int, typer.Option(min=2, max=4, help="That a choice may have.")] = 3
    hidden: Annotated[int, typer.Option(min=4, max=128, help="Units of the network.")] = 32
    rounds: Annotated[int, typer.Option(min=1, help="Of choosing and fitting.")] = 3
    passes: Annotated[int, typer.Option(min=1, help="Over each source in each round.")] = 8
    epochs: Annotated[int, typer.Option(min=1, help="How often each choice is seen.")] = 12
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same planner.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a planner: choose in recordings and in simulated markets, learn what follows, choose by that, again.

    Of every recording the training part alone is learned from (`emp train` splits them alike).
    """
    from emp.app.planner.training import train_planner
    from emp.app.terminal.progress import Work
    from emp.train.fit.rounds import Settings

    settings = Settings(
        step=options.step,
        depth=options.depth,
        outcomes=options.outcomes,
        hidden=options.hidden,
        rounds=options.rounds,
        passes=options.passes,
        epochs=options.epochs,
        seed=options.seed,
    )
    with Work("planner") as work:
        artifact, trained = train_planner(
            options.model, options.data, options.flow, settings, options.out, _reading(work), work.report
        )
    for name, n in trained.choices.items():
        typer.echo(f"{name}: {n:,} choices")
    for k, loss in enumerate(trained.losses, 1):
        typer.echo(f"round {k}: loss {loss[0]:.3f} to {loss[-1]:.3f}")
    typer.echo(
        f"{options.out}: planner {artifact.hash[:12]}; hold it to what comes: emp plan gate {options.out}"
    )
    if options.as_json:
        print(
            json.dumps(
                {
                    "planner": artifact.hash,
                    "choices": trained.choices,
                    "losses": trained.losses,
                    "out": str(options.out),
                }
            )
        )


class GateOptions(NamedTuple):
    """What `emp plan gate` takes."""

    planner: Annotated[Path, typer.Argument(help="Folder of a planner.")]
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "linear"
    data: Annotated[
        list[str] | None, typer.Option(help=f"{DATA_HELP} And XAUUSD, of which nothing was learned.")
    ] = None
    passes: Annotated[int, typer.Option(min=1, help="Over each series.")] = 8
    part: Annotated[
        str,
        typer.Option(help="test; or calibrate, to look at before the test part is: no verdict is written."),
    ] = "test"
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(GateOptions)
def gate(options: GateOptions) -> None:
    """Correlate what a planner imagines of its choices with what they bring, on parts that it never saw.

    Passed where on every series with fills the lower 95 % bound of the correlation less known cost is at least 0.2, its
    slope lies between 0.5 and 1.5, and it is above that of the queue imbalance and of the rule's own value. Exit code 1
    where it is not.
    """
    from emp.app.planner.gate import gate as judge
    from emp.app.report.planner_text import gate_fields, gate_lines
    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError

    if options.part not in ("test", "calibrate"):
        raise UsageError(f"--part {options.part} is neither test nor calibrate")
    with Work("gate") as work:
        found: Gated = judge(
            options.planner,
            options.model,
            options.data,
            options.passes,
            options.part,
            options.seed,
            options.evidence,
            _reading(work),
            work.report,
        )
    for line in gate_lines(found, markdown=options.markdown):
        typer.echo(line)
    if options.as_json:
        print(json.dumps(gate_fields(found)))
    if found.verdict != "pass":
        raise typer.Exit(1)


class WorthOptions(NamedTuple):
    """What `emp plan worth` takes."""

    planner: Annotated[Path, typer.Argument(help="Folder of a planner.")]
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "linear"
    data: Annotated[list[str] | None, typer.Option(help=f"{DATA_HELP} none: no recording.")] = None
    flow: Annotated[
        list[str] | None,
        typer.Option(help="FLOW:INSTRUMENT, a simulated market; may be given often. none: no such market."),
    ] = None
    depth: Annotated[
        list[int] | None,
        typer.Option(min=1, max=3, help="Of the search; may be given often. Without it: 1, 2, 3."),
    ] = None
    sessions: Annotated[int, typer.Option(min=5, help="Of each simulated market.")] = 100
    events: Annotated[int, typer.Option(min=1_000, help="Of a session.")] = 60_000
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False
    seed: Annotated[int, typer.Option(min=0, help="Of the sessions.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(WorthOptions)
def worth(options: WorthOptions) -> None:
    """Trade the same markets with a planner and without it: profit after fees, turnover, with paired intervals.

    Sessions of a simulated market have the same random numbers; on a recording the test part is traded, and its blocks
    of time are compared. By depth of the search, with how long searches took.
    """
    import msgspec

    from emp.app.planner.worth import worth as measure
    from emp.app.report.planner_text import worth_lines
    from emp.app.terminal.progress import Work

    with Work("worth") as work:
        found = measure(
            options.planner,
            options.model,
            options.data,
            options.flow,
            options.depth or (1, 2, 3),
            options.sessions,
            options.events,
            options.seed,
            _reading(work),
            work.report,
        )
    for line in worth_lines(found, markdown=options.markdown):
        typer.echo(line)
    if options.as_json:
        print(json.dumps({"table": [{**msgspec.to_builtins(one), "verdict": one.verdict} for one in found]}))


def _reading(work: Any) -> Callable[[str], Callable[[int, int], None]]:
    """Progress of the reading of a series."""

    def of(name: str) -> Callable[[int, int], None]:
        work.report(f"read {name}", 0.0)
        return lambda _done, _total: None

    return of
