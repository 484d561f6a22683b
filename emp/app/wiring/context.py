"""Wiring of the slow context: from the configuration to the providers of a run."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emp.core.clock import Clock, LiveClock
from emp.core.config.config import Context
from emp.core.errors import ConfigError
from emp.core.instrument import Instrument, catalogue
from emp.core.small_file import read_small
from emp.engine.context import SlowContext
from emp.risk.context.calendar import Calendar, read_events, shipped_events
from emp.risk.context.port import ContextProvider
from emp.risk.context.volatility import Volatility

_HOUR_NS = 3_600_000_000_000


def providers_of(context: Context, known: Path | None = None) -> list[ContextProvider]:
    """The providers that are configured; `known` adds to the catalogue whose currencies a calendar may name.

    Raises:
        ConfigError: the calendar's file is wrong. Recorded values that cannot be read are no error here: their provider
            is on the safe side and says why.
    """
    if not context.enabled:
        return []
    if context.openbb.asked:
        from emp.app.wiring.openbb import refuse_missing

        refuse_missing()
    events = shipped_events() if context.shipped else ()
    if context.calendar is not None:
        codes = frozenset(code for one in catalogue(known).values() for code in one.currencies)
        events += read_events(context.calendar, codes)
    found: list[ContextProvider] = [Calendar(events)] if events else []
    if context.volatility is not None:
        max_age_ns = int(context.volatility_max_age_hours * _HOUR_NS)
        found.append(Volatility(context.volatility, context.volatility_above, max_age_ns))
    return found


def slow_context(
    context: Context,
    instruments: Sequence[Instrument],
    known: Path | None = None,
    clock: Clock | None = None,
) -> SlowContext | None:
    """The slow context of a run; None where nothing is configured."""
    providers = providers_of(context, known)
    if context.enabled and context.openbb.asked:
        from emp.app.wiring.openbb import openbb_context

        max_age_ns = int(context.volatility_max_age_hours * _HOUR_NS)
        fetched = openbb_context(context.openbb, context.volatility_above, max_age_ns, clock or LiveClock())
        providers.append(fetched)
    return SlowContext(instruments, providers) if providers else None


def recorded_context(
    context: Context, instruments: Sequence[Instrument], known: Path | None = None
) -> SlowContext | None:
    """The same over a recording, where nothing that fails now can come back: ConfigError instead of the safe side."""
    if context.enabled and context.openbb.asked:
        raise ConfigError(
            "context.openbb: what it says today is not what it said then: give a calendar and volatility of your own"
        )
    providers = providers_of(context, known)
    for one in providers:
        if one.failure:
            raise ConfigError(f"context: {one.failure}")
    return SlowContext(instruments, providers) if providers else None


def described(context: Context) -> dict[str, Any]:
    """What decides the multipliers of a replay, as plain values: the settings, and what the files hold."""
    if not context.enabled:
        return {"enabled": False}
    files = {
        name: hashlib.sha256(read_small(path)).hexdigest()
        for name in ("calendar", "volatility")
        if (path := getattr(context, name)) is not None
    }
    return {**context.model_dump(mode="json"), "sha256": files}
