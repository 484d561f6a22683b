"""A planner in the engine: its replays are equal, it is switched by what searches took, and risk comes after it."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.codes import Action, Reason
from emp.core.contracts import Control
from emp.core.errors import UsageError
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.planning import PlannedRule, PlannerWatch
from emp.engine.replay import Backtest
from emp.engine.serving import allocate
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from emp.plan.breaker import BREACHES, PROBES
from emp.plan.planner import ACT, KEPT, OFF, PROBE
from tests.kit.backtests import TIMINGS, kill
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, eager_model
from tests.kit.planners import random_planner

pytestmark = pytest.mark.usefixtures("compiled_engine")

GOOG = find("GOOG")
EVENTS = random_events(5_000, 3)


def planned(
    folder: Path, run: str, batch: int = 500, limits: EngineLimits = LOOSE, events: Array = EVENTS
) -> tuple[Backtest, RunFolder]:
    """A backtest of an eager model whose decisions a random planner takes."""
    model = eager_model(folder / "model")
    rule = PlannedRule(random_planner(folder / "planner", model.artifact.hash))
    manifest = build_manifest(
        run="TESTRUN0", mode="replay", config={}, instruments=["GOOG"], model_hashes=[model.artifact.hash]
    )
    journal = RunFolder.open_or_create(folder / run, manifest)
    engine = Engine([GOOG], model, limits, "TESTRUN0")
    venue = PaperVenue(GOOG, entry_ns=50_000_000)
    return Backtest(Events(events, GOOG, batch), engine, venue, journal, rule=rule), journal


def told(summary: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in summary.items() if k not in TIMINGS}


def test_a_replay_with_a_planner_is_equal_in_any_batches_and_after_a_kill(tmp_path: Path) -> None:
    first, journal = planned(tmp_path, "a")
    summary = first.run()
    rows = read_actions(journal.actions)
    chosen = rows[rows["reason_code"] == Reason.PLANNED]
    assert (chosen["action"] != Action.HOLD).sum() > 20
    assert int(str(summary["fills"])) > 5
    assert told(planned(tmp_path, "b", batch=77)[0].run()) == told(summary)
    kill(planned(tmp_path, "c", batch=250)[0], 7)
    assert told(planned(tmp_path, "c", batch=250)[0].run()) == told(summary)


def test_risk_comes_after_the_planner(tmp_path: Path) -> None:
    tight = EngineLimits(max_position_lots=1, max_order_lots=1, orders_per_minute=3.0, warmup_events=32)
    backtest, journal = planned(tmp_path, "a", limits=tight)
    backtest.run()
    rows = read_actions(journal.actions)
    assert (rows["reason_code"] == Reason.ORDER_RATE).any()
    assert np.abs(rows["inventory"]).max() <= 1


def test_a_planner_is_of_one_model_and_stands_aside_for_another(tmp_path: Path) -> None:
    one, other = eager_model(tmp_path / "one", 1), eager_model(tmp_path / "other", 2)
    artifact = random_planner(tmp_path / "planner", one.artifact.hash)
    with pytest.raises(UsageError, match="trained on the forecasts of model"):
        PlannedRule(artifact).attach(Engine([GOOG], other, LOOSE, "TESTRUN0"))
    with pytest.raises(UsageError, match="more than 0"):
        PlannedRule(artifact, budget_ms=0.0)
    engine = Engine([GOOG], one, LOOSE, "TESTRUN0")
    rule = PlannedRule(artifact)
    rule.attach(engine)
    assert rule.planner is not None
    assert rule.deciding
    engine.install(allocate(other, 1))
    assert rule.planner.seat["mode"].tolist() == [OFF]
    engine.control(Control(action="planner", ts=1, value=1.0))
    assert not rule.deciding, "what it is told cannot make it know another model's forecasts"
    engine.install(allocate(one, 1))
    assert rule.deciding


def test_switched_off_the_rule_decides_every_event_as_without_it(tmp_path: Path) -> None:
    model = eager_model(tmp_path / "model")
    engines = [Engine([GOOG], model, LOOSE, "TESTRUN0") for _ in range(2)]
    rule = PlannedRule(random_planner(tmp_path / "planner", model.artifact.hash))
    rule.attach(engines[1])
    engines[1].control(Control(action="planner", ts=0, value=0.0, reason="slow"))
    rows = []
    for engine in engines:
        done, mine = 0, []
        while done < len(EVENTS):
            output = engine.process(EVENTS[done:])
            done += output.consumed
            mine.append(output.rows)
        rows.append(np.concatenate(mine))
    assert rule.planner is not None
    assert rule.planner.seat["searches"][0] > 100, "it searches, unheard"
    for name in rows[0].dtype.names or ():
        if name != "latency_ms":
            np.testing.assert_array_equal(rows[0][name], rows[1][name])
    engines[1].control(Control(action="planner", ts=0, value=1.0, reason="in_time"))
    assert rule.planner.seat["mode"].tolist() == [ACT]


def test_the_watch_switches_by_what_searches_took(tmp_path: Path) -> None:
    model = eager_model(tmp_path / "model")
    rule = PlannedRule(random_planner(tmp_path / "planner", model.artifact.hash), budget_ms=0.4)
    watch = PlannerWatch(rule)
    assert watch.look() is None
    engine = Engine([GOOG], model, LOOSE, "TESTRUN0")
    rule.attach(engine)
    made = rule.planner
    assert made is not None

    def took(*each_us: float) -> None:
        for us in each_us:
            made.took[made.took[KEPT] % KEPT] = int(us * 1e3)
            made.took[KEPT] += 1

    took(100.0, 399.0, 900.0, 120.0)
    assert watch.look() is None
    took(*[401.0] * (BREACHES - 1))
    off = watch.look()
    assert off is not None
    assert not off.on
    assert "0.401 ms" in off.why
    assert watch.opened == 1
    assert watch.look() is None
    rule.heard(on=False)
    assert made.seat["mode"].tolist() == [PROBE]
    took(*[150.0] * (PROBES - 1), 250.0)  # one of them too slow: all over again, after twice the pause
    assert watch.look() is None
    assert made.seat["pause"][0] == 2_000
    took(*[150.0] * PROBES)
    on = watch.look()
    assert on is not None
    assert on.on
