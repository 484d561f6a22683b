"""Limits of the account in a live run: rates from a file are recorded, shown where they lack, and replayed."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.rerun import replay_run
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError, UsageError
from emp.engine.succession import Models
from emp.observe.board import Board
from tests.kit.killed import Forgetful
from tests.kit.models import buying_model
from tests.live.world import BTC

pytestmark = pytest.mark.usefixtures("compiled_engine")

YEN = msgspec.structs.replace(BTC, currencies=("BTC", "JPY"), point_value=1.0)


def config(folder: Path, **account: object) -> SystemConfig:
    return SystemConfig(
        mode="live",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": ["BTCUSDT"]},
        access={"connection_protocol": "fix"},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        account=account,
    )


def assembled(folder: Path, venue: Forgetful, **account: object) -> Running:
    clock, model = LiveClock(), Models(buying_model(folder / "model"))
    return assemble_live(config(folder, **account), [YEN], model, venue, Board(clock), clock)


def test_nothing_is_opened_before_a_rate_is_told_and_the_run_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emp.engine.live.MARK_S", 0.1)
    venue, path = Forgetful(), tmp_path / "rates.yaml"
    running = assembled(tmp_path, venue, currency="EUR", max_gross_exposure=3_100.0, rates=path)
    live, desk = running.live, running.engine.desk

    async def until(condition) -> None:
        deadline = asyncio.get_running_loop().time() + 20.0
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "it never came true"
            venue.tick(2)
            await asyncio.sleep(0.002)

    def told() -> list[str]:
        return [*live._board.unhealthy(), *live._board.notices()]

    async def script() -> None:
        run = asyncio.create_task(live.run())
        try:
            await live.connected.wait()
            await until(lambda: desk.risk["account_bar"][0] == Reason.NO_RATE)
            await until(lambda: live._board.view is not None)
            await until(lambda: live._board.view.account.unconverted == ("BTCUSDT",))
            assert any("rates into EUR are missing" in line for line in live._board.notices())
            await until(lambda: any("cannot be read" in line for line in live._board.unhealthy()))
            assert not venue.position
            path.write_text("JPY: 0.5\n")  # a lot is worth 500 EUR
            await until(lambda: venue.position == 6)
            await until(lambda: not any("rates" in line for line in told()))
        finally:
            live.owner.stop()
            await run

    asyncio.run(script())
    assert venue.position == 6
    assert desk.portfolio["gross"][0] <= 3_100.0
    path.unlink()
    assert replay_run(running.folder, lambda *_: None)["equal"]


def test_what_cannot_be_converted_ends_in_one_line_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"account\.rates: .* what JPY are worth in EUR"):
        assembled(tmp_path, Forgetful(), currency="EUR", max_daily_loss=10.0)
    assert not list(tmp_path.glob("live-*"))
    with pytest.raises((ConfigError, ValueError), match=r"account\.currency"):
        config(tmp_path, max_daily_loss=10.0)
