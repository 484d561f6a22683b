"""A start that cannot be finished: broken off, in one line that says the true reason, nothing lost."""

import asyncio
from pathlib import Path

import pytest

from emp.core.contracts import OrderUpdate
from emp.core.errors import JournalError
from tests.live.world import BTC, Venue, World


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
        world.live.stop()
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
