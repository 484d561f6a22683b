"""How much of a file may be left out before it is refused, and what the refusal says."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from emp.access.port import QuarantinedRow, ReadCounts
from emp.core.codes import Quarantine
from emp.core.instrument import Instrument

Q = Quarantine

LIMITS: tuple[tuple[frozenset[Quarantine], float], ...] = (
    # what the reader could not read, place or believe: the file is not what it is taken for, or damaged
    (
        frozenset(
            {Q.MALFORMED, Q.BACKWARDS, Q.AHEAD, Q.ABSURD_PRICE, Q.ABSURD_SIZE, Q.UNKNOWN_ORDER, Q.OVERFLOW}
        ),
        0.05,
    ),
    # books that cannot be traded on, as raw feeds of several makers have them
    (frozenset({Q.CROSSED, Q.LOCKED, Q.ONE_SIDED}), 1 / 3),
    # overlapping recordings
    (frozenset({Q.DUPLICATE}), 0.6),
    # a feed may run around the clock while the market does not
    (frozenset({Q.CLOSED_HOURS}), 2 / 3),
)
"""Reasons, and the share of a file's rows that may be quarantined for them together; OTHER_INSTRUMENT has none."""

FEW = 10
"""So many rows never condemn a file that is otherwise read."""

HOPELESS = 0.6
"""Share of a file's first rows that condemns it before its end."""

_CAUSE = {
    Q.MALFORMED: "cannot be read: is the delimiter, the time stamp or a column not what the first lines show?",
    Q.BACKWARDS: "go back in time; the file is not in order of time: sort it, or fetch it again",
    Q.AHEAD: "have a time far ahead of the rows after them: is the time stamp's unit the same throughout?",
    Q.ABSURD_SIZE: "have sizes that {0.name} cannot have (lot {0.lot:g}): is the lot of the catalogue right?",
    Q.UNKNOWN_ORDER: "change a book that is not known: no snapshot fits, or updates are missing",
    Q.CROSSED: "have a bid above the ask: are bid and ask swapped, or several venues mixed?",
    Q.LOCKED: "have a bid equal to the ask: is one column read twice, or are several venues mixed?",
    Q.ONE_SIDED: "have a side without a price: is a column empty, or the book told in another way?",
    Q.DUPLICATE: "repeat an earlier row: is the same recording named twice?",
    Q.CLOSED_HOURS: "lie outside the trading hours of {0.name}: is the stamps' time zone right, or the instrument?",
}


def refusal(
    label: str,
    instrument: Instrument,
    rows: int,
    lost: Mapping[Quarantine, int],
    samples: Sequence[QuarantinedRow],
    *,
    early: bool,
) -> str:
    """Why a file is refused, in one line with the first rows, or nothing where it is not."""
    for reasons, limit in (
        LIMITS[:1] if early else LIMITS
    ):  # a market may be closed, or open crossed, at first
        n = sum(lost.get(reason, 0) for reason in reasons)
        if n <= max(FEW if 2 * n < rows else 0, (max(limit, HOPELESS) if early else limit) * rows):
            continue
        worst = max(reasons, key=lambda reason: lost.get(reason, 0))
        seen = [one for one in samples if one.reason is worst]
        return (
            f"{label}: {n} of {rows} rows{' so far' if early else ''} {cause(worst, instrument, seen)} "
            f"({_shown(seen)}); more than {limit:.0%} is refused unless --accept-losses"
        )
    return ""


def nothing_usable(label: str, instrument: Instrument, counts: ReadCounts, explain: str) -> str:
    """The line for a source without one event."""
    found = ", ".join(f"{n} {r.name.lower()}" for r, n in counts.quarantined.most_common())
    line = f"{label}: none of {counts.rows} rows is a usable book of {instrument.name}: {found or 'no rows'}"
    if counts.quarantined and not explain:
        worst, _ = counts.quarantined.most_common(1)[0]
        seen = [one for one in counts.samples if one.reason is worst]
        if worst in (*_CAUSE, Q.ABSURD_PRICE):
            explain = f"they {cause(worst, instrument, seen)} ({_shown(seen)})"
    return f"{line}; {explain}" if explain else line


def cause(reason: Quarantine, instrument: Instrument, seen: Sequence[QuarantinedRow]) -> str:
    """What is likely wrong."""
    if reason is Q.ABSURD_PRICE:
        return price_cause(instrument, [one.text for one in seen])
    return _CAUSE.get(reason, reason.name.lower()).format(instrument)


_DECIMAL = re.compile(r"(?<![\d.:])-?\d+\.(\d+)(?![\d.:])")


def price_cause(instrument: Instrument, texts: Sequence[str]) -> str:
    """Whether prices are finer than the tick, or of another instrument."""
    digits = max(0, _places(instrument.tick))
    longest: Counter[int] = Counter()
    for text in texts:
        places = [len(found.rstrip("0")) for found in _DECIMAL.findall(text) if len(found) < 10]
        if places:
            longest[max(places)] += 1
    if longest and longest.most_common(1)[0][0] > digits:
        finer = 10.0 ** -max(longest)
        return (
            f"have prices off the grid: the tick of {instrument.name} is {instrument.tick:g}; prices are in {finer:g}: "
            "set its tick in a --catalogue, or is this the right instrument?"
        )
    return f"have prices that {instrument.name} cannot have (tick {instrument.tick:g}); is this the right instrument?"


def _places(tick: float) -> int:
    text = f"{tick:.12f}".rstrip("0")
    return len(text.partition(".")[2])


def _shown(seen: Sequence[QuarantinedRow]) -> str:
    return "; ".join(f"row {one.row}: {one.text[:60]}" for one in seen[:2]) or "no sample"
