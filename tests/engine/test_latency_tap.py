"""Times by the hour: an upper bound of the true p99, hour by hour and model by model."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.records import DECISION, MARKET_STATE, Array, empty_events
from emp.engine.latency_tap import FINE, LatencyTap, bins, p99, upper_ns
from emp.engine.tap import Batch
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


def batch(first: int, received_ns: int, laps: Array) -> Batch:
    events = empty_events(len(laps))
    events["ts_recv"] = received_ns
    return Batch(first, events, np.zeros(len(laps), MARKET_STATE), first, np.zeros(len(laps), DECISION), laps)


def test_hours_and_models_are_apart_and_a_crash_loses_only_the_hour_that_ran(tmp_path: Path) -> None:
    tap = LatencyTap(LatencyLog(tmp_path), "first")
    tap.on_batch(batch(0, 5 * HOUR_NS, np.tile(np.array([[1, 2, 3]], np.int32), (100, 1))))
    tap.on_batch(batch(100, 6 * HOUR_NS, np.tile(np.array([[4, 5, 6]], np.int32), (50, 1))))
    tap.on_missed(3)
    tap.on_control(Control(action="swap", ts=0, reason="second"), 150)
    tap.on_batch(batch(150, 6 * HOUR_NS + 1, np.tile(np.array([[7, 8, 9]], np.int32), (10, 1))))
    found = [(one.hour, one.model, one.n, one.missed, one.p99_ns) for one in read_latency(tmp_path)]
    assert found == [(5, "first", 100, 0, (1, 2, 3)), (6, "first", 50, 3, (4, 5, 6))]
    path = tmp_path / LATENCY
    path.write_bytes(path.read_bytes() + b'{"hour": 6, "mod')
    again = LatencyTap(LatencyLog(tmp_path), "second")
    again.on_batch(batch(160, 7 * HOUR_NS, np.ones((1, 3), np.int32)))
    again.close()
    assert [(one.hour, one.n) for one in read_latency(tmp_path)] == [(5, 100), (6, 50), (7, 1)]


def test_a_damaged_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / LATENCY).write_bytes(
        b'{"hour": 6, "model": "m", "n": -1, "missed": 0, "p99_ns": [1, 2, 3]}\n'
    )
    with pytest.raises(JournalError, match="a line is damaged"):
        read_latency(tmp_path)
