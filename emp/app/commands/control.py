"""What `emp halt`, `resume`, `flatten`, `kill`, `stop` and `reload` share: a request to a running engine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.completion import INSTRUMENTS, RUNNING

Run = Annotated[
    str | None,
    typer.Argument(
        help="Folder, name or id of the run, or the beginning of it; without it the one run that goes on.",
        show_default=False,
        autocompletion=RUNNING,
    ),
]
Runs = Annotated[Path, typer.Option(help="Where run folders are kept.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
Instrument = Annotated[
    str,
    typer.Option(help="One instrument of the run; all of them where left out.", autocompletion=INSTRUMENTS),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def control_app(action: str, does: str) -> typer.Typer:
    """The command that asks a run for one control; `does` is its help."""
    app = typer.Typer()

    @app.command(help=does)
    def control(
        run: Run = None,
        reason: Reason = "operator",
        instrument: Instrument = "",
        runs: Runs = Path("runs"),
        as_json: AsJson = False,
    ) -> None:
        from emp.engine.control_socket import ask
        from emp.journal.find import find_run

        folder = _only_one(runs) if run is None else find_run(run, runs)
        text = ask(folder, {"do": action, "reason": reason, "instrument": instrument})
        if run is None:
            text = f"{folder.name}: {text}"
        print(json.dumps({"run": folder.name, "did": action, "text": text}) if as_json else text)

    return app


def _only_one(runs: Path) -> Path:
    """The folder of the one run that goes on.

    Raises:
        UsageError: none does, or several do; the line names them.
    """
    from emp.core.errors import UsageError
    from emp.engine.control_socket import goes_on, is_served
    from emp.journal.find import run_folders

    folders = run_folders(
        runs
    )  # one that starts, or tells its days, takes no control: one that trades is meant
    found = [one for one in folders if is_served(one)] or [one for one in folders if goes_on(one)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several runs go on in {runs}: name one of {', '.join(one.name for one in found)}")
    raise UsageError(f"no run goes on in {runs}")
