"""What a planner is worth: nothing against itself, the same twice, blocks that add up; choices in a simulation."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.instrument import find
from emp.core.records import fieldwise_bytes
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.plan.planner import POINT
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.planner_worth import Arm, closed_pnl, compare, in_recording, in_sessions
from emp.sim.measure.planning import explore_simulated
from emp.train.data.choices import follow_up
from emp.train.data.data import load_dataset, parse_series
from emp.train.data.exploring import Manner, Recorded, explore_recording
from tests.kit.datasets import market, write_quotes
from tests.kit.planners import taking_planner

pytestmark = pytest.mark.usefixtures("compiled_engine")

GOOG = find("GOOG")


def arm(folder: Path, depth: int, sessions: int = 5) -> Arm:
    model = load_model("linear")
    artifact = taking_planner(folder / "planner", model.artifact.hash)
    return in_sessions(
        named_flow("goog"),
        GOOG,
        model,
        EngineLimits(),
        artifact,
        depth,
        sessions=sessions,
        events=3_000,
        seed=7,
    )


def test_a_planner_against_itself_is_worth_exactly_nothing_and_one_that_chooses_badly_costs(
    tmp_path: Path,
) -> None:
    first, again, alone = arm(tmp_path, 1), arm(tmp_path, 1), arm(tmp_path, 0)
    (same,) = compare("goog", first, [again], "session")
    assert (same.more, same.more_half) == (0.0, 0.0)
    assert same.verdict == "not told apart"
    assert alone.choices == 0
    (bad,) = compare("goog", alone, [first], "session")
    assert bad.lots > 2
    assert bad.more < 0.0
    assert bad.choices > 100
    assert bad.per_choice == pytest.approx(bad.more / bad.choices)
    assert bad.search_us["p50"] > 0.0
    assert bad.more == pytest.approx(bad.pnl - bad.pnl_rule)


def test_blocks_of_a_recording_add_up_to_what_was_earned(tmp_path: Path) -> None:
    write_quotes(market(9_000, 3, 0.5), str(tmp_path / "GOOG_quotes.csv"))
    series = parse_series(f"GOOG={tmp_path}/GOOG_quotes.csv")
    model = load_model("linear")
    data = load_dataset(series, model.artifact.manifest.k_sigma)
    recorded = Recorded(series, data.instrument)
    artifact = taking_planner(tmp_path / "planner", model.artifact.hash)
    made = in_recording(recorded, data, model, EngineLimits(), artifact, 1)
    assert made.choices > 50
    assert made.lots.sum() > 0

    points = explore_recording(recorded, model, Manner(5, 1.0), 1)
    assert points.dtype == POINT
    assert (np.diff(points["ts"]) > 0).all()
    choices = follow_up(points)
    assert set(choices.points["action"].tolist()) == {0, 1, 2}
    again = explore_recording(recorded, model, Manner(5, 1.0), 1)
    assert fieldwise_bytes(again) == fieldwise_bytes(points)


def test_what_is_held_is_paid_for_at_the_touch() -> None:
    engine = Engine([GOOG], load_model("linear"), EngineLimits(), "TESTRUN0")
    desk = engine.desk
    desk.account["pnl"], desk.account["position"] = 10.0, -3
    desk.perception["bid"], desk.perception["ask"] = 100, 104
    assert closed_pnl(engine) == pytest.approx(10.0 - 3 * (2.0 + GOOG.taker_fee))


def test_what_we_do_moves_the_simulated_market() -> None:
    model = load_model("linear")
    passes = [
        explore_simulated(named_flow("goog"), GOOG, model, Manner(10, 1.0), 4_000, seed) for seed in (3, 3)
    ]
    assert fieldwise_bytes(passes[0]) == fieldwise_bytes(passes[1])
    assert (passes[0]["fills"][-1]) > 5
    assert len(follow_up(passes[0]).kind) > 100
