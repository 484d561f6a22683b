"""A stall is noticed whoever comes first after it: the thread, the beat, the next batch, or the send itself."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emp.core.clock import SimClock
from emp.core.contracts import Command, NewOrder, OrderUpdate
from emp.engine.watchdog import Watchdog
from tests.live.test_live import bought
from tests.live.world import World, book, play

MS = 1_000_000


class Timed:
    """A watchdog whose thread never looks, on a clock of the test's own."""

    def __init__(self) -> None:
        self.clock = SimClock()
        self.stalls: list[float] = []
        self.dog = Watchdog(self.clock, self.stalls.append, lambda: None)

    def after(self, ms: float) -> None:
        self.clock.advance(int(ms * MS))


def test_a_beat_after_a_stall_notices_it_and_only_once() -> None:
    timed = Timed()
    timed.after(2_000)
    timed.dog.beat()
    assert timed.stalls == [2_000.0]
    assert timed.dog.take_stall() == 2_000.0
    assert timed.dog.take_stall() is None
    timed.after(20)
    timed.dog.beat()
    assert timed.dog.take_stall() is None
    timed.after(301)
    assert timed.dog.take_stall() == 301.0
    timed.dog.beat()
    assert timed.dog.take_stall() is None, "the same stall twice"
    assert len(timed.stalls) == 2


def test_a_batch_and_a_send_notice_it_without_a_beat() -> None:
    timed = Timed()
    timed.after(299)
    assert not timed.dog.blocked()
    assert timed.dog.take_stall() is None
    timed.after(2)
    assert timed.dog.blocked()
    assert timed.dog.take_stall() == 301.0
    timed.dog.beat()
    assert not timed.dog.blocked()


def test_time_before_the_start_is_no_stall() -> None:
    timed = Timed()
    timed.after(90_000)
    timed.dog.start()
    timed.dog.beat()
    timed.dog.stop()
    assert timed.stalls == []


def test_what_is_read_behind_a_gap_may_have_lain_for_all_of_it() -> None:
    timed = Timed()
    timed.dog.start()
    timed.after(20)
    timed.dog.beat()
    timed.after(50)
    assert timed.dog.lain_ns() == 0, "the loop turns as it should"
    timed.after(200)
    assert timed.dog.lain_ns() == 250 * MS
    timed.dog.beat()
    timed.after(10)
    assert timed.dog.lain_ns() == 260 * MS, "the beat came before what was read"
    timed.after(10)
    timed.dog.beat()
    assert timed.dog.lain_ns() == 0
    timed.dog.stop()


def test_nobody_trades_before_the_start_and_nothing_lies() -> None:
    timed = Timed()
    timed.after(90_000)
    assert timed.dog.lain_ns() == 0


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A live engine whose watchdog's thread comes too late, as after SIGCONT."""
    monkeypatch.setattr("emp.engine.watchdog.POLL_S", 60.0)
    return World(tmp_path)


def reports(world: World) -> list[OrderUpdate]:
    reader = world.recorded()
    found = [e.body for e in reader.events() if isinstance(e.body, OrderUpdate)]
    reader.close()
    return found


def test_no_order_leaves_that_a_slow_disk_has_held_up(world: World) -> None:
    """Decided on time, recorded two seconds later: the market has gone on meanwhile."""
    record: Callable[[Command], int] = world.ledger.record_intent
    held: list[str] = []

    def slow(command: Command) -> int:
        if isinstance(command, NewOrder) and not held:
            held.append(command.cl_ord_id)
            time.sleep(0.5)
        return record(command)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.ledger.record_intent = slow  # type: ignore[method-assign]
        await bought(world, 2)

    play(world, script)
    assert held
    assert held[0] not in {c.cl_ord_id for c in world.venue.commands}
    (refused,) = [r for r in reports(world) if r.clOrdID == held[0]]
    assert refused.text.startswith("not sent")
    assert world.position == world.venue.position >= 2, "it goes on trading afterwards"


def test_after_a_stall_nothing_is_decided_before_the_engine_knows(world: World) -> None:
    """The queue is full of what was true before; the first thing after a stall must not be an order on it."""
    live = world.live
    world.bus.publish(book(1, world.clock.now_ns(), 3))
    live._watchdog._beat = world.clock.monotonic_ns() - 400 * MS
    assert live._serve_market()
    assert world.bus.depth(0) == 3
    assert live._serve_control()
    assert world.engine.desk.risk["degraded"][0]
    live._watchdog.beat()
    assert live._serve_market()
    assert world.bus.depth(0) == 0
    assert world.venue.commands == []
    world.taps.close()
    world.ledger.close()


def test_nothing_is_decided_on_what_has_waited_for_too_long_before_the_engine_knows(world: World) -> None:
    """Many short delays, none of them a stall: another instrument's batches, a model that takes its time."""
    live = world.live
    world.bus.publish(book(1, world.clock.now_ns(), 3))
    world.bus._max_age_ns = -1
    assert live._serve_market()
    assert world.bus.depth(0) == 3
    assert live._serve_control()
    assert world.engine.desk.risk["degraded"][0]
    assert live._serve_market()
    assert world.bus.depth(0) == 0
    assert world.venue.commands == []
    world.taps.close()
    world.ledger.close()


def test_data_that_lay_in_a_socket_are_as_old_as_they_are(world: World) -> None:
    """The loop was held up for 290 ms, which is no stall; what came meanwhile is decided on as what it is."""
    live, dog = world.live, world.live._watchdog
    dog._watching = True
    dog.beat()
    dog._beat = world.clock.monotonic_ns() - 290 * MS
    dog.beat()
    live.events(book(1, world.clock.now_ns(), 3))
    assert world.bus.lag_ms(0) >= 290.0
    assert live._serve_market()
    assert world.bus.depth(0) == 3, "the engine is to know first"
    assert live._serve_control()
    assert world.engine.desk.risk["degraded"][0]
    world.taps.close()
    world.ledger.close()


def test_what_is_decided_on_old_data_is_too_late_though_the_loop_turns(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, late = world.live, []
    events = live._driver.events
    monkeypatch.setattr(live._driver, "events", lambda *a: (late.append(live._is_late()), events(*a))[1])
    for waited_ms in (200.0, 301.0):
        world.bus.publish(book(len(late) + 1, world.clock.now_ns(), 1))
        monkeypatch.setattr(world.bus, "lag_ms", lambda _, waited_ms=waited_ms: waited_ms)
        live._watchdog.beat()
        assert live._serve_market()
        live._watchdog.beat()
        assert not live._is_late(), "no batch is decided on"
    assert late == [False, True]
    world.taps.close()
    world.ledger.close()
