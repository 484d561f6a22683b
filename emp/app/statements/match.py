"""Which fill of the statement is which of ours.

In this order, each taking what the ones before left: the same id of the execution; the same client id, price and
quantity; the same instrument, side, price and quantity, nearest in time; several of one side against one of the other
(an order's partial fills told as one, or the reverse); and at last the same instrument and side, which differ in price
or quantity. Broker and ledger may have other clocks: a shift by whole quarters of an hour, under which clearly more of
them agree, is found first and told.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from emp.app.statements.ours import OurFill

QUARTER_NS = 15 * 60 * 1_000_000_000
Fill = TypeVar("Fill", "TheirFill", OurFill)

MAX_SHIFT = 14 * 4
"""Quarters of an hour that two zones can be apart."""

SAMPLED = 500
"""Fills of the statement that are asked for the shift of its clock."""


class TheirFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill of the statement in the units of the ledger."""

    line: int
    ts: int
    instrument: str
    side: int
    qty: float  # lots; whole ones where all is well
    px: float  # ticks
    fee: float | None = None  # money of `currency`, paid; None where it is not told of this fill
    id: str = ""
    order: str = ""
    client: str = ""
    currency: str = ""


class Pair(NamedTuple):
    """What belongs together: one of each, or several of one kind with one of the other."""

    theirs: tuple[TheirFill, ...]
    ours: tuple[OurFill, ...]


class Matched(msgspec.Struct):
    """What was found."""

    pairs: list[Pair]
    theirs: list[TheirFill]  # with nothing of ours
    ours: list[OurFill]
    shift_ns: int = 0  # by which the statement's clock is ahead


def match(theirs: Sequence[TheirFill], ours: Sequence[OurFill], within_ns: int) -> Matched:
    """Find what belongs together, at most `within_ns` apart where no id says it."""
    shift = clock_shift(theirs, ours, within_ns)
    matching = _Matching([msgspec.structs.replace(one, ts=one.ts - shift) for one in theirs], ours, within_ns)
    matching.run()
    return Matched(matching.pairs, matching.theirs, matching.ours, shift)


def clock_shift(theirs: Sequence[TheirFill], ours: Sequence[OurFill], within_ns: int) -> int:
    """Ns by which the statement's clock is ahead: of whole quarters of an hour the one under which most fills agree.

    None is taken unless it explains at least three fills, and twice as many as no shift does.
    """
    by_key = defaultdict(list)
    for one in ours:
        by_key[_parts(one)].append(one.ts)
    agreeing: dict[int, int] = defaultdict(int)
    for other in theirs[:: max(1, len(theirs) // SAMPLED)]:
        shifts = set()
        for ts in by_key.get(_parts(other), ()):
            quarters = round((other.ts - ts) / QUARTER_NS)
            if abs(quarters) <= MAX_SHIFT and abs(other.ts - ts - quarters * QUARTER_NS) <= within_ns:
                shifts.add(quarters)
        for quarters in shifts:
            agreeing[quarters] += 1
    best = max(agreeing, key=lambda quarters: (agreeing[quarters], -abs(quarters)), default=0)
    enough = agreeing[best] >= 3 and agreeing[best] >= 2 * agreeing.get(0, 0) if agreeing else False
    return best * QUARTER_NS if enough else 0


class _Matching:
    def __init__(self, theirs: Iterable[TheirFill], ours: Iterable[OurFill], within_ns: int) -> None:
        self.theirs, self.ours = sorted(theirs, key=_time), sorted(ours, key=_time)
        self.pairs: list[Pair] = []
        self._within = within_ns

    def run(self) -> None:
        """Every step, the surest first."""
        self._one_to_one(
            lambda one: one.id and (one.instrument, one.side, one.id),
            lambda one: one.exec_id and (one.instrument, one.side, one.exec_id),
            timeless=True,
        )
        self._one_to_one(
            lambda one: one.client and (one.client, *_parts(one)),
            lambda one: one.cl_ord_id and (one.cl_ord_id, *_parts(one)),
            timeless=True,
        )
        self._one_to_one(_parts, _parts)
        self._several(lambda one: one.cl_ord_id, lambda one: one.order or one.client)
        self._differing(lambda their, our: bool(their.client) and their.client == our.cl_ord_id)
        self._differing(lambda their, our: not our.px and their.qty == our.qty)
        self._differing(lambda their, our: their.qty == our.qty)
        self._differing(lambda their, our: abs(their.px - our.px) < 0.01)

    def _pair(self, theirs: Sequence[TheirFill], ours: Sequence[OurFill]) -> None:
        self.pairs.append(Pair(tuple(theirs), tuple(ours)))
        gone_theirs, gone_ours = {id(one) for one in theirs}, {id(one) for one in ours}
        self.theirs = [one for one in self.theirs if id(one) not in gone_theirs]
        self.ours = [one for one in self.ours if id(one) not in gone_ours]

    def _one_to_one(
        self,
        their_key: Callable[[TheirFill], Hashable],
        our_key: Callable[[OurFill], Hashable],
        *,
        timeless: bool = False,
    ) -> None:
        """Pair what has the same key, the nearest in time first."""
        groups: dict[Hashable, tuple[list[TheirFill], list[OurFill]]] = defaultdict(lambda: ([], []))
        for their in self.theirs:
            if their_key(their):
                groups[their_key(their)][0].append(their)
        for our in self.ours:
            if our_key(our):
                groups[our_key(our)][1].append(our)
        found = [pair for theirs, ours in groups.values() for pair in self._nearest(theirs, ours, timeless)]
        self._take(found)

    def _nearest(
        self, theirs: Sequence[TheirFill], ours: Sequence[OurFill], timeless: bool
    ) -> list[tuple[TheirFill, OurFill]]:
        if len(theirs) == len(ours) and (
            timeless or all(abs(a.ts - b.ts) <= self._within for a, b in zip(theirs, ours, strict=True))
        ):
            return list(zip(theirs, ours, strict=True))  # both in the order of time
        within = MAX_SHIFT * QUARTER_NS if timeless else self._within
        apart = sorted((abs(theirs[i].ts - ours[j].ts), i, j) for i, j in _near(theirs, ours, within))
        return [(theirs[i], ours[j]) for i, j in _disjoint(apart)]

    def _take(self, found: Sequence[tuple[TheirFill, OurFill]]) -> None:
        gone_theirs, gone_ours = {id(a) for a, _ in found}, {id(b) for _, b in found}
        self.pairs += [Pair((a,), (b,)) for a, b in found]
        self.theirs = [one for one in self.theirs if id(one) not in gone_theirs]
        self.ours = [one for one in self.ours if id(one) not in gone_ours]

    def _several(self, our_order: Callable[[OurFill], str], their_order: Callable[[TheirFill], str]) -> None:
        """Pair the fills of one of our orders with one row, and the rows of one of their orders with one fill."""
        for ours in _grouped(self.ours, our_order):
            total, average = _sum(ours)
            for their in self.theirs:
                if _like(their, ours[0]) and self._amount_to(ours, their, total, average):
                    self._pair([their], ours)
                    break
        for theirs in _grouped(self.theirs, their_order):
            total, average = _sum(theirs)
            for our in self.ours:
                if _like(theirs[0], our) and self._amount_to(theirs, our, total, average):
                    self._pair(theirs, [our])
                    break

    def _amount_to(
        self,
        several: Sequence[TheirFill] | Sequence[OurFill],
        one: TheirFill | OurFill,
        total: float,
        average: float,
    ) -> bool:
        """Whether several fills may be what another is told as."""
        near = min(abs(one.ts - other.ts) for other in several) <= self._within
        return near and one.qty == total and abs(one.px - average) <= 0.5

    def _differing(self, likely: Callable[[TheirFill, OurFill], bool]) -> None:
        """Pair what is of one instrument and side and at hand in time, the nearest in price, then in time, first."""
        theirs, ours = self.theirs, self.ours
        near = sorted(
            (abs(theirs[i].px - ours[j].px) if ours[j].px else 0.0, abs(theirs[i].ts - ours[j].ts), i, j)
            for i, j in _near(theirs, ours, self._within)
            if _like(theirs[i], ours[j]) and likely(theirs[i], ours[j])
        )
        self._take([(theirs[i], ours[j]) for i, j in _disjoint(one[1:] for one in near)])


def _parts(one: TheirFill | OurFill) -> tuple[str, int, float, float]:
    return one.instrument, one.side, round(one.px, 2), float(one.qty)


def _time(one: TheirFill | OurFill) -> int:
    return one.ts


def _like(their: TheirFill, our: OurFill) -> bool:
    return (their.instrument, their.side) == (our.instrument, our.side)


def _near(theirs: Sequence[TheirFill], ours: Sequence[OurFill], within_ns: int) -> Iterator[tuple[int, int]]:
    """Indices of what is at most so far apart; both in the order of time."""
    times = [one.ts for one in ours]
    for i, their in enumerate(theirs):
        for j in range(bisect_left(times, their.ts - within_ns), bisect_right(times, their.ts + within_ns)):
            yield i, j


def _disjoint(ranked: Iterable[tuple[float, int, int]]) -> list[tuple[int, int]]:
    """Of (cost, i, j), least cost first: each i and each j once."""
    rows, columns, found = set[int](), set[int](), list[tuple[int, int]]()
    for _, i, j in ranked:
        if i not in rows and j not in columns:
            rows.add(i)
            columns.add(j)
            found.append((i, j))
    return found


def _grouped(several: Sequence[Fill], key: Callable[[Fill], str]) -> list[list[Fill]]:
    groups: dict[str, list[Fill]] = defaultdict(list)
    for one in several:
        if key(one):
            groups[key(one)].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _sum(several: Sequence[TheirFill] | Sequence[OurFill]) -> tuple[float, float]:
    """(lots, average price) of several fills."""
    total = float(sum(one.qty for one in several))
    return total, sum(one.qty * one.px for one in several) / total
