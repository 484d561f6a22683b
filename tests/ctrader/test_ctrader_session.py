"""The session without a socket: time, limits, orders whose fate is unclear, and bytes of every kind."""

import msgspec
import numpy as np
import pytest
from ctrader_rig import ACCOUNT, EURUSD, MS, QUICK, Link, credentials
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emp.access.ctrader.enums import AccessRights, AccountType
from emp.access.ctrader.messages import (
    ProtoHeartbeatEvent,
    ProtoOAAccountAuthReq,
    ProtoOAErrorRes,
    ProtoOANewOrderReq,
    ProtoOARefreshTokenReq,
    ProtoOASpotEvent,
    ProtoOAVersionReq,
)
from emp.access.ctrader.outbox import frame
from emp.access.ctrader.settings import Dropped, Failed, Notice, Ready, Renewed, Report, Settings
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, OrderUpdate, QueryOrder
from tests.kit.orders import query_order, replace_order

S = 1_000_000_000
LOT = 100_000


def test_logon_makes_ready_and_shows_the_book() -> None:
    link = Link()
    assert len(link.of(Ready)) == 1
    assert [(r["bid_px"][0], r["bid_sz"][0], r["ask_px"][0]) for r in link.rows] == [(110_000, 3, 110_002)]
    assert link.rows[0]["flags"] == EventFlag.VISIBLE


def test_heartbeats_leave_at_least_every_ten_seconds() -> None:
    link = Link(msgspec.structs.replace(QUICK, silence_ns=3600 * S))
    link.later(60 * S)
    beats = [m for m in link.venue.received if isinstance(m, ProtoHeartbeatEvent)]
    assert len(beats) == 7


def test_a_silent_venue_is_asked_and_then_given_up() -> None:
    link = Link()
    link.later(16 * S)
    assert any(isinstance(m, ProtoOAVersionReq) for m in link.venue.received)
    assert link.session.online
    link.venue.faults.silent = True
    link.later(17 * S)
    assert not link.session.online
    assert "silent" in link.of(Dropped)[-1].reason


def test_wait_between_attempts_grows_and_stays_bounded() -> None:
    link = Link()
    waits = []
    for _ in range(12):
        link.session.drop("x")
        waits.append(link.session.take()[-1].retry_ns)
    assert waits[0] <= QUICK.backoff_first_ns < waits[3]
    assert max(waits) <= QUICK.backoff_last_ns
    assert len(set(waits)) > 6, "without jitter all clients come back at once"


def test_rate_limit_holds_in_every_window_and_nothing_is_lost() -> None:
    link = Link(msgspec.structs.replace(QUICK, order_wait_ns=2 * S))
    link.later(2 * S)
    names = [f"R-{i:08d}" for i in range(140)]
    for name in names:
        link.order(name)
    link.later(5 * S)
    assert link.venue.exceeded == 0
    done = [link.statuses(name)[-1] for name in names]
    assert set(done) <= {"filled", "canceled", "rejected"}
    held_back = [r for r in link.reports if "held back" in r.text]
    assert 0 < len(held_back) < 60
    assert sum(isinstance(m, ProtoOANewOrderReq) for m in link.venue.received) == 140 - len(held_back)


def test_an_order_never_waits_longer_than_the_bound() -> None:
    link = Link()
    link.session.pause(paused=True)
    link.order("A-1")
    assert link.statuses("A-1") == []
    link.later(QUICK.order_wait_ns - MS)
    assert link.statuses("A-1") == []
    link.later(2 * MS)
    assert link.statuses("A-1") == ["rejected"]
    assert "held back" in link.reports[-1].text
    link.session.pause(paused=False)
    link.later(S)
    assert not any(isinstance(m, ProtoOANewOrderReq) for m in link.venue.received)


def test_orders_go_before_other_requests() -> None:
    link = Link(msgspec.structs.replace(QUICK, requests_per_s=20))
    link.later(2 * S)
    for i in range(30):
        link.session.send(QueryOrder(cl_ord_id=f"NONE-{i}", instrument="EURUSD", ts=0))
    link.pump()
    link.order("A-1")
    assert link.statuses("A-1")[-1] == "filled"


def test_cancel_waits_for_the_venue_id_of_its_order() -> None:
    link = Link()
    link.session.pause(paused=True)
    link.order("A-1", px=109_000, immediate=False)
    link.cancel("A-2", "A-1")
    link.session.pause(paused=False)
    link.pump()
    assert link.statuses("A-1") == ["new", "canceled"]
    assert link.statuses("A-2") == []


def test_a_refused_cancel_is_told_though_its_answer_names_no_request() -> None:
    link = Link()
    link.order("A-1", px=109_000, immediate=False)
    held: list[CancelOrder] = []
    send = link.market.take
    link.market.take = lambda command: (  # type: ignore[method-assign]
        held.append(command) if isinstance(command, CancelOrder) else send(command)
    )
    link.cancel("A-2", "A-1")
    refusal = OrderUpdate(
        clOrdID=held[0].cl_ord_id,
        execID="R1",
        status=OrderStatus.REJECTED,
        filled=0,
        price=0,
        ts=0,
        instrument="EURUSD",
        text="not now",
    )
    link.venue._report(refusal)  # later, so that the venue names no request
    link.pump()
    assert link.statuses("A-2") == ["rejected"]
    assert link.statuses("A-1")[-1] != "canceled"


def test_cancel_of_an_unknown_or_finished_order_is_refused_under_its_own_id() -> None:
    link = Link()
    link.cancel("C-1", "nobody")
    link.order("A-1")
    link.cancel("C-2", "A-1")
    assert link.statuses("C-1") == link.statuses("C-2") == ["rejected"]


def test_an_order_that_rests_must_not_take() -> None:
    link = Link()
    link.order("A-1", px=110_002, immediate=False)
    link.order("A-2", side=-1, px=110_000, immediate=False)
    link.order("A-3", px=110_001, immediate=False)
    assert link.statuses("A-1") == link.statuses("A-2") == ["rejected"]
    assert link.statuses("A-3") == ["new"]


@pytest.mark.parametrize(
    ("qty", "name", "what"),
    [(0, "A-1", "minimum"), (1_001, "A-1", "maximum"), (1, "A" * 51, "characters"), (1, "", "characters")],
)
def test_an_impossible_order_is_refused_here(qty: int, name: str, what: str) -> None:
    link = Link()
    link.order(name, qty=qty)
    assert what in link.reports[-1].text
    assert not link.market.orders


def test_client_order_ids_are_used_once() -> None:
    link = Link()
    link.order("A-1")
    link.order("A-1")
    assert len(link.market.orders) == 1
    assert link.reports[-1].text == "not sent: the client order id was used before"


def test_limits_reach_the_market_as_given() -> None:
    link = Link()
    for i, (side, px) in enumerate([(1, 110_003), (-1, 109_997), (1, 110_007)]):
        link.order(f"A-{i}", side=side, px=px)
        assert link.market.orders[-1].px == px
        assert link.market.orders[-1].immediate


def test_fees_come_from_the_venue_where_it_tells_them_in_the_quote_currency() -> None:
    link = Link()
    link.order("A-1", qty=2)
    fill = link.reports[-1]
    money = 0.03
    assert fill.fee == pytest.approx(money / (EURUSD.tick * EURUSD.point_value))
    assert not fill.maker


def test_a_lost_report_is_found_by_asking() -> None:
    link = Link()
    link.venue.faults.lose_reports = 99
    link.order("A-1", qty=7)
    assert link.statuses("A-1") == []
    link.venue.faults.lose_reports = 0
    link.later(2 * S)
    assert link.statuses("A-1") == ["unknown", "canceled"]
    assert link.reports[-1].filled == 5


def test_the_price_of_what_has_just_filled_is_told_with_its_report_alone() -> None:
    link = Link()
    link.order("R-1", px=109_000, immediate=False)
    link.order("A-1", qty=3)
    assert [(o.update.filled, o.px) for o in link.of(Report)] == [(0, 0), (0, 0), (3, 110_002)]
    link.venue.faults.lose_reports = 99
    link.order("A-2", qty=2)
    link.venue.faults.lose_reports = 0
    link.later(2 * S)
    told = [(o.update.filled, o.px) for o in link.of(Report) if o.update.clOrdID == "A-2"]
    assert told == [(0, 0), (2, 0)], "found out by asking, nobody knows when it was"


def test_an_order_that_never_arrived_is_rejected_but_not_too_early() -> None:
    link = Link()
    link.venue.faults.lose_orders = 1
    link.order("A-1")
    link.later(1_500 * MS)
    assert link.statuses("A-1") == ["unknown"]
    link.later(10 * S)
    assert link.statuses("A-1") == ["unknown", "rejected"]
    assert len(link.market.orders) == 0, "it was sent again"


def test_a_query_is_always_answered() -> None:
    link = Link()
    link.order("A-1", px=109_000, immediate=False)
    for n in range(3):
        link.session.send(QueryOrder(cl_ord_id="A-1", instrument="EURUSD", ts=0))
        link.pump()
        assert link.statuses("A-1") == ["new"] * (n + 2)
    assert len({r.execID for r in link.reports}) == 4


def test_an_order_of_an_earlier_run_that_the_venue_never_had_is_rejected_in_the_end() -> None:
    link = Link()
    link.session.send(QueryOrder(cl_ord_id="OLD-1", instrument="EURUSD", ts=0))
    link.later(4 * S)
    assert link.statuses("OLD-1") == []
    link.later(10 * S)
    (report,) = link.reports
    assert (report.clOrdID, report.status, report.instrument) == ("OLD-1", "rejected", "EURUSD")


def test_connection_lost_with_an_order_in_flight() -> None:
    link = Link()
    link.venue.faults.silent = True
    link.order("A-1", qty=3)
    link.order("R-1", px=109_000, immediate=False)
    link.session.disconnected("cable cut")
    link.outputs += link.session.take()
    assert link.statuses("A-1") == link.statuses("R-1") == ["unknown"]
    link.order("A-2")
    assert link.reports[-1].text == "not sent: no connection"
    link.venue.faults.silent = False
    link.connect()
    assert link.statuses("A-1") == ["unknown", "filled"]
    assert link.statuses("R-1") == ["unknown", "new"]
    assert len(link.market.orders) == 2


def test_a_cancel_in_flight_when_the_connection_went_is_settled() -> None:
    link = Link()
    link.order("R-1", px=109_000, immediate=False)
    link.order("R-2", px=108_000, immediate=False)
    link.pipe.closed = True
    link.cancel("C-1", "R-1")
    link.venue.account.cancel(link.session.orders.by_client["R-2"].order_id, link.clock.now_ns())
    link.cancel("C-2", "R-2")
    link.session.disconnected("cable cut")
    link.connect()
    assert link.statuses("C-1") == ["rejected"]
    assert link.statuses("R-1") == ["new"]
    assert link.statuses("R-2") == ["new", "canceled"]


def test_queued_orders_do_not_survive_the_connection() -> None:
    link = Link()
    link.session.pause(paused=True)
    link.order("A-1")
    link.session.disconnected("cable cut")
    link.outputs += link.session.take()
    assert link.statuses("A-1") == ["rejected"]
    link.connect()
    link.later(S)
    assert not link.market.orders


def test_duplicated_execution_events_are_reported_once() -> None:
    link = Link()
    link.venue.faults.duplicate = True
    link.order("A-1", qty=5)
    assert link.statuses("A-1") == ["new", "filled"]
    link.order("A-2", px=109_000, qty=4, immediate=False)
    link.market.fill(1)
    link.market.fill(3)
    link.pump()
    assert [(r.filled, r.leaves) for r in link.reports if r.clOrdID == "A-2"] == [(0, 4), (1, 3), (4, 0)]
    assert link.session.orders.duplicates == 5


def test_late_reports_do_not_turn_time_back() -> None:
    link = Link()
    link.order("A-1", px=109_000, qty=4, immediate=False)
    link.market.fill(1)
    early = bytes(link.pipe.written)
    link.market.fill(3)
    link.pump()
    link.session.receive(early)
    link.pump()
    assert [r.filled for r in link.reports] == [0, 1, 4]


def test_order_errors_are_rejections() -> None:
    link = Link()
    link.venue.faults.refuse_orders = "NOT_ENOUGH_MONEY"
    link.order("A-1")
    assert link.statuses("A-1") == ["rejected"]
    assert "NOT_ENOUGH_MONEY" in link.reports[-1].text


def test_nothing_leaves_where_it_may_not_any_more() -> None:
    link = Link()
    link.session.out.may_send = lambda: False
    link.order("A-1", px=109_000, qty=4, immediate=False)
    assert link.statuses("A-1") == ["rejected"]
    assert "may not leave any more" in link.reports[-1].text
    assert not link.venue.account.working()
    link.session.out.may_send = lambda: True
    link.order("A-2", px=109_000, qty=4, immediate=False)
    assert len(link.venue.account.working()) == 1


def test_amend_keeps_the_order() -> None:
    link = Link()
    link.order("A-1", px=109_000, qty=4, immediate=False)
    link.session.trading.send(replace_order("M-1", "A-1", 1, 3, 109_500))
    link.pump()
    (order,) = link.venue.account.working()
    assert (order.limit_price, order.trade_data.volume) == (1.095, 300_000)
    assert (link.reports[-1].clOrdID, link.reports[-1].price, link.reports[-1].leaves) == ("A-1", 109_500, 3)
    assert link.reports[-1].replacement == "M-1"
    link.market.fill(1)  # the market knows it by another id now
    link.pump()
    assert (link.reports[-1].clOrdID, link.reports[-1].filled) == ("A-1", 1)
    link.session.trading.send(replace_order("M-2", "A-1", 1, 2, 109_500))
    link.pump()
    assert (link.reports[-1].replacement, link.reports[-1].status, link.reports[-1].leaves) == (
        "M-2",
        OrderStatus.PARTIALLY_FILLED,
        1,
    )
    for name, qty, px in (("M-3", 1, 109_500), ("M-4", 3, 110_002)):  # as much has filled; it would take
        link.session.trading.send(replace_order(name, "A-1", 1, qty, px))
        link.pump()
        assert (link.reports[-1].clOrdID, link.reports[-1].status) == (name, OrderStatus.REJECTED)
    (order,) = link.venue.account.working()
    assert (order.limit_price, order.trade_data.volume) == (1.095, 200_000)


def test_an_amend_whose_answer_is_lost_is_settled_by_asking() -> None:
    link = Link()
    link.order("A-1", px=109_000, qty=4, immediate=False)
    link.venue.faults.lose_reports = 1
    link.session.trading.send(replace_order("M-1", "A-1", 1, 3, 109_500))
    link.pump()
    assert not any(r.replacement for r in link.reports)
    link.session.send(query_order("M-1"))
    link.pump()
    assert [r.clOrdID for r in link.reports if r.replacement == "M-1"] == ["A-1"]


@pytest.mark.parametrize("kind", [AccountType.NETTED, AccountType.HEDGED])
def test_positions_net_and_are_reduced(kind: AccountType) -> None:
    link = Link(kind=kind)
    link.market.show("EURUSD", [(110_000, 50)], [(110_002, 50)])
    link.pump()
    link.order("A-1", qty=5)
    link.order("A-2", qty=2)
    link.order("A-3", side=-1, qty=4, px=110_000)
    (net,) = link.session.positions.net(link.session.terms)
    assert net.qty == 3
    assert len(link.venue.account.positions) == (1 if kind == AccountType.NETTED else 2)
    link.order("A-4", side=-1, qty=5, px=110_000)
    assert [p.qty for p in link.session.positions.net(link.session.terms)] == [-2]
    sides = {p.trade_data.trade_side for p in link.venue.account.positions.values()}
    assert len(sides) == (1 if kind == AccountType.NETTED else 2)


def test_expired_token_is_renewed_at_logon_and_kept() -> None:
    link = Link(token="another")
    assert len(link.of(Ready)) == 1
    (renewed,) = link.of(Renewed)
    assert renewed.credentials.access_token.reveal() == "access-2"
    assert renewed.credentials.refresh_token.reveal() == "refresh-2"


def test_without_a_refresh_token_an_expired_token_is_final() -> None:
    link = Link(secrets=credentials(refresh_token=None), token="another")
    assert "refresh token" in str(link.of(Failed)[0].error)


def test_token_is_renewed_before_it_expires() -> None:
    link = Link(secrets=credentials(expires_at_ns=1_700_000_000 * S + 4_000 * S))
    link.later(300 * S)
    assert not link.of(Renewed)
    link.later(110 * S)
    assert len(link.of(Renewed)) == 1
    assert len(link.of(Ready)) == 2
    assert link.session.is_ready
    link.later(120 * S)
    assert len(link.of(Renewed)) == 1


def test_an_invalidated_token_is_renewed_and_everything_is_subscribed_again() -> None:
    link = Link()
    link.later(100 * S)
    before = len(link.rows)
    link.venue.invalidate_token()
    link.pump()
    assert len(link.of(Renewed)) == 1
    assert link.session.is_ready
    link.market.show("EURUSD", [(110_005, 1)], [(110_006, 1)])
    link.pump()
    fresh = link.rows[before:]
    assert fresh[0]["flags"] & EventFlag.GAP
    assert fresh[-1]["bid_px"][0] == 110_005
    seqs = [r["seq"] for r in link.rows]
    assert seqs == sorted(set(seqs))


def test_an_account_that_ends_again_and_again_drops_the_connection() -> None:
    link = Link()
    for _ in range(5):
        if link.session.online:
            link.venue.end_account()
            link.pump()
    assert not link.session.online
    assert "again and again" in link.of(Dropped)[-1].reason


@pytest.mark.parametrize(
    ("venue", "what"),
    [
        ({"client": ("app", "other")}, "CH_CLIENT_AUTH_FAILURE"),
        ({"digits": 7}, "digits"),
    ],
)
def test_a_logon_that_cannot_work_fails_for_good(venue: dict[str, object], what: str) -> None:
    link = Link(**venue)
    (failed,) = link.of(Failed)
    assert what in str(failed.error)
    assert "secret" not in str(failed.error).replace("bad secret ***", "")


def test_an_account_that_may_not_trade_is_refused() -> None:
    link = Link()
    link.venue.rights = AccessRights.CLOSE_ONLY
    link.session.disconnected("x")
    link.connect()
    assert "may not trade" in str(link.of(Failed)[0].error)


def test_shuffled_and_unknown_deletes_leave_the_book_right() -> None:
    link = Link()
    link.venue.faults.shuffle_deletes = True
    rng = np.random.default_rng(3)
    for _ in range(200):
        mid = 110_000 + int(rng.integers(-20, 20))
        bids = [(mid - 1 - i, int(rng.integers(1, 9))) for i in range(rng.integers(1, 10))]
        asks = [(mid + 1 + i, int(rng.integers(1, 9))) for i in range(rng.integers(1, 10))]
        link.market.show("EURUSD", bids, asks)
        link.pump()
        row = link.rows[-1]
        assert [(row["bid_px"][i], row["bid_sz"][i]) for i in range(row["n_bid"])] == bids
        assert [(row["ask_px"][i], row["ask_sz"][i]) for i in range(row["n_ask"])] == asks


def test_every_split_gives_the_same_rows() -> None:
    def rows(split: int) -> list[tuple[object, ...]]:
        link = Link()
        for i in range(6):
            link.market.show("EURUSD", [(110_000 + i, 3)], [(110_003 + i, 2)])
        link.pump(split=split)
        return [(r["seq"], r["bid_px"][0], r["ask_px"][0]) for r in link.rows]

    whole = rows(0)
    assert len(whole) == 7
    for split in range(1, 60):
        assert rows(split) == whole


def test_rows_stay_as_they_were_handed_out() -> None:
    link = Link()
    for i in range(700):
        link.market.show("EURUSD", [(110_000 + i, 1 + i % 5)], [(112_000 + i, 2)])
        if i % 37 == 0:
            link.pump()
    link.pump()
    expected = [(1, 110_000)] + [(i + 2, 110_000 + i) for i in range(700)]
    assert [(r["seq"], r["bid_px"][0]) for r in link.rows] == expected


BAD_FRAMES = {
    "oversized": (1 << 30).to_bytes(4, "big"),
    "empty": bytes(4),
    "no message": b"\x00\x00\x00\x04\xff\xff\xff\xff",
    "broken depth": b"\x00\x00\x00\x07\x08\xeb\x10\x12\x02\x10\xff",
    "broken execution": b"\x00\x00\x00\x07\x08\xce\x10\x12\x02\x10\xff",
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_broken_frame_drops_the_connection_and_the_next_one_works(name: str) -> None:
    link = Link()
    before = len(link.rows)
    link.session.receive(BAD_FRAMES[name])
    link.outputs += link.session.take()
    assert "protocol error" in link.of(Dropped)[-1].reason
    assert len(link.rows) == before
    link.connect()
    link.market.show("EURUSD", [(110_005, 1)], [(110_006, 1)])
    link.pump()
    assert link.rows[-1]["bid_px"][0] == 110_005
    assert link.session.is_ready


def test_unknown_messages_are_passed_over() -> None:
    link = Link()
    link.session.receive(b"\x00\x00\x00\x03\x08\xff\x1f" + b"\x00\x00\x00\x05\x08\xff\x1f\x12\x00")
    link.session.receive(frame(ProtoOASpotEvent(ctid_trader_account_id=ACCOUNT, symbol_id=99, bid=1), None))
    assert link.session.online


@hypothesis_settings(max_examples=150)
@given(st.data())
def test_mutated_streams_never_raise(data: st.DataObject) -> None:
    link = Link()
    link.market.show("EURUSD", [(110_001, 3)], [(110_003, 2)])
    link.order("A-1", px=109_000, immediate=False)
    link.market.show("EURUSD", [(110_002, 3)], [(110_003, 2)])
    raw = bytearray(link.pipe.written)
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    link.pipe.written = raw
    link.pump(split=data.draw(st.integers(1, 50)))
    counts = link.session.feed.tally()
    assert counts.rows == counts.events + counts.merged + sum(counts.quarantined.values())
    for row in link.rows:
        assert 0 < row["bid_px"][0] < row["ask_px"][0]


@hypothesis_settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_a_mutated_conversation_never_raises(seed: int) -> None:
    """Bytes change from the first answer on: the session drops the connection or goes on, and recovers."""
    rng = np.random.default_rng(seed)

    def mangle(data: bytes) -> bytes:
        raw = bytearray(data)
        if raw and rng.random() < 0.3:
            raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        return bytes(raw)

    link = Link(mangle=mangle)
    for i in range(3):
        link.order(f"A-{i}", px=109_000, immediate=False)
        link.market.show("EURUSD", [(110_001 + i, 3)], [(110_003 + i, 2)])
        link.later(S)
        if not link.session.online:
            link.connect()
    link.mangle = bytes
    if link.session.online:
        link.session.disconnected("again")
    link.connect()
    link.later(10 * S)
    assert link.session.is_ready or link.of(Failed)


def test_a_position_of_broken_lots_is_told_and_does_no_harm() -> None:
    link = Link()
    link.venue.account.symbols[1] = msgspec.structs.replace(EURUSD, lot=10.0)
    request = ProtoOANewOrderReq(
        ctid_trader_account_id=ACCOUNT,
        symbol_id=1,
        order_type=2,
        trade_side=1,
        volume=LOT // 2,
        limit_price=1.09,
        time_in_force=2,
    )
    link.venue.account.new_order(request, link.clock.now_ns())
    link.pump()
    assert link.session.is_ready
    assert "no whole number of lots" in link.of(Notice)[-1].text


def test_secrets_never_leave_in_text() -> None:
    link = Link(secrets=credentials(), token="another", refresh="other-1")
    said = " ".join(str(o) for o in link.outputs)
    assert "bad token ***" in said
    for secret in ("app-secret", "access-1", "refresh-1"):
        assert secret not in said
    assert not any(isinstance(o, Renewed) for o in link.outputs)
    requests = [
        m for m in link.venue.received if isinstance(m, ProtoOAAccountAuthReq | ProtoOARefreshTokenReq)
    ]
    assert requests
    assert "-1" not in repr(requests)


def test_blocked_requests_wait_and_orders_of_a_blocked_kind_are_refused() -> None:
    link = Link(Settings(account=ACCOUNT))
    link.order("A-1")
    blocked = ProtoOAErrorRes(error_code="BLOCKED_PAYLOAD_TYPE", retry_after=3)
    link.session.receive(frame(blocked, "A-1"))
    link.order("A-2")
    link.later(400 * MS)
    assert link.statuses("A-2") == ["rejected"]
    link.later(3 * S)
    link.order("A-3")
    assert link.statuses("A-3")[-1] == "filled"


def test_orders_by_hand_are_told_under_the_venue_s_id() -> None:
    link = Link()
    request = ProtoOANewOrderReq(
        ctid_trader_account_id=ACCOUNT,
        symbol_id=1,
        order_type=2,
        trade_side=1,
        volume=LOT,
        limit_price=1.09,
        time_in_force=2,
    )
    link.venue.account.new_order(request, link.clock.now_ns())
    link.pump()
    name = link.reports[-1].clOrdID
    assert name == "ctrader:1001"
    assert link.reports[-1].status is OrderStatus.NEW
    link.cancel("C-1", name)
    assert link.statuses(name) == ["new", "canceled"]
