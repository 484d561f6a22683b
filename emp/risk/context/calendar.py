"""The default context provider: a calendar of macro events from a file, no network.

Size is multiplied from `minutes` before an event to `minutes` after it (120 s each, D.4.2), for instruments that the
event's currencies concern. An instrument whose currencies are not known is concerned by every event.
"""

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NoReturn, cast, get_args
from zoneinfo import ZoneInfo

import msgspec
import yaml

from emp.core.errors import ConfigError
from emp.core.instrument import DAYS, Instrument
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml
from emp.risk.context.port import MULTIPLIERS, Window
from emp.risk.context.recurrence import OnHoliday, Recurrence

MINUTES = 2.0
MOST_MINUTES = 1_440.0
MACRO = "macro"
"""What a reason of this provider begins with."""

ISO = frozenset(
    (
        "USD",
        "EUR",
        "GBP",
        "JPY",
        "AUD",
        "NZD",
        "CAD",
        "CHF",
        "CNY",
        "CNH",
        "HKD",
        "SGD",
        "KRW",
        "INR",
        "MXN",
        "BRL",
    )
) | {"ZAR", "TRY", "SEK", "NOK", "DKK", "PLN"}
GOODS = frozenset(("XAU", "XAG", "WTI", "BTC", "ETH", "XRP"))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RULE = ("weekday", "nth", "business_day", "reference_week", "january_from", "on_holiday", "months")
_KEYS = ("name", "currencies", "zone", "at", "time", "multiplier", "minutes", "first", "last", *_RULE)
_LAST_NTH, _MOST_BUSINESS_DAY, _MOST_WEEKDAYS, _MOST_DAY = -1, 15, 5, 28


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the calendar: at one instant, or recurring at a local time."""

    name: str
    currencies: frozenset[str]
    multiplier: float = 0.0
    half_ns: int = int(MINUTES * 60e9)  # from the window's start to the event, and from there to its end
    at_ns: int | None = None
    recurrence: Recurrence | None = None
    local: time = time(0)
    zone: str = "UTC"

    def times(self, from_ns: int, to_ns: int) -> Iterator[int]:
        """When it happens, from `from_ns` to `to_ns` inclusive, ns UTC; a rule's hour is local."""
        if self.at_ns is not None:
            found = [self.at_ns]
        else:
            assert self.recurrence is not None
            first, last = _day(from_ns) - timedelta(days=1), _day(to_ns) + timedelta(days=1)
            zone = ZoneInfo(self.zone)
            found = [
                _ns(datetime.combine(day, self.local, zone)) for day in self.recurrence.days(first, last)
            ]
        yield from (at for at in found if from_ns <= at <= to_ns)


class Calendar:
    """A context provider: see the module's docstring."""

    failure = ""  # it is read once, and what cannot be read is refused then

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = tuple(events)

    def refresh(self) -> bool:
        """Nothing changes: False."""
        return False

    def windows(self, instrument: Instrument, from_ns: int, to_ns: int) -> list[Window]:
        """The windows of an instrument that overlap [from_ns, to_ns)."""
        codes = currencies_of(instrument)
        return [
            Window(at - event.half_ns, at + event.half_ns, event.multiplier, f"{MACRO}: {event.name}")
            for event in self.events
            if codes is None or codes & event.currencies
            for at in event.times(from_ns - event.half_ns, to_ns + event.half_ns)
            if at - event.half_ns < to_ns and at + event.half_ns > from_ns
        ]


def currencies_of(instrument: Instrument) -> frozenset[str] | None:
    """Codes of the money and goods that move an instrument; None where the catalogue does not say."""
    return frozenset(instrument.currencies) or None


def shipped_events() -> tuple[Event, ...]:
    """The recurring events that ship with the package."""
    data = resources.files("emp.core").joinpath("data").joinpath("events.yaml").read_bytes()
    return _events("events.yaml", load_yaml(data), ISO | GOODS)


def read_events(path: Path, codes: frozenset[str] = frozenset()) -> tuple[Event, ...]:
    """The events of a user's file; `codes` are known beside those of the major currencies.

    Raises:
        ConfigError: it cannot be read, or one of its values is wrong; the line names file and entry.
    """
    try:
        content = load_yaml(read_small(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).split("\n", maxsplit=1)[0]
        raise ConfigError(f"{path}: not valid YAML{where}: {problem}") from error
    return _events(str(path), content, ISO | GOODS | codes)


def _events(source: str, content: object, codes: frozenset[str]) -> tuple[Event, ...]:
    if not isinstance(content, Mapping) or set(content) != {"events"}:
        _refuse(source, "", "expected one list, `events:`")
    entries = content["events"] or []
    if not isinstance(entries, list):
        _refuse(source, "events", f"expected a list, got {entries!r}")
    return tuple(_event(source, f"events[{k}]", entry, codes) for k, entry in enumerate(entries))


def _event(source: str, at: str, entry: object, codes: frozenset[str]) -> Event:
    if not isinstance(entry, Mapping):
        _refuse(source, at, f"expected a table of fields, got {entry!r}")
    for key in entry:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            _refuse(source, f"{at}.{key}", f"unknown key; {f'did you mean {near[0]!r}?' if near else _KEYS}")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        _refuse(source, f"{at}.name", f"expected a name, got {name!r}")
    minutes = _number(source, f"{at}.minutes", entry.get("minutes", MINUTES))
    if not 0.0 < minutes <= MOST_MINUTES:
        _refuse(
            source, f"{at}.minutes", f"expected more than 0 and at most {MOST_MINUTES:g}, got {minutes:g}"
        )
    multiplier = _number(source, f"{at}.multiplier", entry.get("multiplier", 0.0))
    if multiplier not in MULTIPLIERS[:-1]:
        _refuse(source, f"{at}.multiplier", f"expected 0 or 0.3, got {multiplier:g}")
    common: dict[str, Any] = {
        "name": " ".join(name.split()),
        "currencies": _currencies(source, f"{at}.currencies", entry.get("currencies"), codes),
        "multiplier": multiplier,
        "half_ns": round(minutes * 60e9),
    }
    if ("time" in entry) == ("at" in entry):
        _refuse(source, at, "expected either `time` (one event) or `at` (a local hour) with a rule")
    if "time" in entry:
        ruled = [key for key in (*_RULE, "first", "last") if key in entry]
        if ruled:
            _refuse(source, f"{at}.{ruled[0]}", "belongs to a rule, and `time` is one event")
        return Event(**common, at_ns=_instant(source, f"{at}.time", entry["time"], entry.get("zone")))
    return Event(
        **common,
        recurrence=_recurrence(source, at, entry),
        local=_local(source, f"{at}.at", entry["at"]),
        zone=_zone(source, f"{at}.zone", entry.get("zone")).key,
    )


def _recurrence(source: str, at: str, entry: Mapping[Any, Any]) -> Recurrence:
    fields: dict[str, Any] = {}
    if "weekday" in entry:
        if entry["weekday"] not in DAYS:
            _refuse(source, f"{at}.weekday", f"expected one of {', '.join(DAYS)}, got {entry['weekday']!r}")
        fields["weekday"] = DAYS.index(entry["weekday"])
    elif "business_day" not in entry:
        _refuse(source, at, "a rule needs `weekday` or `business_day`")
    if "business_day" in entry:
        if "weekday" in entry or "nth" in entry or "reference_week" in entry:
            _refuse(source, f"{at}.business_day", "goes with no `weekday`, `nth` or `reference_week`")
        nth = _whole(source, f"{at}.business_day", entry["business_day"], 1, _MOST_BUSINESS_DAY)
        fields |= {"kind": "business_day", "nth": nth}
    elif "nth" in entry or "reference_week" in entry:
        nth = _whole(source, f"{at}.nth", entry.get("nth", 1), _LAST_NTH, _MOST_WEEKDAYS)
        after = "reference_week" in entry
        if nth == 0 or (after and nth < 0) or (not after and nth == _MOST_WEEKDAYS):
            _refuse(source, f"{at}.nth", f"{nth} is not in every month: expected 1 to 4, or -1, the last")
        fields |= {"kind": "reference_week" if after else "monthly", "nth": nth}
        if after:
            fields["day"] = _whole(source, f"{at}.reference_week", entry["reference_week"], 1, _MOST_DAY)
    else:
        fields["kind"] = "weekly"
    if "january_from" in entry:
        fields["january_from"] = _whole(source, f"{at}.january_from", entry["january_from"], 1, 7)
    if "on_holiday" in entry:
        known = get_args(OnHoliday)
        if entry["on_holiday"] not in known:
            _refuse(source, f"{at}.on_holiday", f"expected one of {', '.join(known)}")
        fields["on_holiday"] = cast(OnHoliday, entry["on_holiday"])
    if "months" in entry:
        months = entry["months"]
        if not isinstance(months, list) or not months:
            _refuse(source, f"{at}.months", f"expected a list of months, got {months!r}")
        fields["months"] = tuple(_whole(source, f"{at}.months", one, 1, 12) for one in months)
    bounds: tuple[Literal["first"], Literal["last"]] = ("first", "last")
    for key in bounds:
        if key in entry:
            try:
                fields[key] = date.fromisoformat(str(entry[key]))
            except ValueError:
                _refuse(source, f"{at}.{key}", f"expected a date YYYY-MM-DD, got {entry[key]!r}")
    return Recurrence(**fields)


def _currencies(source: str, at: str, value: object, known: frozenset[str]) -> frozenset[str]:
    if not isinstance(value, list) or not value:
        _refuse(source, at, f"expected a list of codes, e.g. [USD], got {value!r}")
    for one in value:
        if one not in known:
            near = difflib.get_close_matches(str(one), known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            _refuse(
                source, at, f"unknown currency {one!r}{hint}: none of the major ones or of the catalogue's"
            )
    return frozenset(value)


def _instant(source: str, at: str, value: object, zone: object) -> int:
    """UTC ns of a time with an offset of its own, or of a local time in `zone` that is there exactly once."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        _refuse(source, at, f'expected a time "YYYY-MM-DD HH:MM[:SS]", got {value!r}')
    if isinstance(value, date) and not isinstance(value, datetime):
        _refuse(source, at, f"{value} is a day: an hour is missing")
    if found.tzinfo is not None:
        if zone is not None:
            _refuse(source, at, f"{value} has an offset of its own: leave out `zone`")
        return _ns(found)
    place = _zone(source, at.removesuffix("time") + "zone", zone)
    early, late = (found.replace(tzinfo=place, fold=fold) for fold in (0, 1))
    if early.utcoffset() != late.utcoffset():
        _refuse(
            source, at, f"{found} is not there, or twice, in {place.key} (the clock changes): give an offset"
        )
    return _ns(early)


def _zone(source: str, at: str, value: object) -> ZoneInfo:
    if value is None:
        _refuse(source, at, "missing: which clock is meant? e.g. America/New_York")
    try:
        return ZoneInfo(str(value))
    except (OSError, ValueError, LookupError):
        _refuse(source, at, f"unknown time zone {value!r}, e.g. America/New_York")


def _local(source: str, at: str, value: object) -> time:
    try:
        found = time.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        _refuse(source, at, f'expected a time "HH:MM" in quotes, got {value!r}')
    return found.replace(tzinfo=None)


def _whole(source: str, at: str, value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        _refuse(source, at, f"expected a whole number from {least} to {most}, got {value!r}")
    return value


def _number(source: str, at: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        _refuse(source, at, f"expected a number, got {value!r}")
    return float(value)


def _day(ns: int) -> date:
    return (_EPOCH + timedelta(seconds=ns // 1_000_000_000)).date()


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def _refuse(source: str, at: str, problem: str) -> NoReturn:
    raise ConfigError(f"{source}: {at}: {problem}" if at else f"{source}: {problem}")
