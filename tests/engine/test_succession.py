"""One model takes over from another between two events: at a place that the journal keeps and a replay repeats."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.codes import Action, EventFlag, Reason
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest, Planned
from emp.engine.serving import allocate
from emp.journal.actionlog import actions_sha256, read_actions
from emp.journal.reader import LedgerReader
from emp.journal.swaps import Swap, read_swaps
from emp.model.table import Restart
from tests.kit.backtests import backtest, differences_after_a_kill
from tests.kit.control import degrade
from tests.kit.events import random_events
from tests.kit.models import LOOSE, eager_model, engine

pytestmark = pytest.mark.usefixtures("compiled_engine")

AT = 1_203


@pytest.fixture(scope="module")
def market() -> Array:
    return random_events(3_000, 5)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return eager_model(tmp_path_factory.mktemp("other"), seed=9, strength=0.9)


def planned(e: Engine, market: Array, other: LoadedModel, at: int) -> Planned:
    event = market[at]
    swap = Swap(
        instrument="GOOG",
        seq=int(event["seq"]),
        ts=int(event["ts"]),
        before=e.model.artifact.hash,
        after=other.artifact.hash,
        reason="latency",
    )
    return Planned(swap, other)


def swapped(
    folder: Path, market: Array, other: LoadedModel | None, run: str, batch: int = 500, at: int = AT
) -> Backtest:
    e = engine(folder)
    swaps = [] if other is None else [planned(e, market, other, at)]
    return backtest(folder, e, market, run, batch=batch, swaps=swaps)


def test_the_models_name_changes_in_exactly_one_row_and_the_burn_in_begins_again(
    tmp_path: Path, market: Array, other: LoadedModel
) -> None:
    summary = swapped(tmp_path, market, other, "run").run()
    swapped(tmp_path, market, None, "plain").run()
    rows, before = (read_actions(tmp_path / name / "actions") for name in ("run", "plain"))
    assert len(rows) == len(before) == summary["states"], "no event is lost"
    assert np.count_nonzero(np.diff(rows["model_id"])) == 1
    first = int(np.argmax(rows["model_id"]))
    assert rows["seq"][first] > market["seq"][AT] >= rows["seq"][first - 1]
    np.testing.assert_array_equal(rows["p"][:first], before["p"][:first])
    assert not np.array_equal(rows["p"][first:], before["p"][first:])
    np.testing.assert_array_equal(rows["state_events"][first : first + 3], [1, 2, 3])
    np.testing.assert_array_equal(rows["since_reset"], before["since_reset"])
    burn_in = rows[first : first + LOOSE.warmup_events]
    assert set(burn_in["action"]) <= {Action.HOLD, Action.CANCEL}
    assert Reason.WARMUP in set(burn_in["reason_code"])
    assert (rows["action"][first + LOOSE.warmup_events :] == Action.POST).any()
    (swap,) = read_swaps(LedgerReader(tmp_path / "run" / "ledger.sqlite"))
    assert swap.after == other.artifact.hash == summary["model_hash"]


@pytest.mark.parametrize("batch", [1, 97, 3_000])
def test_the_log_does_not_depend_on_how_the_source_is_cut(
    tmp_path: Path, market: Array, other: LoadedModel, batch: int
) -> None:
    around = market[AT - 100 : AT + 200]
    whole = swapped(tmp_path, around, other, "whole", at=100).run()
    cut = swapped(tmp_path, around, other, "cut", batch, at=100).run()
    assert whole["model_hash"] == other.artifact.hash
    assert cut["action_log_sha256"] == whole["action_log_sha256"]
    assert actions_sha256(tmp_path / "cut" / "actions") == cut["action_log_sha256"]


@pytest.mark.parametrize("die_after", [1, 3, 4])
def test_a_run_that_dies_before_or_after_the_swap_goes_on_and_ends_the_same(
    tmp_path: Path, market: Array, other: LoadedModel, die_after: int
) -> None:
    assert not differences_after_a_kill(lambda run: swapped(tmp_path, market, other, run), die_after)


def quiet(e: Engine, events: Array) -> Array:
    """The rows of events that nobody trades on."""
    degrade(e)
    return e.process(events).rows


def test_a_swap_in_a_running_engine_costs_nothing_of_perception(
    tmp_path: Path, market: Array, other: LoadedModel
) -> None:
    e, alone = engine(tmp_path), Engine(engine(tmp_path).instruments, other, LOOSE, "TESTRUN0")
    ready = e.prepare(other)
    quiet(e, market[:AT])
    e.install(ready)
    after = quiet(e, market[AT:])
    quiet(alone, market[:AT])
    same = quiet(alone, market[AT:])
    for name in ("p", "q", "mean", "sigma_ticks", "since_reset"):
        np.testing.assert_array_equal(after[name], same[name], name)
    assert e.served == [engine(tmp_path).model.artifact.hash, other.artifact.hash]
    e.install(allocate(engine(tmp_path).model, 1))
    assert len(e.served) == 2
    assert e.desk.facts["model_id"][0] == 0


def test_every_kind_of_restart_is_counted_and_named_in_the_rows(tmp_path: Path, market: Array) -> None:
    limits = {n: getattr(LOOSE, n) for n in LOOSE.__struct_fields__}
    limits |= {"cooldown_events": 20, "warmup_events": 40, "state_ttl_ns": 30_000_000_000}
    e = engine(tmp_path, type(LOOSE)(**limits))
    events = market[market["flags"] & EventFlag.VISIBLE != 0][:600].copy()
    events["flags"] &= ~np.uint32(EventFlag.GAP | EventFlag.HALT | EventFlag.RESUME)
    events["ts"] = market["ts"][0] + 1_000_000 * np.arange(len(events))
    events["flags"][200] |= EventFlag.GAP
    events["ts"][400:] += 40_000_000_000  # longer than a state lives, shorter than a long pause
    rows = np.concatenate(
        [step for k in range(len(events)) if len(step := e.process(events[k : k + 1]).rows)]
    )
    assert len(rows) == len(events)
    counts = e.desk.stream["restarts"][0]
    assert [int(counts[r]) for r in Restart] == [1, 1, 1, 0]
    said = rows["reason_code"]
    assert set(said[:40]) <= {Reason.WARMUP}
    assert set(said[200:220]) <= {Reason.COOL_DOWN}
    assert set(said[220:240]) <= {Reason.WARMUP}
    assert set(said[400:440]) <= {Reason.WARMUP}, "the stream goes on, only the state began again"
    assert Reason.WARMUP not in set(said[240:400]) | set(said[440:])
    assert Reason.COOL_DOWN not in set(said[:200]) | set(said[240:])
