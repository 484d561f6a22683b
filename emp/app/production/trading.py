"""The engine as it runs, who is told, and the two weeks on paper."""

import json
from collections.abc import Iterator

from emp.app.doctor import Finding
from emp.app.production.host import Host, UnseenError
from emp.app.production.keeping import CONFIG
from emp.app.production.machine import DATA, RUNS, newest_run
from emp.core.alert_trial import Trial, read_trial
from emp.core.config.config import SystemConfig
from emp.core.errors import EmpError

TRIED_DAYS = 30.0
"""After which a receiver that took a test may have changed."""

RESTARTS = 3
DAY_S = 86_400.0


def _config(host: Host) -> SystemConfig:
    try:
        return SystemConfig.load(host.path(CONFIG))
    except EmpError as error:
        raise UnseenError(str(error)) from None


def engine(host: Host) -> Iterator[Finding]:
    """Whether it serves, from which release, and how often it had to begin again."""
    config = _config(host)
    try:
        health = _health(host, config.http.port)
    except UnseenError as error:
        yield Finding("bad", "health", str(error), "systemctl status emp; journalctl -u emp -e")
    else:
        good = health.get("status") == "ok"
        reasons = health.get("reasons")
        said = (
            "; ".join(map(str, reasons))
            if isinstance(reasons, list) and reasons
            else str(health.get("status"))
        )
        yield Finding("ok" if good else "bad", "health", said, "" if good else "docs/operations.md says what")
    shown = host.told("systemctl", "show", "emp.service", "--property=NRestarts", "--value").strip()
    often = int(shown) if shown.isdigit() else RESTARTS + 1
    fix = "" if often <= RESTARTS else "journalctl -u emp says why"
    yield Finding("ok" if often <= RESTARTS else "warn", "restarts", shown or "unknown", fix)
    limits = config.risk
    yield Finding(
        "ok",
        "limits",
        f"position {limits.max_position_lots}, order {limits.max_order_lots} lots, day's loss"
        f" {limits.max_daily_loss_ticks:g} ticks",
    )


def _health(host: Host, port: int) -> dict[str, object]:
    """What /health says, well or not."""
    found = json.loads(host.answer(f"http://127.0.0.1:{port}/health"))
    return found if isinstance(found, dict) else {}


def alerts(host: Host) -> Iterator[Finding]:
    """Who is told, whether each has lately taken a test, and who would miss the machine itself."""
    config = _config(host)
    named = [one for one in ("webhook", "push", "email") if getattr(config.alerts, one) is not None]
    for one in ("webhook", "push"):  # addresses that are themselves the secret
        if f"EMP_ALERT_{one.upper()}_URL=" in host.text("/etc/emp/secrets") and one not in named:
            named.append(one)
    if not named:
        yield Finding("bad", "receivers", "nobody is told", "name one in the section alerts (docs/alerts.md)")
    trial = read_trial(host.path(f"{DATA}/state"))
    for one in named:
        yield _tried(one, trial, host.now_ns)
    beats = config.heartbeat.to
    yield Finding(
        "ok" if beats else "bad",
        "heartbeat",
        f"to {beats}" if beats else "nobody would miss this machine",
        "" if beats else "set heartbeat.to, and run emp watch on another machine",
    )


def _tried(name: str, trial: Trial | None, now_ns: int) -> Finding:
    fix = f"sudo -u emp env EMP_STATE={DATA}/state /opt/emp/current/bin/emp alert --config {CONFIG}"
    if trial is None or name not in trial.receivers:
        return Finding("bad", name, "was never tried", fix)
    age = (now_ns - trial.at_ns) / 1e9 / DAY_S
    if trial.receivers[name]:
        return Finding("bad", name, f"did not take the last test: {trial.receivers[name]}", fix)
    if age > TRIED_DAYS:
        return Finding("warn", name, f"took a test {age:.0f} days ago", fix)
    return Finding("ok", name, f"took a test {age:.0f} days ago")


def paper(host: Host) -> Iterator[Finding]:
    """What the two weeks on paper still lack of the model, the code and the market of the newest run."""
    from emp.app.soak.record import paper_record
    from emp.journal.run import RunFolder

    config = _config(host)
    run = newest_run(host)
    if run is None:
        yield Finding("bad", "two weeks", "no run is there", "start the engine in mode paper")
        return
    try:
        weeks = paper_record(RunFolder(host.path(f"{RUNS}/{run}")), host.now_ns)
    except EmpError as error:
        raise UnseenError(str(error)) from None
    red = [f"{one.day} {one.instrument}" for one in weeks.days if one.colour == "red"]
    if red:
        yield Finding("warn", "red days", ", ".join(red[-5:]), "emp gates observe says why")
    fix = "mode paper with model.registry, until they are there (docs/gates.md)" if weeks.lacks else ""
    yield Finding("bad" if weeks.lacks else "ok", "two weeks", weeks.lacks or "on record", fix)
    yield Finding("ok", "mode", config.mode)
