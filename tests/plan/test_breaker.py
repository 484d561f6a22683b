"""The planner's breaker against its definition in plain Python, in virtual durations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.plan.breaker import BREACHES, LONGEST, PAUSE, PROBES, WINDOW, count_search, may_search, new_breaker

BUDGET = 300_000
SLOW, FAST = BUDGET + 1, BUDGET // 4


def test_breaches_far_apart_leave_it_closed() -> None:
    b = new_breaker(BUDGET)
    for _ in range(4 * BREACHES):
        assert count_search(b[0], SLOW) == 0
        for _ in range(WINDOW):
            assert may_search(b[0])
            assert count_search(b[0], FAST) == 0
    assert b["opened"][0] == 0


def _open(b: object) -> None:
    assert [count_search(b[0], SLOW) for _ in range(BREACHES)] == [0] * (BREACHES - 1) + [1]  # type: ignore[index]


def test_it_opens_waits_probes_and_closes_by_itself() -> None:
    b = new_breaker(BUDGET)
    _open(b)
    assert [may_search(b[0]) for _ in range(PAUSE + 1)] == [False] * PAUSE + [True]
    assert count_search(b[0], BUDGET) == 0  # within the budget, not within half of it
    assert [may_search(b[0]) for _ in range(2 * PAUSE + 1)] == [False] * 2 * PAUSE + [True]
    for probe in range(PROBES):
        assert may_search(b[0])
        assert count_search(b[0], FAST) == (-1 if probe == PROBES - 1 else 0)
    assert (b["open"][0], b["opened"][0], b["pause"][0]) == (0, 1, PAUSE)
    _open(b)
    assert b["opened"][0] == 2


def test_the_pause_has_an_end() -> None:
    b = new_breaker(BUDGET)
    _open(b)
    for _ in range(10):
        b["waiting"] = 0
        count_search(b[0], SLOW)
    assert b["pause"][0] == b["waiting"][0] == LONGEST


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1_500), st.booleans()), max_size=40))
def test_it_opens_exactly_where_three_of_the_last_thousand_were_late(runs: list[tuple[int, bool]]) -> None:
    b, late = new_breaker(BUDGET), []
    n = 0
    for quick, slow in runs:
        for _ in range(quick):
            n += 1
            assert count_search(b[0], FAST) == 0
        if slow:
            n += 1
            late.append(n)
            opens = sum(n - at < WINDOW for at in late) >= BREACHES
            assert count_search(b[0], SLOW) == int(opens)
            if opens:
                return


@pytest.mark.parametrize(("searches", "opens"), [(WINDOW, 1), (WINDOW + 1, 0)])
def test_the_window_is_a_thousand_searches_the_last_included(searches: int, opens: int) -> None:
    b = new_breaker(BUDGET)
    for _ in range(BREACHES - 1):
        assert count_search(b[0], SLOW) == 0
    for _ in range(searches - BREACHES):
        assert count_search(b[0], FAST) == 0
    assert count_search(b[0], SLOW) == opens
