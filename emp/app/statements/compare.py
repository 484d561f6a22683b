"""A statement beside the ledgers of runs: each difference named, with what it is worth."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from emp.app.statements.match import Matched, Pair, TheirFill, match
from emp.app.statements.ours import Ours
from emp.app.statements.read import Statement, StatementFill
from emp.app.statements.totals import CONVERSION, ROUNDING, Span, Total, sums
from emp.app.statements.worth import Names, Worth

DAY_NS = 86_400_000_000_000
SECOND_NS = 1_000_000_000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something in which statement and ledger do not agree."""

    kind: str
    text: str
    instrument: str = ""
    ts: int = 0
    line: int = 0  # of the statement; 0 where it has none
    run: str = ""
    seq: int = 0  # of the ledger; 0 where it has none
    theirs: float | None = None
    ours: float | None = None
    money: float | None = None  # by which the account is better off by the statement than by the ledger


class Comparison(msgspec.Struct, kw_only=True):
    """What came of it."""

    since: int
    until: int
    matched: Matched
    differences: list[Difference]
    totals: list[Total]
    outside: int  # fills of the ledgers before or after the statement's days
    foreign: dict[str, int]  # rows of what these runs do not trade, by the broker's name
    explained: int  # rows that an adjustment of the ledger stands for


def compare(
    statement: Statement,
    ours: Ours,
    *,
    symbols: Mapping[str, str],
    within_ns: int,
    span: Span | None = None,
    currency: str = "",
    rates: Mapping[str, float] | None = None,
) -> Comparison:
    """Hold every fill and every sum against the ledgers'.

    `symbols` are the broker's names of instruments where the catalogue's do not do, `currency` the account's, `rates`
    what a unit of another is worth in it. Without `span` the whole UTC days of the statement's fills count.
    """
    named = Names(ours.instruments, symbols)
    theirs, foreign = _in_lots(statement.fills, named)
    worth = Worth(ours, currency, rates or {})
    span = span or days_of(statement)
    shift = match(theirs, ours.fills, within_ns).shift_ns
    inside = [one for one in ours.fills if span.since <= one.ts + shift < span.until]
    told = [one for one in theirs if span.since <= one.ts < span.until]
    matched = match(told, inside, within_ns)
    differences = [*_clock(matched), *_fills(matched, worth, named), *_balances(statement)]
    totals = sums(statement, ours, matched, named, worth, span)
    differences += _of_totals(totals)
    return Comparison(
        since=span.since,
        until=span.until,
        matched=matched,
        differences=sorted(differences, key=lambda one: (not one.ts, one.ts, one.line, one.seq)),
        totals=totals,
        outside=len(ours.fills) - len(inside),
        foreign=dict(foreign),
        explained=sum(1 for pair in matched.pairs if not pair.ours[0].cl_ord_id),
    )


def days_of(statement: Statement) -> Span:
    """The whole UTC days of its fills; of its other rows where it has no fill."""
    stamps = [one.ts for one in statement.fills] or [one.ts for one in statement.money]
    if not stamps:
        return Span(0, 0)
    return Span(min(stamps) // DAY_NS * DAY_NS, (max(stamps) // DAY_NS + 1) * DAY_NS)


def _in_lots(fills: Iterable[StatementFill], named: Names) -> tuple[list[TheirFill], Counter[str]]:
    found, foreign = [], Counter[str]()
    for one in fills:
        known = named.find(one.symbol)
        if known is None:
            foreign[one.symbol or "(no symbol)"] += 1
            continue
        found.append(
            TheirFill(
                line=one.line,
                ts=one.ts,
                instrument=known.name,
                side=one.side,
                qty=round(float(one.units / Decimal(repr(known.lot))), 6),
                px=round(float(one.price / Decimal(repr(known.tick))), 4),
                fee=None if one.fee is None else float(one.fee),
                id=one.id,
                order=one.order,
                client=one.client,
                currency=one.currency,
            )
        )
    return found, foreign


def _clock(matched: Matched) -> list[Difference]:
    if not matched.shift_ns:
        return []
    hours = matched.shift_ns / 3600 / SECOND_NS
    text = f"the statement's clock is {hours:+g} h from UTC: say so with --zone, so that days are cut right"
    return [Difference(kind="clock", text=text, theirs=hours, ours=0.0)]


def _fills(matched: Matched, worth: Worth, named: Names) -> list[Difference]:
    found = []
    for their in matched.theirs:
        price = _price(their.px, named, their.instrument)
        found.append(
            Difference(
                kind="not_in_ledger",
                text=f"{_side(their.side)} {their.qty:g} at {price}: no ledger has it",
                instrument=their.instrument,
                ts=their.ts,
                line=their.line,
                theirs=their.qty,
                ours=0.0,
            )
        )
    for our in matched.ours:
        price = _price(our.px, named, our.instrument)
        what = "adjustment of" if not our.cl_ord_id else f"order {our.cl_ord_id}:"
        found.append(
            Difference(
                kind="not_in_statement",
                text=f"{what} {_side(our.side)} {our.qty} at {price}: not in the statement",
                instrument=our.instrument,
                ts=our.ts,
                run=our.run,
                seq=our.seq,
                theirs=0.0,
                ours=float(our.qty),
            )
        )
    for pair in matched.pairs:
        found += _pair(pair, worth, named)
    return found


def _pair(pair: Pair, worth: Worth, named: Names) -> list[Difference]:
    our, name = pair.ours[0], pair.ours[0].instrument
    theirs, ours = (float(sum(one.qty for one in side)) for side in pair)
    px_theirs = sum(one.px * one.qty for one in pair.theirs) / theirs
    px_ours = sum(one.px * one.qty for one in pair.ours) / ours
    unit = worth.unit(name, our.ts, px_theirs)
    found = []
    if theirs != ours:
        text = f"{_side(our.side)} {theirs:g} lots by the statement, {ours:g} by the ledger"
        found.append(_at(pair, "quantity", text, theirs, ours))
    several = len(pair.theirs) > 1 or len(pair.ours) > 1
    if px_ours and abs(px_theirs - px_ours) > (0.5 if several else 0.005):
        text = f"{_side(our.side)} at {_price(px_theirs, named, name)}, by the ledger at {_price(px_ours, named, name)}"
        better = -our.side * (px_theirs - px_ours) * ours
        found.append(_at(pair, "price", text, px_theirs, px_ours, better * unit[0] if unit else None))
    return found + _fee(pair, worth)


def _fee(pair: Pair, worth: Worth) -> list[Difference]:
    told = [one.fee for one in pair.theirs]
    if None in told or not pair.ours[0].cl_ord_id:
        return []
    theirs, ticks = sum(one or 0.0 for one in told), sum(one.fee for one in pair.ours)
    our, their = pair.ours[0], pair.theirs[0]
    unit = worth.unit(our.instrument, our.ts, their.px, their.currency)
    if unit is None:
        return []  # the sums say so
    ours = ticks * unit[0]
    rows = max(len(pair.theirs), len(pair.ours))
    if abs(theirs - ours) <= ROUNDING * rows + (CONVERSION * abs(theirs) if unit[1] else 0.0):
        return []
    text = f"fee {theirs:.4g} by the statement, {ours:.4g} by the ledger"
    return [_at(pair, "fee", text, theirs, ours, ours - theirs)]


def _at(
    pair: Pair, kind: str, text: str, theirs: float, ours: float, money: float | None = None
) -> Difference:
    our = pair.ours[0]
    return Difference(
        kind=kind,
        text=text,
        instrument=our.instrument,
        ts=our.ts,
        line=pair.theirs[0].line,
        run=our.run,
        seq=our.seq,
        theirs=theirs,
        ours=ours,
        money=money,
    )


def _balances(statement: Statement) -> list[Difference]:
    """Rows whose balance does not follow from the one before: the statement lacks something, or rows of it do."""
    found = []
    for before, row in zip(statement.balances, statement.balances[1:], strict=False):
        gap = float(row.balance - before.balance - row.moved)
        if abs(gap) > 2 * ROUNDING:
            text = f"the balance goes from {before.balance} to {row.balance}, and the row moves {row.moved}"
            found.append(Difference(kind="balance", text=text, ts=row.ts, line=row.line, money=gap))
    return found


def _of_totals(totals: Sequence[Total]) -> list[Difference]:
    found = []
    for one in totals:
        if one.theirs is None or one.ours is None or abs(one.theirs - one.ours) <= one.tolerance:
            continue
        text = f"{one.what} of {one.instrument}: {one.theirs:+.2f} by the statement, {one.ours:+.2f} by the ledger"
        found.append(
            Difference(
                kind=f"{one.what}_total",
                text=text,
                instrument=one.instrument,
                theirs=one.theirs,
                ours=one.ours,
                money=one.theirs - one.ours,
            )
        )
    return found


def _side(side: int) -> str:
    return "buy" if side > 0 else "sell"


def _price(px: float, named: Names, instrument: str) -> str:
    return f"{px * named.instruments[instrument].tick:.10g}" if px else "an unknown price"
