"""Somebody else trades on the account: what is held, and so what is closed, is what the account holds."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from emp.access.port import MarketAccess, OthersTrade
from emp.core.approval import Cleared, command_of
from emp.core.clock import SimClock
from emp.core.codes import OrderStatus
from emp.core.contracts import Command, Control, NewOrder, OrderUpdate, QueryOrder, RiskBreach, VenuePosition
from emp.core.errors import VenueError
from emp.engine.driver import Driver
from emp.engine.ending import left_open
from emp.engine.engine import Engine
from emp.engine.market_clock import MarketClock
from emp.engine.rebuild import begin
from emp.engine.reconciliation import audit as audit_module
from emp.engine.reconciliation.audit import AGAIN_S, LOOK_S, STEADY, PositionAudit, PositionWatch
from emp.engine.reconciliation.others import OthersTrades
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from tests.kit.events import random_events
from tests.kit.models import LOOSE, engine
from tests.kit.orders import cleared, new_order
from tests.live.test_live import invested
from tests.live.world import World, play

BY_HAND = OrderUpdate(
    clOrdID="by-hand",
    execID="h1",
    status=OrderStatus.PARTIALLY_FILLED,
    filled=3,
    price=10_000,
    ts=9,
    instrument="GOOG",
    side=-1,
    leaves=2,
    fee=1.5,
)


class Desk:
    """An engine with a ledger, whose commands go nowhere."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[Command] = []
        self.said: list[object] = []
        self.engine = quiet(folder)
        self.path = folder / "ledger.sqlite"
        ledger = Ledger(self.path, run="TESTRUN0", mode="mock")
        self.driver = Driver(self.engine, self.send, ledger=ledger)
        self.driver.attach(self.said.append, lambda error: pytest.fail(str(error)))
        self.folder = folder

    def send(self, one: Cleared) -> None:
        self.sent.append(command_of(one))

    def again(self) -> Engine:
        """What a start would make of the ledger."""
        fresh = quiet(self.folder)
        reader = LedgerReader(self.path)
        begin(reader, fresh)
        reader.close()
        return fresh

    def close(self) -> None:
        assert self.driver.ledger is not None
        self.driver.ledger.close()


def quiet(folder: Path) -> Engine:
    """An engine that knows a book and has not traded."""
    trader = engine(folder, msgspec.structs.replace(LOOSE, warmup_events=1_000))
    trader.process(random_events(40, 3))
    return trader


@pytest.fixture
def desk(tmp_path: Path):
    made = Desk(tmp_path)
    yield made
    made.close()


def money(trader: Engine) -> tuple[int, float, float]:
    account = trader.desk.account[0]
    return int(account["position"]), float(account["cash"]), float(account["fees"])


def confirmed(lots: int) -> Control:
    return Control(action="confirmed", ts=20, instrument="GOOG", value=float(lots))


def test_nothing_is_booked_or_closed_on_the_word_of_a_report(desk: Desk) -> None:
    desk.driver.report(BY_HAND)
    assert money(desk.engine) == (0, 0.0, 0.0)
    assert desk.sent == []
    assert desk.engine.halted
    assert desk.engine.closing.why_not_flat(0).startswith("the venue has not said")
    for _ in range(3):
        desk.driver.tick(10**10)
    assert desk.sent == []


def test_a_fill_of_an_order_that_is_not_ours_is_booked_and_closed(desk: Desk) -> None:
    desk.driver.report(BY_HAND)
    desk.driver.control(confirmed(-3))
    assert money(desk.engine) == (-3, 30_000.0, 1.5)
    (closing,) = desk.sent
    assert isinstance(closing, NewOrder)
    assert (closing.side, closing.qty, closing.immediate) == (1, 3, True)
    assert [one.reason for one in desk.said if isinstance(one, RiskBreach)] == ["unknown_order"]
    desk.driver.report(
        msgspec.structs.replace(BY_HAND, execID="h2", filled=5, leaves=0, price=10_010, fee=1.0)
    )
    desk.driver.control(confirmed(-2))
    assert money(desk.engine) == (-5, 50_020.0, 2.5)
    again = desk.again()
    assert money(again) == money(desk.engine)
    assert again.halted


def test_it_is_booked_once_however_often_it_is_told(desk: Desk) -> None:
    for name in ("h1", "h1", "h2"):
        desk.driver.report(msgspec.structs.replace(BY_HAND, execID=name))
    desk.driver.report(msgspec.structs.replace(BY_HAND, execID="h3", filled=2))
    desk.driver.control(confirmed(-3))
    assert money(desk.engine) == (-3, 30_000.0, 1.5)
    assert money(desk.again()) == (-3, 30_000.0, 1.5)


def test_a_fill_without_a_price_waits_for_the_market(desk: Desk) -> None:
    desk.driver.report(msgspec.structs.replace(BY_HAND, price=0))
    desk.driver.control(confirmed(-3))
    assert money(desk.engine)[:2] == (-3, 0.0)
    for trader in (desk.engine, desk.again()):
        assert trader.positions.unvalued.lots(0) == -3


@pytest.mark.parametrize(
    "changes",
    [{"instrument": "MSFT"}, {"instrument": ""}, {"side": 0}, {"status": OrderStatus.NEW, "filled": 0}],
)
def test_what_is_no_fill_of_ours_to_know_only_halts(desk: Desk, changes: dict[str, object]) -> None:
    desk.driver.report(msgspec.structs.replace(BY_HAND, **changes))
    assert money(desk.engine) == (0, 0.0, 0.0)
    assert desk.engine.halted
    assert not desk.sent


@pytest.mark.parametrize("lots", [-2, 0])
def test_of_what_a_report_tells_only_what_the_venue_holds_is_booked(desk: Desk, lots: int) -> None:
    desk.driver.report(msgspec.structs.replace(BY_HAND, filled=797))
    desk.driver.control(confirmed(lots))
    assert money(desk.engine)[:2] == (lots, -lots * 10_000.0)
    assert [one.qty for one in desk.sent if isinstance(one, NewOrder)] == ([-lots] if lots else [])
    assert money(desk.again()) == money(desk.engine)


def test_claims_that_cancel_out_have_still_cost_their_money(desk: Desk) -> None:
    for name, side, price in (("hand-1", 1, 100), ("hand-2", -1, 90)):
        told = {"clOrdID": name, "execID": name, "filled": 5, "leaves": 0, "side": side, "price": price}
        desk.driver.report(msgspec.structs.replace(BY_HAND, **told))
    desk.driver.control(confirmed(0))
    assert money(desk.engine) == (0, -50.0, 3.0)
    assert money(desk.again()) == money(desk.engine)
    assert not [one for one in desk.sent if isinstance(one, NewOrder)]


def test_what_is_in_doubt_is_left_open_until_the_venue_has_said_what_it_holds(desk: Desk) -> None:
    desk.driver.report(BY_HAND)
    for left in (left_open(desk.engine, [0]), left_open(desk.engine, desk.engine.flattening)):
        assert left.startswith("left open at the venue: GOOG +0 (the venue has not said yet")
    desk.engine.stand_down()
    assert "has not said" in left_open(desk.engine, [0]), "what nobody closes is in doubt all the same"
    desk.driver.control(confirmed(0))
    assert left_open(desk.engine, [0]) == ""


def test_a_difference_of_another_kind_ends_the_doubt(desk: Desk) -> None:
    desk.driver.report(BY_HAND)
    desk.driver.control(differs(4))
    assert money(desk.engine)[0] == 4
    assert not desk.engine.positions.claims
    assert [one.qty for one in desk.sent if isinstance(one, NewOrder)] == [4]


@pytest.mark.parametrize("filled", [700, -1])
def test_what_is_told_beyond_an_order_of_ours_closes_nothing_before_the_venue_has_said_what_it_holds(
    desk: Desk, filled: int
) -> None:
    name = desk.engine.next_id()
    order = new_order(name, 1, 2, 100, instrument="GOOG", immediate=True)
    desk.driver.send([cleared(order)])
    said = OrderUpdate(
        clOrdID=name, execID="1", status=OrderStatus.PARTIALLY_FILLED, filled=1, price=100, ts=5, side=1
    )
    desk.driver.report(said)
    desk.driver.report(msgspec.structs.replace(said, execID="2", filled=filled))
    assert desk.engine.halted
    desk.driver.report(msgspec.structs.replace(said, execID="3", status=OrderStatus.CANCELED))
    desk.driver.tick(10**10)
    assert not [one for one in desk.sent[1:] if isinstance(one, NewOrder)]
    desk.driver.control(confirmed(0))
    (closing,) = [one for one in desk.sent[1:] if isinstance(one, NewOrder)]
    assert (closing.side, closing.qty) == (-1, 1)


def differs(lots: int) -> Control:
    return Control(action="differs", ts=20, instrument="GOOG", value=float(lots))


def test_a_position_that_no_order_explains_is_booked_and_closed(desk: Desk) -> None:
    desk.driver.control(differs(4))
    assert money(desk.engine)[0] == 4
    assert desk.engine.positions.unvalued.lots(0) == 4
    (closing,) = desk.sent
    assert isinstance(closing, NewOrder)
    assert (closing.side, closing.qty) == (-1, 4)
    assert [one.reason for one in desk.said if isinstance(one, RiskBreach)] == ["position_differs"]
    again = desk.again()
    assert (money(again)[0], again.positions.unvalued.lots(0), again.halted) == (4, 4, True)
    assert again.orders.open_orders("GOOG")  # the closing order, whose end is not known


def test_a_position_is_booked_at_what_the_venue_says_that_it_cost(desk: Desk) -> None:
    desk.driver.control(msgspec.structs.replace(differs(4), reason="99.25"))
    for trader in (desk.engine, desk.again()):
        assert money(trader)[:2] == (4, -397.0)
        assert trader.positions.unvalued.lots(0) == 0


def test_where_other_lots_wait_for_the_market_these_wait_with_them(desk: Desk) -> None:
    """A start takes one price for all that waits."""
    desk.engine.positions.unvalued.add(0, 1)
    desk.driver.control(msgspec.structs.replace(differs(4), reason="99.25"))
    assert money(desk.engine)[:2] == (4, 0.0)
    assert desk.engine.positions.unvalued.lots(0) == 5


def test_orders_that_may_explain_it_are_asked_for_instead(desk: Desk) -> None:
    desk.driver.send([cleared(new_order("TESTRUN0-00000001", 1, 2, 100, instrument="GOOG"))])
    desk.driver.control(differs(2))
    assert desk.sent[1:] == [QueryOrder(cl_ord_id="TESTRUN0-00000001", instrument="GOOG", ts=20)]
    assert not desk.engine.halted
    for trader in (desk.engine, desk.again()):
        assert (money(trader)[0], trader.positions.unvalued.lots(0)) == (0, 0)
    desk.driver.control(differs(2))  # it is asked for already
    assert len(desk.sent) == 2


class Told(MarketAccess):
    """A venue that says what it holds, and what happens while it is asked."""

    def __init__(self) -> None:
        self.holds = 0
        self.silent = False
        self.explaining = False
        self.meanwhile = lambda: None

    async def positions(self) -> Sequence[VenuePosition]:
        self.meanwhile()
        if self.silent:
            raise VenueError("no answer")
        return [VenuePosition(instrument="GOOG", qty=self.holds)] if self.holds else []


def audit_of(trader: Engine, venue: MarketAccess) -> PositionAudit:
    return PositionAudit(trader.positions, lambda: trader.sequence, venue)


def looks(audit: PositionAudit, n: int) -> list[dict[str, int]]:
    return [dict(asyncio.run(audit.look())) for _ in range(n)]


def test_what_was_told_counts_at_once_where_the_venue_holds_it(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    trader.on_report(BY_HAND)
    assert audit.wait_s == AGAIN_S
    venue.holds = -3
    assert looks(audit, 1) == [{"GOOG": -3}]


def test_what_was_told_and_is_not_held_counts_when_that_is_seen_twice(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    trader.on_report(msgspec.structs.replace(BY_HAND, filled=797))
    venue.holds = -3
    assert looks(audit, 2) == [{}, {"GOOG": -3}]
    venue.holds = 0
    assert looks(audit, 3) == [{}, {"GOOG": 0}, {}]


def test_what_is_told_while_the_venue_answers_is_looked_at_anew(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    trader.on_report(BY_HAND)
    venue.holds = -3
    venue.meanwhile = lambda: trader.on_report(msgspec.structs.replace(BY_HAND, execID="h2", filled=5))
    assert looks(audit, 1) == [{}]
    venue.meanwhile, venue.holds = lambda: None, -5
    assert looks(audit, 1) == [{"GOOG": -5}]


def test_a_difference_counts_when_it_is_seen_twice(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    assert looks(audit, 2) == [{}, {}]
    assert audit.wait_s == LOOK_S
    venue.holds = -2
    assert looks(audit, 1) == [{}]
    assert audit.wait_s == AGAIN_S
    assert looks(audit, 2) == [{"GOOG": -2}, {}]
    trader.orders.adjust("GOOG", -2)
    assert looks(audit, 3) == [{}, {}, {}]
    venue.holds = 0  # closed by hand: the venue names it no more
    assert looks(audit, 2) == [{}, {"GOOG": 2}]


def test_what_changes_between_two_looks_is_looked_at_anew(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    venue.holds = 1
    assert looks(audit, 1) == [{}]
    venue.holds = 2
    assert looks(audit, 1) == [{}]
    trader.next_id()  # an order leaves
    assert looks(audit, 1) == [{}]
    trader.desk.account["fills"][0] += 1
    assert looks(audit, 1) == [{}]
    venue.silent = True
    assert looks(audit, 1) == [{}]
    venue.silent = False
    assert looks(audit, 2) == [{}, {"GOOG": 2}]


def test_a_difference_that_stays_while_we_trade_on_counts_too(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    found = []
    for n in range(STEADY + 1):  # a lot is bought between any two looks, and the venue knows of it
        trader.next_id()
        trader.orders.adjust("GOOG", 1)
        venue.holds = trader.orders.position("GOOG") - 2
        if n == 2:  # a look that says nothing takes nothing back
            venue.meanwhile = trader.next_id
        found += looks(audit, 1)
        venue.meanwhile = lambda: None
    assert found == [*[{}] * STEADY, {"GOOG": -2}]


def test_a_difference_under_an_order_on_its_way_is_looked_at_again_soon(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    venue.meanwhile = trader.next_id
    assert looks(audit, 1) == [{}]
    assert audit.wait_s == LOOK_S, "nothing differs"
    venue.holds = 3
    assert looks(audit, 1) == [{}]
    assert audit.wait_s == AGAIN_S
    venue.holds = 0
    assert looks(audit, 1) == [{}]
    assert audit.wait_s == LOOK_S


def test_why_positions_are_not_known_is_said(tmp_path: Path) -> None:
    venue = Told()
    audit = audit_of(quiet(tmp_path), venue)
    venue.silent = True
    assert looks(audit, 1) == [{}]
    assert audit.problem == "no answer"
    venue.silent = False
    assert looks(audit, 1) == [{}]
    assert audit.problem == ""


def test_a_fill_that_comes_while_the_venue_answers_is_no_difference(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)

    def filled() -> None:
        trader.orders.adjust("GOOG", 1)

    for _ in range(3):  # the venue's answer is behind by what has just filled
        venue.holds = trader.orders.position("GOOG")
        venue.meanwhile = filled
        assert looks(audit, 1) == [{}]


def test_a_report_that_comes_while_the_venue_answers_again_explains_it(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    venue.holds = 1
    assert looks(audit, 1) == [{}]

    def told_late() -> None:
        trader.orders.adjust("GOOG", 1)

    venue.meanwhile = told_late
    assert looks(audit, 1) == [{}]


def test_nothing_counts_while_the_access_itself_looks_for_an_explanation(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit = audit_of(trader, venue)
    venue.holds, venue.explaining = 1, True
    assert looks(audit, 3) == [{}, {}, {}]
    venue.explaining = False
    assert looks(audit, 2) == [{}, {"GOOG": 1}]


def test_an_instrument_with_an_order_on_its_way_is_left_alone(tmp_path: Path) -> None:
    trader, venue = quiet(tmp_path), Told()
    audit, name = audit_of(trader, venue), "TESTRUN0-00000001"
    trader.sent(cleared(new_order(name, 1, 2, 100, instrument="GOOG")))
    venue.holds = 2
    assert looks(audit, 3) == [{}, {}, {}]
    rests = OrderUpdate(clOrdID=name, execID="e1", status=OrderStatus.NEW, filled=0, price=100, ts=1)
    trader.on_report(rests)
    assert looks(audit, 2) == [{}, {"GOOG": 2}]


@pytest.mark.usefixtures("compiled_engine")
def test_a_position_closed_by_hand_in_silence_ends_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would else sell what the account no longer holds."""
    monkeypatch.setattr(audit_module, "LOOK_S", 0.2)
    monkeypatch.setattr(audit_module, "AGAIN_S", 0.1)
    world = World(tmp_path)

    async def closed_by_hand(world: World) -> None:
        await invested(world)
        world.venue.resting.clear()
        world.venue.position = 0
        await world.until(lambda: world.engine.halted, 20)
        for _ in range(20):
            world.venue.tick()
            await asyncio.sleep(0.01)

    play(world, closed_by_hand)
    assert world.position == world.venue.position == 0
    breaches = [m for m in world.recorded().events() if getattr(m.body, "kind", "") == "risk_breach"]
    assert [m.body.data["reason"] for m in breaches] == ["position_differs"]


@pytest.mark.usefixtures("compiled_engine")
def test_orders_that_rest_and_explain_nothing_are_withdrawn_so_that_it_can_be_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "LOOK_S", 0.2)
    monkeypatch.setattr(audit_module, "AGAIN_S", 0.1)
    world = World(tmp_path)

    def says_that_it_rests(command: Command) -> None:
        venue = world.venue
        if isinstance(command, QueryOrder) and command.cl_ord_id in venue.resting:
            order = venue.resting[command.cl_ord_id]
            asyncio.get_running_loop().call_soon(venue.report, order, OrderStatus.NEW, 0)

    async def closed_by_hand(world: World) -> None:
        await invested(world)
        name = world.engine.next_id()
        order = new_order(name, -1, 1, 200_000, instrument=world.instrument.name)
        world.driver.send([cleared(order)])
        await world.until(lambda: name in world.venue.resting, 10)
        world.venue.before_send = says_that_it_rests
        world.venue.position = 0
        await world.until(lambda: world.venue.position == world.position == 0 and world.engine.halted, 20)

    play(world, closed_by_hand)
    actions = [c.body.action for c in world.recorded().events() if isinstance(c.body, Control)]
    assert actions.index("differs") < actions.index("halt")
    assert actions.count("differs") == 2
    assert not world.venue.resting


class Late(Told):
    """A venue that is asked what a difference cost, while the report comes that explains it."""

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        self.meanwhile()
        return [OthersTrade(instrument="GOOG", qty=2, px=100.0, order="o", ts=0)]


@pytest.mark.parametrize("explained", [True, False])
def test_a_report_that_comes_while_the_price_is_asked_for_is_not_booked_again(
    desk: Desk, explained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "AGAIN_S", 0.01)
    venue, shown = Late(), list[bool]()
    others = OthersTrades(desk.engine.orders, desk.engine.run, venue)
    watch = PositionWatch(
        audit_of(desk.engine, venue),
        desk.engine.positions,
        others,
        MarketClock(1, SimClock(1)),
        desk.driver.control,
        lambda _, agrees: shown.append(agrees),
    )
    venue.holds = 2
    asked = False

    def told_now() -> None:
        nonlocal asked
        asked = True
        if explained:
            desk.engine.orders.adjust("GOOG", 2)

    async def looked() -> None:
        running = asyncio.create_task(watch.run())
        watch.look_at_once()
        while not asked:
            await asyncio.sleep(0.001)
            venue.meanwhile = told_now if len(shown) == 1 else venue.meanwhile
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def positions() -> Sequence[VenuePosition]:
        return [VenuePosition(instrument="GOOG", qty=venue.holds)]

    monkeypatch.setattr(venue, "positions", positions)
    asyncio.run(looked())
    assert money(desk.engine)[0] == 2
    assert desk.engine.halted != explained
    assert shown[0] is False
