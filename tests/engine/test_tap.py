"""Taps: each sees everything in order, a slow one only hurts itself, a journal is waited for."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.records import DECISION, EVENT, MARKET_STATE
from emp.engine.tap import Batch, Tap, Taps


def batch(taps: Taps, n: int, rows: int) -> None:
    events, made = np.zeros(n, EVENT), np.zeros(rows, DECISION)
    events["seq"] = np.arange(taps.event, taps.event + n)
    made["seq"] = np.arange(taps.row, taps.row + rows)
    taps.batch(events, np.zeros(n, MARKET_STATE), made, np.zeros((rows, 3), np.int32))


class Seen(Tap):
    def __init__(self, *, lossless: bool = False) -> None:
        self.lossless = lossless
        self.events: list[int] = []
        self.rows: list[int] = []
        self.order: list[str] = []
        self.before: dict[str, int] = {}  # events seen when a control came
        self.missed = 0
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def on_batch(self, batch: Batch) -> None:
        self.gate.wait(10)
        assert batch.first == int(batch.events["seq"][0])
        self.events += batch.events["seq"].tolist()
        self.rows += batch.rows["seq"].tolist()
        self.order.append("batch")

    def on_control(self, control: Control, at: int) -> None:
        self.order.append(f"{control.action} {at}")
        self.before[control.action] = len(self.events)

    def on_missed(self, messages: int) -> None:
        self.missed += messages

    def close(self) -> None:
        self.closed = True


def test_every_tap_sees_everything_in_order_with_its_place() -> None:
    taps, first, second = Taps(size=64), Seen(), Seen(lossless=True)
    taps.attach(first)
    for k in range(40):
        while not taps.room:
            time.sleep(0.001)
        batch(taps, 1 + k % 5, k % 3)
        if k == 20:
            taps.control(Control(action="halt", ts=1))
            taps.attach(second)
        time.sleep(0.001)
    written = taps.event
    taps.close()
    assert first.events == list(range(written))
    assert first.rows == list(range(taps.row))
    place = sum(1 + k % 5 for k in range(21))
    assert f"halt {place}" in first.order
    assert first.before["halt"] == place
    assert second.events == list(range(second.events[0], written))
    assert first.missed == second.missed == 0
    assert first.closed
    assert second.closed


def test_a_slow_tap_misses_and_neither_slows_nor_stops_the_others() -> None:
    taps, slow, quick = Taps(size=256), Seen(), Seen()
    slow.gate.clear()
    taps.attach(slow)
    taps.attach(quick)
    began = time.perf_counter()
    for _ in range(200):
        batch(taps, 4, 2)
        time.sleep(0.003)
    took = time.perf_counter() - began
    assert taps.room, "a tap that may miss was waited for"
    slow.gate.set()
    taps.close()
    assert slow.missed > 50
    assert len(slow.events) < 800
    assert slow.events == sorted(set(slow.events)), "what it saw is neither twice nor out of order"
    assert quick.missed == 0
    assert quick.events == list(range(800))
    assert took < 5.0


def test_a_journal_is_waited_for_before_anything_is_overwritten() -> None:
    taps, journal = Taps(size=64), Seen(lossless=True)
    journal.gate.clear()
    taps.attach(journal)
    written = 0
    while taps.room and written < 1_000:
        batch(taps, 4, 4)
        written += 1
    assert written * 4 <= 64, "what a journal had not read was overwritten"
    journal.gate.set()
    deadline = time.monotonic() + 5
    while not taps.room and time.monotonic() < deadline:
        time.sleep(0.001)
    assert taps.room
    taps.close()
    assert journal.events == list(range(written * 4))


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def test_what_comes_while_a_journal_is_waited_for_overwrites_nothing() -> None:
    """Time goes on, and reports come, while the loop holds events back."""
    taps, journal = Taps(size=64), Seen(lossless=True)
    journal.gate.clear()
    taps.attach(journal)
    written = 0
    while taps.room:
        batch(taps, 1, 1)
        written += 1
    for now in range(10):
        taps.tick(now)
    journal.gate.set()
    wait(lambda: taps.room)
    taps.close()
    assert journal.missed == 0
    assert journal.events == list(range(written))


def test_a_journal_that_was_overrun_ends_the_run_rather_than_have_a_hole() -> None:
    taps, journal = Taps(size=64), Seen(lossless=True)
    journal.gate.clear()
    taps.attach(journal)
    batch(taps, 1, 1)
    time.sleep(0.05)  # it holds the first batch
    for now in range(200):
        taps.tick(now)
    batch(taps, 1, 1)
    journal.gate.set()
    wait(lambda: taps.failure is not None)
    with pytest.raises(JournalError, match="could not keep up"):
        taps.close()
    assert journal.events == [0]


def test_a_tap_that_fails_ends_alone_and_a_journal_that_fails_ends_the_run() -> None:
    class Broken(Seen):
        def on_batch(self, batch: Batch) -> None:
            raise OSError("no space left")

    taps, broken, other = Taps(size=64), Broken(), Seen()
    taps.attach(broken)
    taps.attach(other)
    for _ in range(5):
        batch(taps, 1, 0)
        time.sleep(0.01)
    assert taps.failure is None
    taps.close()
    assert len(other.events) == 5
    again = Taps(size=64)
    again.attach(Broken(lossless=True))
    batch(again, 1, 0)
    deadline = time.monotonic() + 5
    while again.failure is None and time.monotonic() < deadline:
        time.sleep(0.001)
    with pytest.raises(OSError, match="no space left"):
        again.close()
