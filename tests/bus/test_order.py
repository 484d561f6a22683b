"""The guard admits what moves forward, names what does not, and marks holes of contiguous sources."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emp.bus.order import MEMORY, admit, new_guard
from emp.core.codes import EventFlag, Quarantine
from emp.core.records import EVENT

OK, BACK, DUP = int(Quarantine.ACCEPTED), int(Quarantine.BACKWARDS), int(Quarantine.DUPLICATE)


def events(*stamps: tuple[int, int]) -> np.ndarray:
    rows = np.zeros(len(stamps), EVENT)
    rows["ts"], rows["seq"] = np.array(stamps, np.int64).reshape(-1, 2).T
    return rows


def judged(guard: np.ndarray, rows: np.ndarray) -> list[int]:
    reasons = np.full(len(rows), -1, np.int8)
    assert admit(guard[0], rows, reasons) == (reasons == OK).sum()
    return reasons.tolist()


def test_reasons() -> None:
    guard = new_guard()
    rows = events((5, 1), (5, 2), (5, 2), (4, 3), (6, 4), (5, 1), (6, 3), (7, 4), (7, 5))
    assert judged(guard, rows) == [OK, OK, DUP, BACK, OK, DUP, BACK, BACK, OK]
    assert (guard["admitted"], guard["duplicates"], guard["backwards"]) == (4, 2, 3)


def test_the_first_event_may_be_anything() -> None:
    assert judged(new_guard(True), events((-5, 1_000))) == [OK]


def test_a_hole_is_marked_only_where_the_source_promised_none() -> None:
    stamps = ((1, 1), (1, 2), (2, 5), (2, 6), (2, 7))
    for contiguous in (False, True):
        guard, rows = new_guard(contiguous), events(*stamps)
        judged(guard, rows)
        assert np.flatnonzero(rows["flags"] & EventFlag.GAP).tolist() == ([2] if contiguous else [])
        assert (guard["gaps"][0], guard["missing"][0]) == ((1, 2) if contiguous else (0, 0))


def test_a_duplicate_older_than_the_memory_is_still_refused() -> None:
    guard = new_guard()
    judged(guard, events(*((i, i) for i in range(MEMORY + 5))))
    assert judged(guard, events((0, 0), (MEMORY, MEMORY))) == [BACK, DUP]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30)), max_size=60), st.integers(1, 60))
def test_admitted_events_are_in_order_however_batches_are_cut(stamps, size: int) -> None:
    whole = judged(new_guard(), events(*stamps))
    guard = new_guard()
    parts = [r for i in range(0, len(stamps), size) for r in judged(guard, events(*stamps[i : i + size]))]
    assert parts == whole
    admitted = [s for s, r in zip(stamps, whole, strict=True) if r == OK]
    assert all(a[0] <= b[0] and a[1] < b[1] for a, b in pairwise(admitted))
    assert all(s in admitted for s, r in zip(stamps, whole, strict=True) if r == DUP)
