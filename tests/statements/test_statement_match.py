"""Which fill is which: every fill once, the right one, under other clocks, ids and splits."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.app.statements.match import QUARTER_NS, TheirFill, clock_shift, match
from emp.app.statements.ours import OurFill

SECOND = 1_000_000_000
WITHIN = 60 * SECOND
START = 1_700_000_000 * SECOND


def our(n: int, ts: int, side: int = 1, qty: int = 1, px: float = 100.0, **more: str) -> OurFill:
    order = more.get("order", f"o{n}")
    fill = OurFill(run="r", seq=n, ts=START + ts, instrument="X", side=side, qty=qty, px=px, cl_ord_id=order)
    return msgspec.structs.replace(fill, exec_id=more.get("exec", ""))


def their(n: int, ts: int, side: int = 1, qty: float = 1.0, px: float = 100.0, **more: str) -> TheirFill:
    return TheirFill(line=n, ts=START + ts, instrument="X", side=side, qty=qty, px=px, **more)


@st.composite
def days(draw: st.DrawFn) -> list[OurFill]:
    n = draw(st.integers(1, 25))
    return [
        our(
            k,
            draw(st.integers(0, 3600)) * SECOND,
            draw(st.sampled_from([-1, 1])),
            draw(st.integers(1, 3)),
            float(draw(st.integers(99, 102))),
        )
        for k in range(1, n + 1)
    ]


@given(days(), st.integers(-3, 3), st.data())
def test_a_statement_of_the_same_fills_agrees(ours: list[OurFill], late: int, data: st.DataObject) -> None:
    theirs = [
        their(k, one.ts - START + late * SECOND, one.side, one.qty, one.px) for k, one in enumerate(ours, 2)
    ]
    found = match(data.draw(st.permutations(theirs)), ours, WITHIN)
    assert not found.theirs
    assert not found.ours
    assert sorted(pair.ours[0].seq for pair in found.pairs) == [one.seq for one in ours]
    for pair in found.pairs:
        assert (pair.theirs[0].side, pair.theirs[0].qty, pair.theirs[0].px) == (
            pair.ours[0].side,
            pair.ours[0].qty,
            pair.ours[0].px,
        )


@given(days(), st.data())
def test_what_is_taken_away_is_what_is_missed(ours: list[OurFill], data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, len(ours) - 1))
    alike = (ours[gone].side, ours[gone].qty, ours[gone].px)
    theirs = [
        their(k, one.ts - START, one.side, one.qty, one.px, client=one.cl_ord_id)
        for k, one in enumerate(ours)
        if k != gone
    ]
    found = match(theirs, ours, WITHIN)
    assert not found.theirs
    assert [(one.side, one.qty, one.px) for one in found.ours] == [alike]
    assert found.ours[0].seq == ours[gone].seq


@given(st.integers(-14 * 4, 14 * 4))
def test_another_clock_is_found(quarters: int) -> None:
    ours = [our(k, k * 900 * SECOND, 1 if k % 3 else -1, 1, 100.0 + k * k % 37) for k in range(1, 30)]
    shift = quarters * QUARTER_NS
    theirs = [
        their(k, one.ts - START + shift + SECOND, one.side, one.qty, one.px) for k, one in enumerate(ours)
    ]
    assert clock_shift(theirs, ours, WITHIN) == shift
    found = match(theirs, ours, WITHIN)
    assert found.shift_ns == shift
    assert len(found.pairs) == len(ours)


def test_few_fills_tell_no_clock() -> None:
    """Two trades at the same price an hour apart are two trades."""
    ours = [our(1, 0), our(2, 60 * SECOND)]
    theirs = [their(2, 3600 * SECOND), their(3, 3660 * SECOND)]
    found = match(theirs, ours, WITHIN)
    assert found.shift_ns == 0
    assert len(found.theirs) == len(found.ours) == 2


def test_ids_are_stronger_than_times() -> None:
    ours = [our(1, 0, exec="A"), our(2, SECOND, exec="B")]
    theirs = [their(2, SECOND, id="A"), their(3, 0, id="B")]
    pairs = {pair.theirs[0].id: pair.ours[0].exec_id for pair in match(theirs, ours, WITHIN).pairs}
    assert pairs == {"A": "A", "B": "B"}


def test_partial_fills_may_be_told_as_one_and_the_reverse() -> None:
    ours = [
        our(1, 0, qty=2, order="o"),
        our(2, SECOND, qty=3, px=101.0, order="o"),
        our(3, 90 * SECOND, -1, 4),
    ]
    theirs = [
        their(2, SECOND, qty=5, px=100.6),
        their(3, 90 * SECOND, -1, 1, order="t"),
        their(4, 91 * SECOND, -1, 3, order="t"),
    ]
    found = match(theirs, ours, WITHIN)
    assert not found.theirs
    assert not found.ours
    assert sorted((len(pair.theirs), len(pair.ours)) for pair in found.pairs) == [(1, 2), (2, 1)]


def test_an_order_of_another_hour_is_not_the_sum() -> None:
    ours = [our(1, 0, qty=2, order="o"), our(2, SECOND, qty=3, order="o")]
    assert not match([their(2, 3600 * SECOND, qty=5)], ours, WITHIN).pairs


def test_lots_without_a_price_are_found_before_prices_differ() -> None:
    """A ledger's adjustment takes the fill that nothing else explains, not the order's whose price was corrected."""
    ours = [our(1, 0, px=100.0), our(2, 10 * SECOND, px=0.0, order="")]
    theirs = [their(2, 1 * SECOND, px=100.0), their(3, 12 * SECOND, px=103.0)]
    pairs = {pair.theirs[0].line: pair.ours[0].seq for pair in match(theirs, ours, WITHIN).pairs}
    assert pairs == {2: 1, 3: 2}


@pytest.mark.parametrize("what", ["px", "qty"])
def test_one_that_differs_is_paired_with_its_own(what: str) -> None:
    ours = [our(1, 0), our(2, SECOND, px=200.0, qty=5)]
    theirs = [
        their(2, 0),
        their(3, SECOND, px=201.0 if what == "px" else 200.0, qty=5 if what == "px" else 4),
    ]
    found = match(theirs, ours, WITHIN)
    assert {pair.theirs[0].line: pair.ours[0].seq for pair in found.pairs} == {2: 1, 3: 2}


@pytest.mark.parametrize("change", [{"side": -1}, {"ts": 61 * SECOND}])
def test_the_other_side_and_another_time_are_not_the_same(change: dict[str, int]) -> None:
    found = match([their(2, change.get("ts", 0), change.get("side", 1))], [our(1, 0)], WITHIN)
    assert not found.pairs


def test_a_day_of_equal_fills_is_quick() -> None:
    """The same lot at the same price, thousands of times: nothing is quadratic."""
    ours = [our(k, k * SECOND) for k in range(20_000)]
    theirs = [their(k, k * SECOND) for k in range(20_000) if k % 1_000]
    found = match(theirs, ours, 5 * SECOND)
    assert len(found.pairs) == len(theirs)
    assert len(found.ours) == 20
