"""Market data that were long on their way warm up and open nothing; what comes fresh is traded on again."""

import asyncio
from pathlib import Path

from emp.access.port import HearsOld
from emp.core.clock import LiveClock
from emp.core.contracts import Control, NewOrder
from tests.live.world import Venue, World, book, play

AGE_NS = 60_000_000_000


class LateVenue(Venue):
    """One whose first events were a minute on their way."""

    def late(self, n: int) -> None:
        assert isinstance(self.sink, HearsOld)
        self._seq += n
        self.sink.old(book(self._seq - n + 1, LiveClock().now_ns() - AGE_NS, n), AGE_NS)


def test_nothing_is_opened_on_old_events_and_they_warm_up(tmp_path: Path) -> None:
    venue = LateVenue()
    world = World(tmp_path, venue=venue)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        for _ in range(20):
            venue.late(5)
            await world.until(lambda: world.bus.empty)
        assert world.bus.counts(0).delivered == 100
        assert not [one for one in venue.commands if isinstance(one, NewOrder)]
        assert world.position == 0
        for _ in range(300):
            venue.tick()
            await asyncio.sleep(0.01)
            if world.position == 4:
                break
        assert world.position == 4

    play(world, script)
    reader = world.recorded()
    degraded = [
        one.body.value
        for one in reader.events()
        if isinstance(one.body, Control) and one.body.action == "degraded"
    ]
    reader.close()
    assert degraded[0] == 1.0  # a slow machine may stall as well, later
