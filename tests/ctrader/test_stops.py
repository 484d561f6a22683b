"""Stops that the venue keeps on our positions: placed, kept, reached, refused, and there when nobody else is."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from emp.access.ctrader.enums import AccountType, TradeSide
from emp.access.ctrader.messages import ProtoOAAmendPositionSLTPReq
from emp.core.errors import VenueError
from emp.engine.protection import Protects
from tests.ctrader.ctrader_rig import EURUSD, Link, Rig, run
from tests.kit.orders import cancel_order

BOOK = [(110_000, 50), (109_999, 50)], [(110_002, 50), (110_003, 50)]


def held(link: Link) -> dict[int, tuple[TradeSide, int, float | None]]:
    """(side, lots, stop) of each position at the venue."""
    lot = round(EURUSD.lot * 100)
    positions = link.venue.account.positions.values()
    return {
        p.position_id: (p.trade_data.trade_side, p.trade_data.volume // lot, p.stop_loss) for p in positions
    }


def asked(link: Link) -> list[float | None]:
    return [m.stop_loss for m in link.venue.received if isinstance(m, ProtoOAAmendPositionSLTPReq)]


def bought(link: Link, name: str = "R-1", lots: int = 4, side: int = 1) -> None:
    link.market.show("EURUSD", *BOOK)
    link.order(name, side=side, qty=lots, px=110_002 if side > 0 else 110_000)


def protect(link: Link, px: int) -> None:
    """Stop what is bought below the market, what is sold above it."""
    link.session.stops.protect("EURUSD", 1 if px < 110_002 else -1, px)
    link.pump()


def test_a_stop_is_placed_and_told_and_is_no_order_of_anybodys() -> None:
    link = Link()
    bought(link)
    before = list(link.reports)
    protect(link, 109_500)
    assert list(held(link).values()) == [(TradeSide.BUY, 4, 1.095)]
    assert link.session.stops.resting("EURUSD") == 109_500
    assert link.reports == before
    protect(link, 109_500)
    assert asked(link) == [1.095]  # once


def test_a_stop_that_is_wanted_before_anything_is_held_waits_for_the_position() -> None:
    link = Link()
    protect(link, 109_500)
    assert asked(link) == []
    bought(link)
    assert list(held(link).values()) == [(TradeSide.BUY, 4, 1.095)]
    bought(link, "R-2", 3)
    assert list(held(link).values()) == [(TradeSide.BUY, 7, 1.095)]
    assert asked(link) == [1.095]


def test_a_stop_that_is_reached_closes_what_is_held_and_is_reported_as_nobodys_order() -> None:
    link = Link()
    bought(link)
    protect(link, 109_500)
    told = len(link.reports)
    link.market.show("EURUSD", [(109_501, 50)], [(109_503, 50)])
    link.pump()
    assert len(link.reports) == told
    link.market.show("EURUSD", [(109_498, 3), (109_490, 50)], [(109_503, 50)])
    link.pump()
    assert held(link) == {}
    first, *_, last = link.reports[told:]
    assert {r.clOrdID for r in link.reports[told:]} == {first.clOrdID}
    assert first.clOrdID.startswith("ctrader:")
    assert (first.side, first.filled, first.price) == (-1, 3, 109_498)
    assert (str(last.status), last.filled, last.price) == ("filled", 4, 109_490)
    assert link.session.positions.net(link.session.terms) == []


def test_a_short_position_is_stopped_above() -> None:
    link = Link()
    bought(link, side=-1)
    protect(link, 110_400)
    assert list(held(link).values()) == [(TradeSide.SELL, 4, 1.104)]
    link.market.show("EURUSD", [(110_395, 50)], [(110_400, 50)])
    link.pump()
    assert held(link) == {}


def test_a_position_that_turns_has_no_stop_of_the_other_side() -> None:
    link = Link()
    bought(link)
    protect(link, 109_500)
    bought(link, "R-2", 6, side=-1)
    assert [stop for _, _, stop in held(link).values()] == [None]
    protect(link, 110_700)
    assert list(held(link).values()) == [(TradeSide.SELL, 2, 1.107)]


def test_a_stop_that_is_refused_is_told_and_asked_for_again_with_the_next_price() -> None:
    link = Link()
    bought(link)
    protect(link, 110_001)  # the market is beyond it
    assert [stop for _, _, stop in held(link).values()] == [None]
    assert link.session.stops.resting("EURUSD") == 0
    assert any("keeps no stop" in str(one) and "TRADING_BAD_STOPS" in str(one) for one in link.outputs)
    protect(link, 110_001)
    assert asked(link) == [1.10001]
    protect(link, 109_000)
    assert link.session.stops.resting("EURUSD") == 109_000


def test_a_stop_that_somebody_has_taken_away_is_asked_for_again_when_positions_are_told() -> None:
    link = Link()
    bought(link)
    protect(link, 109_500)
    account = link.venue.account
    (position,) = account.positions.values()
    account.positions[position.position_id] = msgspec.structs.replace(position, stop_loss=None)
    link.session.reconcile(lambda _: None)
    link.pump()
    assert asked(link) == [1.095, 1.095]
    assert [stop for _, _, stop in held(link).values()] == [1.095]


def test_a_price_that_the_venue_does_not_have_is_rounded_away_from_the_market() -> None:
    link = Link(digits=4)
    link.market.show("EURUSD", [(110_000, 50)], [(110_010, 50)])
    link.order("R-1", px=110_010, qty=2)
    protect(link, 109_507)
    assert [stop for _, _, stop in held(link).values()] == [1.095]
    link.order("R-2", side=-1, px=110_000, qty=5)
    protect(link, 110_404)
    assert [stop for _, _, stop in held(link).values()] == [1.1041]


def test_no_more_stop_is_asked_for_once_none_is_wanted() -> None:
    link = Link()
    bought(link)
    protect(link, 109_500)
    bought(link, "R-2", 4, side=-1)
    protect(link, 0)
    bought(link, "R-3")
    assert [stop for _, _, stop in held(link).values()] == [None]
    assert asked(link) == [1.095]


def test_a_hedged_account_is_stopped_on_one_side_only() -> None:
    link = Link(kind=AccountType.HEDGED)
    bought(link)
    bought(link, "R-2", 2)
    protect(link, 109_500)
    assert [stop for _, _, stop in held(link).values()] == [1.095, 1.095]
    assert link.session.stops.resting("EURUSD") == 109_500
    bought(link, "R-3", 7, side=-1)  # larger than any that it could reduce: a position of its own
    protect(link, 109_400)
    assert {side for side, _, _ in held(link).values()} == {TradeSide.BUY, TradeSide.SELL}
    assert asked(link) == [1.095, 1.095]


def test_a_stop_that_was_lost_on_its_way_is_asked_for_on_the_next_connection() -> None:
    link = Link()
    bought(link)
    link.session.stops.protect("EURUSD", 1, 109_500)
    link.session.outgoing()  # written, and lost with the connection
    link.session.disconnected("cut")
    assert asked(link) == []
    link.connect()
    assert list(held(link).values()) == [(TradeSide.BUY, 4, 1.095)]


def test_only_an_access_made_for_orders_places_one() -> None:
    link = Link()
    bought(link)
    link.session.out._orders = False
    link.session.stops.protect("EURUSD", 1, 109_500)
    with pytest.raises(VenueError, match="without orders"):
        link.session.outgoing()


def test_the_access_protects_and_the_stop_outlives_it(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        access = rig.access.access
        assert isinstance(access, Protects)
        name = rig.order(1, 2, 110_002, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        access.protect("EURUSD", 1, 109_000)
        await rig.until(lambda: access.protected("EURUSD") == 109_000, "stop")
        access._transport.abort()  # type: ignore[union-attr]
        access._closed = True  # the box is gone: nobody comes back
        await asyncio.sleep(0.05)
        rig.market.show("EURUSD", [(108_900, 9)], [(108_902, 9)])
        assert not rig.venue.account.positions
        access._closed = False
        await rig.stop()

    run(main)


def test_cancelling_what_a_stop_has_closed_says_so() -> None:
    link = Link()
    bought(link)
    protect(link, 109_500)
    link.market.show("EURUSD", [(109_400, 50)], [(109_402, 50)])
    link.pump()
    stranger = link.reports[-1].clOrdID
    link.session.send(cancel_order("R-9", stranger))
    link.pump()
    assert link.statuses("R-9") == ["rejected"]


def test_a_stop_that_may_not_leave_is_asked_for_again() -> None:
    link = Link()
    bought(link)
    link.session.out.may_send = lambda: False  # the lease is in doubt
    protect(link, 109_500)
    assert asked(link) == []
    link.session.out.may_send = lambda: True
    link.session.reconcile(lambda _: None)
    link.pump()
    assert list(held(link).values()) == [(TradeSide.BUY, 4, 1.095)]
