"""Estimate a flow model from one recording."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.commands.sim.parts import Json, ProgressBar, say

app = typer.Typer()


@app.command()
def calibrate(
    recording: Annotated[Path, typer.Argument(help="Order-by-order recording to estimate from.")],
    out: Annotated[Path, typer.Option(help="File to write the model to.")] = Path("flow.npz"),
    model: Annotated[str, typer.Option(help="zi, hawkes or qr.")] = "qr",
    share: Annotated[float, typer.Option(min=0.1, max=1.0, help="Use this first part of its events.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulated moments.")] = 1,
    as_json: Json = False,
) -> None:
    """Estimate a flow model from one recording."""
    from emp.sim.facts.study import FIT_STEPS, fit, fit_part, study
    from emp.sim.flow.params import Source, params_hash, save_params
    from emp.sim.tape.recording import utc

    with ProgressBar("calibrating") as step:
        made = study(recording)
        done = 0

        def progress() -> None:
            nonlocal done
            done += 1
            step(done / FIT_STEPS)

        used = fit_part(made.tape.obs, share)
        p = fit(used, model, seed, progress)
        step(1.0)
    first, last = utc(int(used["ts"][0])), utc(int(used["ts"][-1]))
    note = f"{model} from {made.recording.name} {first} to {last}"
    source = Source(made.recording.name, int(used["ts"][0]), int(used["ts"][-1]), note, made.recording.levels)
    save_params(out, p, source)
    result = {
        "model": model,
        "events": len(used),
        "file": str(out),
        "hash": params_hash(p),
        "note": note,
    }
    say(f"{note}: {len(used)} events -> {out}")
    if as_json:
        print(json.dumps(result))
