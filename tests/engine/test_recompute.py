"""A row of the action log explains itself: its inputs, fed to the rule and to risk again, give its action."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.access.recordings import open_recording
from emp.core.codes import Action, EventFlag, Reason, WorkingState
from emp.core.instrument import find
from emp.core.records import ACCOUNT, DECISION, EVENT, FORECAST, HORIZON_EVENTS, WORKING, Array
from emp.decision.estimates import new_estimates
from emp.decision.rule import ValueRule, decide_by_value
from emp.engine.choose import load_model
from emp.engine.engine import Engine, EngineLimits
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from emp.risk.limits import approve, new_risk
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
MEASURE = ("edge_ticks", "cost_to_take", "unit_ticks", "depth_cap", "ttl_ns")


def event_of(row: Any) -> Any:
    """A book that shows what the row says of it: the touch, and the queue of an order behind it."""
    event = np.zeros(1, EVENT)[0]
    event["ts"], event["seq"], event["flags"] = row["ts"], row["seq"], row["flags"]
    event["n_bid"] = event["n_ask"] = 1
    for side in ("bid", "ask"):
        event[f"{side}_px"][0], event[f"{side}_sz"][0] = row[side], row[f"{side}_sz"]
    side = int(row["resting_side"])
    mine = "bid" if side > 0 else "ask"
    rests = row["working_state"] == WorkingState.RESTING
    if rests and (row[mine] - row["resting_px"]) * side > 0:  # behind the touch
        event[f"n_{mine}"] = 2
        event[f"{mine}_px"][1] = row["resting_px"]
        event[f"{mine}_sz"][1] = row["queue_ahead"] - row[f"{mine}_sz"]
    return event


def estimates_of(row: Any, depth_share: float) -> Any:
    e = new_estimates()[0]
    horizon = int(row["horizon"])
    steps = HORIZON_EVENTS[horizon] if horizon < len(HORIZON_EVENTS) else 0
    e["elapsed_ns"] = row["ttl_ns"] / steps if steps else 1e9
    for side in ("bid", "ask"):
        e[f"adverse_{side}"] = row[f"adverse_{side}"]
        e[f"volume_{side}"] = row[f"flow_{side}"] * e["elapsed_ns"] * 1e-9
    e["depth"] = row["depth_cap"] / depth_share
    e["left_bid"], e["left_ask"] = row["left_bid"], row["left_ask"]
    return e


def account_of(row: Any) -> Any:
    account = np.zeros(1, ACCOUNT)[0]
    account["position"], account["pnl"] = row["inventory"], row["pnl_ticks"]
    account["day_start"] = row["pnl_ticks"] - row["day_pnl"]
    account["peak"] = row["pnl_ticks"] - row["drawdown"]
    return account


def again(row: Any, costs: Any, limits: Any) -> Any:
    """The row, made a second time from its own inputs, the fees and the limits."""
    found = np.zeros(1, DECISION)[0]
    for name in ("ts", "seq", "resting_qty"):
        found[name] = row[name]
    found["inventory"] = row["inventory"]
    forecast = np.zeros(1, FORECAST)[0]
    for name in ("p", "q", "mean"):
        forecast[name] = row[name]
    working = np.zeros(1, WORKING)[0]
    working["state"], working["side"], working["px"] = (
        row["working_state"],
        row["resting_side"],
        row["resting_px"],
    )
    working["queue_ahead"] = row["queue_ahead"]
    working["leaves"], working["ts"] = row["resting_qty"], row["ts"] - row["resting_age_ns"]
    risk = new_risk()[0]
    risk["halted"], risk["degraded"], risk["context_mult"] = (
        row["halted"],
        row["degraded"],
        row["context_mult"],
    )
    risk["ts"] = row["ts"]
    for name in ("orders", "minute_lots", "hour_lots"):
        risk[name] = row[f"{name}_used"]
    account = account_of(row)
    priced = np.array([costs])
    priced["taker_fee"] += row["slip_ticks"]  # the book made from the row has no slip
    e = estimates_of(row, float(costs["depth_share"]))
    rule = ValueRule(priced)
    decide_by_value(rule, 0, event_of(row), float(row["sigma_ticks"]), forecast, e, account, working, found)
    resting = row["working_state"] == WorkingState.RESTING
    for name in ("since_reset", "disturbed", "state_events"):
        found[name] = row[name]
    approve(risk, limits, account, int(row["session_id"]), resting, found)
    return found


def recompute(rows: Array, e: Engine) -> None:
    costs, limits = e.desk.costs[0], e.desk.limits[0]
    for row in rows:
        if row["reason_code"] == Reason.STALE:
            continue  # withdrawn from a book that may not be believed: nothing was decided
        found = again(row, costs, limits)
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
        Reason.CHASE,
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
