"""Breakers in a live run: what they bar is recorded, shown, replayed, and outlives the process."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.rerun import replay_run
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control, NewOrder
from emp.engine.succession import Models
from emp.journal.reader import LedgerReader
from emp.observe.board import Board
from tests.kit.journal import unseal
from tests.kit.killed import Forgetful
from tests.kit.models import buying_model
from tests.live.world import BTC

pytestmark = pytest.mark.usefixtures("compiled_engine")


class Moody(Forgetful):
    """A venue that refuses or is silent when told to, in a market that moves at random."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(3)
        self.pace_s = 0.002


def assembled(folder: Path, venue: Moody, **breakers: float) -> Running:
    config = SystemConfig(
        mode="live",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": ["BTCUSDT"]},
        access={"connection_protocol": "fix"},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        risk={"max_orders_per_minute": 10_000, "max_position_lots": 1_000},
        breakers=breakers,
    )
    clock = LiveClock()
    return assemble_live(config, [BTC], Models(buying_model(folder / "model")), venue, Board(clock), clock)


async def until(venue: Moody, condition, seconds: float = 20.0) -> None:
    """Let the market move until something is so."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await move(venue)


async def move(venue: Moody) -> None:
    """Some changes of the book, of another spread each time: there is something to be opened now and then."""
    venue.tick(int(venue.rng.integers(1, 4)), spread=int(venue.rng.integers(1, 4)))
    await asyncio.sleep(venue.pace_s)


def bars(running: Running) -> list[tuple[str, float]]:
    ledger = LedgerReader(running.folder.ledger)
    controls = [event.body for event in ledger.events() if isinstance(event.body, Control)]
    ledger.close()
    return [(one.reason, one.value) for one in controls if one.action == "bar"]


def sent(venue: Moody) -> int:
    return sum(isinstance(one, NewOrder) for one in venue.commands)


async def beside(running: Running, script) -> None:
    run = asyncio.create_task(running.live.run())
    try:
        await running.live.connected.wait()
        await script()
    finally:
        running.live.owner.stop()
        await run


def test_refusals_bar_until_resume_and_the_run_replays(tmp_path: Path) -> None:
    venue = Moody()
    venue.refuses_orders = True
    running = assembled(tmp_path, venue)
    live, risk = running.live, running.engine.desk.risk

    async def script() -> None:
        await until(venue, lambda: risk["barred"][0] == Reason.REJECTS)
        assert sent(venue) == 20
        assert any("refused 20 orders" in line for line in live._board.unhealthy())
        for _ in range(30):
            await move(venue)
        assert sent(venue) == 20, "an order left while opening was barred"
        assert not risk["halted"][0], "a bar is no breach"
        venue.refuses_orders = False
        live.owner.control("resume", "operator")
        assert not any("refused 20" in line for line in live._board.unhealthy())
        await until(venue, lambda: sent(venue) > 20)
        await until(venue, lambda: (live._board.view.barred, live._board.view.bars) == ((), {"rejects": 1}))

    asyncio.run(beside(running, script))
    assert bars(running) == [("rejects", 1.0), ("rejects", 0.0)]
    assert replay_run(running.folder, lambda *_: None)["equal"]


def test_a_venue_that_falls_silent_bars_and_one_order_finds_out_that_it_is_back(tmp_path: Path) -> None:
    venue = Moody()
    venue.answers = False
    running = assembled(tmp_path, venue, answer_s=0.5, cool_down_s=1.0)
    risk = running.engine.desk.risk

    async def script() -> None:
        await until(venue, lambda: risk["barred"][0] == Reason.LATENCY)
        venue.answers = True
        await until(venue, lambda: bars(running)[-1:] == [("latency", 0.0)] and sent(venue) > 2)

    asyncio.run(beside(running, script))
    told = bars(running)
    assert told[:2] == [("latency", 1.0), ("latency", 0.0)]
    assert replay_run(running.folder, lambda *_: None)["equal"]


def test_a_bar_outlives_the_process_and_its_pause_begins_anew(tmp_path: Path) -> None:
    venue = Moody()
    venue.refuses_orders = True
    first = assembled(tmp_path, venue)

    async def until_barred() -> None:
        await until(venue, lambda: first.engine.desk.risk["barred"][0] == Reason.REJECTS)

    asyncio.run(beside(first, until_barred))
    unseal(first.folder.ledger)
    after = Moody()
    after.name = "again"
    again = assembled(tmp_path, after, reject_pause_s=1.5)
    assert again.folder.path == first.folder.path

    async def until_lifted() -> None:
        barred = again.engine.desk.risk["barred"]
        assert barred[0] == Reason.REJECTS
        assert any("before this start" in line for line in again.live._board.unhealthy())
        while barred[0]:
            assert not sent(after), "an order left though opening was barred before the start"
            await move(after)
        await until(after, lambda: sent(after) > 0)

    asyncio.run(beside(again, until_lifted))
    assert bars(again) == [("rejects", 1.0), ("rejects", 0.0)]
    assert replay_run(again.folder, lambda *_: None)["equal"]


def test_decisions_that_take_too_long_bar(tmp_path: Path) -> None:
    venue = Moody()
    running = assembled(tmp_path, venue, decision_p99_ms=1e-6, cool_down_s=30.0)
    limits = running.engine.limits.breakers
    running.live._opening._breakers._late = running.live._opening._breakers._late[:50].copy()
    assert limits == msgspec.structs.replace(limits, decision_ns=1)

    async def script() -> None:
        await until(venue, lambda: running.engine.desk.risk["barred"][0] == Reason.LATENCY)
        assert any("decisions took longer" in line for line in running.live._board.unhealthy())

    asyncio.run(beside(running, script))
    assert replay_run(running.folder, lambda *_: None)["equal"]
