"""Sums of a statement beside those of the ledgers: profit, fees, swap, instrument by instrument."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from emp.app.statements.match import Matched
from emp.app.statements.ours import OurFill, Ours
from emp.app.statements.read import Money, Statement
from emp.app.statements.worth import Names, Worth

ROUNDING = 0.00501
"""By which rounding to cents changes a row."""

CONVERSION = 0.01
"""Share of an amount by which another rate of conversion may change it."""


class Span(NamedTuple):
    """From `since` on, before `until`; ns UTC."""

    since: int
    until: int


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """Money of one kind, in the account's currency."""

    what: str  # profit, fees, swap
    instrument: str
    theirs: float | None  # received; None where the statement does not say
    ours: float | None  # None where it cannot be said: why
    why: str = ""
    tolerance: float = ROUNDING


def sums(
    statement: Statement, ours: Ours, matched: Matched, named: Names, worth: Worth, span: Span
) -> list[Total]:
    """Fees, swap and profit of every instrument that moved."""
    theirs = _their_sums(statement.money, named, span)
    found = []
    for name in sorted(ours.instruments):
        fills = [one for pair in matched.pairs for one in pair.ours if one.instrument == name]
        fills += [one for one in matched.ours if one.instrument == name]
        told = {what: theirs.get((name, what)) for what in ("profit", "fee", "swap")}
        if not fills and not any(told.values()):
            continue
        found.append(_fee_total(name, fills, told["fee"], worth))
        rolls = [
            one
            for one in ours.financing
            if one.instrument == name and span.since <= one.ts + matched.shift_ns < span.until
        ]
        px = fills[-1].px if fills else 0.0
        found.append(_sum("swap", name, [(one.ts, px, one.ticks) for one in rolls], told["swap"], worth))
        found.append(_profit_total(name, fills, ours, told["profit"], worth, matched))
    return found


class _Told(NamedTuple):
    amount: float
    rows: int
    currency: str


def _their_sums(money: Sequence[Money], named: Names, span: Span) -> dict[tuple[str, str], _Told]:
    """(instrument, what) -> what the statement has received, over how many rows, in which currency."""
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    rows, currencies = Counter[tuple[str, str]](), dict[tuple[str, str], str]()
    for one in money:
        known = named.find(one.symbol) if one.symbol or len(named.instruments) == 1 else None
        if known is not None and span.since <= one.ts < span.until:
            key = known.name, one.what
            sums[key] += one.amount
            rows[key] += 1
            currencies[key] = one.currency
    return {key: _Told(float(sums[key]), rows[key], currencies[key]) for key in sums}


def _sum(
    what: str, name: str, parts: Sequence[tuple[int, float, float]], told: _Told | None, worth: Worth
) -> Total:
    """`parts` are (ts, price in ticks, ticks times lots received)."""
    units = [worth.unit(name, ts, px, told.currency if told else "") for ts, px, _ in parts]
    theirs = told.amount if told else None
    if any(unit is None for unit in units):
        return Total(
            what=what,
            instrument=name,
            theirs=theirs,
            ours=None,
            why="no rate: name it with --rate CURRENCY=VALUE",
        )
    ours = sum(unit[0] * ticks for unit, (_, _, ticks) in zip(units, parts, strict=True) if unit)
    rows = max(len(parts), told.rows if told else 0, 1)
    tolerance = ROUNDING * rows + (CONVERSION * abs(ours) if any(unit[1] for unit in units if unit) else 0.0)
    return Total(what=what, instrument=name, theirs=theirs, ours=float(ours), tolerance=tolerance)


def _fee_total(name: str, fills: Sequence[OurFill], told: _Told | None, worth: Worth) -> Total:
    return _sum("fees", name, [(one.ts, one.px, -one.fee) for one in fills], told, worth)


def _profit_total(
    name: str, fills: Sequence[OurFill], ours: Ours, told: _Told | None, worth: Worth, matched: Matched
) -> Total:
    """What was bought and sold, where it began and ended flat: else brokers differ in what they call profit."""
    mine = [one for one in ours.fills if one.instrument == name]
    first = min((one.ts for one in fills), default=0)
    before = sum(one.side * one.qty for one in mine if one.ts < first)
    after = before + sum(one.side * one.qty for one in fills)
    theirs = told.amount if told else None
    if before or after:
        why = (
            f"{before or after:+d} lots were held at {'the beginning' if before else 'the end'}: not compared"
        )
        return Total(what="profit", instrument=name, theirs=theirs, ours=None, why=why)
    if any(not one.px for one in fills):
        why = "an adjustment of which nobody knows the price: not compared"
        return Total(what="profit", instrument=name, theirs=theirs, ours=None, why=why)
    # money is converted when it is made: at the price of the last fill, as good as any within the tolerance
    ticks = -sum(one.side * one.qty * one.px for one in fills)
    last = fills[-1] if fills else None
    return _sum("profit", name, [(last.ts, last.px, ticks)] if last else [], told, worth)
