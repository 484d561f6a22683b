"""A live run of its own process, to be killed: python -m tests.kit.killed FOLDER EVENTS [KILL_AT [LOTS [CALENDAR]]]."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import numpy as np

from emp.app.wiring.live import Running, assemble_live
from emp.core.approval import Cleared, command_of
from emp.core.clock import LiveClock
from emp.core.codes import OrderStatus
from emp.core.config.config import SystemConfig
from emp.core.contracts import OrderUpdate, QueryOrder
from emp.decision.standing import crossing_standing
from emp.engine.succession import Models
from emp.observe.board import Board
from tests.kit.models import eager_model
from tests.live.world import BTC, Venue


class Forgetful(Venue):
    """A venue that has cancelled what it is asked about: an order of a process that is gone."""

    def send(self, cleared: Cleared) -> None:
        super().send(cleared)
        command = command_of(cleared)
        if isinstance(command, QueryOrder):
            self._report(
                OrderUpdate(
                    clOrdID=command.cl_ord_id,
                    execID=f"{self.name}q{len(self.commands)}",
                    status=OrderStatus.CANCELED,
                    filled=0,
                    price=0,
                    ts=command.ts,
                )
            )


def assembled(folder: Path, venue: Venue, lots: int, calendar: str = "") -> Running:
    """A live run of one coin on a scripted venue; one that died in `folder` goes on."""
    config = SystemConfig(
        mode="live",
        run_dir=folder,
        warm_up_events=0,
        risk={"max_order_lots": lots},
        cool_down_events=0,
        context={"shipped": False, "calendar": calendar} if calendar else {"enabled": False},
        instruments={"names": ["BTCUSDT"]},
        access={"connection_protocol": "fix"},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        journal={"flush_seconds": 0.4},
    )
    clock = LiveClock()
    return assemble_live(config, [BTC], Models(eager_model(folder / "model")), venue, Board(clock), clock)


async def trade(running: Running, venue: Venue, events: int, kill_at: int) -> None:
    """Let the market move for so many events; die without a word at one of them."""
    rng = np.random.default_rng(events)
    run = asyncio.create_task(running.live.run())
    await running.live.connected.wait()
    for k in range(events):
        venue.tick(int(rng.integers(1, 4)), spread=int(rng.integers(1, 4)))
        await asyncio.sleep(0.002)
        if k == kill_at:
            await asyncio.sleep(0.05)  # the journal's thread has seen it
            os.kill(os.getpid(), signal.SIGKILL)
    running.live.owner.stop()
    await run


def main(folder: Path, events: int, kill_at: int = -1, lots: int = 5, calendar: str = "") -> None:
    venue = Forgetful()
    venue.name = f"{os.getpid()}-"
    with mock.patch("emp.engine.desk.new_standing", crossing_standing):
        asyncio.run(trade(assembled(folder, venue, lots, calendar), venue, events, kill_at))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:])
