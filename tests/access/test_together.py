"""Recordings of several instruments as one stream, in order of time, nothing of it before its time."""

from collections.abc import Iterator

import numpy as np
import pytest

from emp.access.port import ReadCounts
from emp.access.together import APART_NS, Together
from emp.core.errors import DataError
from emp.core.instrument import find
from emp.core.records import EVENT, Array

NAMES = ("GOOG", "AAPL", "MSFT")


class Recorded:
    """Events of an instrument at given times, so many a batch; `read` is how many have been asked for."""

    def __init__(self, name: str, times: list[int], batch: int = 3) -> None:
        self.instrument, self.counts = find(name), ReadCounts()
        self._times, self._batch = times, batch
        self.read = 0

    def batches(self) -> Iterator[Array]:
        rows = np.zeros(len(self._times), EVENT)
        rows["ts"], rows["seq"] = self._times, np.arange(len(rows))
        for k in range(0, len(rows), self._batch):
            self.read += 1
            yield rows[k : k + self._batch]
        yield rows[:0]


def merged(*sources: Recorded) -> list[tuple[int, int, int]]:
    return [
        (int(row["ts"]), int(row["instrument"]), int(row["seq"]))
        for rows in Together(sources).batches()
        for row in rows
    ]


def test_every_event_comes_once_in_order_of_time_and_of_its_own_source() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        sources = [
            Recorded(name, sorted(rng.integers(1, 60, rng.integers(0, 40)).tolist()), int(rng.integers(1, 7)))
            for name in NAMES
        ]
        rows = merged(*sources)
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
        for place, source in enumerate(sources):
            assert [row[2] for row in rows if row[1] == place] == list(range(len(source._times)))


def test_a_source_whose_stamps_go_back_keeps_its_order_and_holds_nothing_up() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        sources = [
            Recorded(name, rng.integers(0, 60, rng.integers(0, 40)).tolist(), int(rng.integers(1, 7)))
            for name in NAMES
        ]
        rows = merged(*sources)
        for place, source in enumerate(sources):
            assert [row[2] for row in rows if row[1] == place] == list(range(len(source._times)))
    assert [row[:2] for row in merged(Recorded("GOOG", [9, 9, 9, 3], 4), Recorded("AAPL", [1, 8, 10]))] == [
        (1, 1),
        (8, 1),
        *[(9, 0)] * 3,
        (3, 0),
        (10, 1),
    ]


def test_what_comes_before_the_first_stamp_comes_with_it() -> None:
    rows = merged(
        Recorded("GOOG", [0, 0, APART_NS * 9, APART_NS * 9 + 5]), Recorded("AAPL", [APART_NS * 9 + 1])
    )
    assert [row[1:] for row in rows] == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3)]


def test_a_short_recording_ends_and_the_others_go_on() -> None:
    rows = merged(Recorded("GOOG", [1, 2]), Recorded("AAPL", list(range(20))))
    assert [row[0] for row in rows if row[1] == 1] == list(range(20))


def test_no_more_than_the_next_batch_of_each_is_read_ahead() -> None:
    slow, quick = Recorded("GOOG", [0, 1_000]), Recorded("AAPL", list(range(500)))
    first = next(Together([slow, quick]).batches())
    assert int(first["ts"][-1]) == 2
    assert (slow.read, quick.read) == (1, 1)


def test_recordings_of_other_days_are_refused_in_one_line() -> None:
    day = 1_340_283_600_000_000_000
    with pytest.raises(
        DataError, match=r"begin within 24 hours: they begin with GOOG at 2012-06-21 13:00, AAPL at 20"
    ):
        merged(Recorded("GOOG", [day]), Recorded("AAPL", [day + APART_NS]))
    assert len(merged(Recorded("GOOG", [day]), Recorded("AAPL", [day + APART_NS - 1]))) == 2


def test_of_one_time_the_source_named_first_comes_first_however_it_was_read() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        times = [sorted(rng.integers(1, 9, rng.integers(1, 30)).tolist()) for _ in NAMES]
        for batch in (1, 2, 5, 50):
            rows = merged(*(Recorded(name, one, batch) for name, one in zip(NAMES, times, strict=True)))
            assert rows == sorted(rows)
