"""Recorded sessions again, whatever the market: the mock over FIX, a recording on paper, QuickFIX as the venue."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.access.fix.client import FixAccess
from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import MarketAccess
from emp.app.wiring.live import assemble_live
from emp.app.wiring.rerun import replay_run
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.instrument import Instrument, find
from emp.engine.succession import Models
from emp.journal.run import RunFolder
from emp.observe.board import Board
from emp.sim.venues.fix.loopback import FixLoopback
from emp.sim.world.market import zero_intelligence
from emp.sim.world.mock import MockMarket
from tests.fix.desk import EURUSD
from tests.fix.test_quickfix import Peer, fix_settings, free_port
from tests.kit.events import random_events
from tests.kit.models import Events, eager_model

COIN = msgspec.structs.replace(find("BTCUSDT"), taker_fee=0.1, maker_fee=0.0)  # open at all hours
PATIENCE_NS = 40_000_000_000
EAGER = {
    "max_orders_per_minute": 100_000,
    "depth_share": 1.0,
    "max_daily_loss_ticks": 1e9,
    "max_drawdown_ticks": 1e9,
}


async def session(
    access: MarketAccess, instrument: Instrument, folder: Path, seconds: float, fills: int = 0
) -> RunFolder:
    """Trade for a while, as `emp run` would, and longer where a busy machine has not filled that much yet."""
    config = SystemConfig(
        mode="paper",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": [instrument.name]},
        access={"connection_protocol": "fix"},
        risk=EAGER,
        journal={"flush_seconds": 0.5},
    )
    clock = LiveClock()
    models = Models(eager_model(folder / "model"))
    running = assemble_live(config, [instrument], models, access, Board(clock), clock)
    run = asyncio.create_task(running.live.run())
    await asyncio.wait(
        [run, asyncio.create_task(running.live.connected.wait())], return_when="FIRST_COMPLETED"
    )
    await asyncio.sleep(seconds)
    patience = clock.monotonic_ns() + PATIENCE_NS
    while running.viewer.view().instruments[0].fills < fills and clock.monotonic_ns() < patience:
        await asyncio.sleep(0.1)
    running.live.owner.stop()
    await run
    return running.folder


def again(folder: RunFolder, fills: int = 0) -> None:
    summary = replay_run(folder, lambda *_: None)
    assert summary["equal"]
    assert summary["events"] > 50
    assert summary["fills"] >= fills, "too little was traded: the test shows nothing"


def test_the_mock_over_fix(tmp_path: Path) -> None:
    clock = LiveClock()
    start = clock.now_ns()
    market = zero_intelligence(5, start_ns=start)
    mock = MockMarket(COIN, 5, market=market, start_ns=start, speed=3.0, clock=clock)
    again(asyncio.run(session(FixLoopback(mock, clock), COIN, tmp_path, 6.0, fills=1)), fills=1)


def test_a_recording_on_paper(tmp_path: Path) -> None:
    clock = LiveClock()
    events = random_events(10_000, 7)  # for longer than the patience, slower than an order takes
    events["ts"] = events["ts_recv"] = clock.now_ns() + np.arange(len(events)) * 20_000_000
    playback = Playback([Events(events, COIN)], clock, speed=2.0)
    access = PaperAccess(playback, clock, speed=2.0)
    again(asyncio.run(session(access, COIN, tmp_path, 3.0, fills=1)), fills=1)


def test_quickfix_as_the_venue(tmp_path: Path) -> None:
    async def run() -> RunFolder:
        port = free_port()
        async with Peer.running("accept", port, "QF", "ME", "0.01"):
            access = FixAccess(fix_settings(port, tmp_path))
            return await session(access, EURUSD, tmp_path, 3.0)

    pytest.importorskip("quickfix")
    again(asyncio.run(run()))
