"""A row of the action log explains itself: its inputs, fed to the rule and to risk again, give its action."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.access.recordings import open_recording
from emp.core.codes import Action, EventFlag, Reason
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.explain import decided_again, explain, rules_of
from emp.engine.limits import EngineLimits
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from tests.kit.events import random_events
from tests.kit.models import LOOSE, engine

pytestmark = pytest.mark.usefixtures("compiled_engine")

ANSWER = (
    "action",
    "reason_code",
    "side",
    "px",
    "qty",
    "horizon",
    "spread_ticks",
    "inventory",
    "context_mult",
)
MEASURE = (
    "gain",
    "edge_ticks",
    "cost_to_take",
    "unit_ticks",
    "depth_cap",
    "ttl_ns",
    "fill_level",
    "fill_slope",
    "fill_behind",
)


def recompute(rows: Array, e: Engine) -> None:
    rules = rules_of(e.instruments[0], e.limits)
    for row in rows:
        if row["reason_code"] == Reason.STALE:
            continue  # withdrawn from a book that may not be believed: nothing was decided
        found = decided_again(row, rules)
        for name in ANSWER:
            assert found[name] == row[name], (name, int(row["seq"]), Reason(int(row["reason_code"])))
        for name in MEASURE:
            assert found[name] == pytest.approx(row[name], rel=1e-6, abs=1e-9), (name, int(row["seq"]))


def log_of(tmp_path: Path, e: Engine, source: Any) -> Array:
    manifest = build_manifest(
        run="TESTRUN0", mode="replay", config={}, instruments=["GOOG"], model_hashes=[e.model.artifact.hash]
    )
    folder = RunFolder.open_or_create(tmp_path / "run", manifest)
    Backtest(source, e, PaperVenue(e.instruments[0], entry_ns=50_000_000), folder).run()
    return read_actions(folder.actions)


def test_every_row_of_an_eager_run_can_be_made_again(tmp_path: Path) -> None:
    from tests.kit.models import Events

    e = engine(tmp_path, EngineLimits(**{**_fields(LOOSE), "orders_per_minute": 20.0, "max_drawdown": 4e4}))
    rows = log_of(tmp_path, e, Events(random_events(6000, 6), e.instruments[0], 500))
    said = {Reason(int(r)) for r in rows["reason_code"]}
    assert {
        Reason.POST_EDGE,
        Reason.CROSS_EDGE,
        Reason.KEEP_RESTING,
        Reason.WARMUP,
        Reason.ORDER_RATE,
        Reason.MOVE_EDGE,
        Reason.CANCEL_EDGE_GONE,
        Reason.WITHDRAWN,
    } <= said
    recompute(rows, e)


def _fields(limits: EngineLimits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


@pytest.mark.real_data
def test_real_rows_of_the_goog_day_can_be_made_again(tmp_path: Path, data_dir: Path) -> None:
    goog = find("GOOG")
    source = open_recording([next((data_dir / "lobster").glob("GOOG*message*"))], goog)

    class Morning:
        """The first events of the day."""

        instrument, counts = goog, source.counts

        def batches(self) -> Any:
            yield next(iter(source.batches()))[:12_000]

    e = Engine([goog], load_model(), EngineLimits(warmup_events=512), "TESTRUN0")
    rows = log_of(tmp_path, e, Morning())
    assert (rows["action"] == Action.POST).sum() > 20
    assert (rows["resting_side"] != 0).any()
    assert not (rows["flags"] & EventFlag.NO_SIZE).any()
    recompute(rows, e)


def test_every_row_before_and_behind_a_roll_can_be_made_again_and_tells_of_it(tmp_path: Path) -> None:
    from tests.kit.models import Events, eager_model

    facts = msgspec.structs.replace(
        find("GOOG"), swap_long=-4.0, swap_short=1.5, swap_time="13:38", swap_zone="UTC", swap_triple="thu"
    )
    limits = msgspec.structs.replace(LOOSE, max_position_lots=6, max_order_lots=2)
    e = Engine([facts], eager_model(tmp_path / "model"), limits, "TESTRUN0")
    rows = log_of(tmp_path, e, Events(random_events(4000, 7), facts, 500))
    recompute(rows, e)
    before = rows["ts"] < 1_340_285_880 * 10**9  # 13:38 UTC of that Thursday
    near = rows[before][-20:]
    assert (near["carry_buy"] < 0.0).all()
    assert near["carry_sell"] == pytest.approx(near["carry_buy"] * -1.5 / 4.0, rel=1e-5)
    assert (np.diff(near["carry_buy"]) <= 0.0).all(), "the nearer the roll, the likelier it is met"
    assert (np.abs(rows[~before]["carry_buy"]) < 1e-6).all(), "the next one is a day away"
    rules = rules_of(facts, e.limits)
    lines = [line for row in near for line in explain(row, "GOOG", rules)]
    assert any("the next roll is expected to bring" in line for line in lines)
    assert not any("the next roll" in line for line in explain(rows[-1], "GOOG", rules))
