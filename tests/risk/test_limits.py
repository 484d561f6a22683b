"""Hard limits: each refuses or shrinks exactly what it is there for."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.codes import Action, Reason, Session
from emp.core.records import ACCOUNT, DECISION
from emp.risk.limits import LIMITS, MINUTE_NS, approve, new_risk

NOW = 10**18
WARM = 1000


def limits(**changes: float) -> Any:
    record = np.zeros(1, LIMITS)[0]
    values = {
        "max_position": 10,
        "max_daily_loss": 100.0,
        "max_drawdown": 200.0,
        "orders_per_minute": 12.0,
        "turnover_per_minute": 100.0,
        "turnover_per_hour": 200.0,
        "warmup_events": 512,
    }
    for name, value in {**values, **changes}.items():
        record[name] = value
    return record


def ask_for(side: int = 1, qty: int = 3, action: Action = Action.CROSS, ts: int = NOW, rests: int = 0) -> Any:
    row = np.zeros(1, DECISION)[0]
    row["action"], row["side"], row["qty"], row["ts"] = action, side, qty, ts
    row["reason_code"] = Reason.CROSS_EDGE
    row["resting_side"], row["resting_qty"] = np.sign(rests), abs(rests)
    return row


def account(position: int = 0, pnl: float = 0.0, day_start: float = 0.0, peak: float = 0.0) -> Any:
    record = np.zeros(1, ACCOUNT)[0]
    record["position"], record["pnl"], record["day_start"], record["peak"] = position, pnl, day_start, peak
    return record


def verdict(
    row: Any, a: Any = None, r: Any = None, lim: Any = None, session: Session = Session.NY, warm: int = WARM
) -> Any:
    r = new_risk()[0] if r is None else r
    resting = bool(row["resting_side"])
    a = account() if a is None else a
    row["state_events"] = row["since_reset"] = warm
    approve(r, limits() if lim is None else lim, a, int(session), resting, row)
    return Action(int(row["action"])), Reason(int(row["reason_code"])), int(row["qty"])


def risk(**changes: float) -> Any:
    record = new_risk()[0]
    for name, value in changes.items():
        record[name] = value
    return record


def test_what_no_limit_forbids_passes_untouched() -> None:
    assert verdict(ask_for()) == (Action.CROSS, Reason.CROSS_EDGE, 3)


def move(qty: int, px: int, rests: int = 4) -> Any:
    """A change of a bid of `rests` lots at 100."""
    row = ask_for(qty=qty, action=Action.REPLACE, rests=rests)
    row["px"], row["resting_px"] = px, 100
    return row


def test_a_replacement_is_charged_for_what_it_adds_and_fewer_lots_are_always_allowed() -> None:
    r = risk()
    assert verdict(move(4, 101), r=r) == (Action.REPLACE, Reason.CROSS_EDGE, 4)
    assert (r["orders"], r["minute_lots"], r["hour_lots"]) == (1.0, 0.0, 0.0)
    assert verdict(move(6, 101), r=r)[2] == 6
    assert (r["orders"], r["minute_lots"], r["hour_lots"]) == (2.0, 2.0, 2.0)
    spent = risk(orders=6.0, minute_lots=50.0)
    assert verdict(move(4, 101), r=spent) == (Action.HOLD, Reason.ORDER_RATE, 0)
    assert verdict(move(3, 100), r=spent) == (Action.REPLACE, Reason.CROSS_EDGE, 3)
    assert spent["orders"] == 6.0
    assert verdict(move(9, 101), account(position=5)) == (Action.REPLACE, Reason.CROSS_EDGE, 5), (
        "the position limit"
    )
    assert verdict(move(4, 101), account(position=8)) == (Action.REPLACE, Reason.CROSS_EDGE, 2), (
        "lots are taken off"
    )
    assert verdict(move(4, 101), account(position=10))[0] is Action.HOLD
    assert verdict(move(6, 100), r=risk(minute_lots=50.0)) == (Action.HOLD, Reason.TURNOVER_CAP, 0)
    assert verdict(move(4, 101), r=risk(halted=True)) == (Action.CANCEL, Reason.HALTED, 4)


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"r": risk(halted=True)}, Reason.HALTED),
        ({"r": risk(degraded=True)}, Reason.DEGRADED),
        ({"r": risk(context_mult=0.0)}, Reason.CONTEXT),
        ({"session": Session.CLOSED}, Reason.SESSION),
        ({"session": Session.HALT}, Reason.SESSION),
        ({"session": Session.AUCTION_OPEN}, Reason.SESSION),
        ({"warm": 512}, Reason.WARMUP),
        ({"a": account(position=10)}, Reason.POSITION_LIMIT),
        ({"r": risk(orders=5.5)}, Reason.ORDER_RATE),
        ({"r": risk(minute_lots=49.5)}, Reason.TURNOVER_CAP),
        ({"r": risk(hour_lots=99.5)}, Reason.TURNOVER_CAP),
    ],
)
def test_each_limit_holds_with_its_own_reason(kwargs: dict[str, Any], reason: Reason) -> None:
    assert verdict(ask_for(), **kwargs) == (Action.HOLD, reason, 0)


def test_a_resting_order_is_withdrawn_when_nothing_may_be_sent() -> None:
    row = ask_for(action=Action.HOLD, qty=0, rests=4)
    assert verdict(row, r=risk(degraded=True)) == (Action.CANCEL, Reason.DEGRADED, 4)
    spent = ask_for(action=Action.HOLD, qty=0, rests=4)
    assert verdict(spent, r=risk(orders=6.0))[0] is Action.HOLD, "a used-up rate is no reason to withdraw"
    kept = ask_for(action=Action.CANCEL, rests=4)
    assert verdict(kept, r=risk(halted=True))[0] is Action.CANCEL


def test_size_is_shrunk_to_what_is_left() -> None:
    assert verdict(ask_for(qty=9), account(position=4))[2] == 6
    assert verdict(ask_for(side=-1, qty=99), account(position=4))[2] == 14
    assert verdict(ask_for(qty=9), r=risk(context_mult=0.3))[2] == 2
    assert verdict(ask_for(qty=1), r=risk(context_mult=0.3)) == (Action.HOLD, Reason.TOO_SMALL, 0)
    assert verdict(ask_for(qty=9), r=risk(hour_lots=95.0))[2] == 5


@pytest.mark.parametrize(
    ("a", "reason"),
    [
        (account(position=-3, pnl=-101.0), Reason.DAILY_LOSS),
        (account(position=3, pnl=50.0, day_start=-50.0, peak=251.0), Reason.DRAWDOWN),
    ],
)
def test_a_loss_limit_pulls_the_kill_switch_once_and_for_good(a: Any, reason: Reason) -> None:
    r = new_risk()[0]
    assert verdict(ask_for(), a, r) == (Action.FLATTEN, reason, 3)
    assert r["halted"]
    assert r["halt_reason"] == reason
    a["pnl"] = 0.0
    a["peak"] = 0.0
    assert verdict(ask_for(), a, r) == (Action.HOLD, Reason.HALTED, 0)


def test_buckets_leak_with_time() -> None:
    r, lim = new_risk()[0], limits(orders_per_minute=4.0)
    assert verdict(ask_for(qty=1), r=r, lim=lim)[0] is Action.CROSS
    assert verdict(ask_for(qty=1), r=r, lim=lim)[0] is Action.CROSS
    assert verdict(ask_for(qty=1), r=r, lim=lim)[1] is Reason.ORDER_RATE
    assert verdict(ask_for(qty=1, ts=NOW + MINUTE_NS // 2 + 1), r=r, lim=lim)[0] is Action.CROSS


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([1, -1]), st.integers(1, 40), st.integers(0, 20_000)),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_is_asked_no_cap_is_ever_passed(steps: list[tuple[int, int, int]]) -> None:
    r, lim, a, ts = new_risk()[0], limits(), account(), NOW
    sent: list[tuple[int, int]] = []
    for side, qty, wait_ms in steps:
        ts += wait_ms * 1_000_000
        action, _, lots = verdict(ask_for(side, qty, ts=ts), a, r, lim)
        if action is Action.CROSS:
            assert 1 <= lots <= qty
            a["position"] += side * lots
            sent.append((ts, lots))
        assert abs(int(a["position"])) <= 10
        recent = [lots for at, lots in sent if at > ts - MINUTE_NS]
        assert len(recent) <= 12
        assert sum(recent) <= 100


# --- what bars opening


@given(
    position=st.integers(-6, 6),
    side=st.sampled_from([1, -1]),
    qty=st.integers(1, 8),
    action=st.sampled_from([Action.CROSS, Action.POST]),
    why=st.sampled_from([Reason.REJECTS, Reason.LATENCY, Reason.NO_RATE]),
    by_account=st.booleans(),
)
def test_while_opening_is_barred_orders_only_close(
    position: int, side: int, qty: int, action: Action, why: Reason, by_account: bool
) -> None:
    r = risk(**{"account_bar" if by_account else "barred": why})
    row = ask_for(side=side, qty=qty, action=action)
    done, reason, lots = verdict(row, account(position), r)
    assert row["barred"] == why
    if side * position < 0:
        assert (done, reason, lots) == (action, Reason.CROSS_EDGE, min(qty, abs(position)))
        assert (r["approved"], r["approved_qty"]) == (action, lots)
    else:
        assert (done, reason, lots) == (Action.HOLD, why, 0)
        assert r["approved"] == Action.HOLD


@given(position=st.integers(-6, 6), rests=st.integers(-8, 8), moved=st.booleans())
def test_what_rests_is_withdrawn_unless_it_only_closes(position: int, rests: int, moved: bool) -> None:
    side, lots = (1 if rests > 0 else -1), abs(rests)
    row = ask_for(side=side, qty=lots, action=Action.REPLACE if moved and rests else Action.HOLD, rests=rests)
    row["px"], row["resting_px"] = 101, 100
    asked = Action(int(row["action"]))
    done, reason, qty = verdict(row, account(position), risk(barred=Reason.LATENCY))
    if rests and not (side * position < 0 and lots <= abs(position)):
        assert (done, reason, qty) == (Action.CANCEL, Reason.LATENCY, lots)
    else:
        assert (done, reason) == (asked, Reason.CROSS_EDGE)


def test_the_room_that_the_account_leaves_cuts_and_refuses() -> None:
    full = [Reason.GROSS_EXPOSURE, Reason.MARGIN]
    r = risk(room_buy=2, room_sell=0)
    r["room_reason"] = full
    row = ask_for(qty=3)
    assert verdict(row, r=r) == (Action.CROSS, Reason.CROSS_EDGE, 2)
    assert row["room"] == 2
    row = ask_for(side=-1, qty=3)
    assert verdict(row, r=r) == (Action.HOLD, Reason.MARGIN, 0)
    assert row["room"] == -1, "none left; 0 is what rows say that knew no such limit"
    verdict(row := ask_for())
    assert row["room"] == 0
    assert verdict(move(6, 100, rests=1), r=r)[2] == 2, "a replacement too: in all"


def test_a_breach_of_the_account_flattens() -> None:
    r = risk(account_breach=Reason.ACCOUNT_LOSS)
    assert verdict(ask_for(), account(4), r) == (Action.FLATTEN, Reason.ACCOUNT_LOSS, 4)
    assert r["halted"]
    assert r["halt_reason"] == Reason.ACCOUNT_LOSS


def test_a_loss_limit_overrules_the_owner_s_halt_and_no_other() -> None:
    lost = account(position=-4, pnl=-101.0)
    r = risk(halted=True, halt_reason=Reason.HALTED)
    assert verdict(ask_for(), lost, r) == (Action.FLATTEN, Reason.DAILY_LOSS, 4)
    assert r["halt_reason"] == Reason.DAILY_LOSS
    assert verdict(ask_for(), lost, r)[:2] == (Action.HOLD, Reason.HALTED)
    for other in (Reason.KILL_SWITCH, Reason.DRAWDOWN):
        r = risk(halted=True, halt_reason=other)
        assert verdict(ask_for(), lost, r)[:2] == (Action.HOLD, Reason.HALTED)
        assert r["halt_reason"] == other
    r = risk(halted=True, halt_reason=Reason.HALTED)
    assert verdict(ask_for(), account(position=-4, pnl=-100.0), r)[:2] == (Action.HOLD, Reason.HALTED)
