"""How far an access to the Open API may go, which account it takes, what kind a loss is of, how long closing takes."""

import time
from pathlib import Path

import msgspec
import pytest
from ctrader_rig import ACCOUNT, EURUSD, QUICK, Link, Rig, run

from emp.access.ctrader.enums import AccessRights, OrderType, TradeSide
from emp.access.ctrader.messages import ProtoOAAmendOrderReq, ProtoOACancelOrderReq, ProtoOANewOrderReq
from emp.access.ctrader.settings import Dropped, Failed, Ready
from emp.access.port import Reach
from emp.core.errors import VenueError


@pytest.mark.parametrize("reach", [Reach.MARKET, Reach.ACCOUNT])
def test_without_orders_none_is_written_whoever_asks(reach: Reach) -> None:
    link = Link(msgspec.structs.replace(QUICK, reach=reach))
    assert link.of(Ready)
    requests = (
        ProtoOANewOrderReq(
            ctid_trader_account_id=ACCOUNT, symbol_id=1, order_type=OrderType.LIMIT, trade_side=TradeSide.BUY,
            volume=100_000, limit_price=1.0,
        ),
        ProtoOACancelOrderReq(ctid_trader_account_id=ACCOUNT, order_id=1),
        ProtoOAAmendOrderReq(ctid_trader_account_id=ACCOUNT, order_id=1),
    )  # fmt: skip
    for request in requests:
        link.session.out.put(request, None)
        with pytest.raises(VenueError, match="without orders"):
            link.session.outgoing()
    with pytest.raises(VenueError, match="without orders"):
        link.order("o1")
    assert link.market.orders == []


def test_an_account_that_may_not_trade_can_be_watched() -> None:
    watching = Link(msgspec.structs.replace(QUICK, reach=Reach.MARKET))
    watching.venue.rights = AccessRights.NO_TRADING
    watching.session.drop("again")
    watching.connect()
    assert len(watching.of(Ready)) == 2
    trading = Link()
    trading.venue.rights = AccessRights.NO_TRADING
    trading.session.drop("again")
    trading.connect()
    assert len(trading.of(Ready)) == 1
    assert "may not trade" in str(trading.of(Failed)[0].error)


@pytest.mark.parametrize(("demo", "live", "taken"), [
    (True, False, True), (True, True, False), (False, True, True), (False, False, False), (None, True, True),
])  # fmt: skip
def test_an_engine_takes_no_account_of_the_other_kind(demo: bool | None, live: bool, taken: bool) -> None:
    link = Link(msgspec.structs.replace(QUICK, demo=None if demo is None else demo))
    link.venue.live = live
    link.session.drop("again")
    before = len(link.of(Ready))
    link.connect()
    assert (len(link.of(Ready)) > before) is taken
    if not taken:
        kind = "live" if live else "demo"
        assert f"is a {kind} account, and access.demo allows" in str(link.of(Failed)[-1].error)


def test_each_loss_is_of_a_kind() -> None:
    link = Link()
    link.session.disconnected("cable cut")
    link.connect()
    link.venue.end_client("good night")
    link.pump()
    link.connect()
    link.venue.faults.silent = True
    link.later(60_000_000_000)
    link.venue.faults.silent = False
    link.connect()
    link.venue.write_raw(b"\xff\xff\xff\xff garbage")
    link.pump()
    link.venue.token = "another"
    link.venue.refresh = "another-1"
    link.connect()
    assert [one.cause for one in link.of(Dropped)] == ["lost", "logout", "silent", "fault", "refused"]


def test_closing_takes_two_seconds_at_most_though_the_venue_says_nothing(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        rig.venue.faults.silent = True
        began = time.monotonic()
        await rig.access.close()
        assert time.monotonic() - began < 2.0
        await rig.stop()

    run(main)
