"""One generated market as each door's wire shows it: FIX messages, Open API frames, a csv."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from emp.access.ctrader.messages import ProtoOADepthEvent
from emp.access.ctrader.outbox import frame
from emp.access.ctrader.parts import ProtoOADepthQuote
from emp.core.codes import Quarantine
from emp.core.records import Array
from tests.core.book_reference import Book
from tests.fix.wire import framed

LOT = 1000
"""Units per lot."""

POINTS = 100_000
STEP_NS = 250_000_000
BEGIN_NS = 1_709_719_200_000_000_000  # Wednesday 2024-03-06, 10:00 UTC

ACCOUNT, SYMBOL = 7, 1
COLUMNS = 13  # levels per side in the csv


class Quote(NamedTuple):
    """One quote of a venue: several may stand at one price."""

    side: str  # b or a
    px: int  # ticks
    units: int


Moment = tuple[Quote, ...]


def stamp_ns(k: int) -> int:
    """Time of moment `k`, ns UTC."""
    return BEGIN_NS + k * STEP_NS


def generate(seed: int, moments: int) -> tuple[list[Moment], list[Quarantine]]:
    """A walk of books, most of them good, and what was meant to be wrong with each."""
    rng = np.random.default_rng(seed)
    middle, half = 108_650, 1
    market: list[Moment] = []
    meant: list[Quarantine] = []
    for _ in range(moments):
        middle += int(rng.integers(-2, 3))
        half = int(rng.integers(1, 4))
        fault = Quarantine.ACCEPTED
        if market and rng.random() < 0.3:
            kinds = (Quarantine.CROSSED, Quarantine.LOCKED, Quarantine.ONE_SIDED, Quarantine.ABSURD_PRICE)
            fault = kinds[int(rng.integers(4))]
        shift = {Quarantine.CROSSED: -2 * half - 1, Quarantine.LOCKED: -2 * half}.get(fault, 0)
        base = 3 * middle if fault is Quarantine.ABSURD_PRICE else middle
        quotes = _side(rng, "b", base - half) + _side(rng, "a", base + half + shift)
        if fault is Quarantine.ONE_SIDED:
            gone = "ba"[int(rng.integers(2))]
            quotes = [quote for quote in quotes if quote.side != gone]
        rng.shuffle(quotes)  # type: ignore[arg-type]  # a list will do
        market.append(tuple(Quote(*quote) for quote in quotes))
        meant.append(fault)
    return market, meant


def _side(rng: np.random.Generator, side: str, best: int) -> list[Quote]:
    """Up to 13 levels of one or two quotes: part lots, levels of less than one lot, now and then nothing else."""
    sign = -1 if side == "b" else 1
    thin = rng.random() < 0.08
    quotes = []
    px = best
    for level in range(int(rng.integers(1, COLUMNS + 1))):
        units = int(rng.integers(LOT, 9 * LOT))
        if thin or (level > 0 and rng.random() < 0.2):
            units = int(rng.integers(1, LOT))
        if units > 1 and rng.random() < 0.3:
            part = int(rng.integers(1, units))
            quotes.append(Quote(side, px, part))
            units -= part
        quotes.append(Quote(side, px, units))
        px += sign * int(rng.integers(1, 4))
    return quotes


def book_of(moment: Moment) -> Book:
    """Ten best prices per side, sizes in units summed per price."""
    sides = []
    for side in "ba":
        sums: dict[int, int] = {}
        for quote in moment:
            if quote.side == side:
                sums[quote.px] = sums.get(quote.px, 0) + quote.units
        ordered = sorted(sums.items(), reverse=side == "b")
        sides.append(tuple(ordered[:10]))
    return Book(sides[0], sides[1])


def _changes(market: Sequence[Moment]) -> list[tuple[list[tuple[int, Quote]], list[int]]]:
    """Per moment what is new, with ids, and the ids that are gone."""
    held: list[tuple[int, Quote]] = []
    next_id = 1
    out = []
    for moment in market:
        wanted = list(moment)
        kept = []
        for name, quote in held:
            if quote in wanted:
                wanted.remove(quote)
                kept.append((name, quote))
        gone = [name for name, quote in held if (name, quote) not in kept]
        new = [(next_id + i, quote) for i, quote in enumerate(wanted)]
        next_id += len(new)
        held = kept + new
        out.append((new, gone))
    return out


def _fix(kind: str, k: int, head: str, entries: Sequence[str]) -> bytes:
    moment = datetime.fromtimestamp(stamp_ns(k) / 1e9, UTC)
    sent = moment.strftime("%Y%m%d-%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    body = "".join(entry + "|" for entry in entries)
    return framed(f"35={kind}|34={k + 2}|49=cServer|50=QUOTE|52={sent}|56=me|{head}268={len(entries)}|{body}")


def _entry(quote: Quote) -> str:
    return f"269={'01'[quote.side == 'a']}|270={quote.px / POINTS:.5f}|271={quote.units}"


def fix_snapshots(market: Sequence[Moment]) -> list[bytes]:
    """Each moment as a W."""
    return [
        _fix("W", k, f"55={SYMBOL}|", [f"{_entry(q)}|278={i}" for i, q in enumerate(moment)])
        for k, moment in enumerate(market)
    ]


def fix_changes(market: Sequence[Moment]) -> list[bytes]:
    """The first moment as a W, the others as X: what is new, then deletes that name nothing but an id."""
    messages = []
    for k, (new, gone) in enumerate(_changes(market)):
        if k == 0:
            messages.append(_fix("W", k, f"55={SYMBOL}|", [f"{_entry(q)}|278={i}" for i, q in new]))
            continue
        entries = [f"279=0|{_entry(q)}|278={i}|55={SYMBOL}" for i, q in new]
        messages.append(_fix("X", k, "", entries + [f"279=2|278={i}|55={SYMBOL}" for i in gone]))
    return messages


def depth_events(market: Sequence[Moment]) -> list[bytes]:
    """Each moment as a depth event of the Open API."""
    frames = []
    for new, gone in _changes(market):
        quotes = tuple(
            ProtoOADepthQuote(
                id=name,
                size=quote.units * 100,
                bid=quote.px if quote.side == "b" else None,
                ask=quote.px if quote.side == "a" else None,
            )
            for name, quote in new
        )
        event = ProtoOADepthEvent(
            ctid_trader_account_id=ACCOUNT, symbol_id=SYMBOL, new_quotes=quotes, deleted_quotes=tuple(gone)
        )
        frames.append(frame(event, None))
    return frames


def csv_lines(market: Sequence[Moment]) -> list[str]:
    """A book csv of more levels than are used; a level that is not there is left empty."""
    names = [
        f"{side}_{what}_{i}" for i in range(COLUMNS) for side in ("bid", "ask") for what in ("px", "qty")
    ]
    lines = ["ts_utc," + ",".join(names)]
    for k, moment in enumerate(market):
        sums: dict[tuple[str, int], int] = {}
        for quote in moment:
            sums[quote.side, quote.px] = sums.get((quote.side, quote.px), 0) + quote.units
        bids = sorted(((px, n) for (side, px), n in sums.items() if side == "b"), reverse=True)
        asks = sorted((px, n) for (side, px), n in sums.items() if side == "a")
        cells = []
        for i in range(COLUMNS):
            for levels in (bids, asks):
                cells += [f"{levels[i][0] / POINTS:.5f}", str(levels[i][1])] if i < len(levels) else ["", ""]
        stamp = datetime.fromtimestamp(stamp_ns(k) / 1e9, UTC)
        lines.append(stamp.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z," + ",".join(cells))
    return lines


def visible(rows: Array) -> Array:
    """The rows that changed the visible book, numbered anew, so that every door counts alike."""
    rows = rows[rows["flags"] & 1 != 0].copy()
    rows["seq"] = np.arange(1, len(rows) + 1)
    rows["ts_recv"] = rows["ts"]
    return rows
