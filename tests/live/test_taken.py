"""A session that another logon takes is an alarm that stays, not a short loss of the link."""

import asyncio
from pathlib import Path

from emp.access.port import LinkState
from emp.engine.control_socket import ask
from tests.live.world import World, play


def test_a_session_that_was_taken_stays_an_alarm_until_resume(tmp_path: Path) -> None:
    world = World(tmp_path, socket=True)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        for cause in ("lost", "occupied"):
            world.live.link(LinkState(channel="trade", up=False, reason="gone", cause=cause))
            world.live.link(LinkState(channel="trade", up=True))
            assert "another logon" not in "".join(world.board.unhealthy())
        world.live.link(LinkState(channel="trade", up=False, reason="logged on elsewhere", cause="taken"))
        assert "trade link down (taken): logged on elsewhere" in "".join(world.board.unhealthy())
        world.live.link(LinkState(channel="trade", up=True))
        assert "another logon took our session" in "".join(world.board.unhealthy())
        await asyncio.to_thread(ask, world.ledger_path.parent, {"do": "resume"})
        assert "another logon" not in "".join(world.board.unhealthy())

    play(world, script)
