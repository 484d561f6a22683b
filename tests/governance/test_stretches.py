"""Contests of a run whose monitor began anew: what one challenger has earned is no other's, and each is counted."""

import json
import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.clock import LiveClock
from emp.core.code_version import code_version
from emp.core.instrument import find
from emp.engine.engine import Engine
from emp.engine.journal_tap import JournalTap, journalled_rows
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.monitor import Lineup
from emp.engine.monitor_tap import MonitorTap
from emp.engine.rerun import Terms
from emp.engine.tap import Batch
from emp.engine.verdict import Verdict
from emp.engine.watched_days import DAY_NS, InstrumentDay, WatchedDay, watched_days
from emp.governance.evidence import Evidence
from emp.governance.paper import of_contest
from emp.governance.paper_source import Source
from emp.journal.monitor_log import MONITOR, MonitorLog, line_of
from emp.journal.run import RunFolder
from emp.observe.board import Board
from tests.engine.test_monitor import market, named

GOOG = find("GOOG")
LIMITS = EngineLimits()
SERVING = named("mine")
SOURCE = Source("TEST0001", "fix", code_version())
BOTH = ("earned.log_loss.challenger", "earned.value.challenger")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """One day in three stretches: one challenger, another one that is hardly looked at, none."""
    stretches = ((4_000, named("first")), (4_100, named("second")), (5_200, None))
    return record(tmp_path_factory.mktemp("stretches") / "run", stretches)


def record(
    folder: Path, stretches: Sequence[tuple[int, LoadedModel | None]], midnight: int = 5_200
) -> RunFolder:
    """A run whose monitor begins anew with another challenger wherever so many events have come; those from `midnight`
    on are received a day later.
    """
    manifest = {"run": "TEST0001", "mode": "paper", "model_hashes": ["mine"], "code": code_version()}
    run = RunFolder.create(folder, manifest)
    engine = Engine([GOOG], SERVING, LIMITS, "TEST0001")
    journal = JournalTap(run, [GOOG], engine.served, LiveClock())
    events = market(9_000)[:5_200]
    assert len(events) == 5_200
    events["ts_recv"] = events["ts"] + (np.arange(len(events)) >= midnight) * DAY_NS
    at = row = 0
    for upto, challenger in stretches:
        lineup = Lineup(SERVING, challenger=challenger)
        monitor = MonitorTap(
            [GOOG],
            LIMITS,
            lambda _, it=lineup: it,  # type: ignore[misc]
            MonitorLog(run.path, at),
            Board(LiveClock()),
            lambda: False,
            deque[Verdict](),
        )
        while at < upto:
            output = engine.process(events[at : min(at + 500, upto)])
            laps = np.full((len(output.rows), 3), 9_000, np.int32)
            batch = Batch(at, events[at : at + output.consumed], output.states, row, output.rows, laps)
            at, row = at + output.consumed, row + len(output.rows)
            journal.on_batch(batch)
            monitor.on_batch(batch)
        monitor.close()
    journal.close()
    (run.path / "summary.json").write_text("{}")
    return run


def days_of(run: RunFolder) -> list[WatchedDay]:
    return watched_days(run, journalled_rows(run), lambda _: Terms([GOOG], LIMITS), lambda _: SERVING)


def cut(run: RunFolder, folder: Path, stretches: int) -> RunFolder:
    """The run as though its monitor had begun so many times, and the first challenger had won."""
    copy = folder / "copy"
    copy.mkdir()
    for path in run.path.iterdir():
        (copy / path.name).symlink_to(path)
    lines = (run.path / MONITOR).read_bytes().splitlines(keepends=True)
    begins = [k for k, line in enumerate(lines) if json.loads(line)["kind"] == "lineup"]
    assert len(begins) == 3
    at = json.loads(lines[begins[1] - 1])["at"]
    won = line_of(at, "earned", instrument="GOOG", ts=0, model="first", log_evidence=9.0)
    kept = [*lines[: begins[1]], won, *lines[begins[1] :][: [0, begins[2] - begins[1], None][stretches - 1]]]
    (copy / MONITOR).unlink()
    (copy / MONITOR).write_bytes(b"".join(kept))
    return RunFolder(copy)


def told(one: Evidence | None) -> dict[str, Any]:
    assert one is not None
    return {record.measure: record.blocks for record in one.records}


def test_what_one_challenger_has_earned_is_not_the_next_ones(run: RunFolder, tmp_path: Path) -> None:
    days = days_of(cut(run, tmp_path, 2))
    one = of_contest(days, SOURCE)
    assert one is not None
    assert (one.model, one.config["earned"]) == ("second", {})
    assert told(one) == {"evidence": (0.0,)}, "it was never looked at"
    assert days[-1].instruments["GOOG"].looks > 5, "what the day says of the model that served stays"


def test_a_challenger_that_has_won_has(run: RunFolder, tmp_path: Path) -> None:
    one = of_contest(days_of(cut(run, tmp_path, 1)), SOURCE)
    assert one is not None
    assert (one.model, one.config["earned"]["model"]) == ("first", "first")
    assert told(one)["evidence"] == (pytest.approx(math.exp(9.0)),)


def test_a_line_that_says_that_another_has_won_is_nobodys() -> None:
    log_evidence = dict.fromkeys(BOTH, 1.0)
    day = WatchedDay(
        1, "mine", lineup={"challenger": "second"}, earned={"model": "first", "log_evidence": 9.0}
    )
    day.instruments["GOOG"] = InstrumentDay(GOOG, True, log_evidence=log_evidence)
    one = of_contest([day], SOURCE)
    assert one is not None
    assert one.config["earned"] == {}
    assert told(one)["evidence"] == (pytest.approx(math.e),)


def test_each_lineup_with_a_challenger_is_a_contest_of_its_run(run: RunFolder, tmp_path: Path) -> None:
    (day,) = days_of(run)
    assert day.contests == 2, "the third has no challenger"
    one = of_contest(days_of(cut(run, tmp_path, 2)), SOURCE)
    assert one is not None
    assert one.config["contests"] == 2


def test_a_contest_goes_on_over_midnight(tmp_path: Path) -> None:
    days = days_of(record(tmp_path / "run", [(4_000, named("first"))], midnight=3_990))
    before, after = (day.instruments["GOOG"] for day in days)
    assert (before.looks > 5, after.looks) == (True, 0)
    assert after.log_evidence == before.log_evidence
    assert {gate for gate in after.log_evidence if gate.startswith("earned.")} == set(BOTH)
    assert [day.contests for day in days] == [1, 1]
