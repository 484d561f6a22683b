"""Times by the hour: an upper bound of the true p99, hour by hour and model by model."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.errors import JournalError
from emp.core.records import Array, empty_events
from emp.engine.hourly_latency import FINE, HourlyLatency, bins, p99, upper_ns
from emp.journal.latency_log import HOUR_NS, LATENCY, LatencyLog, read_latency


@given(st.integers(0, 2**31 - 1))
def test_a_time_lies_in_its_bin(ns: int) -> None:
    k = int(bins(np.array([ns]))[0])
    assert upper_ns(k - 1) < ns <= upper_ns(k) if k else ns == 0
    assert upper_ns(k) <= ns * (1.0 + 1.0 / FINE)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300))
def test_the_p99_is_never_below_the_true_one_and_hardly_above(times: list[int]) -> None:
    counts = np.bincount(bins(np.array(times)), minlength=32 * FINE)
    true = sorted(times)[int(np.ceil(0.99 * len(times))) - 1]
    assert true <= p99(counts) <= true * (1.0 + 1.0 / FINE)


def received(hour: int, n: int) -> Array:
    events = empty_events(n)
    events["ts_recv"] = hour * HOUR_NS + 1
    return events


def laps(n: int, *ns: int) -> Array:
    return np.tile(np.array([ns], np.int32), (n, 1))


def test_hours_and_models_are_apart_and_a_crash_loses_only_the_hour_that_ran(tmp_path: Path) -> None:
    one = HourlyLatency(LatencyLog(tmp_path), "first")
    one.add(received(5, 100), laps(100, 1, 2, 3))
    one.add(received(6, 50), laps(50, 4, 5, 6))
    one.serve("second")
    one.add(received(6, 10), laps(10, 7, 8, 9))
    assert read_latency(tmp_path) == [], "their rows may not last yet"
    one.write()
    one.write()
    found = [(hour.hour, hour.model, hour.n, hour.p99_ns) for hour in read_latency(tmp_path)]
    assert found == [(5, "first", 100, (1, 2, 3)), (6, "first", 50, (4, 5, 6))]
    path = tmp_path / LATENCY
    path.write_bytes(path.read_bytes() + b'{"hour": 6, "mod')
    again = HourlyLatency(LatencyLog(tmp_path), "second")
    again.add(received(7, 1), laps(1, 1, 1, 1))
    again.serve("third")
    again.add(received(7, 2), laps(2, 1, 1, 1))
    again.close()
    kept = [(hour.hour, hour.model, hour.n) for hour in read_latency(tmp_path)]
    assert kept == [(5, "first", 100), (6, "first", 50), (7, "second", 1), (7, "third", 2)]


def test_lines_are_of_one_length_however_fast_the_machine(tmp_path: Path) -> None:
    for hour, ns in ((5, 1), (6, 2**31 - 1)):
        one = HourlyLatency(LatencyLog(tmp_path), "a" * 64)
        one.add(received(hour, 3), laps(3, ns, ns, ns))
        one.close()
    assert {len(line) for line in (tmp_path / LATENCY).read_bytes().splitlines()} == {255}


def test_a_damaged_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / LATENCY).write_bytes(b'{"hour": 6, "model": "m", "n": -1, "p99_ns": [1, 2, 3]}\n')
    with pytest.raises(JournalError, match="a line is damaged"):
        read_latency(tmp_path)
