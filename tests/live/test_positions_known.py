"""Between a lost connection and the venue's word on what we hold, nothing is opened."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from emp.access.port import LinkState
from emp.core.contracts import Control, VenuePosition
from emp.core.errors import VenueError
from emp.engine.reconciliation import audit
from tests.live.test_live import bought
from tests.live.world import Venue, World, play


class Slow(Venue):
    """A venue that answers what it holds when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.says = asyncio.Event()
        self.asked = 0
        self.fails = False

    async def positions(self) -> Sequence[VenuePosition]:
        self.asked += 1
        if self.fails:
            raise VenueError("no answer")
        await self.says.wait()
        return await super().positions()


def down_and_up(world: World) -> None:
    world.live.link(LinkState(channel="trade", up=False, reason="gone", cause="lost"))
    world.live.link(LinkState(channel="trade", up=True))


async def ticks(world: World, n: int = 30) -> None:
    for _ in range(n):
        world.venue.tick()
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("compiled_engine")
def test_nothing_is_opened_until_the_venue_has_said_what_we_hold(tmp_path: Path) -> None:
    venue = Slow()
    world = World(tmp_path, venue=venue)

    async def script(world: World) -> None:
        venue.says.set()
        await world.until(lambda: world.live.connected.is_set(), 120)
        venue.says.clear()
        venue.asked = 0
        down_and_up(world)
        await ticks(world)
        assert venue.asked == 1
        assert not venue.commands
        assert world.engine.desk.risk["degraded"][0]
        venue.says.set()
        await bought(world, 4)

    play(world, script)
    reasons = [
        (c.body.reason, c.body.value)
        for c in world.recorded().events()
        if isinstance(c.body, Control) and c.body.action == "degraded"
    ]
    assert reasons.index(("positions", 1.0)) < reasons.index(("trade_link", 0.0))
    assert ("positions", 0.0) in reasons


@pytest.mark.usefixtures("compiled_engine")
def test_what_a_stop_has_closed_meanwhile_is_booked_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AGAIN_S", 0.1)
    world = World(tmp_path)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 2)
        sent = len(world.venue.commands)
        world.live.link(LinkState(channel="trade", up=False, reason="gone", cause="lost"))
        world.venue.resting.clear()
        world.venue.position = 0
        world.live.link(LinkState(channel="trade", up=True))
        for _ in range(200):
            world.venue.tick()
            await asyncio.sleep(0.01)
            if world.engine.halted:
                break
        assert world.engine.halted
        assert world.position == 0
        assert not [one for one in world.venue.commands[sent:] if getattr(one, "side", 0) > 0]

    play(world, script)


@pytest.mark.usefixtures("compiled_engine")
def test_a_venue_that_does_not_answer_is_asked_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AGAIN_S", 0.05)
    venue = Slow()
    world = World(tmp_path, venue=venue)

    async def script(world: World) -> None:
        venue.says.set()
        await world.until(lambda: world.live.connected.is_set(), 120)
        venue.fails, venue.asked = True, 0
        down_and_up(world)
        await ticks(world)
        assert venue.asked > 1
        assert not venue.commands
        venue.fails = False
        await bought(world, 2)

    play(world, script)
