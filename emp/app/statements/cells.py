"""Cells of a statement as people and spreadsheets write them: numbers, times, sides."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

_SPACES = re.compile("[\\s\u00a0\u202f\u2009\u2019']")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_STAMP = re.compile(
    r"(?P<a>\d{1,4})[-./ ]?(?P<b>\d{1,2})[-./ ]?(?P<c>\d{1,4})"
    r"(?:[T ;,_]+(?P<h>\d{1,2}):?(?P<m>\d{2})(?::?(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?\s*(?P<half>[AaPp][Mm])?)?"
    r"\s*(?P<zone>Z|UTC|GMT|E[SD]T|(?:UTC|GMT)?[-+]\d{2}:?\d{2})?"
)
_NAMED = {"EST": -5, "EDT": -4}
_SECOND = 1_000_000_000
_MONEY_SIGNS = re.compile(r"[$€£¥]|[A-Z]{3}(?![a-z])")

BUY = ("buy", "b", "bot", "bought", "long", "1", "deal_type_buy", "0")
SELL = ("sell", "s", "sld", "sold", "short", "-1", "deal_type_sell", "2")


def decimal_mark(cells: Iterable[str]) -> str:
    """The decimal mark of a column of prices: a comma where some have one and none has a point behind it."""
    seen = [_SPACES.sub("", cell) for cell in cells]
    comma = any("," in cell and "." not in cell.rpartition(",")[2] for cell in seen)
    point = any("." in cell and "," not in cell.rpartition(".")[2] for cell in seen)
    return "," if comma and not point else "."


def number(cell: str, mark: str = ".") -> Decimal | None:
    """A number, or None: spaces, apostrophes and the other mark group its thousands, brackets take it away."""
    text = _MONEY_SIGNS.sub("", cell.replace("\u2212", "-"))
    text = _SPACES.sub("", text)
    negative = text.startswith("(") and text.endswith(")")
    text = text.strip("()").replace("." if mark == "," else ",", "").replace(mark, ".")
    if not _NUMBER.fullmatch(text):
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond all measure
        return None
    if not value.is_finite() or abs(value.adjusted()) > 30:
        return None
    return -value if negative else value


def side_of(cell: str) -> int:
    """+1 for what was bought, -1 for what was sold, 0 where the word is none of the known."""
    word = cell.strip().lower().split(" ")[0]
    return 1 if word in BUY else -1 if word in SELL else 0


def date_order(cells: Iterable[str]) -> str:
    """`dmy` or `mdy` where the dates of a column show it, "" where each begins with the year, "?" where they do not."""
    ordered = True
    for cell in cells:
        found = _STAMP.match(cell.strip())
        if found is None or len(found["a"]) >= 3:
            continue
        ordered = False
        if int(found["a"]) > 12:
            return "dmy"
        if int(found["b"]) > 12:
            return "mdy"
    return "" if ordered else "?"


def stamp(cell: str, order: str, zone: ZoneInfo) -> int | None:
    """Ns UTC of a stamp: an epoch in s, ms, us or ns, or a civil time in `zone` where it says no other; else None."""
    text = cell.strip()
    epoch = number(text)
    if epoch is not None and epoch >= 10**8 and re.fullmatch(r"\d{9,19}(\.\d+)?", text):
        for unit in (_SECOND, 1_000_000, 1_000, 1):
            if epoch * unit < 8 * 10**18 and epoch * unit >= 10**17:
                return int(epoch * unit)
        return None
    found = _STAMP.fullmatch(text)
    if found is None:
        return None
    parts = [int(found[name]) for name in "abc"]
    year, month, day = parts if len(found["a"]) >= 3 else _dated(parts, order)
    hour, minute, second = (int(found[name] or 0) for name in "hms")
    if found["half"]:
        hour = hour % 12 + (12 if found["half"].lower() == "pm" else 0)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=_zone(found["zone"], zone))
    except ValueError:
        return None
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    return whole * _SECOND + int((found["f"] or "").ljust(9, "0"))


def _dated(parts: list[int], order: str) -> tuple[int, int, int]:
    first, second, year = parts
    year += 2000 if year < 100 else 0
    return (year, first, second) if order == "mdy" else (year, second, first)


def _zone(said: str | None, known: ZoneInfo) -> tzinfo:
    if not said:
        return known
    if said in _NAMED:
        return timezone(timedelta(hours=_NAMED[said]))
    digits = re.sub(r"[^0-9]", "", said)
    if not digits:
        return UTC
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-ahead if "-" in said else ahead)
