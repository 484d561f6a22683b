"""Where a stop at the venue belongs, and when it moves."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.clock import SimClock
from emp.engine.closing import PROTECTION
from emp.engine.engine import Engine
from emp.engine.protection import MISSED_NS, STEP, Protection, Protects, stop_price
from tests.kit.models import LOOSE, engine
from tests.live.test_live import bought
from tests.live.world import Venue as LiveVenue
from tests.live.world import World, play

BID, ASK = 10_000, 10_002
S = 1_000_000_000


@pytest.fixture(scope="module")
def trader(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine(tmp_path_factory.mktemp("protection"))


def stand(
    trader: Engine,
    position: int,
    cash: float | None = None,
    *,
    fees: float = 0.0,
    day_start: float = 0.0,
    peak: float = 0.0,
    limits: tuple[float, float] = (500.0, 1_000.0),
    touch: tuple[int, int] = (BID, ASK),
) -> None:
    """Put the engine's desk into a state; `cash` is by default that of lots bought at 10,001."""
    trader.limits = msgspec.structs.replace(LOOSE, max_daily_loss=limits[0], max_drawdown=limits[1])
    account, seen = trader.desk.account[0], trader.desk.perception[0]
    account["position"], account["fees"] = position, fees
    account["cash"] = -10_001.0 * position if cash is None else cash
    account["day_start"], account["peak"] = day_start, peak
    seen["bid"], seen["ask"] = touch
    trader.positions.unvalued.restore({})


def test_the_stop_stands_where_the_loss_limit_is_passed_and_our_own_closing_order_ends(
    trader: Engine,
) -> None:
    stand(trader, 5)
    assert stop_price(trader, 0) == 10_001 - 500 // 5 - PROTECTION * 2
    stand(trader, -5)
    assert stop_price(trader, 0) == 10_001 + 500 // 5 + PROTECTION * 2
    stand(trader, 5, fees=10.0, day_start=-40.0, peak=700.0)  # 290 from the peak's floor, which is the higher
    assert stop_price(trader, 0) == 10_001 + (-300 + 10) // 5 - PROTECTION * 2


@given(
    position=st.integers(-200, 200),
    paid=st.floats(9_000, 11_000),
    fees=st.floats(0, 100),
    day_start=st.floats(-400, 400),
    peak=st.floats(0, 900),
    limits=st.tuples(st.floats(1, 5_000), st.floats(1, 5_000)),
    spread=st.integers(1, 30),
)
def test_at_the_stop_a_limit_is_passed_and_before_it_none_would_be(
    trader: Engine,
    position: int,
    paid: float,
    fees: float,
    day_start: float,
    peak: float,
    limits: tuple[float, float],
    spread: int,
) -> None:
    touch = (BID, BID + spread)
    stand(
        trader,
        position,
        -paid * position,
        fees=fees,
        day_start=day_start,
        peak=peak,
        limits=limits,
        touch=touch,
    )
    px = stop_price(trader, 0)
    if not px:
        return
    assert px < BID if position > 0 else px > touch[1]

    def passed(at: float) -> bool:
        pnl = -paid * position + position * at - fees
        return pnl - day_start < -limits[0] or pnl - peak < -limits[1]

    side, beyond = (1 if position > 0 else -1), PROTECTION * spread
    assert passed(px + side * (beyond - 0.001))
    assert not passed(px + side * (beyond + 1.001))


@pytest.mark.parametrize("what", ["flat", "no book", "one side", "no value yet", "passed", "beyond nothing"])
def test_where_no_stop_belongs_there_is_none(trader: Engine, what: str) -> None:
    stand(trader, 5)
    if what == "flat":
        stand(trader, 0)
    elif what == "no book":
        stand(trader, 5, touch=(0, 0))
    elif what == "one side":
        stand(trader, 5, touch=(BID, 0))
    elif what == "no value yet":
        trader.positions.unvalued.add(0, 1)
    elif what == "passed":
        stand(trader, 5, cash=-12_000.0 * 5)
    else:
        stand(trader, 5, limits=(1e9, 1e9))
    assert stop_price(trader, 0) == 0


class Broker(Protects):
    def __init__(self) -> None:
        self.asked: list[int] = []
        self.rests = 0
        self.keeps = True

    def protect(self, instrument: str, side: int, px: int) -> None:
        assert instrument == "GOOG"
        assert not px or (px < BID if side > 0 else px > ASK)
        self.asked.append(px)
        self.rests = px if self.keeps else 0

    def protected(self, instrument: str) -> int:
        return self.rests


class Watch:
    """A protection, and what it asked for."""

    def __init__(self, trader: Engine) -> None:
        self.clock, self.broker, self.notes = SimClock(0), Broker(), []
        self.protection = Protection(trader, self.broker, self.clock, self.note)

    def note(self, i: int, px: int) -> None:
        assert len(self.notes) == len(self.broker.asked), "it is noted before the venue hears of it"
        self.notes.append((i, px))

    def look(self, after_ns: int = S) -> list[int]:
        self.clock.advance(after_ns)
        before = len(self.broker.asked)
        self.protection.look()
        assert self.notes == [(0, px) for px in self.broker.asked]
        return self.broker.asked[before:]


def test_it_follows_the_position_at_once_and_the_money_by_steps(trader: Engine) -> None:
    stand(trader, 0)
    watch = Watch(trader)
    assert watch.look() == []
    stand(trader, 5)
    assert watch.look(1) == [9_881]
    assert watch.look() == []
    stand(trader, 5, fees=10.0)  # two ticks of a hundred and twenty
    assert watch.look() == []
    stand(trader, 5, fees=60.0)
    assert watch.look(1) == []  # no sooner than after a second
    assert watch.look() == [9_893]
    assert STEP * (10_001 - 9_893) < (9_893 - 9_881)
    stand(trader, -5)
    assert watch.look(1) == [10_121]
    stand(trader, 0)
    assert watch.look(1) == [0]
    assert watch.look() == []


def test_a_stop_on_the_wrong_side_is_replaced_and_none_left_as_it_is(trader: Engine) -> None:
    stand(trader, 5)
    watch = Watch(trader)
    assert watch.look() == [9_881]
    stand(trader, 5, touch=(0, 0))  # a book that is gone moves nothing
    assert watch.look() == []


def test_a_stop_that_does_not_rest_is_told_after_a_while(trader: Engine) -> None:
    stand(trader, 5)
    watch = Watch(trader)
    watch.broker.keeps = False
    watch.look()
    assert watch.protection.missing() == []
    watch.look(MISSED_NS)
    assert watch.protection.missing() == ["GOOG"]
    watch.broker.rests = 9_881
    watch.look()
    assert watch.protection.missing() == []
    watch.broker.rests = 0
    stand(trader, 0)
    watch.look(2 * MISSED_NS)
    assert watch.protection.missing() == []


class Stopping(LiveVenue):
    """A scripted venue that keeps stops."""

    def __init__(self) -> None:
        super().__init__()
        self.stops: list[int] = []

    def protect(self, instrument: str, side: int, px: int) -> None:
        self.stops.append(px)

    def protected(self, instrument: str) -> int:
        return self.stops[-1] if self.stops else 0


@pytest.mark.usefixtures("compiled_engine")
def test_a_run_keeps_one_and_notes_where(tmp_path: Path) -> None:
    venue = Stopping()
    world = World(tmp_path, venue=venue)

    async def invested(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 4)
        await world.until(lambda: bool(venue.stops), 10)
        await asyncio.sleep(0.1)

    play(world, invested)
    assert world.position == 4
    assert 0 < venue.stops[-1] < 100_000 - PROTECTION
    notes = [e.body for e in world.recorded().events() if getattr(e.body, "kind", "") == "stop_at_venue"]
    assert [int(note.data["px"]) for note in notes] == venue.stops
