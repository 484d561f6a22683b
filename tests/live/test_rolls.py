"""Rolls and the venue's own terms in a live run: recorded, booked, said where they lack, found again in a replay."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from emp.access.port import VenueFinancing, VenueMargin
from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.rerun import replay_run
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.contracts import Control
from emp.core.errors import UsageError, VenueError
from emp.core.rolls import Roll, RollTime
from emp.engine.succession import Models
from emp.journal.reader import LedgerReader
from emp.observe.board import Board
from tests.kit.killed import Forgetful
from tests.kit.models import buying_model
from tests.live.test_rates import config
from tests.live.world import BTC

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000
DOLLARS = msgspec.structs.replace(BTC, currencies=("BTC", "USD"), point_value=1.0)


class Stating(Forgetful):
    """A venue that states financing and margin: 10,000 USD, and 250 a lot."""

    def __init__(self) -> None:
        super().__init__()
        self.margin_known = False

    def financing(self) -> Sequence[VenueFinancing]:
        return [VenueFinancing(instrument=BTC.name, long=-3.0, short=1.0)]

    async def margin(self) -> VenueMargin:
        if not self.margin_known:
            raise VenueError("the venue does not say")
        used = 250.0 * abs(self.position)
        return VenueMargin(currency="USD", equity=2_000.0, used=used, lots={BTC.name: 250.0})


def assembled(folder: Path, venue: Forgetful, protocol: str = "ctrader", **account: object) -> Running:
    clock, model = LiveClock(), Models(buying_model(folder / "model"))
    settled = config(folder, **account)
    changes = {
        "access": settled.access.model_copy(update={"connection_protocol": protocol}),
        "model": settled.model.model_copy(
            update={"monitor": False}
        ),  # else a model this bad soon opens nothing
    }
    settled = settled.model_copy(update=changes)
    return assemble_live(settled, [DOLLARS], model, venue, Board(clock), clock)


def test_rolls_and_margin_of_a_live_run_are_recorded_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def soon(_when: RollTime, after_ns: int) -> Roll:
        return Roll((after_ns // (S // 4) + 1) * (S // 4), 1)

    monkeypatch.setattr("emp.engine.rolls.next_roll", soon)
    monkeypatch.setattr("emp.engine.live.TERMS_S", 0.02)
    venue = Stating()
    running = assembled(tmp_path, venue, currency="USD", min_margin_level=2.0)
    live, desk = running.live, running.engine.desk

    async def until(condition) -> None:
        deadline = asyncio.get_running_loop().time() + 60.0
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "it never came true"
            venue.tick(2)
            await asyncio.sleep(0.002)

    async def script() -> None:
        run = asyncio.create_task(live.run())
        try:
            await live.connected.wait()
            await until(lambda: desk.risk["account_bar"][0] == Reason.MARGIN)
            await until(lambda: any("does not say" in line for line in live._board.unhealthy()))
            assert not venue.position
            venue.margin_known = True
            await until(lambda: venue.position == 4)  # 2,000 / 2 / 250
            await until(lambda: not any("does not say" in line for line in live._board.unhealthy()))
            before = float(desk.account["financing"][0])
            await until(lambda: desk.account["financing"][0] <= before - 3.0 * 4 * 3)
            shown = {one.name: one for one in live._board.view.account.limits}
            assert shown["margin"].value == pytest.approx(1_000.0, rel=0.05)
            assert shown["margin"].limit == pytest.approx(1_000.0, rel=0.05)
        finally:
            live.owner.stop()
            await run

    asyncio.run(script())
    assert venue.position == 4
    ledger = LedgerReader(running.folder.ledger)
    bodies = [event.body for event in ledger.events()]
    ledger.close()
    booked = [body.data for body in bodies if getattr(body, "kind", "") == "financing"]
    assert sum(float(one["received"]) for one in booked) == desk.account["financing"][0]
    assert {one["received"] for one in booked if one["lots"] == 4} == {-12.0}
    told = {(b.action, b.reason) for b in bodies if isinstance(b, Control)}
    assert {("margin", "used"), ("terms", "long"), ("roll", "short"), ("finance", "")} <= told
    summary = replay_run(running.folder, lambda *_: None)
    assert summary["equal"]
    assert summary["financing"] == desk.account["financing"][0]


def test_margin_that_nobody_states_must_be_given_before_anything_is_written(tmp_path: Path) -> None:
    limit = {"currency": "USD", "min_margin_level": 2.0}
    with pytest.raises(UsageError, match=r"account\.equity: must be given"):
        assembled(tmp_path, Forgetful(), "fix", **limit)
    with pytest.raises(UsageError, match="what BTCUSDT asks as margin"):
        assembled(tmp_path, Forgetful(), "fix", equity=1_000.0, **limit)
    assert not list(tmp_path.glob("live-*"))
