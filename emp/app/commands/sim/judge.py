"""Score a flow by LOB-Bench against a recording it was not fitted to, beside the recording against itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.commands.sim.parts import Json, ProgressBar, standard_console

app = typer.Typer()


@app.command()
def judge(
    model: Annotated[str, typer.Argument(help="zi, goog, tsla, or a file that `emp sim calibrate` wrote.")],
    recording: Annotated[
        Path, typer.Argument(help="LOBSTER message file with its ten-level orderbook file beside it.")
    ],
    sequences: Annotated[
        int, typer.Option(min=1, help="Sequences of 500 messages of each side, the recording's last.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another flow to score on the same sequences; may be given again."),
    ] = None,
    impact: Annotated[
        bool, typer.Option("--impact", help="Add metaorder impact, as `emp sim impact` measures it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a flow by LOB-Bench against a recording it was not fitted to, beside the recording against itself.

    Twenty-one distances and three conditional ones, each as L1 over bins (0 to 1) and as Wasserstein-1 in standard
    deviations, and the difference of the mid's response to events at the touch, in ticks; smaller is nearer.
    """
    from emp.app.terminal.judged import judged_json, show_beside, show_judged
    from emp.sim.facts.judge import judge as judged
    from emp.sim.facts.study import named_source
    from emp.sim.flow.shipped import named_flow
    from emp.sim.tape.recording import load_recording

    names = list(dict.fromkeys([model, *(beside or [])]))
    with ProgressBar("judging") as step:
        flows = [(named_flow(name), named_source(name), Path(name).stem) for name in names]
        made = load_recording(recording)
        parts = [_part(step, k, len(flows)) for k in range(len(flows))]
        found = [judged(*flow, made, sequences, seed, part) for flow, part in zip(flows, parts, strict=True)]
    show_judged(standard_console(), found[0])
    if len(found) > 1:
        show_beside(standard_console(), found)
    params = flows[0][0]
    out = judged_json(found[0]) | {"beside": [judged_json(one) for one in found[1:]]}
    if impact:
        out |= _impact(params, Path(model).stem, seed)
    if as_json:
        print(json.dumps(out))


def _part(step: Callable[[float], None], k: int, of: int) -> Callable[[float], None]:
    """The progress of the k-th of so many equal parts."""
    return lambda share: step((k + share) / of)


def _impact(params: Any, model: str, seed: int) -> dict[str, Any]:
    """Metaorder impact of the flow: shown, and the keys of `--json` that sum it up."""
    from emp.app.terminal.impact_table import impact_json, show_impact
    from emp.sim.measure.impact_study import study_impact

    with ProgressBar("impact") as step:
        found = study_impact(params, model, seed=seed, progress=step)
    show_impact(standard_console(), found)
    whole = impact_json(found)
    return {key: whole[key] for key in ("beta", "ci", "relaxation", "relaxation_ci", "pairs")}
