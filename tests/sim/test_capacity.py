"""Capacity curves: pairing, the hard cap, what size costs, where capacity ends."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.core.errors import UsageError
from emp.core.numba.rng import seeded
from emp.sim.book.check import check_book
from emp.sim.capacity.capacity import HARD_CAP, _falls, _peak, capacity_curve, scaled
from emp.sim.capacity.trade import FIELDS, play_trade
from emp.sim.flow.zi import zi_params
from emp.sim.world.desk import World, new_desk
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market

SMALL = zi_params(max_qty=40)


def trade(
    size: int, side: int, children: int = 20, passive: bool = False, fee: float = 0.0
) -> dict[str, float]:
    market = Market(SMALL, 3, 50_000)
    market.run(2**62, 5_000)
    out = np.zeros(len(FIELDS))
    world = World(market.flow, new_desk(fee, fee), latency_record(LatencyConfig()), seeded(1, "t"))
    play_trade(world, side, size, passive, children, 20, 25, out)
    check_book(market.book)
    return dict(zip(FIELDS, out.tolist(), strict=True))


def test_a_trade_ends_flat_and_pays_for_every_lot() -> None:
    free, paying = trade(5, 0), trade(5, 0, fee=1.0)
    assert free["lots"] == paying["lots"] == 10  # in and out
    assert paying["pnl"] == pytest.approx(free["pnl"] - 10)
    assert free["reached"] == free["at_once"] == 1.0


def test_who_only_watches_trades_nothing_and_sees_the_metaorder_move_the_market() -> None:
    up, down = trade(0, 0), trade(0, 1)
    assert up["lots"] == up["pnl"] == 0
    assert up["move"] + down["move"] > 2  # both count in the metaorder's direction


def test_posting_fills_less_than_crossing() -> None:
    crossed = sum(trade(200, side)["at_once"] for side in (0, 1))
    posted = sum(trade(200, side, passive=True)["at_once"] for side in (0, 1))
    assert posted < crossed < 2.0


def test_large_sizes_pay_for_their_impact() -> None:
    curve = capacity_curve(SMALL, 50_000, fees=(0.0, 0.1), shares=(0.01, 0.02, 1.0, 8.0), trades=40)
    small, capped, level, large = curve.points
    assert small.within_cap
    assert capped.within_cap
    assert not level.within_cap
    assert curve.hard_cap_lots == pytest.approx(HARD_CAP * curve.depth_lots)
    assert [p.tradable for p in curve.points] == [False, False, True, True]
    assert large.impact.low > small.impact.high
    assert large.pnl_per_lot.high < small.pnl_per_lot.low
    assert small.pnl_per_lot.low > 0
    assert curve.edge.low > 0
    assert 0 < curve.capacity_share < 8.0
    assert 0 < curve.effective_trades <= 2 * curve.trades
    again = capacity_curve(SMALL, 50_000, fees=(0.0, 0.1), shares=(0.01, 0.02, 1.0, 8.0), trades=40)
    assert again == curve


def test_dividing_the_lot_changes_nothing_else() -> None:
    """The same flow in half lots: every size doubles, every price and time stays."""
    calm = zi_params(max_qty=1)
    halves = scaled(calm, 2)
    assert halves["max_qty"][0] == 2 * calm["max_qty"][0]
    assert halves["start_qty"][0] == 2 * calm["start_qty"][0]
    assert calm["max_qty"][0] == 1  # the original is untouched


def test_where_capacity_ends() -> None:
    share = np.array([0.01, 0.1, 1.0])
    assert _falls(share, np.array([1.0, 0.9, 0.7])) == pytest.approx(10**-0.5)
    assert _falls(share, np.array([1.0, 0.9, 0.85])) == float("inf")
    assert _falls(share, np.array([-0.1, 0.9, 0.85])) == 0.0
    assert _peak(share, np.array([1.0, 3.0, 2.0])) == 0.1
    assert _peak(share, np.array([1.0, 3.0, 4.0])) == float("inf")
    assert _peak(share, np.array([-1.0, -3.0, -4.0])) == 0.0
    with pytest.raises(UsageError, match="at least 20 trades"):
        capacity_curve(SMALL, 50_000, trades=5)


def test_the_command_writes_data_and_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["capacity", "--instrument", "GOOG", "--trades", "20", "--out", str(tmp_path), "--json"]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code in (0, None)
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    [result] = told["curves"]
    assert (result["instrument"], result["model"], result["style"]) == ("GOOG", "zi", "cross")
    stem = tmp_path / "GOOG_cross"
    assert json.loads(stem.with_suffix(".json").read_text()) == result
    rows = list(csv.DictReader(stem.with_suffix(".csv").read_text().splitlines()))
    assert len(rows) == len(result["points"])
    assert {"share", "sharpe", "sharpe_low", "impact_high", "turnover", "fill_rate"} <= set(rows[0])
    assert Path(told["picture"]).stat().st_size > 20_000


def test_each_instrument_needs_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["capacity", "--instrument", "GOOG", "--model", "zi", "--model", "zi"])
    assert "1 instruments but 2 models" in capsys.readouterr().err
