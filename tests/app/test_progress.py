"""Long work tells how far it is where no terminal shows a bar, and says nothing of what is soon done."""

import io
import sys

import pytest

from emp.app.terminal import progress
from emp.app.terminal.progress import LINE_EVERY_S, Work


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_log_has_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Work("train") as work:
        for k in range(1, 121):
            clock.now += 1.0
            work.report(f"step {k}", k / 240)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "train: step 30 (12%, about 4 min left)"
    assert len(lines) == 120 // int(LINE_EVERY_S)
    assert lines[-1] == "train: step 120 (50%, about 2 min left)"


def test_what_is_soon_done_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Work("see") as work:
        for k in range(100):
            clock.now += 0.25
            work.bytes_read(k, 100)
    assert capsys.readouterr().err == ""


def test_the_time_left_is_not_guessed_from_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Work("see") as work:
        clock.now += LINE_EVERY_S
        work.bytes_read(0, 100)
        clock.now += LINE_EVERY_S
        work.bytes_read(75, 100)
    assert capsys.readouterr().err.splitlines() == ["see (0%)", "see (75%, about 20 s left)"]


def test_work_goes_on_where_nobody_reads_its_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with Work("see") as work:
        monkeypatch.setattr(sys, "stderr", Closed())
        for _ in range(3):
            clock.now += LINE_EVERY_S
            work.bytes_read(1, 2)
