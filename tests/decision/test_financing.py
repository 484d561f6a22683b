"""What the next roll is worth to a lot: against the formula worked by hand, and in every choice of the rule."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.codes import Action, Reason
from emp.core.records import ACCOUNT
from emp.decision.financing import (
    HORIZON,
    expect_carry,
    learn_holding,
    learn_unfinished,
    mean_holding_ns,
    new_financing,
)
from emp.decision.outcomes import new_lots, take_fills
from emp.decision.standing import MEMORY, new_standing
from tests.decision.test_rule import believe, book, choose, costs, estimates, resting, standing

S = 10**9


def fin(left_ns: int, long: float, short: float) -> Any:
    record = new_financing()
    record["roll_ns"], record["long"], record["short"] = 10**18 + left_ns, long, short
    return record[0]


@given(
    held=st.lists(st.integers(1, 10**13), max_size=30),
    left=st.integers(-(10**12), 10**14),
    long=st.floats(-50, 50),
    short=st.floats(-50, 50),
)
def test_the_roll_counts_as_likely_as_the_lot_still_stands(
    held: list[int], left: int, long: float, short: float
) -> None:
    mine, shadow = new_standing()[0], new_standing()[0]
    total, n = 0.0, 0.0
    for one in held:
        learn_holding(mine, float(one))
        total, n = (1 - 1 / MEMORY) * total + one, (1 - 1 / MEMORY) * n + 1
    mean = (2 * S + total) / (1 + n)
    assert mean_holding_ns(mine) == pytest.approx(mean)
    expect_carry(fin(left, long, short), 10**18, mine, shadow)
    chance = math.exp(-left / mean) if left > 0 else 0.0
    for st_ in (mine, shadow):
        assert st_["carry_buy"] == pytest.approx(chance * long, rel=1e-6, abs=1e-30)
        assert st_["carry_sell"] == pytest.approx(chance * short, rel=1e-6, abs=1e-30)


def test_holding_times_that_are_cut_short_count_for_their_mean() -> None:
    """Exponential times of which those beyond a break are cut there: the mean of the whole law is found again."""
    times = np.random.default_rng(3).exponential(100.0 * S, 400)
    record, lots = new_standing()[0], new_lots()[0]
    for one in times:
        if one <= 60 * S:
            learn_holding(record, float(one))
        else:
            lots["position"], lots["since"] = 1, float(10**18)
            learn_unfinished(record, lots, 10**18 + 60 * S)
    assert mean_holding_ns(record) == pytest.approx(100.0 * S, rel=0.2)
    lots["position"] = 0
    before = float(record["held_ns"])
    learn_unfinished(record, lots, 10**18 + 60 * S)
    assert record["held_ns"] == before
    assert float(HORIZON) == 2 * S


@pytest.mark.parametrize("side", [1, -1])
def test_an_order_that_opens_pays_for_the_roll(side: int) -> None:
    """2.6 ticks of edge, 2.5 to cross: a tenth of a tick decides."""
    mine = "carry_buy" if side > 0 else "carry_sell"
    forecast = believe(side * 0.65)
    for carry, action in ((0.0, Action.CROSS), (-0.05, Action.CROSS), (-0.2, Action.HOLD)):
        row = choose(book(), forecast, estimates(), costs(), st=standing(lots=10, **{mine: carry}))
        assert row["action"] == action
        if action is Action.CROSS:
            assert row["gain"] == pytest.approx(0.1 + carry, rel=1e-5)
    poor = choose(book(), believe(side * 0.60), estimates(), costs(), st=standing(lots=10, **{mine: 0.2}))
    assert (poor["action"], poor["side"]) == (Action.CROSS, side), "what is received is a reason to open"


@pytest.mark.parametrize("side", [1, -1])
def test_an_order_that_closes_spares_the_roll(side: int) -> None:
    held = "carry_sell" if side > 0 else "carry_buy"
    for carry, action in ((0.0, Action.HOLD), (-0.3, Action.CROSS), (0.3, Action.HOLD)):
        row = choose(
            book(),
            believe(side * 0.60, width=1e-6),  # no sigma, so no pressure
            estimates(),
            costs(),
            position=-side * 5,
            st=standing(lots=10, **{held: carry}),
        )
        assert row["action"] == action, carry
    assert row["reason_code"] == Reason.NO_EDGE


@pytest.mark.parametrize("side", [1, -1])
def test_an_order_at_rest_goes_before_a_roll_that_it_must_not_meet(side: int) -> None:
    mine = "carry_buy" if side > 0 else "carry_sell"
    px = 1000 if side > 0 else 1004
    kept = choose(book(), believe(side * 0.2), estimates(volume_bid=50.0, volume_ask=50.0), costs(),
                  working=resting(side, px))  # fmt: skip
    assert (kept["action"], kept["reason_code"]) == (Action.HOLD, Reason.KEEP_RESTING)
    gone = choose(book(), believe(side * 0.2), estimates(volume_bid=50.0, volume_ask=50.0), costs(),
                  working=resting(side, px), st=standing(lots=10, **{mine: -5.0}))  # fmt: skip
    assert (gone["action"], gone["reason_code"]) == (Action.CANCEL, Reason.CANCEL_EDGE_GONE)


def account(position: int, cash: float, fees: float = 0.0, financing: float = 0.0) -> Any:
    record = np.zeros(1, ACCOUNT)[0]
    record["position"], record["cash"], record["fees"] = position, cash, fees
    record["financing"] = financing
    return record


@pytest.mark.parametrize("side", [1, -1])
def test_what_a_lot_brought_has_its_rolls_in_it(side: int) -> None:
    """Three lots at 100, a roll of -2 a lot, one closed at 110, a roll of -1 a lot, the rest at 120."""
    lots = new_lots()[0]
    take_fills(lots, account(3 * side, -300.0 * side), 1)
    take_fills(lots, account(3 * side, -300.0 * side, financing=-6.0), 2)
    take_fills(lots, account(2 * side, -190.0 * side, financing=-6.0), 3)
    take_fills(lots, account(2 * side, -190.0 * side, financing=-8.0), 4)
    ended = take_fills(lots, account(0, 50.0 * side, financing=-8.0), 5)
    assert ended
    assert lots["brought"] == pytest.approx(50.0 * side - 8.0)
    assert lots["last"]["brought"] == pytest.approx(50.0 * side - 8.0)
    for question in ("reason", "hour"):
        from emp.decision.kinds import kinds_of

        assert lots["kinds"]["brought"][kinds_of(question)].sum() == pytest.approx(50.0 * side - 8.0)
