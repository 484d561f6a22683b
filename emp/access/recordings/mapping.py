"""Mapping files: YAML that says what the columns of a csv, or the keys of JSON lines, mean.

The vendors' formats are such files, shipped in `formats/`; a user's own are named with `--mapping` and come before
them. A mapping is taken where the file has the columns that it names; of several that fit, the one that names most.
Column names are compared without case, quotes, `<>` and spaces; where several are given, the first one present counts.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from emp.core.errors import ConfigError
from emp.core.records import LEVELS
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml

Names = str | tuple[str, ...]


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the time of a row stands and how it is written."""

    column: Names
    date: Names = ()  # the column of the date, where `column` holds the time of day alone
    unit: Literal["", "s", "ms", "us", "ns"] = ""  # of an epoch; else found from the stamps
    since: Literal["epoch", "midnight"] = "epoch"  # midnight: of the date in the file's name
    zone: str = ""  # of stamps without an offset; else by the column's ending (_et, _cn, _utc), else UTC
    order: Literal["", "dmy", "mdy"] = ""  # of the date; else found from the stamps


class Levels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prices and sizes of one side, best first: one column a level, or one cell with all of them."""

    price: Names = ()  # {i} stands for the level's number
    size: Names = ()
    cell: Names = ()  # a list of [price, size], or of objects with the price first


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The book that a row holds."""

    bid: Levels
    ask: Levels
    first: str = "0"  # how the first level's number is written: 0, 1, 00
    carry: bool = False  # a side that a row leaves empty or 0 is as it was
    venue: Names = ()  # rows are of one venue each: the book is the best of all


class Trade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trade that a row holds."""

    price: Names
    size: Names
    side: Names = ()  # the aggressor's; without it the price beside the book tells
    maker: Names = ()  # the resting order's side, or whether the buyer was the maker
    orders: tuple[Names, Names] | None = (
        None  # ids of the buy and the sell order: the larger is the aggressor's
    )
    id: Names = ()


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row that sets one level of the book; rows of one instant are one change."""

    side: Names
    price: Names
    size: Names


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column, and the words in it that matter."""

    column: Names
    words: tuple[str, ...]


class Kinds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that tells what a row is; rows of other words are notes."""

    column: Names
    book: tuple[str, ...] = ()  # the whole book
    snapshot: tuple[str, ...] = ()  # the whole book, from which updates go on
    update: tuple[str, ...] = ()  # changes of levels
    trade: tuple[str, ...] = ()


class UpdateIds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ids by which updates follow each other without a gap."""

    last: Names
    first: Names = ()
    previous: Names = ()


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one format's columns mean."""

    name: str
    about: str  # where such files come from
    time: Time | Names = ()
    lines: Literal["csv", "json", "parquet"] = "csv"
    header: tuple[str, ...] = ()  # names of the columns, where the file has no header line
    like: str = ""  # a regular expression for whole lines of such a file
    file: str = ""  # a regular expression that the file's name must match
    received: Names = ()
    symbol: Names = ()
    requires: tuple[str, ...] = ()  # further columns by which the format is known
    price_unit: float = 1.0
    size_unit: float = 1.0
    book: Book | None = None
    trade: Trade | None = None
    trade_when: Flag | None = None  # rows whose trade counts; else all with a size
    changes: Names = ()  # a cell of [side, price, size]
    level: Level | None = None
    snapshot: Flag | None = None  # rows of a whole book that is told level by level
    group: Names = ()  # flags, of which bit 128 says that an event ends with the row (Databento)
    volume: Names = ()  # lots traded since the row before, at trade.price
    kinds: Kinds | None = None
    sequence: UpdateIds | None = None
    refuse: str = ""  # such files cannot be read: why, and what is needed instead

    @property
    def when(self) -> Time:
        """The time, spelled out."""
        return self.time if isinstance(self.time, Time) else Time(column=self.time)

    @property
    def role(self) -> str:
        """What a file of it is beside another: a book, or trades alone."""
        has_book = self.book or self.level or self.changes
        return "book" if has_book else "trades"


def names_of(names: Names) -> tuple[str, ...]:
    """The alternatives of a name."""
    return (names,) if isinstance(names, str) else tuple(names)


_ZONE = re.compile(r"\((utc|gmt)\)$")
_DECORATION = re.compile(r"[<>\"'\s\ufeff]")


def folded(name: str) -> str:
    """A column's name as it is compared."""
    return _ZONE.sub("", _DECORATION.sub("", name).lower())


_NUMERALS = "一二三四五六七八九十"


class Columns:
    """The columns of one file, found by name."""

    def __init__(self, header: Sequence[str]) -> None:
        self.header = tuple(header)
        self._exact = {name: i for i, name in reversed(list(enumerate(header)))}
        self._at: dict[str, int] = {}
        for i, name in enumerate(header):
            self._at.setdefault(folded(name), i)

    def find(self, names: Names) -> int:
        """Place of the first of the names that is there, or -1."""
        for name in names_of(names):
            at = self._exact.get(name, self._at.get(folded(name), -1))
            if at >= 0:
                return at
        return -1

    def level(self, names: Names, first: str, i: int) -> int:
        """Place of a level's column, or -1."""
        number = _NUMERALS[i] if first == _NUMERALS[0] else str(int(first) + i).zfill(len(first))
        chosen = [n for n in names_of(names) if "{i}" in n or i == 0]
        return self.find(tuple(n.replace("{i}", number) for n in chosen))


def fits(mapping: Mapping, columns: Columns) -> int:
    """How many of its columns a file has, or 0 where one that it needs is missing."""
    needed: list[Names] = [*mapping.requires]
    if not mapping.refuse:
        needed += [mapping.when.column, *([mapping.when.date] if mapping.when.date else [])]
    optional: list[Names] = [mapping.received, mapping.symbol]
    if mapping.trade:
        needed += [mapping.trade.price]
        (needed if not mapping.volume else optional).append(mapping.trade.size)
        optional += [mapping.trade.id, mapping.trade.side, mapping.trade.maker, *(mapping.trade.orders or ())]
    if mapping.level:
        needed += [mapping.level.side, mapping.level.price, mapping.level.size]
    if mapping.kinds:
        needed.append(mapping.kinds.column)
    if mapping.volume:
        needed.append(mapping.volume)
    for flag in (mapping.snapshot, mapping.trade_when):
        if flag:
            needed.append(flag.column)
    if mapping.sequence:
        needed.append(mapping.sequence.last)
    if mapping.changes:
        needed.append(mapping.changes)
    if any(columns.find(names) < 0 for names in needed):
        return 0
    score = 2 * len(needed) + sum(1 for names in optional if names and columns.find(names) >= 0)
    if mapping.book:
        for side in (mapping.book.bid, mapping.book.ask):
            found = columns.find(side.cell) if side.cell else columns.level(side.price, mapping.book.first, 0)
            if found < 0:
                return 0
            levels = range(LEVELS)
            score += 2 + sum(columns.level(side.price, mapping.book.first, i) >= 0 for i in levels)
    return score


@cache
def shipped() -> tuple[Mapping, ...]:
    """The vendors' formats, by name."""
    folder = resources.files("emp.access.recordings").joinpath("formats")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(mapping for f in files for mapping in _parse(f.name, f.read_bytes()))


def load_mappings(paths: Sequence[Path]) -> tuple[Mapping, ...]:
    """A user's own mapping files.

    Raises:
        ConfigError: a file cannot be read, or one of its values is wrong; the line names its path.
    """
    found: list[Mapping] = []
    for path in paths:
        try:
            content = read_small(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        found += _parse(str(path), content)
    return tuple(found)


def _parse(source: str, content: bytes) -> list[Mapping]:
    """The mappings of a file: one, or a list of several."""
    try:
        loaded = load_yaml(content)
    except ValueError as error:
        raise ConfigError(f"{source}: not valid YAML: {str(error).split(';')[0]}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    entries = loaded if isinstance(loaded, list) else [loaded]
    found = []
    for entry in entries:
        try:
            mapping = msgspec.convert(entry, Mapping, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: {error}; see docs/recordings.md") from error
        _check(source, mapping)
        found.append(mapping)
    return found


def _check(source: str, mapping: Mapping) -> None:
    def refuse(problem: str) -> None:
        raise ConfigError(f"{source}: {mapping.name}: {problem}; see docs/recordings.md")

    if mapping.refuse:
        return
    if not mapping.time:
        refuse("the field 'time' is missing: which column holds it?")
    if not (mapping.book or mapping.level or mapping.trade or mapping.changes):
        refuse("it names neither book, level, changes nor trade")
    if not (mapping.price_unit > 0 and mapping.size_unit > 0):
        refuse("price_unit and size_unit must be positive")
    if mapping.header and not mapping.like:
        refuse("a file without header needs 'like', a regular expression of its lines")
    for pattern in (mapping.like, mapping.file):
        try:
            re.compile(pattern)
        except re.error as error:
            refuse(f"{pattern!r} is no regular expression ({error})")
    if mapping.when.zone:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(mapping.when.zone)
        except (OSError, ValueError, LookupError):
            refuse(f"unknown time zone {mapping.when.zone!r}")
