"""OpenBB as a source of the slow context: its core and the providers that are named, nothing else of it.

What is asked for are three of its standard models: `EconomicCalendar` (events whose importance the provider calls
high), `IndexHistorical` of the VIX, `CalendarEarnings`. Keys are those of OpenBB's own settings file. All of it is
imported when it is asked for the first time, in the thread that asks: it takes seconds.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from emp.core.background import background
from emp.core.clock import Clock
from emp.core.config.config import OpenBB
from emp.core.errors import ConfigError
from emp.core.extras import missing_extra
from emp.risk.context.calendar import Event
from emp.risk.context.fetched import Facts, Fetched

AHEAD = timedelta(days=8)
BEHIND = timedelta(days=10)
"""How far calendars and values are asked for: over a weekend and a holiday either way."""

HIGH = frozenset({"high", "3"})
"""What providers call the importance of an event that moves markets."""

CURRENCIES = {
    "united states": "USD", "us": "USD", "united kingdom": "GBP", "uk": "GBP", "gb": "GBP", "japan": "JPY", "jp": "JPY",
    "australia": "AUD", "au": "AUD", "new zealand": "NZD", "nz": "NZD", "canada": "CAD", "ca": "CAD",
    "switzerland": "CHF", "ch": "CHF", "china": "CNY", "cn": "CNY", "euro area": "EUR", "european union": "EUR",
    "eu": "EUR", "ea": "EUR", "emu": "EUR", "germany": "EUR", "de": "EUR", "france": "EUR", "fr": "EUR", "italy": "EUR",
    "it": "EUR", "spain": "EUR", "es": "EUR",
}  # fmt: skip
"""Money that an event of a country concerns; of other countries' events nothing is known."""

_CLOSE = time(16, 15)
_NEW_YORK = ZoneInfo("America/New_York")

Ask = Callable[[str, str, dict[str, Any]], Any]
"""Runs a query of (provider, standard model, parameters), and returns its rows."""


def openbb_context(settings: OpenBB, above: float, value_max_age_ns: int, clock: Clock) -> Fetched:
    """The provider, fetching in a thread of its own from now on."""
    found = Fetched(
        "openbb",
        lambda now_ns: fetch(settings, ask_openbb(settings.timeout_s), now_ns),
        clock.now_ns,
        every_ns=int(settings.every_hours * 3_600e9),
        max_age_ns=int(settings.max_age_hours * 3_600e9),
        above=above,
        value_max_age_ns=value_max_age_ns,
    )

    def step(last: bool) -> bool:
        if not last:
            found.take()
        return not last

    background().every(1.0, step, "openbb").start()
    return found


def refuse_missing() -> None:
    """ConfigError in one line where OpenBB is not installed."""
    from importlib.util import find_spec

    if find_spec("openbb_core") is None:
        raise ConfigError(f"context.openbb: {missing_extra('openbb_core')}")


def ask_openbb(timeout_s: float) -> Ask:
    """Queries through OpenBB's own executor; TimeoutError where one takes longer."""

    def ask(provider: str, model: str, params: dict[str, Any]) -> Any:
        from openbb_core.app.service.user_service import UserService
        from openbb_core.provider.query_executor import QueryExecutor

        keys = UserService.read_from_file().credentials.model_dump()

        async def run() -> Any:
            query = QueryExecutor().execute(provider, model, params, keys)
            return await asyncio.wait_for(query, timeout_s)

        found = asyncio.run(run())
        return getattr(found, "result", found)

    return ask


def fetch(settings: OpenBB, ask: Ask, now_ns: int) -> Facts:
    """Ask for what the settings name; whatever one of them raises ends it, so that facts are whole or none."""
    today = datetime.fromtimestamp(now_ns / 1e9, UTC).date()
    around = {"start_date": today - timedelta(days=1), "end_date": today + AHEAD}
    events = values = earnings = None
    if settings.calendar:
        events = tuple(_events(ask(settings.calendar, "EconomicCalendar", around)))
    if settings.volatility:
        asked = {"symbol": "VIX", "start_date": today - BEHIND, "end_date": today}
        values = tuple(_values(ask(settings.volatility, "IndexHistorical", asked), now_ns))
    if settings.earnings:
        earnings = tuple(_earnings(ask(settings.earnings, "CalendarEarnings", around)))
    return Facts(at_ns=now_ns, events=events, values=values, earnings=earnings)


def _events(rows: Iterable[Any]) -> Iterable[Event]:
    """Events of high importance in countries whose money is known; a time without a zone is UTC."""
    for row in rows:
        if str(row.importance or "").lower() not in HIGH or row.date is None:
            continue
        code = row.currency or CURRENCIES.get(str(row.country or "").replace("_", " ").lower())
        if code:
            at = row.date if row.date.tzinfo is not None else row.date.replace(tzinfo=UTC)
            yield Event(name=str(row.event), currencies=frozenset({code}), at_ns=_ns(at))


def _values(rows: Iterable[Any], now_ns: int) -> Iterable[tuple[int, float]]:
    """Closes of the index, from when they were known on: the session's end, unless that is still to come."""
    found: dict[int, float] = {}
    for row in rows:
        day = row.date.date() if isinstance(row.date, datetime) else row.date
        at = _ns(datetime.combine(day, _CLOSE, _NEW_YORK))
        if row.close is not None:
            found[min(at, now_ns)] = float(row.close)
    if not found:
        raise ValueError("the provider has no recent value of the VIX")
    return sorted(found.items())


def _earnings(rows: Iterable[Any]) -> Iterable[tuple[str, date]]:
    for row in rows:
        yield str(row.symbol).upper(), row.report_date


def _ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000
