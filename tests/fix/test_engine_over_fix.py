"""The engine behind FIX: the same market gives the same action log as when it is fed in directly."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.access.port import LinkState, MarketAccess
from emp.core.approval import Cleared
from emp.core.clock import LiveClock
from emp.core.contracts import OrderUpdate
from emp.core.instrument import find
from emp.core.records import Array, fieldwise_bytes
from emp.engine.engine import Engine, Output
from emp.sim.venues.fix.loopback import FixLoopback
from tests.fix.markets import Stepped
from tests.kit.models import LOOSE, eager_model

pytestmark = pytest.mark.usefixtures("compiled_engine")

EVENTS = 1500
COIN = msgspec.structs.replace(find("BTCUSDT"), taker_fee=0.1, maker_fee=0.0)  # open at all hours


class Driver:
    """The engine on a live market, one event after the other, without clocks of its own."""

    def __init__(self, access: MarketAccess, folder: Path) -> None:
        self.access = access
        self.engine = Engine([COIN], eager_model(folder / "model"), LOOSE, "OVERFIX0")
        self.rows: list[Array] = []
        self.seen = 0
        self.reports: list[OrderUpdate] = []
        self.over = asyncio.Event()

    async def connect(self) -> None:
        await self.access.connect([COIN], self)

    # the sink

    def report(self, update: OrderUpdate) -> None:
        self.reports.append(update)
        self.act(self.engine.on_report(update))

    def act(self, output: Output) -> None:
        for command in output.commands:
            self.engine.sent(command)
            self.send(command)

    def send(self, command: Cleared) -> None:
        self.access.send(command)

    def events(self, rows: Array) -> None:
        at = 0
        while at < len(rows):
            output = self.engine.process(rows[at:])
            at += output.consumed
            self.rows.append(output.rows)
            self.act(output)
        self.seen += len(rows)
        if self.seen >= EVENTS:
            self.over.set()

    def link(self, state: LinkState) -> None:
        pass

    def ended(self, error: Exception | None) -> None:
        assert error is None, error
        self.over.set()

    async def ready(self) -> None:
        pass

    def log(self) -> bytes:
        return fieldwise_bytes(np.concatenate(self.rows), frozenset({"latency_ms"}))


def test_the_same_market_gives_the_same_action_log_over_fix_and_direct(tmp_path: Path) -> None:
    direct = Driver(Stepped(COIN, 5, EVENTS), tmp_path)

    async def straight() -> None:
        await direct.connect()
        await asyncio.wait_for(direct.over.wait(), 120)
        await direct.access.close()

    asyncio.run(straight())
    assert direct.engine.desk.account["fills"][0] > 20

    async def over_fix() -> Driver:
        access = FixLoopback(Stepped(COIN, 5, EVENTS), LiveClock(), lockstep=True)
        driver = Driver(access, tmp_path)
        await driver.connect()
        try:
            await asyncio.wait_for(driver.over.wait(), 120)
        finally:
            await access.close()
        return driver

    over = asyncio.run(over_fix())
    assert over.seen == direct.seen == EVENTS
    assert over.log() == direct.log()
    assert over.engine.desk.account.tobytes() == direct.engine.desk.account.tobytes()
