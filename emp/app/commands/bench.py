"""Measure speed beside a peer or a limit, in the same run."""

import typer

from emp.app.cli import LazyGroup


class BenchGroup(LazyGroup):
    """`emp bench NAME` is `emp/app/bench/NAME.py`."""

    package = "emp.app.bench"


app = typer.Typer(cls=BenchGroup, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Measure speed beside a peer or a limit, in the same run."""
