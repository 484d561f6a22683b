"""Two ways from one moment: the same way differs by nothing, markets are shared, what is worse is told to be worse.

The moments are made here, in a flow, with any position and any order at rest; no run has to be recorded for them.
"""

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.codes import Action, OrderStatus, Reason, WorkingState
from emp.core.contracts import Control
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import find
from emp.core.messages import MESSAGE, STATUSES
from emp.core.records import DECISION, UNHASHED, Array, empty_events
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.fork import Fork
from emp.engine.limits import EngineLimits
from emp.execution.order import no_order, show
from emp.sim.flow.shipped import named_flow
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.whatif import Change, Outcomes, Played, Settings, difference, play

pytestmark = pytest.mark.usefixtures("compiled_engine")

GOOG, LIMITS = find("GOOG"), EngineLimits(max_daily_loss=1e9, max_drawdown=1e9)
OPEN_NS = 1_340_288_000_000_000_000  # 21 June 2012, 14:13 UTC
EVENTS = 3_000


@cache
def events(seed: int) -> Array:
    market = Market(named_flow("goog"), seed, 58_000, OPEN_NS)
    market.run(2**62, 5_000)
    rows = empty_events(EVENTS)
    rows = rows[: market.run(2**62, EVENTS, rows=rows)]
    good = (
        (rows["bid_sz"][:, 0] > 0)
        & (rows["ask_sz"][:, 0] > 0)
        & (rows["ask_px"][:, 0] - rows["bid_px"][:, 0] > 3)
    )
    return rows[: int(np.flatnonzero(good)[-1]) + 1].copy()


def fork(seed: int = 1, position: int = 0, rests: int = 0) -> Fork:
    """The last event of a market nobody traded in, with so many lots held and an order at rest at a side's touch."""
    past = events(seed)
    engine = Engine([GOOG], load_model("linear"), LIMITS, "WHATIF01")
    engine.control(Control(action="degraded", ts=0, reason="looks on", value=1.0))
    engine.process(past[:-1])
    engine.control(Control(action="degraded", ts=0, reason="looks on", value=0.0))
    engine.desk.account["position"] = engine.desk.lots["position"] = position
    order, event = no_order(0), past[-1:].copy()
    if rests:
        o, touch = order[0], event["bid_px" if rests > 0 else "ask_px"][0, 0]
        o["open"], o["status"], o["sequence"], o["id"], o["first"] = (
            True,
            STATUSES.index(OrderStatus.NEW),
            1,
            1,
            1,
        )
        o["side"], o["qty"], o["px"], o["ts"], o["ahead"] = rests, 1, touch, event["ts"][0] - 1_000_000, 0
        show(o, engine.desk.working[0])
        assert engine.desk.working["state"][0] == WorkingState.RESTING
    state = {name: rows.copy() for name, rows in engine.checkpoint().items()}
    on_its_way = np.zeros(0, MESSAGE)
    return Fork(
        GOOG, LIMITS, engine.model, engine.run, state, 100_000, order, on_its_way, event, past[:-1].copy()
    )


def decided(at: Fork) -> Any:
    """What the engine decides there."""
    return at.engine().process(at.event).rows[0]


def compare(
    at: Fork, base: Change, other: Change, pairs: int = 12, seconds: float = 5.0, **changes: Any
) -> Played:
    usual = Settings(pairs, int(seconds * 1e9), False, 1, LatencyConfig(), False)
    return play(at, named_flow("goog"), decided(at), base, other, usual._replace(**changes))


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(1, 3),
    position=st.integers(-4, 4),
    rests=st.sampled_from([-1, 0, 1]),
    closed=st.booleans(),
    shown=st.booleans(),
)
def test_a_way_against_itself_differs_by_nothing(
    seed: int, position: int, rests: int, closed: bool, shown: bool
) -> None:
    at = fork(seed, position, rests)
    found = compare(at, Change(), Change(), 6, until_closed=closed, shown=shown)
    assert difference(found) == (0.0, 0.0)
    for ours, theirs in zip(found.base, found.other, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    for name in DECISION.names or ():
        assert name in UNHASHED or found.rows[0][name].tobytes() == found.rows[1][name].tobytes()
    assert len(set(found.base.held_s)) > 1 or not closed or position == rests == 0, (
        "each pair is a market of its own"
    )


@pytest.mark.parametrize("action", ["hold", "cross", "join", "improve", "behind"])
def test_an_action_against_itself_differs_by_nothing_too(action: str) -> None:
    change = Change(action, 1, 2)
    found = compare(fork(2), change, change, 6)
    assert difference(found) == (0.0, 0.0)
    wanted = {"hold": Action.HOLD, "cross": Action.CROSS}.get(action, Action.POST)
    assert Action(int(found.rows[0]["action"])) is wanted
    touch = int(fork(2).event["bid_px"][0, 0])
    at = {
        "cross": int(fork(2).event["ask_px"][0, 0]),
        "join": touch,
        "improve": touch + 1,
        "behind": touch - 1,
    }
    assert found.rows[0]["px"] == at.get(action, found.rows[0]["px"])


def test_a_limit_that_never_binds_changes_nothing() -> None:
    """Other objects, the same markets: what is different is only what differs."""
    wide = msgspec.structs.replace(LIMITS, turnover_per_hour=1e9)
    found = compare(fork(1, 2), Change(), Change(limits=wide))
    assert difference(found) == (0.0, 0.0)
    assert found.base.lots.sum() > 0


def test_markets_are_shared_so_a_difference_is_known_better_than_its_parts() -> None:
    """A lot more, bought at once and held with the others: the market moves both by the same."""
    held = compare(fork(3, 4), Change("hold"), Change("cross", 1, 1), 40, 0.2)
    apart = np.hypot(held.base.value.std(), held.other.value.std())  # of markets that are not shared
    assert (held.other.value - held.base.value).std() < 0.75 * apart


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("side", [1, -1])
def test_crossing_and_selling_again_at_once_is_told_to_cost_the_spread(seed: int, side: int) -> None:
    at = fork(seed)
    found = compare(at, Change("hold"), Change("cross", side, 1), 20, 0.005)
    mean, half = difference(found)
    spread = float(at.event["ask_px"][0, 0] - at.event["bid_px"][0, 0])
    filled = found.other.lots > 0
    assert filled.mean() > 0.5
    assert mean + half < 0.0, "the interval leaves out zero"
    gone = found.other.value[filled]
    fees = 2 * GOOG.taker_fee
    assert np.median(gone) == pytest.approx(-spread - fees, abs=0.5 * spread)
    assert found.at_stake == 1


def test_more_of_what_is_bad_is_worse_and_the_better_way_is_told_from_either_side() -> None:
    at = fork(1)
    one, five = Change("cross", 1, 1), Change("cross", 1, 4)
    found, turned = compare(at, one, five, 20, 0.005), compare(at, five, one, 20, 0.005)
    mean, half = difference(found)
    assert mean + half < 0.0
    assert difference(turned) == (pytest.approx(-mean), pytest.approx(half))
    assert found.at_stake == turned.at_stake == 4


def test_what_is_held_is_valued_from_the_mid_of_the_fork_to_its_sale() -> None:
    at = fork(1, 3)
    bids, sizes = at.event["bid_px"][0], at.event["bid_sz"][0]
    found = compare(at, Change("hold"), Change("hold"), 20, 1e-6)
    left, cash = 3, 0.0
    for px, size in zip(bids, sizes, strict=True):
        take = min(left, int(size))
        cash, left = cash + take * float(px), left - take
    mid = 0.5 * float(at.event["bid_px"][0, 0] + at.event["ask_px"][0, 0])
    assert np.median(found.base.value) == pytest.approx(cash - 3 * mid - 3 * GOOG.taker_fee)


def test_a_cancel_takes_the_order_out_and_a_hold_leaves_it_at_its_place() -> None:
    """An order first in its queue is filled sooner or later; cancelled, it is not."""
    at = fork(1, 0, 1)
    kept = compare(at, Change("hold"), Change("cancel"), 20, 0.5)
    assert kept.rows[1]["action"] == Action.CANCEL
    quick = compare(at, Change("hold"), Change("cancel"), 20, 0.05)
    assert quick.base.maker_lots.sum() > quick.other.maker_lots.sum()


def test_an_action_is_given_once_and_the_rule_goes_on() -> None:
    found = compare(fork(3), Change("hold"), Change("hold"), 6, 30.0)
    assert found.rows[0]["action"] == Action.HOLD
    assert found.base.lots.sum() > 0


def test_the_interval_is_that_of_the_mean_of_differences_pair_by_pair() -> None:
    def one(values: list[float]) -> Outcomes:
        value = np.array(values)
        return Outcomes(value, value, value, value, value, value > 0)

    mean, half = difference(Played(one([1.0, 2.0, 3.0, 4.0]), one([2.0, 5.0, 4.0, 7.0]), (None, None), 1))
    assert (mean, half) == (2.0, pytest.approx(1.959964 * np.sqrt(4.0 / 3.0) / 2.0))


def test_until_closed_ends_when_nothing_is_held_and_nothing_at_work() -> None:
    flat = compare(fork(1), Change("hold"), Change("cross", 1, 1), 10, 60.0, until_closed=True)
    assert flat.base.closed.all()
    assert (flat.base.held_s < 1e-3).all()
    assert (flat.base.value == 0.0).all()
    assert (flat.other.held_s >= flat.base.held_s).all()


def test_what_the_engine_would_not_decide_is_refused() -> None:
    at = fork(1)
    row = decided(at).copy()
    row["action"] = Action.CROSS if row["action"] != Action.CROSS else Action.HOLD
    usual = Settings(2, 10**9, False, 1, LatencyConfig(), False)
    with pytest.raises(JournalError, match="the decision comes out as"):
        play(at, named_flow("goog"), row, Change(), Change(), usual)
    narrow = msgspec.structs.replace(LIMITS, max_position_lots=2, max_order_lots=2)
    full = fork(1, 2)
    with pytest.raises(
        UsageError, match=f"risk does not let it pass there \\(hold \\({Reason.POSITION_LIMIT.name.lower()}"
    ):
        play(
            full,
            named_flow("goog"),
            decided(full),
            Change("hold"),
            Change("cross", 1, 1, limits=narrow),
            usual,
        )
