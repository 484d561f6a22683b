"""What `emp halt`, `resume`, `flatten`, `kill`, `stop` and `reload` share: a request to a running engine."""

import json
from pathlib import Path
from typing import Annotated

import typer

Run = Annotated[str, typer.Argument(help="Folder, name or id of the run, or the beginning of it.")]
Runs = Annotated[Path, typer.Option(help="Where run folders are kept.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]
Instrument = Annotated[str, typer.Option(help="One instrument of the run; all of them where left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


def control_app(action: str, does: str) -> typer.Typer:
    """The command that asks a run for one control; `does` is its help."""
    app = typer.Typer()

    @app.command(help=does)
    def control(
        run: Run,
        reason: Reason = "operator",
        instrument: Instrument = "",
        runs: Runs = Path("runs"),
        as_json: AsJson = False,
    ) -> None:
        from emp.engine.control_socket import ask
        from emp.journal.find import find_run

        folder = find_run(run, runs)
        text = ask(folder, {"do": action, "reason": reason, "instrument": instrument})
        print(json.dumps({"run": folder.name, "did": action, "text": text}) if as_json else text)

    return app
