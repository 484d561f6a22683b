"""Watch a run from outside, from this machine or another, and tell when its engine is gone."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def watch(
    url: Annotated[
        str, typer.Argument(help="Where the run serves; without it, as the configuration says.")
    ] = "",
    config: Annotated[Path | None, typer.Option(help="YAML file; without it emp.yaml here.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop by itself after so long.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Watch a run from outside, from this machine or another, and tell when its engine is gone.

    It asks for the run's /snapshot every second, with the token of http.token_file where there is one, and sends
    alerts to whomever the section `alerts` names: a position without an engine is a critical one. Ctrl-C ends it.
    """
    from emp.app.console.token import read_token
    from emp.app.wiring.alerts import Snapshot, receivers
    from emp.app.wiring.examples import default_config
    from emp.core.clock import LiveClock
    from emp.core.config.config import SystemConfig
    from emp.core.errors import UsageError
    from emp.core.platform import say
    from emp.observe.alert_sources import OfEngine
    from emp.observe.alerting import Alerting

    path = config or default_config()
    settings = SystemConfig.load(path)
    http = settings.http
    where = url or f"http://{http.host}:{http.port}"
    if not where.startswith(("http://", "https://")):
        raise UsageError(f"{where}: not an http or https address")
    found = receivers(settings.alerts)
    if not found:
        raise UsageError(f"{path}: names nobody to tell: set alerts.webhook, alerts.push or alerts.email")
    fetch = Snapshot(where, read_token(http.token_file) if http.token_file is not None else "")
    clock = LiveClock()
    engine = OfEngine(where, fetch, clock)
    alerting = Alerting(engine, found, clock)
    alerting.start()
    began, before = time.monotonic(), ""
    try:
        while seconds is None or time.monotonic() - began < seconds:
            if fetch.refused:
                raise UsageError(f"{where}: does not take the token of http.token_file")
            now = engine.state if engine.state == "answers" else engine.state.split(" for ")[0]
            if now != before:
                say(f"watch: {where}: {now}")
                before = now
            time.sleep(0.5)
    finally:
        alerting.stop(over=False)
    if as_json:
        sent = {box.name: {"sent": box.sent, "lost": box.lost} for box in alerting.outboxes}
        print(json.dumps({"url": where, "state": engine.state, "receivers": sent}))
