"""The planner in the compiled step: what it chooses, when, and that a planner that stands aside changes nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.codes import Action, EventFlag, Reason
from emp.core.instrument import find
from emp.core.records import (
    ACCOUNT,
    DECISION,
    EVENT,
    FORECAST,
    HORIZONS,
    MARKET_STATE,
    WORKING,
    Array,
    fieldwise_bytes,
)
from emp.decision.estimates import ESTIMATES
from emp.decision.rule import COSTS
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from emp.plan.essentials import ACTIONS, ESSENTIALS, HOLD, REST, TAKE, WIDTH, write_essentials
from emp.plan.planner import ACT, OFF, PROBE, Planner, planner
from emp.plan.transition import pack
from emp.train.data.exploring import ONE_LOT
from tests.kit.datasets import market
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, eager_model
from tests.plan.models import plain_values, random_weights

pytestmark = pytest.mark.usefixtures("compiled_engine")

GOOG = find("GOOG")
STEP, WARMUP = 7, 520
WEIGHTS = random_weights(np.random.default_rng(8), ACTIONS, 2, WIDTH, 12)
CENTRE, SCALE = np.linspace(-0.5, 0.5, WIDTH), np.linspace(0.5, 2.0, WIDTH)


def rows_of(engine: Engine, events: Array) -> Array:
    """DECISION rows of a replay."""
    kept: list[Array] = []
    running = Backtest(Events(events, GOOG, 500), engine, PaperVenue(GOOG, entry_ns=50_000_000))
    put_away = running._put_away

    def keep(n: int) -> None:
        kept.append(running._rows[:n].copy())
        put_away(n)

    running._put_away = keep  # type: ignore[method-assign]
    running.run()
    return np.concatenate(kept) if kept else np.zeros(0, DECISION)


def play(events: Array, **how: Any) -> tuple[Array, Planner]:
    """Rows of a replay under a planner of random weights, and the planner."""
    model = how.pop("model", None) or load_model("linear")
    engine = Engine([GOOG], model, how.pop("limits", ONE_LOT), "PLAN")
    made = planner(
        engine.desk.costs,
        engine.desk.state,
        pack(**WEIGHTS),
        CENTRE,
        SCALE,
        **{"depth": 2, "step": STEP, "warmup": WARMUP, "keep": 10_000, **how},
    )
    engine.attach_rule(made)
    return rows_of(engine, events), made


def points(made: Planner) -> Array:
    return made.points[: int(made.seat["points"][0])]


def same(a: Array, b: Array) -> bool:
    """Whether rows are equal, durations aside."""
    return all(a[n].tobytes() == b[n].tobytes() for n in DECISION.names or () if n != "latency_ms")


@pytest.mark.parametrize("mode", [OFF, PROBE])
def test_a_planner_that_is_not_heard_changes_no_row(mode: int, tmp_path: Path) -> None:
    events, model = random_events(3_000, 1), eager_model(tmp_path / "model")
    alone = rows_of(Engine([GOOG], model, LOOSE, "PLAN"), events)
    rows, made = play(events, mode=mode, limits=LOOSE, model=model)
    assert same(alone, rows)
    assert (alone["action"] != Action.HOLD).any()
    assert (made.seat["searches"][0] > 100) == (mode == PROBE)


def test_it_chooses_what_the_plain_recursion_finds_best_and_only_once_a_step() -> None:
    rows, made = play(market(4_000, 2, 0.6), mode=ACT, explore=0.2, seed=3)
    found = points(made)
    own = found[~found["drawn"]]
    assert 100 < len(own) < len(found)
    for p in own[::5]:
        state = np.clip((p["z"].astype(float) - CENTRE) / SCALE, -8.0, 8.0)
        values = plain_values(WEIGHTS, state, 2)
        np.testing.assert_allclose(p["q"], values, rtol=1e-3, atol=1e-3)
        best = np.sort(values)[-2:]
        if best[1] - best[0] > 1e-2 and values[int(np.argmax(values))] != values[p["action"]]:
            assert p["resting"], "only an order that stands where it would be moved to bars a choice"
    seqs = np.searchsorted(rows["ts"], found["ts"])
    assert (np.diff(seqs) >= STEP).all()
    asked = rows[rows["action"] != Action.HOLD]
    assert np.isin(asked["ts"], found["ts"]).all(), "between two choices nothing is asked for"
    assert (asked["reason_code"] == Reason.PLANNED).all()


def test_what_is_asked_for_is_what_was_chosen() -> None:
    rows, made = play(market(4_000, 4, 0.6), mode=ACT, explore=0.5, seed=1)
    found = points(made)
    row = rows[np.searchsorted(rows["ts"], found["ts"])]
    free = found["resting"] == 0
    for action, asked in ((HOLD, Action.HOLD), (TAKE, Action.CROSS), (REST, Action.POST)):
        assert (row["action"][free & (found["action"] == action)] == asked).all()
    for action, asked in ((HOLD, Action.HOLD), (TAKE, Action.CANCEL), (REST, Action.REPLACE)):
        assert (row["action"][~free & (found["action"] == action)] == asked).all()
    held = found["position"] != 0
    assert held.any()
    assert (found["side"][held & free] == -np.sign(found["position"][held & free])).all()
    assert (np.abs(found["position"]) <= 1).all()


def test_the_same_seed_gives_the_same_choices_and_another_gives_others() -> None:
    events = market(2_500, 5, 0.5)
    first, second, other = (points(play(events, explore=0.3, seed=s)[1]) for s in (1, 1, 2))
    assert fieldwise_bytes(first) == fieldwise_bytes(second)
    assert first["action"].tobytes() != other["action"].tobytes()


def test_what_has_not_been_earned_is_not_opened() -> None:
    events = market(3_000, 6, 0.5)
    engine = Engine([GOOG], load_model("linear"), ONE_LOT, "PLAN")
    made = planner(
        engine.desk.costs,
        engine.desk.state,
        pack(**WEIGHTS),
        CENTRE,
        SCALE,
        depth=2,
        step=STEP,
        warmup=WARMUP,
    )
    engine.attach_rule(made)
    engine.desk.standing["lots"] = 0
    engine.desk.shadow_standing["lots"] = 0
    rows = rows_of(engine, events)
    assert not np.isin(rows["action"], [Action.CROSS, Action.POST]).any()
    assert made.seat["points"][0] > 100


def _moment(rng: np.random.Generator) -> dict[str, Any]:
    event, e = np.zeros(1, EVENT), np.zeros(1, ESTIMATES)
    bid = 50_000
    event["flags"], event["n_bid"], event["n_ask"] = EventFlag.VISIBLE, 1, 1
    event["bid_px"][0, 0], event["ask_px"][0, 0] = bid, bid + 4
    event["bid_sz"][0, 0], event["ask_sz"][0, 0] = rng.integers(1, 50, 2)
    e["volume_bid"], e["volume_ask"] = rng.random(2)
    e["adverse_bid"], e["adverse_ask"] = rng.normal(size=2)
    e["elapsed_ns"], e["depth"] = 1e7, 20.0
    state, f = np.zeros(1, MARKET_STATE), np.zeros(1, FORECAST)
    for name in ("qimbalance", "ofi_norm", "microprice_off"):
        state[name] = rng.normal()
    state["refresh_hz"] = 80.0
    f["mean"][0] = rng.normal(size=HORIZONS)
    f["interval"][0, :, 0], f["interval"][0, :, 1] = -1.0, 1.0
    return {"event": event, "state": state, "f": f, "e": e}


def _mirrored(m: dict[str, Any]) -> dict[str, Any]:
    """The same moment with buying and selling exchanged."""
    n = {k: v.copy() for k, v in m.items()}
    event, e = n["event"], n["e"]
    event["bid_px"][0, 0], event["ask_px"][0, 0] = (
        100_000 - m["event"]["ask_px"][0, 0],
        100_000 - m["event"]["bid_px"][0, 0],
    )
    event["bid_sz"], event["ask_sz"] = m["event"]["ask_sz"], m["event"]["bid_sz"]
    for name in ("volume", "adverse"):
        e[f"{name}_bid"], e[f"{name}_ask"] = m["e"][f"{name}_ask"], m["e"][f"{name}_bid"]
    for name in ("qimbalance", "ofi_norm", "microprice_off"):
        n["state"][name] = -m["state"][name]
    n["f"]["mean"] = -m["f"]["mean"]
    return n


@pytest.mark.parametrize("resting", [False, True])
def test_buying_and_selling_are_the_same_to_the_model(resting: bool) -> None:
    m = _moment(np.random.default_rng(0))
    account, working, costs = np.zeros(1, ACCOUNT), np.zeros(1, WORKING), np.zeros(1, COSTS)
    account["position"] = 1
    working["state"] = 2 if resting else 0
    costs["taker_fee"], costs["maker_fee"] = 0.3, 0.1
    written = []
    for side, moment in ((1, m), (-1, _mirrored(m))):
        z = np.zeros(WIDTH, np.float32)
        px = int(moment["event"]["bid_px"][0, 0] if side > 0 else moment["event"]["ask_px"][0, 0]) - side
        parts = [moment[k][0] for k in ("event", "state", "f", "e")]
        write_essentials(z, *parts, account[0], working[0], costs[0], side, 3.0, 0.5, px, 12.0, 20.0)
        written.append(z)
    np.testing.assert_array_equal(written[0], written[1])
    named = dict(zip(ESSENTIALS, written[0], strict=True))
    assert named["behind"] == pytest.approx(1.0 / 3.0)
    assert named["ahead"] == pytest.approx(12.0 / 32.0)
    assert named["mean_20ev"] == pytest.approx(0.5 * float(m["f"]["mean"][0, 2]))
    assert named["sigma"] == pytest.approx(2.0 * 0.5 / 3.2897, rel=1e-4)
    assert named["spread"] == pytest.approx(4.0 / 3.0)
