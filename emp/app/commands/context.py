"""What the slow context multiplies size by, at a time, and what comes next."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()

DAY_NS = 86_400_000_000_000


@app.command()
def context(
    at: Annotated[
        str | None, typer.Option(help="ISO 8601, UTC where no offset is given; without one, now.")
    ] = None,
    instrument: Annotated[
        list[str] | None,
        typer.Option(help="Name in the catalogue; may be repeated; else the configuration's."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Take calendar and values from this file.")] = None,
    catalogue: Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="How far to look ahead.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """What the slow context multiplies size by, at a time, and what comes next.

    Without --config, the events that ship with the package, for every instrument of the catalogue that is named.
    """
    from emp.app.wiring.context import providers_of
    from emp.core.config.config import Context, SystemConfig
    from emp.core.errors import UsageError
    from emp.core.instrument import find
    from emp.engine.context import SlowContext

    settings = SystemConfig.load(config) if config is not None else None
    known = catalogue or (settings.instruments.catalogue if settings else None)
    names = instrument or (list(settings.instruments.names) if settings else ["EURUSD"])
    instruments = [find(name, known) for name in names]
    providers = providers_of(settings.context if settings else Context(), known)
    try:
        ts = time.time_ns() if at is None else _ns(at)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--at {at}: expected a time of our days like 2026-12-04T13:30: {error}") from error
    slow = SlowContext(instruments, providers)
    found: list[dict[str, Any]] = []
    for i, one in enumerate(instruments):
        now = slow.at(i, ts)
        windows = slow.windows(i, ts, ts + days * DAY_NS)
        found.append(
            {
                "instrument": one.name,
                "currencies": list(one.currencies),
                "multiplier": now.multiplier,
                "reason": now.reason,
                "next": [
                    {
                        "from": _text(w.start_ns),
                        "to": _text(w.end_ns),
                        "multiplier": w.multiplier,
                        "reason": w.reason,
                    }
                    for w in sorted(windows)
                    if w.start_ns > ts
                ],
            }
        )
    for entry in found:
        print(
            f"{entry['instrument']} at {_text(ts)}: size x {entry['multiplier']:g}  {entry['reason']}".rstrip()
        )
        for ahead in entry["next"]:
            print(f"  {ahead['from']} to {ahead['to']}  x {ahead['multiplier']:g}  {ahead['reason']}")
    if as_json:
        print(
            json.dumps(
                {
                    "at": _text(ts),
                    "failures": [p.failure for p in providers if p.failure],
                    "instruments": found,
                }
            )
        )


def _ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
    if not 0 <= ns < 2**62:
        raise ValueError("before 1970")
    return ns


def _text(ns: int) -> str:
    if ns >= 2**62:
        return "open"
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1_000)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
