"""Read a broker's statement: fills and money that moved; what cannot be read is kept apart, with its reason."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from emp.access.recordings.mapping import Columns, Names
from emp.app.statements.cells import date_order, decimal_mark, number, side_of, stamp
from emp.app.statements.mapping import StatementMapping, check_zone, choose
from emp.core.errors import DataError

MAX_BYTES = 256 << 20
ENCODINGS = ("utf-8-sig", "utf-16", "cp1252")
HEADER_WITHIN = 200
"""Lines within which the header must stand: reports begin with the account's name and the like."""


class StatementFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as the broker tells it."""

    line: int  # of the file
    ts: int  # ns UTC
    symbol: str
    side: int
    units: Decimal
    price: Decimal
    id: str = ""
    order: str = ""
    client: str = ""
    fee: Decimal | None = None  # what was paid is above 0; None: not told of this fill alone
    currency: str = ""  # of the row's money; "" the account's


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """Money that moved. What the account received is above 0."""

    line: int
    ts: int
    what: str  # swap, fee, profit, cash
    amount: Decimal
    symbol: str = ""
    currency: str = ""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A balance that a row tells, with what the row moved."""

    line: int
    ts: int
    balance: Decimal
    moved: Decimal


class Statement(msgspec.Struct, kw_only=True):
    """What a statement says, in the order of time."""

    label: str
    mapping: str
    rows: int = 0
    fills: list[StatementFill] = []
    money: list[Money] = []
    balances: list[Balance] = []
    quarantined: Counter[str] = msgspec.field(default_factory=Counter)
    samples: dict[str, str] = {}  # reason -> the first such row

    def refuse(self, reason: str, line: int, row: Sequence[str]) -> None:
        """Keep a row apart."""
        self.quarantined[reason] += 1
        self.samples.setdefault(reason, f"line {line}: {' '.join(row)[:120]}")


def read_statement(
    path: Path, mappings: Sequence[StatementMapping], *, own: bool = False, zone: str | None = None
) -> Statement:
    """Read a csv file by the mapping that fits it best, in another zone than that one's where it is given.

    Raises:
        DataError: no mapping fits, the file holds no row, or it cannot be read; in one line.
    """
    lines = list(_records(_text(path), str(path)))
    at, mapping = _header(lines, mappings, str(path), own=own)
    if zone is not None:
        mapping = msgspec.structs.replace(mapping, time=msgspec.structs.replace(mapping.time, zone=zone))
        check_zone("--zone", mapping)
    rows = [(line, row) for line, row in lines[at + 1 :] if any(cell.strip() for cell in row)]
    if not rows:
        raise DataError(f"{path}: no row below the header")
    reader = _Rows(path, mapping, lines[at][1], rows)
    for line, row in rows:
        reader.take(line, row)
    return reader.ended()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are no statement: {MAX_BYTES:,} at most")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.strip():
        raise DataError(f"{path}: empty")
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ("utf-16",) if wide else ENCODINGS[::2]:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise DataError(f"{path}: not text: export the statement as csv")


def _records(text: str, label: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every record; the delimiter is the one that the longest lines have most of."""
    head = text[:65_536]
    delimiter = max(";\t,|", key=lambda one: max((line.count(one) for line in head.splitlines()), default=0))
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{label}: line {reader.line_num + 1}: {error}") from error


def _header(
    lines: Sequence[tuple[int, list[str]]], mappings: Sequence[StatementMapping], label: str, *, own: bool
) -> tuple[int, StatementMapping]:
    refused: DataError | None = None
    for at, (_, row) in enumerate(lines[:HEADER_WITHIN]):
        if sum(1 for cell in row if cell.strip()) < 4:
            continue
        try:
            return at, choose(mappings, row, label, own=own)
        except DataError as error:
            refused = refused or error
    raise refused or DataError(f"{label}: no header with the names of columns")


class _Rows:
    """Takes rows one after the other."""

    def __init__(
        self,
        path: Path,
        mapping: StatementMapping,
        header: Sequence[str],
        rows: Sequence[tuple[int, list[str]]],
    ) -> None:
        self._mapping, self._columns = mapping, Columns(header)
        self._width = len(header)
        self._found = Statement(label=str(path), mapping=mapping.name)
        self._zone = ZoneInfo(mapping.time.zone)
        self._mark = decimal_mark(self._cell(row, mapping.price) for _, row in rows)
        self._order = mapping.time.order or date_order(
            self._when(row, mapping.time.column) for _, row in rows
        )
        if self._order == "?":
            raise DataError(
                f"{path}: dates such as {self._when(rows[0][1], mapping.time.column)!r} may begin with the day or the"
                f" month: say which in a mapping (time: {{order: dmy}})"
            )
        self._ids: set[str] = set()
        self._opens: dict[tuple[str, int, Decimal], StatementFill] = {}

    def _cell(self, row: Sequence[str], names: Names) -> str:
        at = self._columns.find(names) if names else -1
        return row[at].strip() if 0 <= at < len(row) else ""

    def _when(self, row: Sequence[str], column: Names) -> str:
        date = self._mapping.time.date
        return f"{self._cell(row, date)} {self._cell(row, column)}" if date else self._cell(row, column)

    def _number(self, row: Sequence[str], names: Names) -> Decimal | None:
        return number(self._cell(row, names), self._mark)

    def take(self, line: int, row: list[str]) -> None:
        """Read one row."""
        self._found.rows += 1
        kind = self._kind(row)
        ts = stamp(self._when(row, self._mapping.time.column), self._order, self._zone)
        if kind == "":
            self._found.refuse("kind", line, row)
        elif ts is None:
            self._found.refuse("time", line, row)
        elif kind == "fill":
            self._fill(line, ts, row)
        else:
            self._moved(line, ts, kind, row)

    def _kind(self, row: Sequence[str]) -> str:
        kinds = self._mapping.kind
        if kinds is None or self._columns.find(kinds.column) < 0:
            return "fill"
        word = self._cell(row, kinds.column).lower()
        for name in ("fill", "swap", "fee", "cash"):
            if word in getattr(kinds, name):
                return name
        return ""

    def _moved(self, line: int, ts: int, kind: str, row: Sequence[str]) -> None:
        """A row that is no fill."""
        amount = self._number(row, self._mapping.amount)
        if amount is None:
            self._found.refuse("amount", line, row)
            return
        moved = amount + sum((self._number(row, name) or Decimal() for name in self._costs), Decimal())
        symbol, currency = self._cell(row, self._mapping.symbol), self._cell(row, self._mapping.currency)
        self._found.money.append(
            Money(line=line, ts=ts, what=kind, amount=moved, symbol=symbol, currency=currency)
        )
        self._balance(line, ts, moved, row)

    @property
    def _costs(self) -> tuple[Names, ...]:
        return (*self._mapping.fees, self._mapping.swap)

    def _fill(self, line: int, ts: int, row: Sequence[str]) -> None:
        mapping = self._mapping
        quantity, price = self._number(row, mapping.quantity), self._number(row, mapping.price)
        side = side_of(self._cell(row, mapping.side))
        if mapping.quantity_signed and not side and quantity:
            side = 1 if quantity > 0 else -1
        wrong = (
            "quantity"
            if not quantity
            else "price"
            if price is None or price <= 0
            else "side"
            if not side
            else ""
        )
        if wrong:
            self._found.refuse(wrong, line, row)
            return
        assert quantity is not None
        assert price is not None
        name = self._cell(row, mapping.id)
        if name and not mapping.opened and name in self._ids:
            self._found.refuse("told_twice", line, row)
            return
        self._ids.add(name)
        fee = self._fee(row)
        fill = StatementFill(
            line=line,
            ts=ts,
            symbol=self._cell(row, mapping.symbol),
            side=-side if mapping.opened else side,
            units=abs(quantity) * Decimal(repr(mapping.quantity_unit)),
            price=price,
            id=name,
            order=self._cell(row, mapping.order),
            client=self._cell(row, mapping.client),
            fee=None if mapping.opened else fee,
            currency=self._cell(row, mapping.currency),
        )
        if mapping.opened and not self._opening(fill, row):
            return
        self._found.fills.append(fill)
        self._money_of(fill, fee, row)

    def _fee(self, row: Sequence[str]) -> Decimal | None:
        """What was paid, of all columns of fees that the file has."""
        told = [self._number(row, name) for name in self._mapping.fees if self._columns.find(name) >= 0]
        if not told:
            return None
        total = sum((one or Decimal() for one in told), Decimal())
        return total if self._mapping.fees_are == "paid" else -total

    def _opening(self, closing: StatementFill, row: Sequence[str]) -> bool:
        """Note the opening of a position that was closed, in one or several rows."""
        opened = self._mapping.opened
        assert opened is not None
        ts = stamp(self._when(row, opened.time), self._order, self._zone)
        price = self._number(row, opened.price)
        if ts is None or price is None or price <= 0:
            self._found.refuse("opening", closing.line, row)
            return False
        key = (closing.id or f"line {closing.line}", ts, price)
        known = self._opens.get(key)
        units = closing.units + (known.units if known else Decimal())
        self._opens[key] = msgspec.structs.replace(
            closing, ts=ts, price=price, side=-closing.side, units=units, client="", order=""
        )
        return True

    def _money_of(self, fill: StatementFill, fee: Decimal | None, row: Sequence[str]) -> None:
        """What came with a fill."""
        moved = Decimal()
        parts = {"fee": None if fee is None else -fee}
        parts |= {name: self._number(row, getattr(self._mapping, name)) for name in ("swap", "profit")}
        for what, amount in parts.items():
            if amount is None:
                continue
            moved += amount
            self._found.money.append(
                Money(
                    line=fill.line,
                    ts=fill.ts,
                    what=what,
                    amount=amount,
                    symbol=fill.symbol,
                    currency=fill.currency,
                )
            )
        self._balance(fill.line, fill.ts, moved, row)

    def _balance(self, line: int, ts: int, moved: Decimal, row: Sequence[str]) -> None:
        balance = self._number(row, self._mapping.balance)
        if balance is not None:
            self._found.balances.append(Balance(line=line, ts=ts, balance=balance, moved=moved))

    def ended(self) -> Statement:
        """The statement, with its rows in the order of time."""
        found = self._found
        found.fills += self._opens.values()
        first: Callable[[StatementFill | Money], tuple[int, int]] = lambda one: (one.ts, one.line)  # noqa: E731
        found.fills.sort(key=first)
        found.money.sort(key=first)
        if (
            len(found.balances) > 1 and found.balances[0].ts > found.balances[-1].ts
        ):  # the newest row stands first
            found.balances.reverse()
        return found
