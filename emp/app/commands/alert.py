"""Send a test alert to everyone whom the configuration names, and say who took it; exit 1 where anyone did not."""

import json
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def alert(
    config: Annotated[Path | None, typer.Option(help="YAML file; without it emp.yaml here.")] = None,
    text: Annotated[str, typer.Option(help="What it says.")] = "a test: nothing is wrong",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Send a test alert to everyone whom the configuration names, and say who took it; exit 1 where anyone did not."""
    from emp.app.wiring.alerts import receivers
    from emp.app.wiring.examples import default_config
    from emp.core.alert_trial import write_trial
    from emp.core.config.config import SystemConfig
    from emp.core.errors import UsageError
    from emp.journal.account_file import state_folder
    from emp.observe.alert_log import Told
    from emp.observe.alerts import Alert
    from emp.observe.receivers import Origin, UndeliveredError

    path = config or default_config()
    settings = SystemConfig.load(path)
    found = receivers(settings.alerts)
    if not found:
        raise UsageError(f"{path}: names nobody to tell: set alerts.webhook, alerts.push or alerts.email")
    now = time.time_ns()
    told = Told(
        status="firing", alert=Alert(name="test", severity="warning", text=text), since_ns=now, at_ns=now
    )
    origin = Origin(run="", mode=settings.mode, host=socket.gethostname())
    outcome: dict[str, str] = {}
    for one in found:
        try:
            one.deliver(told, origin)
        except UndeliveredError as error:
            outcome[one.name] = str(error)
        else:
            outcome[one.name] = ""
        if not as_json:
            print(f"{one.name}: {outcome[one.name] or 'taken'}")
    try:
        write_trial(state_folder(), now, outcome)
    except OSError as error:
        raise UsageError(f"{state_folder()}: the test cannot be remembered: {error.strerror}") from error
    if as_json:
        print(
            json.dumps({"receivers": {name: {"taken": not why, "why": why} for name, why in outcome.items()}})
        )
    if any(outcome.values()):
        raise typer.Exit(1)
