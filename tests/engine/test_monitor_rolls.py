"""Rolls among the contenders: financed as the engine's own shadow is, however events are cut, and found again."""

import json
from collections import deque
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from emp.core.clock import LiveClock
from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.contender import SAID, recorded_forecasts
from emp.engine.engine import Engine
from emp.engine.journal_tap import JournalTap, journalled_rows
from emp.engine.monitor import Finding, Lineup, Monitor
from emp.engine.monitor_rerun import verify_monitor
from emp.engine.monitor_tap import MonitorTap
from emp.engine.rerun import Terms
from emp.engine.rolls import Rolls
from emp.engine.tap import Batch
from emp.engine.verdict import Verdict
from emp.journal.monitor_log import MONITOR, MonitorLog, read_monitor
from emp.journal.run import RunFolder
from emp.observe.board import Board
from tests.engine.test_monitor import GOOG, LIMITS, market, named

pytestmark = pytest.mark.usefixtures("compiled_engine")

EVENTS = 9_000
PAID = -5.0
"""Ticks that a lot held long receives at each roll; short it receives 3."""


@pytest.fixture(scope="module")
def day() -> Array:
    made = market(EVENTS + 1_000)[:EVENTS]  # some that are asked for are no events
    assert len(made) == EVENTS
    return made


@pytest.fixture(scope="module")
def lineup() -> Lineup:
    return Lineup(load_model("linear"), named("standby"))


def controls(day: Array) -> list[tuple[int, Control]]:
    """A roll a thousand events, each told when the one before has come; with the events before each input."""

    def of(action: str, at: int, side: str = "", value: float = 0.0) -> tuple[int, Control]:
        ts = int(day["ts"][min(at, EVENTS - 1)])
        return Control(action=action, ts=ts, instrument="GOOG", reason=side, value=value)  # type: ignore[arg-type]

    # a roll comes before the first event of its stamp, which several may have
    first = [int(np.searchsorted(day["ts"], day["ts"][at])) for at in range(0, EVENTS, 1_000)]
    found: list[tuple[int, Control]] = []
    for told, rolls in pairwise(first):
        found += [(told, of("roll", rolls, "short", 3.0)), (told, of("roll", rolls, "long", PAID))]
        found.append((rolls, of("finance", rolls)))
    return found


def traded(engine: Engine, day: Array, rolled: list[tuple[int, Control]]) -> Array:
    """Rows of the engine over the day, with its rolls."""
    rows, at, waiting = [], 0, deque(rolled)
    while at < EVENTS:
        while waiting and waiting[0][0] <= at:
            engine.control(waiting.popleft()[1])
        end = min(waiting[0][0], EVENTS) if waiting else EVENTS
        output = engine.process(day[at:end])
        assert output.consumed
        rows.append(output.rows)
        at += output.consumed
    return np.concatenate(rows)


def watched(
    monitor: Monitor, day: Array, said: Array, rolled: list[tuple[int, Control]], size: int
) -> list[Finding]:
    """What is found with batches of a size, cut where a roll is."""
    found: list[Finding] = []
    cuts = sorted({*range(0, EVENTS, size), *(at for at, _ in rolled), EVENTS})
    for at, end in pairwise(cuts):
        for _, control in (one for one in rolled if one[0] == at):
            monitor.finance(control)
        found += monitor.follow(at, day[at:end], said[at:end])
    return found


def test_the_lot_in_the_head_is_financed_as_the_shadow_of_the_engine_is(day: Array, lineup: Lineup) -> None:
    rolled = controls(day)
    engine = Engine([GOOG], lineup.serving, LIMITS, "TEST0001")
    rows = traded(engine, day, rolled)
    said = np.zeros(EVENTS, SAID)
    assert recorded_forecasts(day, rows, said) == len(rows)
    monitor = Monitor([GOOG], LIMITS, lineup)
    whole = watched(monitor, day, said, rolled, EVENTS)
    ours, theirs = monitor.traders[0].desk, engine.desk
    assert theirs.shadow_lots["trips"][0] > 5
    assert theirs.shadow_account["financing"][0] != 0.0, "nothing was held over any roll"
    for name in ("shadow_lots", "shadow_account", "shadow_standing", "financing"):
        one, other = getattr(ours, name), getattr(theirs, name)
        for field in one.dtype.names or ():
            np.testing.assert_array_equal(one[field], other[field], f"{name} {field}")
    for field in ("carry_buy", "carry_sell", "held", "held_ns", "level", "slope"):
        assert ours.standing[field][0] == theirs.standing[field][0], field
    assert watched(Monitor([GOOG], LIMITS, lineup), day, said, rolled, 613) == whole
    unpaid = watched(Monitor([GOOG], LIMITS, lineup), day, said, [], EVENTS)
    assert [one.data for one in unpaid] != [one.data for one in whole], "what a roll costs changes nothing"


class Run:
    """A run's folder with its journals and the monitor's file, and rolls on the way."""

    def __init__(self, folder: Path, lineup: Lineup) -> None:
        manifest = {"run": "TEST0001", "model_hashes": [lineup.serving.artifact.hash], "code": "test"}
        self.folder = RunFolder.create(folder, manifest)
        self.lineup = lineup
        self.engine = Engine([GOOG], lineup.serving, LIMITS, "TEST0001")
        self.journal = JournalTap(self.folder, [GOOG], self.engine.served, LiveClock())
        self.slow, self.at, self.row = False, 0, 0
        self.tap = self.new_tap()

    def new_tap(self) -> MonitorTap:
        return MonitorTap(
            [GOOG],
            LIMITS,
            lambda _: self.lineup,
            MonitorLog(self.folder.path, self.at),
            Board(LiveClock()),
            lambda: self.slow,
            deque[Verdict](),
        )

    def control(self, control: Control) -> None:
        self.tap.on_control(control, self.at)
        self.engine.control(control)

    def batch(self, events: Array) -> None:
        while len(events):
            output = self.engine.process(events)
            assert output.consumed
            batch = Batch(
                self.at, events[: output.consumed], output.states, self.row, output.rows, output.laps
            )
            self.at += output.consumed
            self.row += len(output.rows)
            self.journal.on_batch(batch)
            self.tap.on_batch(batch)
            events = events[output.consumed :]

    def restart(self) -> None:
        """The tap of another process: what is known of rolls is told again."""
        self.tap.close()
        self.tap = self.new_tap()
        for known in Rolls(self.engine).known():
            self.tap.on_control(known, self.at)

    def close(self) -> None:
        self.tap.close()
        self.journal.close()
        (self.folder.path / "summary.json").write_text("{}")

    def verify(self) -> int:
        models = {one.artifact.hash: one for one in (self.lineup.serving, named("standby"))}
        rows = journalled_rows(self.folder)
        return verify_monitor(self.folder, rows, lambda _: Terms([GOOG], LIMITS), models.__getitem__)


@pytest.fixture
def run(tmp_path: Path, day: Array, lineup: Lineup) -> Run:
    """With a pause for lack of time over one roll, and another process from the middle on."""
    made, rolled = Run(tmp_path / "run", lineup), deque(controls(day))
    for at in range(0, EVENTS, 500):
        made.slow = 2_500 <= at < 3_500
        if at == 5_500:
            made.restart()
        while rolled and rolled[0][0] <= at:
            made.control(rolled.popleft()[1])
        made.batch(day[at : at + 500])
    made.close()
    return made


def test_what_was_found_over_rolls_is_found_again(run: Run, day: Array) -> None:
    told = [one for _, one in read_monitor(run.folder.path)]
    begins = [(one["at"], one["fresh"]) for one in told if one["kind"] == "lineup"]
    assert begins == [(0, True), (3_500, False), (5_500, True)]
    given = [one for one in told if one["kind"] in ("roll", "finance")]
    assert [one["at"] for one in given if one["kind"] == "finance"] == [
        at for at, control in controls(day) if control.action == "finance"
    ]
    again = [one for one in given if one["at"] == 5_500]
    assert [(one["side"], one["ticks"]) for one in again] == [("short", 3.0), ("long", PAID)]
    assert run.verify() == len(told) - len(begins) - len(given)


@pytest.mark.parametrize("change", ["ticks", "gone"])
def test_a_roll_that_was_not_so_is_refused(run: Run, change: str) -> None:
    path = run.folder.path / MONITOR
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for line in lines:
        told = json.loads(line)
        if told["kind"] == "roll" and told["side"] == "long":
            if change == "gone":
                continue
            told["ticks"] *= 40.0
        kept.append(json.dumps(told, sort_keys=True).encode() + b"\n")
    path.write_bytes(b"".join(kept))
    with pytest.raises(JournalError, match="is not what is found again"):
        run.verify()
