"""A naive maker: its markouts, its intervals, and what it earns where nobody knows anything."""

import json
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.core.ids import generator
from emp.sim.flow.params import Source, save_params
from emp.sim.flow.zi import zi_params
from emp.sim.measure.maker import MakerResult, naive_maker
from emp.sim.measure.maker_study import _estimate, study_maker
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market


def result(*rows: tuple[float, float, float, float]) -> MakerResult:
    """A run with the given rows of mid, position, cash and lots."""
    return MakerResult(0.0, 0.0, 0, 0, 0, 0, np.array(rows), 0.0)


def test_a_markout_values_each_fill_a_fixed_time_later() -> None:
    """Bought at 99 (mid then 100), mid 98 two decisions later: 1 lost. Sold at 101 at the end: not seen."""
    run = result((100, 0, 0, 0), (100, 1, -99, 1), (99, 1, -99, 1), (98, 1, -99, 1), (98, 0, 2, 2))
    assert run.markout(0) == (1.0 + 3.0, 2)
    assert run.markout(1) == (0.0, 1)
    assert run.markout(2) == (-1.0, 1)
    assert run.markout(9) == (0.0, 0)


def test_the_longest_view_is_the_money_made() -> None:
    """Fees included: what markouts add up to at the very end is what the desk says it earned."""
    run = naive_maker(Market(zi_params(), 3, 50_000), 3, LatencyConfig(), 0.2, 0.2, 500)
    mid, position, cash, lots = run.path[-1]
    assert run.pnl == pytest.approx(cash + position * mid)
    bought, paid = np.diff(run.path[:, 1]), -np.diff(run.path[:, 2])
    assert float(np.sum(bought * mid - paid)) == pytest.approx(run.pnl)
    assert run.fees == pytest.approx(0.2 * lots)


def test_the_interval_is_of_whole_sessions() -> None:
    """Lots of one session share its luck: twenty sessions are twenty samples, however many lots they have."""
    rng = np.random.default_rng(1)
    luck = rng.normal(0, 1, 20)
    sums = np.column_stack([luck * 1000, np.full(20, 1000.0)])
    made = _estimate(sums, generator(1, "t"))
    assert made.value == pytest.approx(luck.mean())
    half = (made.high - made.low) / 2
    assert half == pytest.approx(1.96 * luck.std() / np.sqrt(20), rel=0.15)


def test_it_earns_where_nobody_knows_anything_and_fees_are_charged() -> None:
    free = study_maker("zi", zi_params(), 0.0, 0.0, 30, 400)
    assert free.verdict == "earns"
    assert free.markouts["100"].low > 0.2
    assert free.per_lot == free.per_lot_before_fees or free.per_lot.value == free.per_lot_before_fees.value
    paying = study_maker("zi", zi_params(), 1.0, 1.0, 30, 400)
    assert paying.verdict == "loses"
    assert paying.per_lot.value == pytest.approx(free.per_lot.value - 1.0)
    assert paying.per_lot_before_fees.value == pytest.approx(free.per_lot.value)


def test_the_command_shows_both_markets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flow = tmp_path / "other.npz"
    save_params(flow, zi_params(max_qty=3), Source(note="test"))
    argv = ["sim", "maker", "--model", str(flow), "--instrument", "GOOG", "--sessions", "10", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code in (0, None)
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [m["market"] for m in told["markets"]] == ["zi", "other"]
    for m in told["markets"]:
        assert m["per_lot"]["low"] <= m["per_lot"]["value"] <= m["per_lot"]["high"]
        assert m["per_lot_before_fees"]["value"] == pytest.approx(m["per_lot"]["value"] + m["maker_fee"])
