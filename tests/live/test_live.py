"""The live wiring: ledger before venue, reports before market data, one way out that always works."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Control, MarketDataUpdate, NewOrder, QueryOrder, RiskBreach
from emp.core.errors import JournalError, VenueError
from emp.core.records import Array, fieldwise_bytes
from emp.engine.limits import EngineLimits
from emp.journal.actionlog import read_actions
from emp.journal.decisions import recorded_decisions, with_recorded
from emp.journal.ledger import Ledger
from tests.kit.orders import cleared

from .world import Venue, World, play


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def invested(world: World) -> None:
    """Let the engine buy up to its position limit."""
    await world.until(lambda: world.live.connected.is_set(), 120)
    await bought(world, 4)


async def bought(world: World, lots: int) -> None:
    for _ in range(200):
        world.venue.tick()
        await asyncio.sleep(0.01)
        if world.position >= lots:
            return
    raise AssertionError(f"bought {world.position} of {lots} lots")


def test_an_intent_is_durable_before_it_is_sent(world: World) -> None:
    unrecorded = []

    def look(command) -> None:
        reader = world.recorded()
        known = {e.body.cl_ord_id for e in reader.events() if e.kind == "intent"}
        reader.close()
        if command.cl_ord_id not in known:
            unrecorded.append(command)

    world.venue.before_send = look
    play(world, invested)
    assert world.venue.commands
    assert unrecorded == []
    reader = world.recorded()
    assert reader.sealed
    assert sum(f.qty for f in reader.fills()) == world.position == 4
    rows = read_actions(world.actions.folder)
    assert len(rows) == world.viewer.view().instruments[0].events
    assert {c.decision_seq for c in world.venue.commands} <= set(rows["seq"].tolist())


def test_the_row_of_every_order_is_durable_before_it_is_sent(world: World) -> None:
    """The action log is written by a thread, later: a process that dies between them must not lose why it traded."""
    rows: list[Array] = []

    def look(command) -> None:
        if isinstance(command, NewOrder):
            reader = world.recorded()
            found = recorded_decisions(reader.events())
            reader.close()
            rows.append(found[found["seq"] == command.decision_seq])

    world.venue.before_send = look
    play(world, invested)
    assert len(rows) >= 2
    log = read_actions(world.actions.folder)
    for found in rows:
        assert len(found) == 1
        assert fieldwise_bytes(found) == fieldwise_bytes(log[log["seq"] == found["seq"][0]])
    reader = world.recorded()
    assert len(with_recorded(log, recorded_decisions(reader.events()))) == len(log), "none twice"
    lost = log[log["action"] == 0]
    again = with_recorded(lost, recorded_decisions(reader.events()))
    assert len(again) == len(log)
    assert (np.diff(again["ts"]) >= 0).all()
    reader.close()


def test_a_repeated_report_counts_once(world: World) -> None:
    async def script(world: World) -> None:
        await invested(world)
        order = world.venue.commands[0]
        again = world.venue.report(order, OrderStatus.FILLED, order.qty)
        for _ in range(3):
            world.venue.repeat(again)
        await asyncio.sleep(0.05)
        assert world.position == 4

    play(world, script)


@pytest.mark.parametrize("lazy", [False, True])
def test_stop_withdraws_what_rests_and_keeps_the_position(world: World, lazy: bool) -> None:
    world.venue.lazy = lazy

    async def script(world: World) -> None:
        await invested(world)
        resting = NewOrder(
            cl_ord_id=world.engine.next_id(),
            instrument="BTCUSDT",
            side=1,
            qty=1,
            px=90_000,
            immediate=False,
            ts=world.clock.now_ns(),
            reason=Reason.POST_EDGE,
            decision_seq=1,
        )
        world.driver.send([cleared(resting)])
        # sent, not resting: the market may go on and have it withdrawn before anyone looks
        await world.until(lambda: resting in world.venue.commands)

    play(world, script)
    assert world.venue.resting == {}
    assert isinstance(world.venue.commands[-1], CancelOrder)
    assert world.engine.orders.open_orders() == []
    assert world.position == world.venue.position == 4
    assert world.venue.closed


def test_the_kill_switch_flattens_within_200_ms_and_halts(tmp_path: Path) -> None:
    took: list[float] = []

    async def script(world: World) -> None:
        await invested(world)
        start = world.clock.monotonic_ns()
        world.live.owner.kill("operator")
        await world.until(lambda: world.venue.position == 0 and world.position == 0)
        took.append((world.clock.monotonic_ns() - start) / 1e6)
        sent = len(world.venue.commands)
        world.venue.tick(20)
        await world.until(lambda: world.viewer.view().instruments[0].events >= 20)
        await asyncio.sleep(0.15)
        assert len(world.venue.commands) == sent, "traded although halted"
        assert "risk halted: kill_switch" in world.board.unhealthy()
        assert world.board.view.breaches[0].startswith("operator (kill_switch")

    for attempt in range(3):  # the machine may be busy with something else: the best of three counts
        world = World(tmp_path / str(attempt))
        play(world, script)
        assert [n.data["reason"] for n in world.recorded().notes("risk_breach")] == ["operator"]
        if took[-1] <= 200:
            break
    assert min(took) <= 200


def test_a_loss_limit_flattens_publishes_and_records(tmp_path: Path) -> None:
    limits = EngineLimits(max_position_lots=4, max_order_lots=2, max_daily_loss=1.0)
    world = World(tmp_path, limits=limits)
    breaches: list[RiskBreach] = []
    world.bus.subscribe("risk_breach", breaches.append)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        for _ in range(200):
            world.venue.tick()
            await asyncio.sleep(0.01)
            if breaches:
                break
        await world.until(lambda: world.position == 0 and not world.engine.flattening)

    play(world, script)
    assert breaches[0].reason == "daily_loss"
    assert len(world.recorded().notes("risk_breach")) == 1


def test_when_the_ledger_dies_nothing_new_is_sent_and_the_position_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise JournalError("ledger cannot be written (disk full)")

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 2)
        monkeypatch.setattr(world.ledger, "record_intent", full)
        monkeypatch.setattr(world.ledger, "record_report", full)
        world.venue.commands.clear()
        for _ in range(50):
            world.venue.tick()
            await asyncio.sleep(0.01)

    with pytest.raises(JournalError, match="disk full"):
        play(world, script)
    assert [(c.side, c.qty, c.immediate) for c in world.venue.commands] == [(-1, 2, True)]
    assert world.position == world.venue.position == 0
    assert world.engine.halted
    assert "failed: ledger cannot be written" in world.board.unhealthy()[0]


@pytest.mark.parametrize("error", [VenueError("the venue hung up"), RuntimeError("a bug")])
def test_a_failing_feed_flattens_and_is_raised(world: World, error: Exception) -> None:
    async def script(world: World) -> None:
        await invested(world)
        world.venue.feed.put_nowait(error)
        await world.until(lambda: world.venue.closed)

    with pytest.raises(type(error), match=str(error)):
        play(world, script)
    assert world.position == world.venue.position == 0


def test_a_run_that_cannot_close_names_what_it_leaves_and_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its venue refuses every closing order: it is asked at a pace, for a while, and the rest is said."""
    monkeypatch.setattr("emp.engine.live.CLOSING_S", 0.5)

    async def script(world: World) -> None:
        await invested(world)
        world.venue.commands.clear()
        world.venue.refuses_orders = True
        world.venue.feed.put_nowait(VenueError("the market data is gone"))
        await world.until(lambda: world.venue.closed, 20)

    with pytest.raises(VenueError, match="market data is gone"):
        play(world, script)
    assert 3 <= len(world.venue.commands) <= 12
    assert world.live.left_open() == world.live.left_closing()
    assert world.live.left_open().startswith(
        "left open at the venue: BTCUSDT +4 (nothing was closed by the last"
    )


def test_a_run_that_ends_in_order_says_what_it_holds(world: World) -> None:
    play(world, invested)
    assert world.live.left_open() == "left open at the venue: BTCUSDT +4"
    assert world.live.left_closing() == "", "nobody asked to close it"


def test_a_market_that_ends_ends_the_run_after_its_last_event(world: World) -> None:
    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.tick(100)
        world.venue.feed.put_nowait(None)
        await world.until(lambda: world.venue.closed)

    play(world, script)
    assert world.bus.counts(0).delivered == 100


def test_each_update_goes_out_with_the_market_state_made_from_it(world: World) -> None:
    updates: list[MarketDataUpdate] = []
    world.bus.subscribe("market_data_update", updates.append)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.tick(20, spread=3)
        world.venue.tick(20, spread=7)
        await world.until(lambda: len(updates) == 40)

    play(world, script)
    for update in updates:
        assert update.state is not None
        state = update.state[0]
        assert (state["seq"], state["ts"]) == (update.seq, update.ts)
        assert state["spread_ticks"] == update.ask - update.bid
        assert update.depth[0] == (update.bid, update.bid_sz, update.ask, update.ask_sz)


def test_a_refused_connection_is_raised_and_leaves_nothing_open(world: World) -> None:
    world.venue.refuses = "logon refused"

    async def script(world: World) -> None:
        await world.until(lambda: world.venue.closed, 120)

    with pytest.raises(VenueError, match="logon refused"):
        play(world, script)
    assert threading.active_count() <= 2


def test_a_start_that_fails_leaves_what_is_to_be_recovered(tmp_path: Path) -> None:
    """Its positions, orders and halts are the next start's: a sealed ledger would be passed over."""
    first = World(tmp_path)
    play(first, invested)
    first.unseal()
    again = World(tmp_path, actions="later")
    again.venue.refuses = "logon refused"

    async def script(world: World) -> None:
        world.live.owner.kill("drill")
        await world.until(lambda: world.venue.closed, 120)

    with pytest.raises(VenueError, match="logon refused"):
        play(again, script)
    reader = again.recorded()
    controls = [e.body for e in reader.events() if isinstance(e.body, Control)]
    assert not reader.sealed
    assert controls[-1].action == "kill", "what was asked for while the run began is forgotten"
    reader.close()


def test_a_first_start_that_fails_leaves_nothing_to_recover(world: World) -> None:
    world.venue.refuses = "logon refused"

    async def script(world: World) -> None:
        await world.until(lambda: world.venue.closed, 120)

    with pytest.raises(VenueError, match="logon refused"):
        play(world, script)
    reader = world.recorded()
    assert reader.sealed
    reader.close()


def test_orders_without_an_answer_are_asked_for_and_do_not_hold_the_end_up(world: World) -> None:
    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.answers = False
        world.venue.tick()
        await world.until(lambda: len(world.venue.commands) == 1)

    start = time.monotonic()
    play(world, script)
    assert time.monotonic() - start < 60
    assert len([c for c in world.venue.commands if isinstance(c, NewOrder)]) == 1
    assert world.venue.closed


def test_a_blocked_loop_is_flagged_while_blocked_and_trading_pauses_after_it(tmp_path: Path) -> None:
    flagged: list[float] = []

    def look(world: World, start: float) -> None:
        while time.monotonic() - start < 1.0:
            if any("loop is blocked" in reason for reason in world.board.unhealthy()):
                flagged.append(time.monotonic() - start)
                return
            time.sleep(0.002)

    async def script(world: World) -> None:
        degraded: list[bool] = []
        world.bus.subscribe("degraded_mode", lambda m: degraded.append(m.active))
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.tick()
        await asyncio.sleep(0.1)
        degraded.clear()
        start = time.monotonic()
        outside = threading.Thread(target=look, args=(world, start))
        outside.start()
        time.sleep(0.6)
        outside.join()
        await world.until(lambda: degraded == [True, False])
        await world.until(lambda: not any("blocked" in reason for reason in world.board.unhealthy()))

    for attempt in range(3):  # the machine may be busy with something else: the best of three counts
        play(World(tmp_path / str(attempt)), script)
        if flagged and flagged[-1] <= 0.35:
            break
    assert min(flagged) <= 0.35


def test_an_overflowing_queue_trades_size_zero_until_it_has_recovered(tmp_path: Path) -> None:
    world = World(tmp_path, queue_bound=32)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        world.venue.tick(200)
        await world.until(lambda: world.bus.counts(0).conflated > 0 and world.bus.depth(0) == 0)
        assert world.venue.commands == []
        assert world.engine.desk.risk["degraded"][0]
        await world.until(lambda: not world.engine.desk.risk["degraded"][0])
        world.venue.tick()
        await world.until(lambda: len(world.venue.commands) == 1)

    play(world, script)
    counts = world.bus.counts(0)
    assert counts.received == counts.delivered + counts.conflated == 201
    assert world.viewer.view().instruments[0].drops["overflow"] == counts.conflated


def test_the_view_shows_what_happened(world: World) -> None:
    async def script(world: World) -> None:
        await invested(world)
        world.venue.tick()
        await asyncio.sleep(0.15)
        view = world.board.view
        (one,) = view.instruments
        assert (one.name, one.position, one.fills) == ("BTCUSDT", 4, 4)
        assert one.ask - one.bid == 2
        assert one.decisions[-1].action == "cross"
        assert one.decisions[0].reason == "position_limit"
        assert view.p99_infer_ms > 0
        assert view.commands == 4
        assert world.board.unhealthy() == []
        await asyncio.sleep(1.1)
        assert any("no market data for" in reason for reason in world.board.unhealthy())

    play(world, script)


def test_an_engine_that_breaks_is_flattened_with_its_reports_served(world: World, monkeypatch) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async def script(world: World) -> None:
        await invested(world)
        monkeypatch.setattr(world.engine, "process", broken)
        world.venue.tick()
        await world.until(lambda: world.venue.closed)

    with pytest.raises(RuntimeError, match="a bug"):
        play(world, script)
    assert world.position == world.venue.position == 0


def test_a_restart_continues_from_the_ledger_and_agrees_with_the_venue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = World(tmp_path)
    monkeypatch.setattr(first.ledger, "seal", lambda: None)
    play(first, invested)
    order = NewOrder(
        cl_ord_id=first.engine.next_id(),
        instrument="BTCUSDT",
        side=1,
        qty=1,
        px=90_000,
        immediate=False,
        ts=first.clock.now_ns(),
        reason=Reason.POST_EDGE,
        decision_seq=1,
    )
    ledger = Ledger(first.ledger_path, run="TEST0001", mode="mock")
    ledger.record_intent(order)  # the process died here: nobody knows whether the order has left
    ledger.close()
    venue = Venue()
    venue.name, venue.position = "second", 3
    venue.resting[order.cl_ord_id] = order
    second = World(tmp_path, venue=venue, actions="later")

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        assert world.position == 3, "a lot is missing at the venue: its word counts"
        assert venue.resting == {}, "an order that nobody judged while nothing ran still rests"
        await bought(world, 4)

    play(second, script)
    sent = [c.cl_ord_id for c in first.venue.commands + venue.commands if not isinstance(c, QueryOrder)]
    assert sent == sorted(set(sent)), "ids go on where they ended, and none is used twice"
    assert [n.data["qty"] for n in second.recorded().notes("adjustment")] == [-1]
