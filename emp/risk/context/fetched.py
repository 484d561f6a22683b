"""A context provider of what is fetched from a service: macro events, values of a volatility index, earnings (D.4).

What a fetch brings is asked for beside the engine, in a thread of its own; nothing here waits for a network. Its
windows are those of a calendar and of recorded values; on the day of a company's earnings and the day after, by New
York's midnights, size of its share is multiplied by 0.3. Before anything was fetched, and where the newest answer is
older than `max_age_ns`, size is on the safe side: a service that has gone silent is told from its age, in market time.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from emp.core.codes import AssetClass
from emp.core.instrument import Instrument
from emp.risk.context.calendar import Calendar, Event
from emp.risk.context.port import FOREVER_NS, SAFE, Window
from emp.risk.context.volatility import value_windows

EARNINGS = "earnings"
"""What a reason of this provider's own begins with."""

_NEW_YORK = ZoneInfo("America/New_York")


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What one fetch brought; None where it was not asked for."""

    at_ns: int  # when it was asked, ns UTC
    events: tuple[Event, ...] | None = None
    values: tuple[tuple[int, float], ...] | None = None  # (ns UTC, value) of the volatility index, ascending
    earnings: tuple[tuple[str, date], ...] | None = None  # (symbol, day in New York)


class Fetched:
    """See the module's docstring. `fetch` raises whatever goes wrong; `take` is called where that may last."""

    def __init__(
        self,
        name: str,
        fetch: Callable[[int], Facts],
        now_ns: Callable[[], int],
        *,
        every_ns: int,
        max_age_ns: int,
        above: float,
        value_max_age_ns: int,
    ) -> None:
        """Put a provider together.

        Args:
            name: of the service, which reasons begin with.
            fetch: what it says as of now, ns UTC.
            every_ns: between two fetches; after one that failed, a tenth of it.
            max_age_ns: after which an answer says nothing.
            above, value_max_age_ns: of the volatility index, as for recorded values.
        """
        self._name, self._fetch, self._now_ns = name, fetch, now_ns
        self._every_ns, self._max_age_ns = every_ns, max_age_ns
        self._above, self._value_max_age_ns = above, value_max_age_ns
        self._facts: Facts | None = None
        self._shown: Facts | None = None
        self._due_ns = 0
        self._since_ns = 0  # from when on there was an answer without a break
        self._why = "nothing was fetched yet"

    @property
    def failure(self) -> str:
        """Why it is on the safe side now; "" where it is not."""
        facts = self._facts
        if facts is not None and self._now_ns() < facts.at_ns + self._max_age_ns:
            return ""
        return f"{self._name}: {self._why}"

    def take(self) -> None:
        """Fetch where it is due; one that fails leaves what is known, and is tried again sooner."""
        now = self._now_ns()
        if now < self._due_ns:
            return
        try:
            facts = self._fetch(now)
            if self._facts is None or facts.at_ns >= self._facts.at_ns + self._max_age_ns:
                self._since_ns = facts.at_ns
            self._facts = facts
            self._why, self._due_ns = "no recent answer", now + self._every_ns
        except Exception as error:  # whatever a service's own code raises: its age tells the rest
            self._why = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
            )
            self._due_ns = now + self._every_ns // 10

    def refresh(self) -> bool:
        """Whether something else is known than when this was asked last."""
        before, self._shown = self._shown, self._facts
        return self._facts is not before

    def windows(self, instrument: Instrument, from_ns: int, to_ns: int) -> list[Window]:
        """The windows that overlap [from_ns, to_ns)."""
        facts = self._facts
        if facts is None:
            found = [Window(0, FOREVER_NS, SAFE, f"{self._name}: no recent answer")]
        else:
            found = [
                Window(0, self._since_ns, SAFE, f"{self._name}: no recent answer"),
                Window(facts.at_ns + self._max_age_ns, FOREVER_NS, SAFE, f"{self._name}: no recent answer"),
                *Calendar(facts.events or ()).windows(instrument, from_ns, to_ns),
                *_of_earnings(instrument, facts.earnings or ()),
            ]
            if facts.values is not None:
                found += value_windows(facts.values, self._above, self._value_max_age_ns)
        return [one for one in found if one.start_ns < to_ns and one.end_ns > from_ns]


def _of_earnings(instrument: Instrument, earnings: Sequence[tuple[str, date]]) -> list[Window]:
    if instrument.asset_class is not AssetClass.EQUITY:
        return []
    names = {instrument.name, *instrument.symbols}
    return [
        Window(_midnight_ns(day), _midnight_ns(day + timedelta(days=2)), SAFE, f"{EARNINGS}: {symbol}")
        for symbol, day in earnings
        if symbol in names
    ]


def _midnight_ns(day: date) -> int:
    return int(datetime.combine(day, time(0), _NEW_YORK).timestamp()) * 1_000_000_000
