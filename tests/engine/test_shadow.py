"""The trader in the head beside the engine in earnest, where both may hold one lot and believe every gain."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import ROUND_TRIP_NS, PaperVenue
from emp.app.wiring import assembly
from emp.core.codes import Action, EventFlag
from emp.core.records import ACCOUNT, DECISION, EVENT, WORKING, Array
from emp.decision.outcomes import new_lots
from emp.decision.rule import COSTS
from emp.decision.shadow import end_shadow, follow, learn_outcomes, meet_market, new_shadow, withdraw_shadow
from emp.decision.standing import new_standing
from emp.engine.replay import Backtest
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, engine

ONE_LOT = msgspec.structs.replace(LOOSE, max_position_lots=1, max_order_lots=1)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("seed", range(3))
def test_the_shadow_trades_as_the_engine_does_with_one_lot(tmp_path: Path, seed: int) -> None:
    e = engine(tmp_path, ONE_LOT)
    e.desk.standing["n"] = -1e12  # learns nothing
    e.desk.standing["scale"], e.desk.standing["scaled"] = 1e30, 1e9  # and cannot be stopped
    together: list[bool] = []

    def look(*_: object) -> None:
        together.append(bool(e.desk.account["position"][0] == e.desk.shadow_account["position"][0]))

    Backtest(Events(random_events(6000, seed), e.instruments[0], 1), e, PaperVenue(e.instruments[0])).run(
        look
    )
    real, shadow = e.desk.account[0], e.desk.shadow_account[0]
    assert real["fills"] > 300
    assert shadow["fills"] == pytest.approx(real["fills"], rel=0.05)
    assert np.mean(together) > 0.9
    lots = e.desk.shadow_lots[0]
    assert lots["trips"] == shadow["fills"] // 2
    flat = shadow["position"] == 0
    assert not flat or lots["brought"] == pytest.approx(shadow["cash"] - shadow["fees"])


def test_the_shadow_is_as_far_from_the_venue_as_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = engine(tmp_path)
    source = Events(random_events(10, 1), e.instruments[0], 10)
    monkeypatch.setattr(assembly, "open_recording", lambda *_, **__: source)
    (tmp_path / "day.csv").write_text("ts,bid,ask\n1,2,3\n")
    for asked, found in ((12.5, 12_500_000), (None, ROUND_TRIP_NS[e.instruments[0].venue])):
        replay, _ = assembly.assemble_replay(
            {"GOOG": [tmp_path / "day.csv"]},
            None,
            e.model,
            LOOSE,
            tmp_path / "runs",
            reading=assembly.Reading(latency_ms=asked),
        )
        assert replay.engine.desk.facts["round_trip_ns"].tolist() == [found]
        assert replay.legs[0].venue.venue["entry_ns"][0] == found
        replay.abandon()


class Hand:
    """A shadow of one instrument, moved by hand."""

    def __init__(self) -> None:
        self.shadow, self.account = new_shadow()[0], np.zeros(1, ACCOUNT)[0]
        self.working, self.lots = np.zeros(1, WORKING)[0], new_lots()[0]
        self.standing, self.costs = new_standing(one_lot=True)[0], np.zeros(1, COSTS)[0]
        self.costs["maker_fee"], self.costs["taker_fee"] = 0.25, 0.5
        self.ts = 0
        self.sizeless = EventFlag(0)

    def show(self, bid: int, ask: int, size: int = 5, trade: tuple[int, int] | None = None) -> Array:
        event = np.zeros(1, EVENT)
        self.ts += 10
        event["ts"], event["flags"], event["n_bid"], event["n_ask"] = self.ts, EventFlag.VISIBLE, 1, 1
        event["bid_px"][0, 0], event["ask_px"][0, 0] = bid, ask
        event["bid_sz"][0, 0] = event["ask_sz"][0, 0] = size
        if trade is not None:
            event["flags"] = EventFlag.VISIBLE | EventFlag.TRADE
            event["trade_px"], event["trade_qty"], event["trade_qty_last"] = trade[0], trade[1], abs(trade[1])
        event["flags"] |= np.uint32(self.sizeless)
        meet_market(self.shadow, event[0], self.account, self.working, self.costs)
        return event

    def ask(self, event: Array, action: Action, side: int, px: int, delay: int = 5) -> None:
        row = np.zeros(1, DECISION)[0]
        row["action"], row["side"], row["px"] = action, side, px
        follow(self.shadow, event[0], row, self.account, self.working, self.lots, self.standing, delay)

    def learn(self, learner: Any) -> None:
        learn_outcomes(self.shadow, self.account, self.lots, learner, self.ts)

    @property
    def held(self) -> int:
        return int(self.account["position"])


def test_an_order_waits_behind_what_was_shown_when_it_arrived() -> None:
    hand = Hand()
    hand.ask(hand.show(100, 102), Action.POST, 1, 100)
    hand.show(100, 102, trade=(100, -5))
    assert hand.held == 0, "five stood ahead"
    hand.show(100, 102, size=8, trade=(100, -1))
    assert hand.held == 1
    assert (hand.account["cash"], hand.account["fees"]) == (-100.0, 0.25)


def test_an_order_is_met_by_a_trade_through_it_and_by_a_quote_beyond_it() -> None:
    for kind in ({"bid": 98, "ask": 102, "trade": (99, -1)}, {"bid": 97, "ask": 99}):
        hand = Hand()
        hand.ask(hand.show(100, 102), Action.POST, 1, 100)
        hand.show(100, 102)
        hand.show(**kind)  # type: ignore[arg-type]
        assert hand.held == 1


def test_without_sizes_a_trade_at_our_price_is_no_evidence_and_a_quote_beyond_it_is() -> None:
    hand = Hand()
    hand.sizeless = EventFlag.NO_SIZE
    hand.ask(hand.show(100, 102), Action.POST, 1, 100)
    hand.show(100, 102, trade=(100, -9))
    assert hand.held == 0
    hand.show(97, 99)
    assert hand.held == 1


def test_what_arrives_meets_the_book_that_stood_until_then() -> None:
    hand = Hand()
    hand.ask(hand.show(100, 102), Action.CROSS, 1, 102)
    hand.show(103, 105)
    assert (hand.held, hand.account["cash"]) == (1, -102.0)
    late = Hand()
    late.ask(late.show(100, 102), Action.CROSS, 1, 102, delay=15)
    late.show(103, 105)
    late.show(103, 105)
    assert late.held == 0, "the price had gone when it arrived"


def test_a_cancel_is_too_late_only_where_it_has_not_arrived() -> None:
    for delay, held in ((5, 0), (50, 1)):
        hand = Hand()
        hand.ask(hand.show(100, 102), Action.POST, 1, 100)
        hand.show(100, 102)
        withdraw_shadow(hand.shadow, hand.ts + delay, hand.working)
        hand.show(97, 99)
        assert hand.held == held


def test_what_was_opened_by_crossing_teaches_whether_crossing_pays() -> None:
    """Until crossing is done in earnest its trips say nothing of gains, and none of them was missed."""
    for brings, trips, may in ((-3, 60, False), (3, 60, True)):
        hand, learner = Hand(), new_standing()[0]
        learner["lots"] = 0  # stopped
        counted = 0
        for k in range(trips):
            hand.ask(hand.show(100, 102), Action.CROSS, 1, 102)
            hand.show(100, 102)
            hand.learn(learner)
            if k == 0:
                assert hand.shadow["crossed"]
                assert not hand.shadow["missed"]
            best = 102 + brings
            hand.ask(hand.show(best, best + 2), Action.CROSS, -1, best)
            hand.show(best, best + 2)
            counted += bool(learner["may_cross"])
            hand.learn(learner)
            if k == 4:
                assert (learner["crossed_trips"], learner["n"]) == (5, 0)
        assert learner["crossed_trips"] == trips
        assert learner["crossed_scale"] == pytest.approx((brings - 1.0) ** 2)
        assert bool(learner["may_cross"]) is may
        assert learner["n"] == pytest.approx(counted, rel=0.1), "the trip that earned it is not counted"
        assert (counted > 0) is may
        assert bool(learner["regained"]["sum"] > 0) is may


def test_what_was_opened_at_rest_teaches_what_gains_are_worth() -> None:
    hand, learner = Hand(), new_standing()[0]
    for _ in range(8):
        hand.ask(hand.show(100, 102), Action.POST, 1, 100)
        hand.show(98, 99)  # through it
        hand.learn(learner)
        assert not hand.shadow["crossed"]
        hand.ask(hand.show(98, 99), Action.CROSS, -1, 98)
        hand.show(98, 99)
        hand.learn(learner)
    assert learner["crossed_trips"] == 0
    assert learner["n"] == pytest.approx(8, rel=0.02)


@pytest.mark.parametrize(("side", "brought"), [(1, 90 - 102 - 1.0), (-1, 100 - 92 - 1.0)])
@pytest.mark.parametrize("crossed", [True, False])
def test_what_a_break_finds_open_is_closed_at_the_touch_that_stood_and_counts(
    side: int, brought: float, crossed: bool
) -> None:
    """Left out, what is held until a break, the losses, would never be told."""
    hand = Hand()
    learner = new_standing()[0]
    hand.ask(hand.show(100, 102), Action.CROSS, side, 102 if side > 0 else 100)
    hand.show(100, 102)
    hand.learn(learner)
    hand.shadow["crossed"], held_ns = crossed, float(learner["held_ns"])
    hand.show(90, 92)
    hand.ask(hand.show(90, 92), Action.POST, side, 90)  # on its way when the stream breaks
    end_shadow(hand.shadow, hand.account, hand.working, hand.lots, learner, hand.costs, hand.ts)
    assert (hand.held, hand.lots["position"], hand.shadow["asked"]) == (0, 0, 0)
    assert hand.lots["last"]["brought"] == pytest.approx(brought)
    assert learner["crossed_trips"] == crossed
    assert learner["n"] == (0.0 if crossed else 1.0)
    assert learner["held_ns"] == held_ns, "its end is not known"
    trips = int(hand.lots["trips"])
    end_shadow(hand.shadow, hand.account, hand.working, hand.lots, learner, hand.costs, hand.ts)
    assert hand.lots["trips"] == trips == 1


def test_a_break_before_any_book_tells_nothing() -> None:
    hand = Hand()
    hand.account["position"] = 1
    learner = new_standing()[0]
    end_shadow(hand.shadow, hand.account, hand.working, hand.lots, learner, hand.costs, 1)
    assert (hand.held, hand.lots["trips"], learner["n"]) == (0, 0, 0.0)


def test_it_holds_one_lot_and_no_more() -> None:
    hand = Hand()
    hand.ask(hand.show(100, 102), Action.CROSS, 1, 102)
    hand.ask(hand.show(100, 102), Action.CROSS, 1, 102)
    hand.show(100, 102)
    assert hand.held == 1
    hand.ask(hand.show(100, 102), Action.CROSS, -1, 100)
    hand.show(100, 102)
    assert hand.held == 0
