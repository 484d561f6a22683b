"""A start that cannot be finished: broken off, in one line that says the true reason, nothing lost."""

import asyncio
from pathlib import Path

import pytest

from emp.core.contracts import Control, OrderUpdate
from emp.core.errors import JournalError
from tests.live.test_live import invested
from tests.live.world import BTC, Venue, World, play


class Silent(Venue):
    """A venue that lists nothing until somebody lets it."""

    async def open_orders(self) -> list[OrderUpdate]:  # type: ignore[override]
        await asyncio.sleep(60)
        return []


def test_stop_during_the_recovery_ends_the_start(tmp_path: Path) -> None:
    world = World(tmp_path, venue=Silent())

    async def script() -> None:
        run = asyncio.create_task(world.live.run())
        await world.until(lambda: world.venue.connected, 60)
        world.live.owner.stop()
        await asyncio.wait_for(run, 10)

    asyncio.run(script())
    assert world.venue.closed
    assert world.venue.commands == []


def test_a_ledger_that_fails_during_the_recovery_is_what_the_start_ends_with(tmp_path: Path) -> None:
    world = World(tmp_path, venue=Silent())

    def fail(_: OrderUpdate) -> bool:
        raise JournalError("disk is full")

    world.ledger.record_report = fail  # type: ignore[method-assign]

    async def script() -> None:
        run = asyncio.create_task(world.live.run())
        await world.until(lambda: world.venue.connected, 60)
        stranger = OrderUpdate(
            clOrdID="X",
            execID="1",
            status="new",
            filled=0,
            price=1,
            ts=1,
            instrument=BTC.name,  # type: ignore[arg-type]
        )
        world.venue.sink.report(stranger)
        with pytest.raises(JournalError, match="disk is full"):
            await asyncio.wait_for(run, 10)

    asyncio.run(script())
    assert world.venue.closed


@pytest.mark.parametrize("action", ["kill", "halt"])
def test_what_is_asked_for_during_the_recovery_is_durable_when_it_is_acknowledged(
    tmp_path: Path, action: str
) -> None:
    """A process that dies before trading begins must not take the kill switch with it."""
    world = World(tmp_path, venue=Silent())
    acknowledged: list[list[str]] = []

    async def script() -> None:
        run = asyncio.create_task(world.live.run())
        await world.until(lambda: world.venue.connected, 60)
        assert "as soon as trading begins" in world.live.owner.ask(action, "operator", "")  # type: ignore[arg-type]
        reader = world.recorded()
        acknowledged.append([e.body.action for e in reader.events() if isinstance(e.body, Control)])
        reader.close()
        run.cancel()  # it dies: nothing that ends a run in order is done
        await asyncio.gather(run, return_exceptions=True)

    asyncio.run(script())
    assert acknowledged == [["begin", action]]
    assert world.venue.commands == []
    again = World(tmp_path, actions="later")

    async def look() -> None:
        run = asyncio.create_task(again.live.run())
        await again.until(again.live.connected.is_set, 60)
        assert again.engine.halted
        again.live.owner.stop()
        await run

    asyncio.run(look())


def test_a_kill_during_the_recovery_of_a_position_uses_no_id_twice_and_closes_it_at_the_first_book(
    tmp_path: Path,
) -> None:
    """The ids go on where the dead process ended, and the kill waits for a price."""
    first = World(tmp_path)

    async def invest(world: World) -> None:
        await invested(world)

    play(first, invest)
    first.unseal()
    sent = {c.cl_ord_id for c in first.venue.commands}
    slow = Slow()
    slow.position, slow.name, slow._seq = first.venue.position, "f", first.venue._seq
    again = World(tmp_path, venue=slow, actions="later")

    async def script() -> None:
        run = asyncio.create_task(again.live.run())
        await again.until(lambda: slow.connected, 60)
        again.live.owner.kill("operator")
        slow.gate.set()
        await again.until(again.live.connected.is_set, 60)
        await asyncio.sleep(0.1)
        assert slow.commands == [], "there is no price yet"
        for _ in range(100):
            slow.tick()
            await asyncio.sleep(0.02)
            if slow.position == 0 == again.position:
                break
        again.live.owner.stop()
        await run

    asyncio.run(script())
    assert slow.position == 0 == again.position
    assert slow.commands
    assert not sent & {c.cl_ord_id for c in slow.commands}


class Slow(Venue):
    """A venue that lists its orders when somebody lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def open_orders(self) -> list[OrderUpdate]:  # type: ignore[override]
        await self.gate.wait()
        return []
