"""A recorded run forked at a decision: a branch against itself differs by nothing, a changed one by its change."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.app.wiring.rerun import assemble_rerun
from emp.app.wiring.whatif import Asked, answer, new_limits
from emp.core.codes import Action, WorkingState
from emp.core.errors import EmpError, UsageError
from emp.core.records import Array
from emp.engine.fork import fork_at
from emp.engine.journal_tap import journalled_events, journalled_rows
from emp.engine.limits import EngineLimits
from emp.journal.run import RunFolder

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 20

pytestmark = [pytest.mark.usefixtures("compiled_engine"), pytest.mark.long, pytest.mark.earns]


CONFIG = """
mode: mock
run_dir: {runs}
seed: {seed}
warm_up_events: 50
cool_down_events: 10
instruments: {{names: [GOOG]}}
access: {{connection_protocol: mock, speed: 60.0}}
risk: {{max_daily_loss_ticks: 20000, max_drawdown_ticks: 20000}}
model: {{ssm_impl: linear, fallback_impl: none}}
bus: {{max_age_ms: 60000.0}}
http: {{port: 0}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A quarter of an hour of the built-in market, in as many seconds; another where nothing was added to."""
    for seed in (7, 8, 9, 10):
        found = traded(tmp_path_factory.mktemp("run"), seed)
        if len(added(journalled_rows(found))):
            break
    return found


def traded(folder: Path, seed: int) -> RunFolder:
    (folder / "mock.yaml").write_text(CONFIG.format(runs=folder / "runs", seed=seed))
    command = [sys.executable, "-m", "emp", "run", "--config", str(folder / "mock.yaml"), "--seconds", "15"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "EMP_STATE": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (folder / "runs").glob("mock-*")
    return RunFolder(path)


@pytest.fixture(scope="module")
def rows(run: RunFolder) -> Array:
    return journalled_rows(run)


def added(rows: Array) -> Array:
    """Rows of resting orders that would add to what is held."""
    return rows[(rows["action"] == Action.POST) & (rows["inventory"] * rows["side"] > 0)]


def asked(run: RunFolder, seq: int, **changes: Any) -> Asked:
    usual = Asked(run, seq, None, None, 0, 0, None, (), "goog", PAIRS, 20.0, None, 1)
    return usual._replace(**changes)


def ask(run: RunFolder, seq: int, **changes: Any) -> dict[str, Any]:
    return answer(asked(run, seq, **changes), lambda _text, _share: None).fields


def first(rows: Array, **wanted: int) -> int:
    """seq of a row late enough to have a past, of an action or a state."""
    found = rows[np.logical_and.reduce([rows[name] == value for name, value in wanted.items()])]
    assert len(found), f"the run has no row with {wanted}: the test shows nothing"
    return int(found[len(found) // 2]["seq"])


@pytest.mark.parametrize(
    "wanted",
    [
        {"action": Action.POST},
        {"action": Action.HOLD, "working_state": WorkingState.RESTING},
        {"action": Action.HOLD, "working_state": WorkingState.IN_FLIGHT},
    ],
)
def test_a_branch_against_itself_differs_by_nothing(
    run: RunFolder, rows: Array, wanted: dict[str, int]
) -> None:
    """And decides at the fork what the run decided, which the command checks, whatever was at work there."""
    found = ask(run, first(rows, **wanted), seconds=120.0)
    assert found["difference"] == 0.0
    assert found["difference_interval"] == [0.0, 0.0]
    assert found["equal_pairs"] == PAIRS
    assert found["base"] == found["other"]
    assert found["base"]["lots"] > 0, "nothing was traded: the test shows nothing"


def test_the_same_seed_gives_the_same_answer(run: RunFolder, rows: Array) -> None:
    seq = first(rows, action=Action.POST)
    one, again, other = (ask(run, seq, action="hold", seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one["base"]["seconds"] != other["base"]["seconds"]


def test_doing_nothing_is_worth_nothing_and_crossing_pays_at_once(run: RunFolder, rows: Array) -> None:
    flat = rows[(rows["action"] == Action.POST) & (rows["inventory"] == 0)]
    assert len(flat)
    row = flat[-1]
    found = ask(run, int(row["seq"]), action="hold")
    other = found["other"]
    assert (other["value"], other["lots"], other["closed_share"]) == (0.0, 0.0, 1.0)
    assert found["difference"] == pytest.approx(-found["base"]["value"])
    crossed = ask(run, int(row["seq"]), action="cross", seconds=0.02, qty=1)["other"]
    assert crossed["action"] == "cross"
    assert crossed["px"] == (row["ask"] if row["side"] > 0 else row["bid"])
    assert crossed["filled_share"] > 0.7, "the touch is there for most, in less than a millisecond"
    assert crossed["lots"] > crossed["maker_lots"]
    assert crossed["value"] < -0.3 * float(row["ask"] - row["bid"]), (
        "it pays the spread, and pays it again at the end"
    )


def test_limits_and_risk_hold_in_the_branch(run: RunFolder, rows: Array) -> None:
    held = added(rows)
    assert len(held), "no run added to what it held"
    seq, limit = int(held[-1]["seq"]), f"max_position={abs(int(held[-1]['inventory']))}"
    found, inventory = ask(run, seq, limits=[limit]), int(held[-1]["inventory"])
    assert found["base"]["action"] == "post"
    other = found["other"]
    assert other["action"] == "hold" or other["side"] * inventory < 0, "it adds to what it may not hold"
    with pytest.raises(UsageError, match=r"risk does not let it pass there \(hold \(position_limit\)\)"):
        ask(run, seq, action="join", side=1 if inventory > 0 else -1, limits=[limit])


def test_another_model_decides_with_a_state_that_has_seen_the_run(run: RunFolder, rows: Array) -> None:
    late = rows[rows["action"] == Action.POST]["seq"][-1]
    same = ask(run, int(late), model="linear")
    assert same["until_closed"] is False
    assert same["other"]["reason"] == same["base"]["reason"], "its state has not seen what the run's has"


def test_what_cannot_be_done_there_is_one_line(run: RunFolder, rows: Array, tmp_path: Path) -> None:
    post = first(rows, action=Action.POST)
    resting = first(rows, action=Action.HOLD, working_state=WorkingState.RESTING)
    in_flight = first(rows, action=Action.HOLD, working_state=WorkingState.IN_FLIGHT)
    for seq, changes, why in (
        (post, {"action": "cancel"}, "no order rested there"),
        (post, {"action": "fly"}, "is none of hold, cross, join"),
        (resting, {"action": "cross"}, "an order rested there"),
        (in_flight, {"action": "join"}, "only hold is open"),
        (post, {"flow": "nosuch"}, "no flow model file"),
        (10**9, {}, "the nearest is at"),
        (post, {"limits": ["speed=3"]}, "expected NAME=VALUE with one of max_position"),
        (post, {"limits": ["max_position=much"]}, "is no number"),
        (post, {"limits": ["max_position=0.5"]}, "a whole number above 0"),
        (post, {"model": str(tmp_path)}, "not a model artifact"),
    ):
        with pytest.raises(EmpError, match=why) as error:
            ask(run, seq, **changes)
        assert "\n" not in str(error.value)


def test_a_run_over_a_recording_is_refused(tmp_path: Path) -> None:
    made = RunFolder.create(
        tmp_path / "replayed",
        {"mode": "replay", "instruments": ["GOOG"], "data": [{"name": "a.csv"}], "run": "X"},
    )
    with pytest.raises(UsageError, match=r"replay the recording itself \(a.csv\)"):
        ask(made, 1)


def test_the_engine_is_what_it_was_before_any_event(run: RunFolder) -> None:
    """The order of the fork is what the decision sees of it, with whatever was on its way."""
    events = np.concatenate(list(journalled_events(run)))
    seen = set()
    for number in range(200, len(events), len(events) // 12):
        fork = fork_at(assemble_rerun(run), number, 0, events[: number + 1])
        working, order = fork.state["working"][0], fork.order[0]
        seen.add(fork.working)
        assert fork.event["seq"][0] == events["seq"][number]
        assert bool(order["open"]) == (fork.working is not WorkingState.NONE)
        if order["open"]:
            assert (working["side"], working["px"], working["ts"]) == (
                order["side"],
                order["px"],
                order["ts"],
            )
            assert len(fork.on_its_way) == (fork.working is not WorkingState.RESTING)
    assert {WorkingState.NONE, WorkingState.RESTING} & seen


def test_limits_are_read_as_they_are_named() -> None:
    usual = EngineLimits()
    found = new_limits(usual, ["max_position=3", "depth_share=0.1"])
    assert (found.max_position_lots, found.depth_share, found.max_order_lots) == (3, 0.1, 3)
    assert new_limits(usual, []) == usual
