"""What was forecast and believed is set beside what came, and never before it has come."""

import numpy as np
import pytest

from emp.core.codes import Action, EventFlag, OrderStatus, Reason
from emp.core.contracts import Control, NewOrder, OrderUpdate
from emp.core.records import DECISION, HORIZON_NAMES, Array, empty_events
from emp.engine.beliefs import Beliefs
from emp.engine.control_log import ControlLog
from emp.engine.fill_log import FillLog
from emp.execution.transitions import Order

MS = 1_000_000
THRESHOLD = np.full(len(HORIZON_NAMES), 0.5)


def market(mids: list[float], apart_ms: int = 50, first: int = 0) -> tuple[Array, Array]:
    """Events with these mids, two ticks wide, and a holding decision after each; forecasts of +1 ± 1 tick."""
    n = len(mids)
    events, rows = empty_events(n), np.zeros(n, DECISION)
    events["flags"], events["n_bid"], events["n_ask"] = EventFlag.VISIBLE, 1, 1
    events["ts"] = rows["ts"] = (first + np.arange(n)) * apart_ms * MS + MS
    events["seq"] = rows["seq"] = first + np.arange(n) + 1
    events["bid_px"][:, 0] = rows["bid"] = np.array(mids) - 1
    events["ask_px"][:, 0] = rows["ask"] = np.array(mids) + 1
    rows["unit_ticks"], rows["q"], rows["p"], rows["horizon"] = 2.0, (0.0, 0.5, 1.0), (0.0, 0.0, 1.0), 5
    return events, rows


def test_a_forecast_is_compared_with_the_mid_at_its_time_and_not_before() -> None:
    beliefs = Beliefs()
    events, rows = market([100] * 40 + [102] * 20)
    rows["action"][0], rows["side"][0] = Action.POST, -1
    beliefs.take(events[:40], rows[:40])
    beliefs.settle(THRESHOLD, 10**18)
    assert beliefs.calibration() == {}, "2 s have not passed"
    assert beliefs.came_of(1) is None
    beliefs.take(events[40:45], rows[40:45])
    beliefs.settle(THRESHOLD, 10**18)
    assert beliefs.came_of(1) == -2.0, "a sale before a rise of two ticks"
    oldest = beliefs.outcomes[-1]
    assert (oldest.ts, oldest.due, oldest.low, oldest.high, oldest.came) == (
        MS,
        MS + 2_000 * MS,
        100.0,
        102.0,
        102.0,
    )
    found = beliefs.calibration()
    assert found["2s"].outcomes == found["1ev"].outcomes == len(beliefs.outcomes)
    assert (found["2s"].inside, found["2s"].below, found["2s"].brier) == (1.0, 0.0, 0.0)
    assert (found["100ms"].inside, found["100ms"].brier) == (1.0, pytest.approx(2 / 3)), (
        "it did not rise at once"
    )
    assert beliefs.forecast["2s"].high == 2.0


def test_below_zero_outcomes_are_known_as_above_it() -> None:
    found = []
    for zero in (0, -100, -1_000):
        beliefs = Beliefs()
        beliefs.take(*market([100 + zero] * 40 + [102 + zero] * 20))
        beliefs.settle(THRESHOLD, 10**18)
        found.append(beliefs.calibration())
    assert found[0]
    assert found[1] == found[2] == found[0]


def test_shares_below_and_above_are_told_apart() -> None:
    for later, place in ((90, "below"), (120, "above")):
        beliefs = Beliefs()
        events, rows = market([100] * 40 + [later] * 40)
        beliefs.take(events, rows)
        beliefs.settle(THRESHOLD, 10**18)
        found = beliefs.calibration()["2s"]
        assert getattr(found, place) == 1.0 - found.inside > 0.4


def test_no_outcome_crosses_an_interruption_and_memory_is_bounded() -> None:
    beliefs = Beliefs()
    events, rows = market([100] * 60)
    beliefs.take(events[:10], rows[:10])
    events["flags"][10] |= EventFlag.GAP
    beliefs.take(events[10:], rows[10:])
    beliefs.settle(THRESHOLD, 10**18)
    assert {o.ts for o in beliefs.outcomes}.isdisjoint(events["ts"][:10].tolist())
    assert beliefs.outcomes
    for k in range(1, 60):
        beliefs.take(*market([100] * 200, first=60 + k * 200))
        beliefs.settle(THRESHOLD, 10**18)
    assert len(beliefs._ts[0]) < 200
    assert len(beliefs._waiting) < 200


def order(seq: int, side: int = 1) -> Order:
    command = NewOrder(
        cl_ord_id="A-1",
        instrument="X",
        side=side,
        qty=5,
        px=100,
        immediate=False,
        ts=0,
        reason=Reason.POST_EDGE,
        decision_seq=seq,
    )
    return Order(command=command, original=command, index=0, most=5)


def report(filled: int, px: int = 100, fee: float = 0.5, ts: int = MS) -> OrderUpdate:
    return OrderUpdate(
        clOrdID="A-1",
        execID=f"e{filled}",
        status=OrderStatus.PARTIALLY_FILLED,
        filled=filled,
        price=px,
        ts=ts,
        fee=fee,
        maker=True,
    )


def test_a_fill_is_what_a_report_adds_and_is_valued_when_its_time_has_come() -> None:
    log = FillLog({"A-1": order(9)}.get, {9: 1.25}.get)
    log.take(report(0))
    log.take(report(2))
    log.take(report(2))
    log.take(report(5, px=101))
    newest, oldest = log.fills
    assert (oldest.qty, oldest.px, oldest.reason, oldest.expected_ticks, oldest.realised_ticks) == (
        2,
        100,
        "post_edge",
        1.25,
        None,
    )
    assert (newest.n, newest.qty, newest.px) == (2, 3, 101)
    log.settle(lambda ts: None)
    assert log.fills[0].realised_ticks is None
    assert log.waiting_since(MS) == MS
    log.settle(lambda ts: 104.0)
    assert log.fills[1].realised_ticks == 4.0 - 0.25
    assert log.waiting_since(77) == 77
    log.take(OrderUpdate(clOrdID="strange", execID="x", status=OrderStatus.FILLED, filled=5, price=1, ts=1))
    assert len(log.fills) == 2


def test_a_fill_is_valued_two_seconds_later_by_the_market_it_saw() -> None:
    beliefs = Beliefs()
    beliefs.take(*market([100] * 30 + [106] * 20))
    assert beliefs.mid_after(MS) == 106.0
    assert beliefs.mid_after(-10_000 * MS) is None, "before anything was seen"
    assert beliefs.mid_after(1_000 * MS) is None, "not yet"


def test_how_long_it_took_to_be_flat_is_told_once_it_is() -> None:
    held = {"X": 3}
    log = ControlLog(lambda name: not any(held.values()) if not name else not held[name])
    assert not log.take(Control(action="timer", ts=0), 0, 0)
    assert log.take(Control(action="kill", ts=0, reason="fire"), 5, 1_000 * MS)
    assert log.take(Control(action="halt", ts=0), 6, 1_001 * MS)
    assert not log.look(1_020 * MS)
    held["X"] = 0
    assert log.look(1_050 * MS)
    halt, kill = log.controls
    assert (kill.action, kill.reason, kill.flat_ms, halt.flat_ms) == ("kill", "fire", 50.0, None)
    assert not log.look(1_060 * MS)
    held["X"] = 1
    log.take(Control(action="flatten", ts=0), 7, 2_000 * MS)
    log.take(Control(action="resume", ts=0), 8, 2_010 * MS)
    held["X"] = 0
    assert not log.look(2_020 * MS), "who resumes waits for nothing"
