"""Facts about instruments: what a venue publishes, never what we tune.

`catalogue()` reads the shipped `emp/core/data/instruments.yaml` and, where given, a user's own file that
adds to it or overrides it. Both have two tables: `calendars` (hours that several instruments share) and
`instruments`, whose entries name a calendar or write out their own hours.
"""

import difflib
import math
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import msgspec
import yaml

from emp.core.codes import AssetClass, Liquidity, Session, Venue
from emp.core.errors import ConfigError, UnknownInstrumentError
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_own_yaml, load_yaml

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class SessionSpan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A weekly span of a trading calendar in the local time of `zone`.

    `days` are the weekdays on which the span starts (mon..sun); `end` before or equal to `start` lies on the
    next day. Where spans overlap, the one further down the list holds.
    """

    session: str  # a name of codes.Session, lower case
    start: str  # "HH:MM"
    end: str
    days: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri")
    zone: str = "UTC"


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tradable thing at one venue."""

    name: str
    tick: float  # price of one tick, in quote currency
    lot: float  # quantity of one lot, in units of the instrument
    venue: Venue
    asset_class: AssetClass
    taker_fee: float  # ticks per lot paid when crossing
    maker_fee: float  # ticks per lot paid when resting; negative is a rebate
    fee_source: str  # where the fee comes from
    sessions: tuple[SessionSpan, ...]
    day_zone: str = "UTC"  # zone and time at which a trading day ends
    day_end: str = "00:00"
    point_value: float = 1.0  # quote currency per price unit and lot (futures multiplier)
    holidays: tuple[str, ...] = ()  # closed dates, "YYYY-MM-DD" in day_zone
    early_closes: tuple[
        str, ...
    ] = ()  # "YYYY-MM-DD HH:MM" in day_zone: closed from then to the end of that trading day
    symbols: tuple[str, ...] = ()  # further names by which recordings call it
    expiry: str = ""  # last trading date, where it has one
    liquidity: str = ""  # a name of codes.Liquidity, lower case, where it is stated instead of measured
    currencies: tuple[
        str, ...
    ] = ()  # codes of the money and goods that move it; empty: every event concerns it
    margin: float = 0.0  # share of its value that is asked as margin (1 / leverage); 0: not known
    swap_long: float = 0.0  # ticks a lot held long receives for a night; what is paid is below 0
    swap_short: float = 0.0
    swap_time: str = "17:00"  # of the roll, each weekday, in swap_zone
    swap_zone: str = "America/New_York"
    swap_triple: str = "wed"  # the weekday whose roll counts three nights; "" none


def catalogue(extra: Path | None = None) -> dict[str, Instrument]:
    """Return all instruments by name: the shipped ones, then those of `extra`, which add to or override them.

    Raises:
        ConfigError: the file cannot be read, or one of its values is wrong; the line names its path.
    """
    tables = _shipped()
    if extra is not None:
        own = _load(extra)
        calendars = {**tables["calendars"], **own["calendars"]}
        entries = dict(tables["instruments"])
        for name, fields in own["instruments"].items():
            entries[name] = {**_inherited(entries, name, fields), **fields}
        tables = {"calendars": calendars, "instruments": entries}
    source = str(extra) if extra is not None else "instruments.yaml"
    return {name: _instrument(source, name, fields, tables) for name, fields in tables["instruments"].items()}


def find(name: str, extra: Path | None = None) -> Instrument:
    """Return the instrument of that name.

    Raises:
        UnknownInstrumentError: the catalogue has none; the line says how to add one.
    """
    known = catalogue(extra)
    if name in known:
        return known[name]
    folded = {key.upper(): key for key in known}
    near = difflib.get_close_matches(name.upper(), folded, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(folded[key] for key in near)}?)" if near else ""
    raise UnknownInstrumentError(
        f"unknown instrument {name!r}{hint}: add it in a YAML file, e.g. "
        f"'instruments: {{{name}: {{tick: 0.01, lot: 1, venue: nasdaq, asset_class: equity, taker_fee: 0.5, "
        "maker_fee: 0.5, fee_source: my broker, calendar: us_equity}}', and pass it as --catalogue FILE"
    )


@cache
def _shipped() -> dict[str, dict[str, dict[str, Any]]]:
    data = resources.files("emp.core").joinpath("data")
    tables = _tables("instruments.yaml", load_own_yaml(data.joinpath("instruments.yaml").read_bytes()))
    for name, closed in load_own_yaml(data.joinpath("closures.yaml").read_bytes()).items():
        tables["calendars"][name].update(closed)
    return tables


def _load(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    try:
        content = load_yaml(read_small(path))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).split(';')[0]}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "unreadable"
        raise ConfigError(f"{path}: not valid YAML{where}: {problem}") from error
    return _tables(str(path), content)


def _tables(source: str, content: object) -> dict[str, dict[str, dict[str, Any]]]:
    """Check the outer shape: two optional tables of tables."""
    if not isinstance(content, Mapping):
        _refuse(source, "", f"expected the tables 'calendars' and 'instruments', got {_kind(content)}")
    _known_keys(source, "", content, ("calendars", "instruments"))
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for table in ("calendars", "instruments"):
        entries = content.get(table) or {}
        if not isinstance(entries, Mapping):
            _refuse(source, table, f"expected a table by name, got {_kind(entries)}")
        for name, fields in entries.items():
            if not isinstance(name, str):
                _refuse(source, f"{table}.{name}", "a name must be text: put it in quotes")
            if not isinstance(fields, Mapping):
                _refuse(source, f"{table}.{name}", f"expected a table of fields, got {_kind(fields)}")
        tables[table] = {name: dict(fields) for name, fields in entries.items()}
    return tables


def _inherited(entries: Mapping[str, dict[str, Any]], name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The shipped fields that a user's entry leaves standing."""
    shipped = dict(entries.get(name, {}))
    if "sessions" in fields:
        shipped.pop("calendar", None)
    if "calendar" in fields:
        for key in _CALENDAR_FIELDS:
            shipped.pop(key, None)
    return shipped


_CALENDAR_FIELDS = ("sessions", "day_zone", "day_end", "holidays", "early_closes")
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_NUMBERS = ("tick", "lot", "taker_fee", "maker_fee", "point_value", "margin", "swap_long", "swap_short")
_SIGNED = frozenset({"taker_fee", "maker_fee", "margin", "swap_long", "swap_short"})
_FIELDS = (*(name for name in Instrument.__struct_fields__ if name != "name"), "calendar")


def _instrument(
    source: str, name: str, fields: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]
) -> Instrument:
    at = f"instruments.{name}"
    _known_keys(source, at, fields, _FIELDS)
    values = {**_calendar(source, at, fields, tables["calendars"]), **fields}
    values.pop("calendar", None)
    for field in ("tick", "lot", "venue", "asset_class", "taker_fee", "maker_fee", "fee_source", "sessions"):
        if field not in values:
            hours = " (or name a calendar)" if field == "sessions" else ""
            _refuse(source, at, f"the field {field!r} is missing{hours}")
    for field in _NUMBERS:
        if field in values:
            values[field] = _number(source, f"{at}.{field}", values[field], positive=field not in _SIGNED)
    if not 0.0 <= values.get("margin", 0.0) <= 1.0:
        _refuse(source, f"{at}.margin", f"expected a share from 0 (not known) to 1, got {values['margin']:g}")
    values["venue"] = _enum(source, f"{at}.venue", values["venue"], Venue)
    values["asset_class"] = _enum(source, f"{at}.asset_class", values["asset_class"], AssetClass)
    values["sessions"] = _spans(source, f"{at}.sessions", values["sessions"])
    if "day_zone" in values:
        _zone(source, f"{at}.day_zone", values["day_zone"])
    if "day_end" in values:
        _time(source, f"{at}.day_end", values["day_end"])
    if "swap_zone" in values:
        _zone(source, f"{at}.swap_zone", values["swap_zone"])
    if "swap_time" in values:
        _time(source, f"{at}.swap_time", values["swap_time"])
    if values.get("swap_triple", "") not in ("", *DAYS[:5]):
        _refuse(
            source,
            f"{at}.swap_triple",
            f"expected one of {', '.join(DAYS[:5])}, got {values['swap_triple']!r}",
        )
    values["holidays"] = _dates(source, f"{at}.holidays", values.get("holidays", ()))
    values["early_closes"] = _early_closes(source, f"{at}.early_closes", values.get("early_closes", ()))
    values["symbols"] = _texts(source, f"{at}.symbols", values.get("symbols", ()))
    values["currencies"] = _codes(source, f"{at}.currencies", values.get("currencies", ()))
    if values.get("expiry"):
        values["expiry"] = _dates(source, f"{at}.expiry", [values["expiry"]])[0]
    if values.get("liquidity"):
        values["liquidity"] = _enum(source, f"{at}.liquidity", values["liquidity"], Liquidity).name.lower()
    if not isinstance(values["fee_source"], str):
        _refuse(source, f"{at}.fee_source", f"expected text, got {_kind(values['fee_source'])}")
    return Instrument(name=name, **values)


def _calendar(
    source: str, at: str, fields: Mapping[str, Any], calendars: Mapping[str, Any]
) -> dict[str, Any]:
    name = fields.get("calendar")
    if name is None:
        return {}
    if name not in calendars:
        _refuse(source, f"{at}.calendar", f"unknown calendar {name!r}; known: {', '.join(calendars)}")
    _known_keys(source, f"calendars.{name}", calendars[name], _CALENDAR_FIELDS)
    return dict(calendars[name])


def _spans(source: str, at: str, value: object) -> tuple[SessionSpan, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        _refuse(source, at, f"expected a list of spans, got {_kind(value)}")
    spans = []
    for i, item in enumerate(value):
        here = f"{at}[{i}]"
        if not isinstance(item, Mapping):
            _refuse(source, here, f"expected a table of fields, got {_kind(item)}")
        _known_keys(source, here, item, SessionSpan.__struct_fields__)
        for field in ("session", "start", "end"):
            if field not in item:
                _refuse(source, here, f"the field {field!r} is missing")
        session = str(_enum(source, f"{here}.session", item["session"], Session).name).lower()
        days = item.get("days", DAYS[:5])
        if not isinstance(days, (list, tuple)) or not days or any(day not in DAYS for day in days):
            _refuse(source, f"{here}.days", f"expected a list of {', '.join(DAYS)}, got {days!r}")
        spans.append(
            SessionSpan(
                session=session,
                start=_time(source, f"{here}.start", item["start"]),
                end=_time(source, f"{here}.end", item["end"]),
                days=tuple(days),
                zone=_zone(source, f"{here}.zone", item.get("zone", "UTC")),
            )
        )
    return tuple(spans)


def _number(source: str, at: str, value: object, *, positive: bool) -> float:
    if isinstance(value, str) and _EXPONENT.fullmatch(value):  # YAML 1.1 reads 1e-5 as text
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _refuse(source, at, f"expected a number, got {_kind(value)}")
    if not math.isfinite(value) or (positive and value <= 0):
        _refuse(source, at, f"expected a {'positive' if positive else 'finite'} number, got {value}")
    return float(value)


def _enum(source: str, at: str, value: object, kind: Any) -> Any:
    names = [member.name.lower() for member in kind]
    if not isinstance(value, str) or value.lower() not in names:
        _refuse(source, at, f"expected one of {', '.join(names)}, got {value!r}")
    return kind[value.upper()]


def _time(source: str, at: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        _refuse(source, at, f'expected a time "HH:MM" in quotes, got {value!r}')
    return value


def _zone(source: str, at: str, value: object) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (OSError, ValueError, LookupError):
        _refuse(source, at, f"unknown time zone {value!r}, e.g. America/New_York")


def _dates(source: str, at: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        _refuse(source, at, f"expected a list of dates, got {_kind(value)}")
    found = []
    for i, item in enumerate(value):
        try:
            found.append(date.fromisoformat(str(item)).isoformat())
        except ValueError:
            _refuse(source, f"{at}[{i}]", f"expected a date YYYY-MM-DD, got {item!r}")
    return tuple(found)


def _texts(source: str, at: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        _refuse(source, at, f"expected a list of names, got {_kind(value)}")
    return tuple(str(item) for item in value)


def _codes(source: str, at: str, value: object) -> tuple[str, ...]:
    found = _texts(source, at, value)
    for i, code in enumerate(found):
        if not re.fullmatch(r"[A-Z]{3,6}", code):
            _refuse(source, f"{at}[{i}]", f"expected a code of capitals, e.g. USD, got {code!r}")
    return found


def _early_closes(source: str, at: str, value: object) -> tuple[str, ...]:
    found = []
    for i, item in enumerate(_texts(source, at, value)):
        day, _, hour = item.partition(" ")
        (checked,) = _dates(source, f"{at}[{i}]", [day])
        found.append(f"{checked} {_time(source, f'{at}[{i}]', hour)}")
    return tuple(found)


def _known_keys(source: str, at: str, table: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            _refuse(source, f"{at}.{key}".lstrip("."), f"unknown key; {hint}")


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"[:80]


def _refuse(source: str, at: str, problem: str) -> NoReturn:
    raise ConfigError(f"{source}: {at}: {problem}" if at else f"{source}: {problem}")
