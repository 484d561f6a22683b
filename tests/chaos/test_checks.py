"""Each check finds the violation that is planted for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.app.chaos.checks import Checks
from emp.app.chaos.drill import plan_of
from emp.app.chaos.life import Life
from emp.app.chaos.promises import CHECKS
from emp.app.chaos.world import World
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import Control, NewOrder, OrderUpdate
from emp.core.records import ACCOUNT, empty_events
from emp.journal.records import Kind, LedgerEvent
from emp.sim.chaos.exchange import Held
from emp.sim.chaos.loop import Process
from emp.sim.chaos.pit import Pit, Wrong
from emp.sim.chaos.plan import Plan

S = 1_000_000_000
MS = 1_000_000


class Engine:
    """As much of an engine as checks look at; it has nothing and wants nothing."""

    def __init__(self, world: World) -> None:
        self.run = "RUN00001"
        self.instruments = world.exchange.instruments
        self.shown = (99_999, 100_001, 5)
        self.held = 0
        self.open: list[object] = []
        self.orders = SimpleNamespace(position=lambda _: self.held, open_orders=lambda *_: self.open)
        n = len(self.instruments)
        account = np.zeros(n, ACCOUNT)
        risk = np.zeros(n, [("halted", "?"), ("degraded", "?"), ("barred", "i4")])
        state = np.zeros(n, [("ts", "i8")])
        seen = np.zeros(n, [("ts", "i8"), ("bid", "i8"), ("ask", "i8")])
        self.desk = SimpleNamespace(account=account, risk=risk, state=state, perception=seen)
        self.positions = SimpleNamespace(unvalued=SimpleNamespace(lots=lambda _: 0), claims=[])

    def touch(self, _: int) -> tuple[int, int, int]:
        return self.shown


class Ledger:
    """A ledger whose rows are a number."""

    def __init__(self) -> None:
        self._seq, self._dead, self._in_batch, self._checkpoint = 40, "", False, 0
        self.intents: list[str] = []
        self.recorded: list[LedgerEvent] = []
        self._db = SimpleNamespace(execute=lambda _: [(name,) for name in self.intents])

    def record(self, kind: Kind, body: OrderUpdate | Control) -> None:
        self._seq += 1
        self.recorded.append(LedgerEvent(self._seq, kind, msgspec.json.encode(body)))

    def events(self, after: int = 0) -> list[LedgerEvent]:
        return [one for one in self.recorded if one.seq > after]

    def notes(self, _: str) -> list[object]:
        return []


class Set:
    """A world in which nothing moves, with an engine that trades."""

    def __init__(self, tmp_path: Path) -> None:
        self._scratch = tmp_path
        self._worlds: list[World] = []
        self.become(plan_of(3))

    def become(self, plan: Plan) -> None:
        """Begin anew as the world of a plan."""
        folder = self._scratch / str(len(self._worlds))
        folder.mkdir()
        self.world = World(plan, folder)
        self._worlds.append(self.world)
        self.checks: Checks = self.world.checks
        self.engine = Engine(self.world)
        self.ledger = Ledger()
        self.depth = 0
        connected = SimpleNamespace(is_set=lambda: True)
        live = SimpleNamespace(_ledger=self.ledger, connected=connected, _failure=None)
        running = SimpleNamespace(
            live=live,
            engine=self.engine,
            bus=SimpleNamespace(depth=lambda _: self.depth),
            journal=SimpleNamespace(actions=SimpleNamespace(sha256="")),
        )
        self.life = Life(Process("engine"), self.now, running=running, run="RUN00001")
        self.life.newest_ns = dict.fromkeys(range(plan.instruments), self.now)
        self.world.lives.append(self.life)
        self.show(99_999, 100_001)

    def close(self) -> None:
        """Give back what its disks hold."""
        for world in self._worlds:
            world.disk.close_all()

    @property
    def pit(self) -> Pit:
        return self.world.exchange.pits[0]

    @property
    def now(self) -> int:
        return self.world.loop.now_ns

    def later(self, ns: int) -> None:
        self.world.loop._now_ns += ns

    def show(self, bid: int, ask: int) -> None:
        row = empty_events(1)[0]
        row["bid_px"][0], row["ask_px"][0], row["ts"] = bid, ask, 77
        for pit in self.world.exchange.pits:
            pit.book, pit.mid = row, (bid + ask) / 2
            pit.books_shown.append((bid, ask))
            self.checks.arrivals[pit.index, 77] = self.now

    def order(self, name: str = "RUN00001-00000001", **change: Any) -> NewOrder:
        order = NewOrder(
            cl_ord_id=name, instrument="GOOG", side=1, qty=1, px=100_001, immediate=True, ts=77,
            reason=Reason.CROSS_EDGE, decision_seq=1,
        )  # fmt: skip
        return msgspec.structs.replace(order, **change)

    def send(self, **change: Any) -> None:
        self.checks.on_send(self.life, self.order(**change))

    def found(self) -> list[str]:
        return [one.check for one in self.checks.violations]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Set]:
    made = Set(tmp_path)
    yield made
    made.close()


def unrecovered(s: Set) -> None:
    s.life.running.live.connected.is_set = lambda: False
    s.send()


def halted(s: Set) -> None:
    s.checks.on_asked("halt", s.life)
    s.send()


def stale(s: Set) -> None:
    s.later(3_100 * MS)
    s.checks.arrivals[0, 77] = s.now
    s.send()


def link_down(s: Set) -> None:
    s.life.links = {"trade": False}
    s.send()


def late(s: Set) -> None:
    s.later(450 * MS)
    s.send()


def lasts(s: Set) -> None:
    """What the account is worth now, it is worth for a while."""
    s.checks.losses.mark(s.life)
    s.later(1_100 * MS)
    s.checks.losses.mark(s.life)


def loss_limit(s: Set) -> None:
    s.pit.cash = -int(2 * s.world.plan.loss_limit + 100)
    lasts(s)
    s.later(2_500 * MS)
    s.send()


def drawdown(s: Set) -> None:
    s.pit.cash = 10_000
    s.checks.losses.mark(s.life)
    s.pit.cash = int(9_900 - 2 * s.world.plan.drawdown_limit)
    lasts(s)
    s.later(2_500 * MS)
    s.send()


def ended_with(s: Set, **account: float) -> Life:
    """A process that has traded for a while knew this when it died; another one goes on."""
    s.checks.after_step(s.life.process)
    s.engine.desk.account["fills"] = 1
    for name, value in account.items():
        s.engine.desk.account[name] = value
    s.checks.losses.look(s.life)
    s.later(6 * S)
    s.checks.losses.end(s.life)
    following = Life(Process("engine 2"), s.now, running=s.life.running, run="RUN00001")
    s.world.lives.append(following)
    return following


def loss_forgotten(s: Set) -> None:
    following = ended_with(s, day=9, day_start=-50.0, peak=20.0)
    s.engine.desk.account["day"] = 0
    s.checks.after_step(following.process)


def sealed_early(s: Set) -> None:
    s.life.said = "VenueError: the market is over"
    s.checks._sealed = lambda _: True  # type: ignore[method-assign]
    s.checks.on_end(s.life)


def closing_pace(s: Set) -> None:
    for k in range(8):
        s.send(name=f"RUN00001-{k}", reason=Reason.KILL_SWITCH)
        update = OrderUpdate(
            clOrdID=f"RUN00001-{k}", execID=f"{k}", status=OrderStatus.REJECTED, filled=0, price=0, ts=0
        )
        s.checks.on_report(s.life, update)
        s.later(60 * MS)


def closing_price(s: Set) -> None:
    s.send(reason=Reason.KILL_SWITCH, px=1)


def order_price(s: Set) -> None:
    s.send(px=120_000)


def see(s: Set, px: int, *, shown: bool = True, trades: bool = True) -> None:
    """The market is at 100,000 ticks, and its feed shows it around `px`; what is `shown` also reaches the engine."""
    row = empty_events(1)
    row["n_bid"] = row["n_ask"] = row["trade_qty"] = 1
    row["bid_px"][0, 0], row["ask_px"][0, 0], row["trade_px"] = 99_999, 100_001, 100_000
    s.pit.wrong, s.pit.wrong_until_ns = Wrong(offset=px - 100_000, trades=trades), s.now + (px != 100_000)
    seen = s.pit.seen(row, s.now)
    if shown:
        s.checks.on_events(s.life, seen)


def misled(s: Set) -> None:
    """A wrong feed has lasted for as long as it must, and is believed."""
    see(s, 100_000)
    see(s, 300_000, shown=False)
    s.later(5 * S)
    see(s, 300_000)
    assert s.found() == []


def bought(s: Set, name: str, px: int) -> None:
    """An order is sent at prices of a feed, and fills at `px`."""
    s.send(cl_ord_id=name, px=300_001)
    update = OrderUpdate(
        clOrdID=name, execID=name, status=OrderStatus.FILLED, filled=1, price=px, ts=77, instrument="GOOG", side=1
    )  # fmt: skip
    s.checks.on_report(s.life, update)


def feed_believed(s: Set) -> None:
    see(s, 100_000)
    see(s, 300_000, shown=False)
    s.later(4_900 * MS)
    see(s, 300_000)


def feed_again(s: Set) -> None:
    misled(s)
    see(s, 100_000, shown=False)
    s.later(13 * S)
    see(s, 100_000)


def closing_rate(s: Set) -> None:
    for _ in range(63):
        s.send(reason=Reason.KILL_SWITCH)


def position_limit(s: Set) -> None:
    s.pit.position = s.world.most_position + 1
    s.checks.on_fill(Held(s.order()), 1, 1)


def queue_bound(s: Set) -> None:
    s.depth = s.world.config.bus.queue_bound + 1
    s.checks.after_step(s.life.process)


def duplicate_id(s: Set) -> None:
    s.checks.on_arrival("a", "new", False)
    s.checks.on_arrival("a", "new", True)
    assert s.found() == []
    s.checks.on_arrival("a", "new", False)


def again(s: Set) -> Life:
    """Another process goes on with the run."""
    s.checks._fills = lambda *_: 0  # type: ignore[method-assign]
    s.checks._sum_up = lambda *_: None  # type: ignore[method-assign]
    following = Life(Process("engine 2"), s.now, running=s.life.running)
    s.world.lives.append(following)
    return following


def unknown_order(s: Set) -> None:
    s.checks.on_arrival("RUN00001-00000009", "new", False)
    s.checks.on_assembled(again(s))


def not_asked(s: Set) -> None:
    s.world.exchange.orders["RUN00001-00000003"] = Held(s.order(), status=OrderStatus.FILLED, ended_ns=s.now)
    s.engine.open.append(SimpleNamespace(command=s.order("RUN00001-00000003")))
    s.later(1 * S)
    s.life.links = {"trade": True}
    s.checks.on_link(True)
    s.later(4 * S)
    s.checks.on_events(s.life, empty_events(1))
    assert s.found() == []
    s.later(2 * S)
    s.checks.on_events(s.life, empty_events(1))


def by_hand(s: Set, name: str, lots: int) -> None:
    """A report of somebody else's fill reaches the engine, which records it."""
    told = OrderUpdate(
        clOrdID=name, execID=name, status=OrderStatus.FILLED, filled=abs(lots), price=100_001, ts=s.now,
        instrument="GOOG", side=1 if lots > 0 else -1,
    )  # fmt: skip
    s.checks.on_report(s.life, told)
    s.ledger.record("report", told)


def venue_says(s: Set, lots: int, instrument: str = "GOOG") -> None:
    """The venue has said how many lots of what was told it holds."""
    said = Control(action="confirmed", ts=s.now, instrument=instrument, value=float(lots))
    s.ledger.record("control", said)


def others_booked(s: Set) -> None:
    by_hand(s, "HAND1", 2)
    venue_says(s, 2)  # all of it, so it is to be booked
    s.later(9 * S)
    s.checks.on_events(s.life, empty_events(1))
    assert s.found() == []
    s.later(2 * S)
    s.engine.positions.claims = [0]  # the venue has not said yet what it holds
    s.checks.on_events(s.life, empty_events(1))
    assert s.found() == []
    s.engine.positions.claims = []
    s.checks.on_events(s.life, empty_events(1))


def lost_record(s: Set) -> None:
    s.checks.after_step(s.life.process)
    s.ledger._seq = 39
    s.checks.on_assembled(again(s))


def recorded_first(s: Set) -> None:
    s.engine.desk.account["fills"] = 1
    s.checks.on_death(s.life)
    s.checks.on_assembled(again(s))


def tampered(s: Set) -> None:
    s.world.befalls.tampered = True
    s.checks.rest.at_rest()


def passed_over(s: Set) -> None:
    following = again(s)
    s.engine.run = "RUN00002"
    s.checks.on_assembled(following)


def start_refused(s: Set) -> None:
    s.life.running, s.life.said = None, "JournalError: no reason that anybody knows"
    s.checks.on_end(s.life)


def unhandled(s: Set) -> None:
    s.life.said = "KeyError: 'x'"
    s.checks.on_end(s.life)


def liveness(s: Set) -> None:
    s.checks.rest.begin()
    s.later(200 * S)
    s.checks.rest.at_rest()


def position(s: Set) -> None:
    s.engine.held = 1
    s.checks.rest.when_settled()


def two_instruments(s: Set) -> None:
    """The same world with two instruments, whose account may lose 300, and hold 6 million net and 12 million gross."""
    s.become(
        msgspec.structs.replace(s.world.plan, instruments=2, account_loss=300.0, max_net=6e6, max_gross=12e6)
    )


def account_loss(s: Set) -> None:
    """Ticks of each are within its own limit: the money of both together is not."""
    two_instruments(s)
    s.world.exchange.pits[1].cash = -80  # 1,000 dollars
    lasts(s)
    s.later(2_500 * MS)
    s.life.newest_ns[0] = s.now
    s.checks.arrivals[0, 77] = s.now
    s.send()


def exposure(s: Set) -> None:
    two_instruments(s)
    s.world.exchange.pits[1].position = 4
    s.send(instrument="ES", side=-1, px=99_999)
    assert s.found() == [], "it closes"
    s.send(instrument="ES")


def loss_kept(s: Set) -> None:
    """The owner has halted it, the loss goes on, and so does the position."""
    s.checks.halted = True
    s.pit.position = s.engine.held = 3
    s.pit.cash = -int(3 * 100_000 + s.world.plan.loss_limit + 200)
    rows = empty_events(1)
    for _ in range(40):
        s.later(S)
        s.checks.on_events(s.life, rows)


def money(s: Set) -> None:
    s.engine.desk.account["cash"] = 3.0
    s.checks.rest.when_settled()


def working(s: Set) -> None:
    s.engine.open.append("an order")
    s.checks.rest.when_settled()


def book(s: Set) -> None:
    s.engine.shown = (1, 2, 5)
    s.checks.rest.when_settled()


PLANTED: dict[str, Callable[[Set], None]] = {
    one.__name__: one
    for one in (
        unrecovered, halted, stale, link_down, late, loss_limit, drawdown, loss_forgotten, sealed_early, closing_price,
        order_price, feed_believed, feed_again, closing_rate, closing_pace, not_asked, loss_kept, account_loss,
        exposure,
        position_limit, queue_bound, duplicate_id, unknown_order, others_booked, lost_record, recorded_first, tampered,
        passed_over, start_refused, unhandled, liveness, position, money, working, book,
    )
}  # fmt: skip

ELSEWHERE = {
    "checkpoint", "decided_late", "replayed", "row_of_order", "recovery_twice", "sealed", "two_engines", "world",
}  # fmt: skip
"""Those that whole worlds with a broken engine show: see test_worlds.py."""


def test_no_check_is_left_out() -> None:
    assert PLANTED.keys() | ELSEWHERE == CHECKS.keys()
    assert not PLANTED.keys() & ELSEWHERE


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_found(scene: Set, name: str) -> None:
    PLANTED[name](scene)
    assert name in scene.found()


def of_prices(s: Set) -> list[str]:
    """What was found of the prices of books and orders; time passes here without rows."""
    return [one for one in s.found() if one.startswith("feed_") or one.endswith("_price")]


def test_a_fill_that_contradicts_a_wrong_feed_makes_it_wait_twice_as_long_each_time(scene: Set) -> None:
    misled(scene)
    for n, due in enumerate((10, 20, 40)):
        bought(scene, f"RUN00001-{n}", 100_001)
        scene.later(due * S)
        see(scene, 300_000)
        assert of_prices(scene) == []
    bought(scene, "RUN00001-3", 300_001)
    see(scene, 300_000)
    assert of_prices(scene) == [], "a fill that is where the feed is contradicts nothing"
    bought(scene, "RUN00001-4", 100_001)
    scene.later(79 * S)
    see(scene, 300_000)
    assert of_prices(scene) == ["feed_believed"]


def test_a_wrong_feed_whose_trades_are_the_markets_is_never_believed(scene: Set) -> None:
    for tells in (False, True):
        scene.become(plan_of(3))
        scene.world.door.tells_trades = tells
        see(scene, 100_000)
        for _ in range(6):
            see(scene, 300_000, shown=False, trades=False)
            scene.later(S)
        see(scene, 300_000, trades=False)
        assert of_prices(scene) == ["feed_believed"] * tells


def test_orders_on_a_wrong_feed_are_held_against_nobody_once_it_is_believed(scene: Set) -> None:
    misled(scene)
    scene.send(px=300_001)
    scene.send(cl_ord_id="RUN00001-00000002", px=299_000, reason=Reason.KILL_SWITCH)
    assert of_prices(scene) == []
    for what in ("order_price", "closing_price"):
        scene.become(plan_of(3))
        see(scene, 100_000)
        see(scene, 20_000, shown=False)
        scene.later(4 * S)
        scene.send(px=20_001, reason=Reason.KILL_SWITCH if what == "closing_price" else Reason.CROSS_EDGE)
        assert of_prices(scene) == [what]


def test_nothing_is_found_where_nothing_is_wrong(scene: Set) -> None:
    scene.ledger.intents = ["RUN00001-00000001"]
    scene.send()
    scene.send(reason=Reason.KILL_SWITCH, px=99_990)
    scene.checks.on_arrival("RUN00001-00000001", "new", False)
    scene.checks.after_step(scene.life.process)
    scene.checks.rest.when_settled()
    scene.checks.on_death(scene.life)
    scene.checks.on_assembled(again(scene))
    assert scene.checks.violations == []


def test_a_start_that_knows_what_was_lost_has_forgotten_nothing(scene: Set) -> None:
    following = ended_with(scene, day=9, day_start=-50.0, peak=20.0)
    scene.checks.after_step(following.process)
    assert following.began
    assert scene.found() == []


@pytest.mark.parametrize("change", [{"day_start": 0.0}, {"peak": 0.0}, {"day": 8}])
def test_what_a_start_may_not_forget(scene: Set, change: dict[str, float]) -> None:
    following = ended_with(scene, day=9, day_start=-50.0, peak=20.0)
    for name, value in change.items():
        scene.engine.desk.account[name] = value
    scene.checks.after_step(following.process)
    assert scene.found() == ["loss_forgotten"]


@pytest.mark.parametrize("kept", [True, False])
def test_the_next_run_takes_over_what_the_last_one_lost(scene: Set, kept: bool) -> None:
    following = ended_with(scene, day=9, day_start=50.0, peak=60.0, pnl=30.0, cash=30.0)
    following.run = "RUN00002"
    account = scene.engine.desk.account
    account["day_start"], account["peak"] = (20.0, 30.0) if kept else (0.0, 0.0)
    scene.checks.after_step(following.process)
    assert scene.found() == ([] if kept else ["loss_forgotten"])


def test_a_loss_between_two_events_is_no_breach(scene: Set) -> None:
    scene.pit.cash = -int(2 * scene.world.plan.loss_limit + 100)
    scene.checks.losses.mark(scene.life)
    scene.later(100 * MS)
    scene.pit.cash = 0
    scene.checks.losses.mark(scene.life)
    scene.later(2_500 * MS)
    scene.life.newest_ns[0] = scene.now
    scene.checks.arrivals[0, 77] = scene.now
    scene.send()
    assert scene.found() == []


def test_net_exposure_is_not_held_against_who_closes_one_side(scene: Set) -> None:
    two_instruments(scene)
    scene.world.exchange.pits[0].position = 4  # a share is worth 1,000
    scene.world.exchange.pits[1].position = -6  # 7.5 million
    scene.send(side=-1, qty=4, px=99_999)
    scene.checks.on_fill(Held(scene.order(instrument="ES")), 1, 100_000)
    assert scene.found() == []


def test_gross_exposure_is(scene: Set) -> None:
    two_instruments(scene)
    scene.world.exchange.pits[1].position = -10
    scene.world.most_position = 10
    scene.checks.on_fill(Held(scene.order(instrument="ES", side=-1)), 1, 100_000)
    assert scene.found() == ["exposure"]


@pytest.mark.parametrize(
    ("told", "instrument", "lots", "found"),
    [
        ([2], "GOOG", 2, True),
        ([2], "GOOG", 1, False),
        ([2], "ES", 0, True),
        ([3, 2, 1], "GOOG", 3, False),
        ([3, 2, 1], "GOOG", 6, True),
        ([-3, -2], "GOOG", -3, False),
        ([5, -5], "GOOG", 0, True),
    ],
)
def test_only_that_the_venue_holds_less_of_an_instrument_than_was_told_excuses_what_is_not_booked(
    scene: Set, told: list[int], instrument: str, lots: int, found: bool
) -> None:
    for n, each in enumerate(told):
        by_hand(scene, f"HAND{n}", each)
        scene.later(S)
    venue_says(scene, lots, instrument)
    for _ in range(14):
        scene.later(S)
        scene.checks.on_events(scene.life, empty_events(1))
    assert ("others_booked" in scene.found()) == found


def test_the_word_on_an_earlier_fill_says_nothing_of_a_later_one(scene: Set) -> None:
    by_hand(scene, "HAND1", 2)
    venue_says(scene, 0)
    by_hand(scene, "HAND2", 1)
    venue_says(scene, 1)
    scene.later(12 * S)
    scene.checks.on_events(scene.life, empty_events(1))
    assert [one.what for one in scene.checks.violations] == ["HAND2"]


def test_of_two_instruments_each_must_be_alive(scene: Set) -> None:
    two_instruments(scene)
    scene.checks.rest.begin()
    scene.send()
    scene.checks.on_arrival("RUN00001-00000001", "new", False)
    assert not scene.checks.rest.is_alive()
    scene.send(name="RUN00001-00000002", instrument="ES")
    scene.checks.on_arrival("RUN00001-00000002", "new", False)
    assert scene.checks.rest.is_alive()
    assert scene.checks.rest.ended == "trading"


def test_the_dead_send_nothing(scene: Set) -> None:
    scene.life.process.dead = True
    scene.send(px=1)
    assert scene.found() == []
