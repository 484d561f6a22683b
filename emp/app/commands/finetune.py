"""Adapt a model to new markets, keeping what it knows of the old ones."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE, Ray, takes_options

app = typer.Typer()


class Options(NamedTuple):
    """What `emp finetune` can be told."""

    out: Annotated[
        Path, typer.Option(help="Folder to write the artifact to; with --ablate: of bases and results.")
    ]
    artifact: Annotated[
        str, typer.Option(help="State-space artifact to adapt: a folder, or the kind of a shipped one.")
    ] = "mamba3"
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A series to adapt to, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often."
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="A series that the model was trained on: its first part is rehearsed, its last part says what was "
            "kept; may be given often."
        ),
    ] = None
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="How to adapt (docs/training.md): lora_l2sp_rehearsal where not given; with --ablate all, or those "
            "that are given."
        ),
    ] = None
    settings: Annotated[
        Path | None, typer.Option(help="YAML of how much: lr, epochs, rehearsal, alpha and so on.")
    ] = None
    gates: Annotated[
        Path | None, typer.Option(help="Gates whose caps and limits hold; else the shipped ones.")
    ] = None
    trade: Annotated[bool, typer.Option(help="Trade the test parts on paper: turnover of both models.")] = (
        True
    )
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None
    ablate: Annotated[
        bool,
        typer.Option(
            "--ablate",
            help="Instead: train models on equities alone, adapt each to every spot market by every arm, over seeds.",
        ),
    ] = False
    catalogue: Annotated[
        Path | None, typer.Option(help="With --ablate: YAML of markets; the shipped one where not given.")
    ] = None
    market: Annotated[
        list[str] | None,
        typer.Option(help="With --ablate: adapt to this market alone; may be given often."),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="With --ablate: how many seeds.")] = 5
    events: Annotated[
        int, typer.Option(min=2_000, help="With --ablate: events of each market to train on.")
    ] = 12_000
    judged: Annotated[
        int, typer.Option(min=1_000, help="With --ablate: rows of each market that are judged.")
    ] = 15_000
    jobs: Annotated[
        int,
        typer.Option(
            min=0,
            help="With --ablate: processes, each of which holds all markets; 0: as many as there are cores, at "
            "most four.",
        ),
    ] = 0
    ray: Ray = ""
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def finetune(options: Options) -> None:
    """Adapt a model to new markets: the bottom frozen, low-rank adapters on the top, held near where it was, old
    markets rehearsed; merged, so that it serves at the same cost. Exit code 1, and no artifact, where it would lose
    more of an old market than the cap of that horizon.
    """
    if options.ablate:
        from emp.app.finetune.ablation import ablate

        ablate(options)
        return
    from emp.app.finetune.adaptation import adapt

    adapt(options)
