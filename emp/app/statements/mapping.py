"""What the columns of a broker's statement mean: YAML, as for recordings. Several brokers' are shipped."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import yaml

from emp.access.recordings.mapping import Columns, Names, names_of
from emp.core.errors import ConfigError, DataError
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a time stands, and how it is written."""

    column: Names
    date: Names = ()  # the column of the date, where `column` holds the time of day alone
    zone: str = "UTC"  # of stamps without an offset
    order: Literal["", "dmy", "mdy"] = ""  # of the date; else found from the stamps


class Opened(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The opening of a position whose closing is the row's."""

    time: Names
    price: Names


class RowKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column that tells what a row is, and the words in it; where a file lacks the column, every row is a fill."""

    column: Names
    fill: tuple[str, ...] = ()
    swap: tuple[str, ...] = ()
    fee: tuple[str, ...] = ()
    cash: tuple[str, ...] = ()


class StatementMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one broker's columns mean. Money is the account's, signed as the account sees it, but for `fees_are`."""

    name: str
    about: str = ""
    time: When
    symbol: Names
    side: Names = ()  # buy or sell; of a row with `opened`: how the position was opened
    quantity: Names
    price: Names
    id: Names = ()  # the broker's name of the fill, or of the position where `opened`
    order: Names = ()  # of the order, as the broker calls it
    client: Names = ()  # of the order, as we call it
    opened: Opened | None = None
    kind: RowKind | None = None
    quantity_unit: float = 1.0  # units of the instrument in a quantity of 1
    quantity_signed: bool = False  # without a side: what is sold is below 0
    fees: tuple[str, ...] = ()  # columns that add up
    fees_are: Literal["received", "paid"] = "received"  # received: what is paid is below 0
    swap: Names = ()  # received for nights held
    amount: Names = ()  # of a row that is no fill
    profit: Names = ()  # of what a fill closed, before fees and swap
    balance: Names = ()  # of the account, after the row
    currency: Names = ()  # of a row's money, where it is not the account's
    symbols: dict[str, str] = {}  # the broker's names -> the catalogue's
    requires: tuple[str, ...] = ()  # further columns by which the format is known


@cache
def shipped_statements() -> tuple[StatementMapping, ...]:
    """The brokers' formats that are known."""
    content = resources.files("emp.app.statements").joinpath("formats.yaml").read_bytes()
    return _parse("formats.yaml", content)


def load_statement_mapping(path: Path) -> tuple[StatementMapping, ...]:
    """A user's own file of one mapping, or of several; ConfigError in one line where it is wrong."""
    try:
        return _parse(str(path), read_small(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).split(';')[0]}") from error


def choose(
    mappings: Sequence[StatementMapping], header: Sequence[str], label: str, *, own: bool
) -> StatementMapping:
    """The mapping of which a file has most columns; DataError says what the nearest one lacks."""
    columns = Columns(header)
    scored = [(_score(mapping, columns), -i, mapping) for i, mapping in enumerate(mappings)]
    best = max(scored, key=lambda one: one[:2])
    if best[0] > 0:
        return best[2]
    nearest = min(mappings, key=lambda one: len(_lacking(one, columns)))
    lacking = ", ".join(" or ".join(names_of(names)) for names in _lacking(nearest, columns))
    hint = "" if own else "; describe its columns in a file and pass it as --mapping (docs/statements.md)"
    raise DataError(
        f"{label}: not a statement that is known: the nearest is {nearest.name}, which also has {lacking}{hint}"
    )


def _needed(mapping: StatementMapping) -> list[Names]:
    needed: list[Names] = [
        mapping.time.column,
        mapping.symbol,
        mapping.quantity,
        mapping.price,
        *mapping.requires,
    ]
    needed += [mapping.side] if mapping.side and not mapping.quantity_signed else []
    needed += [mapping.time.date] if mapping.time.date else []
    needed += [mapping.opened.time, mapping.opened.price] if mapping.opened else []
    return needed


def _lacking(mapping: StatementMapping, columns: Columns) -> list[Names]:
    return [names for names in _needed(mapping) if columns.find(names) < 0]


def _score(mapping: StatementMapping, columns: Columns) -> int:
    if _lacking(mapping, columns):
        return 0
    optional = [
        mapping.id,
        mapping.order,
        mapping.client,
        *mapping.fees,
        mapping.swap,
        mapping.profit,
        mapping.balance,
    ]
    return 2 * len(_needed(mapping)) + sum(1 for names in optional if names and columns.find(names) >= 0)


def _parse(source: str, content: bytes) -> tuple[StatementMapping, ...]:
    try:
        loaded = load_yaml(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{source}: not valid YAML{where}: {getattr(error, 'problem', error)}") from error
    found = []
    for entry in loaded if isinstance(loaded, list) else [loaded]:
        try:
            mapping = msgspec.convert(entry, StatementMapping, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: {error}; see docs/statements.md") from error
        _check(source, mapping)
        found.append(mapping)
    if not found:
        raise ConfigError(f"{source}: no mapping in it; see docs/statements.md")
    return tuple(found)


def _check(source: str, mapping: StatementMapping) -> None:
    at = f"{source}: {mapping.name}"
    if mapping.quantity_unit <= 0.0:
        raise ConfigError(f"{at}: quantity_unit must be above 0, got {mapping.quantity_unit:g}")
    if not mapping.side and not mapping.quantity_signed:
        raise ConfigError(f"{at}: give the column of the side, or quantity_signed: true")
    check_zone(at, mapping)


def check_zone(at: str, mapping: StatementMapping) -> None:
    """ConfigError where a mapping's zone is none."""
    try:
        ZoneInfo(mapping.time.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"{at}: unknown zone {mapping.time.zone!r}") from error
