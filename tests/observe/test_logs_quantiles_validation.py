"""Logs are lines of JSON from another thread; quantiles slide; a red check is red."""

import io
import json
import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from emp.core.clock import SimClock
from emp.core.config.secrets import Secret
from emp.observe import logs
from emp.observe.quantiles import SlidingQuantiles
from emp.observe.validation import Check, SkipCheckError, run_checks


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


class Gate(io.StringIO):
    """A stream that does not take a line before it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.writers: set[str] = set()

    def write(self, text: str) -> int:
        assert self.open.wait(5)
        self.writers.add(threading.current_thread().name)
        return super().write(text)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_records_are_json_lines_written_by_another_thread() -> None:
    stream = Gate()
    thread = logs.configure(stream, SimClock(42))
    log = structlog.get_logger().bind(run="R")
    log.info("order sent", qty=3, password=Secret("hunter2"), odd={1, 2})
    logging.getLogger("some.library").warning("careful %d", 7)
    stream.open.set()
    thread.close()
    first, second = lines(stream)
    assert first == {
        "ts": 42,
        "level": "info",
        "event": "order sent",
        "qty": 3,
        "run": "R",
        "password": "<secret>",
        "odd": "{1, 2}",
    }
    assert (second["level"], second["event"], second["logger"]) == ("warning", "careful 7", "some.library")
    assert stream.writers == {"logs"}


def test_a_line_that_is_repeated_without_end_is_counted() -> None:
    """Whoever can reach the port could fill the disk with what a library says of each request that is none."""
    stream, clock = io.StringIO(), SimClock()
    thread = logs.configure(stream, clock)
    for _ in range(logs.PER_MINUTE + 40):
        logging.getLogger("some.library").warning("Invalid HTTP request received.")
    structlog.get_logger().info("another")
    while not thread._queue.empty():
        pass
    clock.advance(61_000_000_000)
    structlog.get_logger().info("Invalid HTTP request received.")
    thread.close()
    found = [(one["event"], one.get("n")) for one in lines(stream)]
    assert found[: logs.PER_MINUTE] == [("Invalid HTTP request received.", None)] * logs.PER_MINUTE
    assert found[logs.PER_MINUTE :][:1] == [("another", None)]
    assert ("repeated", 40) in found or ("repeated", 41) in found
    assert lines(stream)[-1]["event"] in ("Invalid HTTP request received.", "repeated")


def test_an_exception_is_logged_with_its_trace() -> None:
    stream = io.StringIO()
    thread = logs.configure(stream, SimClock())
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    thread.close()
    assert "RuntimeError: boom" in lines(stream)[0]["exception"]


def test_logs_that_were_taken_for_a_while_go_where_they_went_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    thread = logs.configure(first, SimClock())
    root = logging.getLogger()
    before = structlog.get_config(), list(root.handlers)
    with logs.configured(second, SimClock()):
        structlog.get_logger().info("inside")
        logging.getLogger("library").warning("inside")
    assert (structlog.get_config(), list(root.handlers)) == before
    structlog.get_logger().info("after")
    logging.getLogger("library").warning("after")
    thread.close()
    assert [[one["event"] for one in lines(s)] for s in (first, second)] == [["after"] * 2, ["inside"] * 2]


def test_logs_of_a_process_that_sent_them_nowhere_go_nowhere_again() -> None:
    structlog.reset_defaults()
    root = logging.getLogger()
    before = list(root.handlers)
    with pytest.raises(RuntimeError), logs.configured(io.StringIO(), SimClock()):
        raise RuntimeError("boom")
    assert not structlog.is_configured()
    assert list(root.handlers) == before


def test_a_full_queue_drops_counts_and_says_so() -> None:
    stream = Gate()
    thread = logs.LogThread(stream, SimClock(), capacity=10)
    for i in range(100):
        thread.put({"event": "x", "i": i})
    assert thread.dropped >= 89
    stream.open.set()
    thread.close()
    written = lines(stream)
    told = sum(line["n"] for line in written if line["event"] == "logs dropped")
    assert told == thread.dropped
    assert sum(line["event"] == "x" for line in written) + told == 100


@example([[1.0, 2.0, 3.0, 4.0], [5.0]], 3)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), max_size=20), st.integers(1, 30))
def test_quantiles_are_those_of_the_last_values(batches: list[list[float]], window: int) -> None:
    sliding = SlidingQuantiles(window)
    for batch in batches:
        sliding.add(np.array(batch, float))
    last = [v for batch in batches for v in batch][-window:]
    expected = [float(np.quantile(last, q)) for q in (0.0, 0.5, 0.99)] if last else [0.0] * 3
    assert sliding.quantiles((0.0, 0.5, 0.99)) == pytest.approx(expected)
    assert len(sliding) == len(last)


def test_whatever_a_check_raises_becomes_its_result() -> None:
    def fails() -> str:
        raise AssertionError("two\nlines")

    def breaks() -> str:
        raise KeyError("x")

    def cannot() -> str:
        raise SkipCheckError("needs lint-imports")

    told: list = []
    checks = [
        Check(n, "room", f) for n, f in (("a", lambda: "fine"), ("b", fails), ("c", breaks), ("d", cannot))
    ]
    results = run_checks(checks, told.append)
    assert told == results
    assert [(r.status, r.detail) for r in results] == [
        ("green", "fine"),
        ("red", "two lines"),
        ("red", "KeyError: 'x'"),
        ("skipped", "needs lint-imports"),
    ]
