"""A run of several instruments: the built-in markets, and recordings, through the whole live path."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from emp.app.report.page import write_report
from emp.app.wiring.live import Running, assemble_live, checked, open_access
from emp.app.wiring.mock_market import market_hours_ns, open_mock, simulated_as
from emp.app.wiring.rerun import replay_run
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.instrument import find
from emp.engine.control_socket import ask
from emp.engine.succession import Models
from emp.journal.actionlog import read_actions
from emp.journal.market import MarketJournal
from emp.observe.board import Board, InstrumentView
from emp.observe.metrics import exposition, registry
from emp.sim.world.mock import MockMarket
from tests.kit.models import eager_model

pytestmark = pytest.mark.usefixtures("compiled_engine", "compiled_market", "compiled_feeds")

Script = Callable[["Several"], Awaitable[None]]

BUSY = """
import numba
import emp


@numba.njit
def busy(seen, request):
    if seen.order_state == 0 and seen.seq % 8 == 0:
        emp.cross(request, 1 if seen.position <= 0 else -1, 1)
"""
"""A rule that trades on whatever it loses: one that learns from outcomes may find nothing worth an order any more."""


def config_of(folder: Path, *names: str, **access: object) -> SystemConfig:
    return SystemConfig.model_validate(
        {
            "mode": "mock",
            "run_dir": folder,
            "seed": 7,
            "warm_up_events": 32,
            "cool_down_events": 8,
            "instruments": {"names": names},
            "access": {"connection_protocol": "mock", "speed": 50.0, **access},
            "model": {"fallback_impl": "none", "monitor": False},
            "risk": {
                "max_daily_loss_ticks": 1e8,
                "max_drawdown_ticks": 1e8,
                "depth_share": 0.5,
                "max_orders_per_minute": 100_000,
                "max_turnover_per_minute_lots": 100_000,
                "max_turnover_per_hour_lots": 100_000,
            },
            "breakers": {"answer_s": 1_000.0, "decision_p99_ms": 10_000.0},
            "bus": {"max_age_ms": 1_000.0},
            "context": {"enabled": False},
            "decision": {"rule": f"{folder / 'busy.py'}:busy"},
        }
    )


class Several:
    """A run with a rule that trades often, and what it is asked."""

    def __init__(self, config: SystemConfig, folder: Path) -> None:
        (folder / "busy.py").write_text(BUSY)
        clock = LiveClock()
        instruments, _, _ = checked(config, Path("test"))
        models = Models(eager_model(folder / "model"))
        access = open_access(config, instruments, {}, clock)
        self.board = Board(clock)
        self.running: Running = assemble_live(config, instruments, models, access, self.board, clock)

    def play(self, script: Script) -> None:
        async def whole() -> None:
            run = asyncio.create_task(self.running.live.run())
            try:
                await script(self)
            finally:
                self.running.live.owner.stop()
                await run

        self.running.live.prepare()
        asyncio.run(whole())

    def of(self, name: str) -> InstrumentView:
        view = self.board.view
        assert view is not None
        return next(one for one in view.instruments if one.name == name)

    async def until(self, found: Callable[[], bool], seconds: float = 120.0) -> None:
        for _ in range(int(seconds * 50)):
            if self.board.view is not None and found():
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it does not come")

    async def ask(self, action: str, **more: str) -> str:
        return await asyncio.to_thread(ask, self.running.folder.path, {"do": action, **more})

    def trades_on(self, name: str) -> Callable[[], bool]:
        before = self.of(name).fills
        return lambda: self.of(name).fills > before + 3


def test_one_is_killed_and_halted_while_the_other_trades_on_and_the_replay_says_the_same(
    tmp_path: Path,
) -> None:
    async def script(run: Several) -> None:
        await run.until(lambda: run.of("GOOG").fills > 3 and run.of("TSLA").fills > 3)
        await run.ask("kill", instrument="GOOG", reason="drill")
        await run.until(lambda: "risk halted: kill_switch (GOOG)" in run.board.unhealthy())
        await run.until(lambda: run.of("GOOG").position == 0 and not run.of("GOOG").open_orders)
        await asyncio.sleep(0.5)  # what was on its way is answered
        fills = run.of("GOOG").fills
        await run.until(run.trades_on("TSLA"))
        assert (run.of("GOOG").fills, run.of("GOOG").position) == (fills, 0), "it traded although killed"
        assert "trading again" in await run.ask("resume", instrument="GOOG")
        await run.until(run.trades_on("GOOG"))
        await run.ask("halt", instrument="TSLA", reason="lunch")
        await run.until(lambda: run.of("TSLA").halted != "" and not run.of("TSLA").open_orders)
        await asyncio.sleep(0.5)
        fills = run.of("TSLA").fills
        await run.until(run.trades_on("GOOG"))
        assert run.of("TSLA").fills == fills, "it traded although halted"
        await run.ask("flatten")
        await run.until(lambda: run.of("GOOG").position == run.of("TSLA").position == 0)
        told = exposition(registry(run.board)).decode()
        assert all(f'position_lots{{instrument="{name}"}}' in told for name in ("GOOG", "TSLA")), told

    run = Several(config_of(tmp_path, "GOOG", "TSLA"), tmp_path)
    run.play(script)
    found = replay_run(run.running.folder, lambda *_: None)
    assert found["equal"]
    assert {name: one["final_position"] for name, one in found["instruments"].items()} == {
        "GOOG": 0,
        "TSLA": 0,
    }
    assert sum(one["fills"] for one in found["instruments"].values()) == found["fills"]
    rows = read_actions(run.running.folder.actions)
    assert_a_section_each(run.running.folder.path, tmp_path / "page.html")
    reasons = {i: set(rows["reason_code"][rows["instrument"] == i].tolist()) for i in (0, 1)}
    assert Reason.HALTED in reasons[0] & reasons[1]


def assert_a_section_each(folder: Path, out: Path) -> None:
    """The page of a run shows each instrument by its own decisions and fills."""
    goog, tsla = write_report(folder, out)
    page = out.read_text()
    for place, one in enumerate((goog, tsla)):
        assert set(one.rows["instrument"].tolist()) == {place}
        assert len(one.fills["ts"]) > 3
        assert one.position == 0
        assert page.count(f"<h1 id='{one.instrument}'>") == 1
        assert one.facts is not None
        mid = (one.rows["bid"] + one.rows["ask"]) / 2
        near = np.interp(one.fills["ts"], one.rows["ts"], mid)
        assert np.abs(one.fills["px"] - near).max() < 400, "fills of another market"
    together = 0.01 * (goog.pnl_ticks + tsla.pnl_ticks)
    assert f"<td>together</td><td></td><td></td><td></td><td>{together:+,.2f} USD</td>" in page


def test_recordings_are_played_together_and_what_was_journalled_of_them_is_a_recording_again(
    tmp_path: Path,
) -> None:
    files = {name: recorded(tmp_path / name, name) for name in ("GOOG", "TSLA")}
    config = config_of(tmp_path, "GOOG", "TSLA", connection_protocol="recording", recording=files, speed=200)
    run = Several(config, tmp_path)

    async def script(run: Several) -> None:
        await run.until(run.running.live._over.is_set)

    run.play(script)
    assert replay_run(run.running.folder, lambda *_: None)["equal"]
    rows = read_actions(run.running.folder.actions)
    assert np.bincount(rows["instrument"]).min() > 100


def recorded(folder: Path, name: str) -> Path:
    """A minute of an instrument's built-in market, as a run journals it."""
    instrument = find(name)
    market = open_mock(config_of(folder, name), [instrument], LiveClock())
    assert isinstance(market, MockMarket)
    folder.mkdir()
    journal = MarketJournal(folder, [instrument])
    journal.append(market.until(market.seen_ns + 60_000_000_000))
    journal.close()
    return folder


def test_the_first_market_is_the_one_it_is_alone_and_the_others_are_seeded_by_name(tmp_path: Path) -> None:
    def books(*names: str) -> dict[str, bytes]:
        market = open_mock(config_of(tmp_path, *names), [find(name) for name in names], LiveClock())
        markets = getattr(market, "markets", (market,))
        until = markets[0].seen_ns + 20_000_000_000
        return {one.instrument.name: one.until(until)["bid_px"].tobytes() for one in markets}

    pair, other = books("GOOG", "TSLA"), books("GC", "6B", "TSLA")
    assert books("GOOG")["GOOG"] == pair["GOOG"]
    assert pair["TSLA"] == other["TSLA"] != books("TSLA")["TSLA"]
    assert other["GC"] != other["6B"]


def test_an_instrument_without_a_flow_of_its_own_is_named() -> None:
    assert simulated_as([find("GOOG"), find("TSLA")]) == []
    (line,) = simulated_as([find("GC"), find("TSLA"), find("6B")])
    assert line.startswith("GC, 6B: simulated with the order flow of GOOG")
    assert line.endswith("(flows of their own have GOOG, TSLA)")


def test_several_begin_at_an_hour_at_which_all_of_them_trade() -> None:
    night, day = find("A50"), find("GOOG")
    sunday = 1_795_365_952_000_000_000
    assert market_hours_ns([day, day, night], sunday) == market_hours_ns([day], sunday)
    assert market_hours_ns([day, find("GC"), find("6B")], sunday) == 1_795_014_000_000_000_000
