"""What a broker says of an instrument beside what the catalogue says: tick, sizes, commission, hours, swap."""

import re
from collections.abc import Iterator

import numpy as np

from emp.access.survey import Quotes, Survey, SymbolFacts
from emp.app.doctor import Finding
from emp.core.codes import Session
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.sessions import DAY_NS, local_ns_to_utc, session_table

_SAME = 1e-9
_WEEK_S = 7 * 86_400
_STEP_S = 300
_S = 1_000_000_000


def silent(found: Survey, what: str) -> Finding:
    """The line for a fact that this protocol does not tell."""
    return Finding("silent", what, f"not reported by {found.protocol} here")


def plain_name(name: str) -> str:
    """A name without punctuation: EUR/USD and EURUSD are one."""
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def judge_terms(
    one: Instrument, facts: SymbolFacts, quotes: Quotes, found: Survey, now_ns: int
) -> Iterator[Finding]:
    """A line for each of the venue's terms."""
    yield _tick(one, facts, found)
    yield from _sizes(one, facts, found)
    yield _commission(one, facts, quotes, found)
    yield _hours(one, facts, found, now_ns)
    if facts.swap:
        ours = f"{one.swap_long:g} and {one.swap_short:g} ticks in the catalogue"
        beside = ours if one.swap_long or one.swap_short else "the catalogue has none"
        yield Finding("ok", f"{one.name} swap", f"{facts.swap} ({beside}; the venue's hold)")
    else:
        yield silent(found, f"{one.name} swap")


def _tick(one: Instrument, facts: SymbolFacts, found: Survey) -> Finding:
    what = f"{one.name} tick"
    if facts.tick is None:
        return silent(found, what)
    if abs(facts.tick - one.tick) > _SAME * one.tick:
        shown = f"{facts.tick:g} at the venue, {one.tick:g} in the catalogue: they differ"
        return Finding("bad", what, shown, f"set tick: {facts.tick:g} in a catalogue of yours")
    return Finding("ok", what, f"{facts.tick:g}, as in the catalogue")


def _sizes(one: Instrument, facts: SymbolFacts, found: Survey) -> Iterator[Finding]:
    what = f"{one.name} lot"
    if facts.step is None and facts.smallest is None:
        yield silent(found, what)
        yield silent(found, f"{one.name} smallest size")
        return
    step, smallest = facts.step or 0.0, facts.smallest or 0.0
    shown = f"{one.lot:g} in the catalogue; the venue trades in steps of {step:g}"
    off = step > 0 and abs(one.lot / step - round(one.lot / step)) > _SAME
    fix = f"set lot: {max(step, smallest):g} in a catalogue of yours"
    yield Finding("bad", what, f"{shown}: no multiple of them", fix) if off else Finding("ok", what, shown)
    largest = f", largest {facts.largest:g}" if facts.largest else ""
    shown = f"{smallest:g}{largest}; one lot is {one.lot:g}"
    if smallest > one.lot * (1 + _SAME):
        yield Finding("bad", f"{one.name} smallest size", f"{shown}: an order of one lot is refused", fix)
    else:
        yield Finding("ok", f"{one.name} smallest size", shown)


def _commission(one: Instrument, facts: SymbolFacts, quotes: Quotes, found: Survey) -> Finding:
    what = f"{one.name} commission"
    if not facts.commission:
        return silent(found, what)
    ticks = _fee_ticks(one, facts, quotes.ask * one.tick)
    ours = f"{one.taker_fee:g} ticks a lot in the catalogue"
    if ticks is None:
        return Finding("ok", what, f"{facts.commission}; {ours}: compare by hand, they count in other money")
    shown = f"{facts.commission}, now {ticks:.3g} ticks a lot; {ours}"
    if abs(ticks - one.taker_fee) > 0.1 * max(ticks, one.taker_fee):
        return Finding("warn", what, f"{shown}: they differ", f"set taker_fee and maker_fee: {ticks:.3g}")
    return Finding("ok", what, shown)


def _fee_ticks(one: Instrument, facts: SymbolFacts, price: float) -> float | None:
    """A commission in ticks per lot and side; None where it is counted in money that we have no price of."""
    rate, per = facts.commission_rate, facts.commission_per
    dollars = plain_name(one.name).endswith("USD")
    if rate is None or price <= 0:
        return None
    if per == "percent":
        return rate / 100 * price / one.tick
    if per == "million_usd" and dollars:
        return rate / 1e6 * price / one.tick
    if facts.lot_units and (per == "quote_lot" or (per == "usd_lot" and dollars)):
        return rate / facts.lot_units / one.tick
    return None


def _hours(one: Instrument, facts: SymbolFacts, found: Survey, now_ns: int) -> Finding:
    what = f"{one.name} hours"
    if not facts.schedule:
        return silent(found, what)
    at = now_ns - now_ns % (_STEP_S * _S) + np.arange(0, _WEEK_S, _STEP_S, np.int64) * _S
    table = session_table(one, int(at[0]), int(at[-1]))
    rows = np.searchsorted(table["start"], at, side="right") - 1
    ours = ~np.isin(table["session_id"][np.maximum(rows, 0)], (int(Session.CLOSED), int(Session.HALT)))
    theirs = np.zeros(len(at), bool)
    for start, end in _open_spans(facts, int(at[0])):
        theirs |= (at >= start) & (at < end)
    spans = f"{len(facts.schedule)} spans a week in {facts.zone}, {_hours_of(theirs):.1f} h"
    differ = ours != theirs
    if _hours_of(differ) < 0.5:
        return Finding("ok", what, f"{spans}, as in the catalogue")
    first = np.datetime64(int(at[np.flatnonzero(differ)[0]]), "ns").astype("datetime64[m]")
    shown = f"{spans}; {_hours_of(ours):.1f} h in the catalogue: they differ, first at {first} UTC"
    return Finding("warn", what, shown, "set its sessions or calendar in a catalogue of yours")


def _hours_of(open_: Array) -> float:
    return float(open_.sum()) * _STEP_S / 3_600


def _open_spans(facts: SymbolFacts, now_ns: int) -> Iterator[tuple[int, int]]:
    """Open spans of the venue in ns UTC, from the week before now to the week after."""
    days = now_ns // DAY_NS  # since Thursday 1970-01-01
    sunday = days - (days + 4) % 7
    for week in (-1, 0, 1, 2):
        start = (sunday + 7 * week) * DAY_NS
        for span in facts.schedule:
            local = [start + second * _S for second in span]
            try:
                yield local_ns_to_utc(facts.zone, local[0]), local_ns_to_utc(facts.zone, local[1])
            except (OSError, ValueError, LookupError):  # a zone by another name than the world's
                yield local[0], local[1]
