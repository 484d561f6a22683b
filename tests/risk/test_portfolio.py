"""Room under the account's limits: what may be opened never passes one, and what closes is never barred."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emp.core.codes import Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import ACCOUNT, WORKING, Array
from emp.risk.limits import new_risk
from emp.risk.portfolio import PLENTY, new_exposures, new_portfolio, watch_portfolio

lots = st.integers(-20, 20)


@kernel
def watch(folio: Any, exposures: Any, accounts: Any, workings: Any, i: int, mid: float, risks: Any) -> None:
    watch_portfolio(folio[0], exposures, accounts, workings, i, mid, 1_000, risks[0])


def watched(
    held: list[int], resting: list[int], mids: list[float], i: int = 0, **limits: float
) -> tuple[Array, Array, Array]:
    """PORTFOLIO, EXPOSURE and RISK after an event of instrument i; a tick of a lot is worth 1."""
    n = len(held)
    folio, exposures, risks = new_portfolio(), new_exposures(n), new_risk()
    accounts, workings = np.zeros(n, ACCOUNT), np.zeros(n, WORKING)
    for name, value in limits.items():
        folio[name] = value
    accounts["position"], exposures["mid"] = held, mids
    workings["state"] = np.where(np.array(resting) != 0, WorkingState.RESTING, WorkingState.NONE)
    workings["side"], workings["leaves"] = np.sign(resting), np.abs(resting)
    watch(folio, exposures, accounts, workings, i, mids[i], risks)
    return folio, exposures, risks


@given(
    held=st.lists(lots, min_size=3, max_size=3),
    resting=st.lists(st.integers(-5, 5), min_size=3, max_size=3),
    mids=st.lists(st.sampled_from([1.0, 2.5, 10.0]), min_size=3, max_size=3),
    gross=st.sampled_from([50.0, 100.0, 1e9]),
    net=st.sampled_from([20.0, 60.0, 1e9]),
    side=st.sampled_from([1, -1]),
)
def test_filled_with_its_room_and_all_that_rests_elsewhere_no_limit_is_passed(
    held: list[int], resting: list[int], mids: list[float], gross: float, net: float, side: int
) -> None:
    folio, _, risks = watched(held, resting, mids, max_gross=gross, max_net=net)
    assert folio["gross"][0] == sum(abs(h * m) for h, m in zip(held, mids, strict=True))
    assert folio["net"][0] == sum(h * m for h, m in zip(held, mids, strict=True))
    room = int(risks["room_buy" if side > 0 else "room_sell"][0])
    closing = max(0, -side * held[0])
    assert room >= closing, "what closes was barred"

    def passed(added: int) -> bool:
        """Whether a limit can be passed with so many lots more here, whatever fills elsewhere."""
        mine = (held[0] + side * added) * mids[0]
        others = list(zip(held[1:], resting[1:], mids[1:], strict=True))
        most = abs(mine) + sum(max(abs(h), abs(h + r)) * m for h, r, m in others)
        lean = side * mine + sum((side * h + max(0, side * r)) * m for h, r, m in others)
        return bool(most > gross + 1e-9 or lean > net + 1e-9)

    assert room == closing or not passed(room)
    assert room >= PLENTY or passed(room + 1)


@given(
    held=lots,
    equity=st.sampled_from([0.0, 10.0, 70.0, 200.0]),
    elsewhere=st.sampled_from([0.0, 5.0]),
    earned=st.sampled_from([-20.0, 0.0, 20.0]),
    level=st.sampled_from([1.0, 2.0]),
)
def test_margin_leaves_what_is_free_and_what_closes(
    held: int, equity: float, elsewhere: float, earned: float, level: float
) -> None:
    """`equity` and what others use (`elsewhere`) were stated while we held nothing; since then we have `earned`."""
    folio, exposures, risks = new_portfolio(), new_exposures(1), new_risk()
    accounts, workings = np.zeros(1, ACCOUNT), np.zeros(1, WORKING)
    accounts["position"], accounts["pnl"], exposures["margin"] = held, earned, 0.5
    folio["margin_level"], folio["equity"], folio["stated_used"] = level, equity, elsewhere
    folio["stated_ns"], folio["margin_max_age_ns"] = 1_000, 1
    watch(folio, exposures, accounts, workings, 0, 10.0, risks)
    assert folio["used"][0] == abs(held) * 5.0
    most = max(0, int((max(0.0, equity + earned) / level - elsewhere) // 5.0))  # lots on either side, in all
    assert risks["room_buy"][0] == max(most - held, -held, 0)
    assert risks["room_sell"][0] == max(most + held, held, 0)
    if most < abs(held):
        assert risks["room_reason"][0][0 if held > 0 else 1] == Reason.MARGIN


def test_what_is_not_known_of_margin_bars_opening() -> None:
    limits = {"margin_level": 1.0, "equity": 1e9, "stated_ns": 900, "margin_max_age_ns": 100}
    assert _barred(**limits) == 0
    assert _barred(**{**limits, "stated_ns": 0}) == Reason.MARGIN, "nobody has stated it"
    assert _barred(**{**limits, "margin_max_age_ns": 99}) == Reason.MARGIN, "the statement is too old"
    assert _barred(0.0, **limits) == Reason.MARGIN, "nobody knows what a lot asks"
    assert _barred(0.0, **{**limits, "margin_level": 0.0}) == 0, "nobody asks"


def _barred(margin: float = 0.5, **limits: float) -> int:
    folio, exposures, risks = new_portfolio(), new_exposures(1), new_risk()
    exposures["margin"] = margin
    for name, value in limits.items():
        folio[name] = value
    watch(folio, exposures, np.zeros(1, ACCOUNT), np.zeros(1, WORKING), 0, 10.0, risks)
    return int(risks["account_bar"][0])


def test_what_is_held_and_was_not_seen_yet_is_unconverted() -> None:
    folio, _, risks = watched([0, 3], [0, 0], [1.0, np.nan], max_gross=1e9)
    assert folio["unconverted"][0] == 1
    assert risks["account_bar"][0] == Reason.NO_RATE
    folio, _, risks = watched([0, 0], [0, 0], [1.0, np.nan], max_gross=1e9)
    assert (folio["unconverted"][0], risks["account_bar"][0]) == (0, 0)
