"""Recall over thousands of events: the state-space model beside a model of the last hundred events."""

import json

import typer
from rich.progress import Progress

from emp.app.terminal.console import make_console
from emp.core.errors import UsageError

app = typer.Typer()


@app.command()
def recall(
    longest: int = typer.Option(
        4096, help="longest sequences trained on and judged: 1024, 4096, 8192 or 16384"
    ),
    impl: str = typer.Option("mamba3", help="mamba3 or mamba2"),
    seed: int = typer.Option(0, help="of weights and data"),
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Train both on growing lengths; say what share of symbols each recalls at every length up to the longest."""
    import torch

    from emp.train.fit.memory import (
        CHANCE,
        CURRICULUM,
        SOLVED,
        Point,
        Recaller,
        Windowed,
        recall_accuracy,
        train_recall,
    )

    if impl not in ("mamba2", "mamba3"):
        raise UsageError(f"no implementation {impl}: use mamba3 or mamba2")
    lengths = [stage.length for stage in CURRICULUM if 1024 <= stage.length <= longest]
    if longest not in lengths:
        raise UsageError(f"--longest {longest}: choose one of 1024, 4096, 8192, 16384")
    torch.set_num_threads(1)
    stages = tuple(stage for stage in CURRICULUM if stage.length <= longest)
    console = make_console()
    result: dict[str, object] = {"impl": impl, "seed": seed, "chance": CHANCE}
    for name in ("state_space", "windowed"):
        torch.manual_seed(seed)
        model = Recaller(impl) if name == "state_space" else Windowed()  # type: ignore[arg-type]
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(name, total=None)

            def tick(
                done: int, total: int, point: Point, progress: Progress = progress, task: object = task
            ) -> None:
                text = f"{name}: length {point.length}, loss {point.loss:.3f}"  # noqa: B023
                progress.update(task, completed=done, total=total, description=text)  # type: ignore[arg-type]

            curve = train_recall(model, seed, stages, report=tick)
        accuracy = {str(n): recall_accuracy(model, seed, n) for n in lengths}
        result[name] = {
            "accuracy": accuracy,
            "solved": min(accuracy.values()) >= SOLVED,
            "curve": [[p.length, round(p.loss, 4), p.accuracy] for p in curve],
        }
        for length, share in accuracy.items():
            console.print(
                f"{name:<12} {int(length):>6} events back: {share:6.1%} recalled, chance {CHANCE:.0%}"
            )
    if as_json:
        print(json.dumps(result))
