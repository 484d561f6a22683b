"""The market simulator: generate, calibrate, verify against recordings, check stylised facts."""

import typer

from emp.app.cli import LazyGroup


class SimGroup(LazyGroup):
    """`emp sim NAME` is `emp/app/commands/sim/NAME.py`."""

    package = "emp.app.commands.sim"


app = typer.Typer(cls=SimGroup, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """The market simulator: generate, calibrate, verify against recordings, check stylised facts."""
