"""What a flow is estimated by, piece by piece, against streams made so that the answer is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.sim.book import book as eb
from emp.sim.book.matching import submit
from emp.sim.facts.distances import distance_rows
from emp.sim.facts.study import named_source, study, without_fitted
from emp.sim.fit.anchor import AFTER, followed
from emp.sim.fit.calibrate import calibrate
from emp.sim.fit.clock import usual_gaps
from emp.sim.fit.kinds import _bursts
from emp.sim.fit.marks import _elasticity
from emp.sim.fit.samples import recent_hits, what_came
from emp.sim.fit.sides import HALF_LIVES, known_features
from emp.sim.flow.marks import market_qty
from emp.sim.flow.observe import DEEP, HIT, KINDS, MOST_RANKS, OBS, rank_of
from emp.sim.flow.params import FEATURES, FLOW, LASTS, MEMORY, SPREADS
from emp.sim.flow.shipped import shipped_flow
from emp.sim.flow.splitting import work_off
from emp.sim.flow.state import STATE
from emp.sim.flow.tables import tabulate
from emp.sim.flow.zi import zi_params
from emp.sim.measure.estimators import markouts
from emp.sim.measure.maker_study import study_maker
from emp.sim.measure.observe_market import Tape, observe_market
from emp.sim.world.market import Market, flow_event


def test_a_recording_tells_of_averages_that_it_holds_often_each_in_its_own_clock() -> None:
    known = known_features(HALF_LIVES * 64, HALF_LIVES * 4).reshape(FEATURES // MEMORY, MEMORY)
    assert known[0].tolist() == [True, True] + [False] * (MEMORY - 2)  # of trades
    assert (known[1:] == ([True] * 4 + [False] * (MEMORY - 4))).all()  # of events
    assert not known_features(HALF_LIVES * 64 - 1, 1).reshape(-1, MEMORY)[1, 3]


@pytest.mark.parametrize("true", [0.0, 0.4, 1.0])
def test_how_far_distances_follow_the_level_is_found_beside_what_the_spread_says(true: float) -> None:
    rng = np.random.default_rng(1)
    level = np.exp(rng.normal(0, 0.3, 40_000))
    which = np.minimum(SPREADS - 1, (6 * level * rng.random(len(level))).astype(int))
    dist = np.exp(rng.normal(3, 0.7, len(level))) * level**true * (1 + which)
    assert _elasticity(dist, level, which) == pytest.approx(true, abs=0.03)
    assert _elasticity(dist, np.ones(len(level)), which) == 0.0


def test_bursts_of_market_orders_are_found() -> None:
    rng = np.random.default_rng(2)
    hits = rng.random((60_000, 3)) * 0.3
    odds = 0.05 * (0.5 + hits @ np.array([4.0, 0.0, 2.0]))
    hit = rng.random(len(odds)) < odds / (odds + 0.95)
    usual, *burst = _bursts(np.full(60_000, 0.05), np.full(60_000, 0.95), hits, hit)
    assert usual == pytest.approx(0.5, abs=0.12)
    assert burst == pytest.approx([4.0, 0.0, 2.0], abs=0.5)


@kernel
def _lasts(flow: Any, out: Any) -> int:
    """What came last after each event that an observer sees: one that did something to a book with both sides."""
    b, s, n = flow.book, flow.state[0], 0
    for _ in range(len(out)):
        both = b[eb.BEST] != b[eb.LO] and b[eb.BEST + 1] != b[eb.LO] + b[eb.MASK]
        flow_event(flow)
        if both and s.qty != 0:
            out[n] = s.last
            n += 1
    return n


def test_a_market_knows_what_came_last_as_the_stream_of_its_events_says() -> None:
    market = Market(shipped_flow(), 3, 50_000)
    market.run(2**62, 2_000)
    twin = market.clone()
    lasts = np.zeros(20_000, np.int64)
    n = _lasts(twin.flow, lasts)
    obs = observe_market(market, 20_000, "x", warmup=0).obs
    assert what_came(obs).tolist() == lasts[:n].tolist()
    assert set(lasts[:n]) == set(range(LASTS))
    share = (obs["type"] % KINDS == HIT).mean()
    assert recent_hits(obs).mean(axis=0) == pytest.approx(np.full(3, share), rel=0.1)


def test_gaps_at_the_usual_rate_have_one_rate() -> None:
    """An hour at one event a second, then an hour at ten."""
    rng = np.random.default_rng(4)
    ts = np.cumsum(rng.exponential(np.concatenate([np.full(3_600, 1e9), np.full(36_000, 1e8)]))).astype(
        np.int64
    )
    gap = usual_gaps(ts)
    assert gap[300:3_000].mean() / gap[6_000:-1_000].mean() == pytest.approx(1.0, abs=0.15)


def test_a_recording_of_the_best_prices_alone_can_be_fitted() -> None:
    obs = observe_market(Market(shipped_flow(), 2, 50_000), 40_000, "all").obs
    best = obs[obs["rank"] == 0]
    p = calibrate(best, "qr")
    assert p["kind_weight"][0, :, :, DEEP].max() < 0.02
    tape = observe_market(Market(p, 1, 50_000), 5_000, "best")
    assert (tape.obs["ask"] > tape.obs["bid"]).all()


def test_without_trades_there_is_nothing_to_fit() -> None:
    obs = observe_market(Market(shipped_flow(), 2, 50_000), 20_000, "all").obs
    with pytest.raises(DataError, match="needs trades"):
        calibrate(obs[obs["sign"] == 0], "qr")


def test_market_orders_take_what_they_ask_for() -> None:
    assert market_qty(70, 0) == 70
    assert market_qty(70, 30) == 30
    assert market_qty(70, 100) == 70
    assert market_qty(70, -100) == 100
    assert market_qty(170, -100) == 170


def test_long_orders_are_bounded() -> None:
    s, p, r = np.zeros(1, STATE), tabulate(np.zeros(1, FLOW)), seeded(5, "split")
    s["split_sign"] = 1.0
    p["split_alpha"], p["split_longest"] = 1.2, 20.0
    lengths = []
    for _ in range(3_000):
        s["split_left"] = 0
        work_off(s[0], p[0], -float(s["split_sign"][0]), r)
        lengths.append(int(s["split_left"][0]))
    assert max(lengths) == 20
    assert np.mean(np.array(lengths) >= 4) == pytest.approx(4.0**-1.2, abs=0.03)


def test_ranks_count_the_prices_before_an_order() -> None:
    b, fills = eb.new_book(1_000, 512, 256), eb.new_fills()
    for px in (1_200, 1_190, 1_189, 1_150):
        submit(b, fills, eb.BUY, px, 1, eb.LIMIT, 0, 0)
    for px in range(1_210, 1_210 + 2 * MOST_RANKS):
        submit(b, fills, eb.SELL, px, 1, eb.LIMIT, 0, 0)
    assert [rank_of(b, eb.BUY, px) for px in (1_205, 1_200, 1_195, 1_190, 1_189, 1_160, 1_150)] == [
        0,
        0,
        1,
        1,
        2,
        3,
        3,
    ]
    assert rank_of(b, eb.SELL, 1_213) == 3
    assert rank_of(b, eb.SELL, 1_210 + 2 * MOST_RANKS - 1) == MOST_RANKS


def test_what_a_recording_of_the_best_prices_does_not_show_is_left_out_of_the_comparison() -> None:
    tape = observe_market(Market(shipped_flow(), 2, 50_000), 60_000, "all")
    near = Tape("near", tape.obs[tape.obs["rank"] < 3], tape.depth)
    seen = {r.name: r.simulated or 0.0 for r in distance_rows(tape, near, levels=3)}
    blind = {r.name: r.simulated or 0.0 for r in distance_rows(tape, near)}
    name = "distance to near, own units: limit distance"
    assert seen[name] < 0.25
    assert blind[name] > 2 * seen[name]
    assert not [
        n for n in (r.name for r in distance_rows(tape, near, levels=1)) if n.endswith("limit distance")
    ]


def test_the_mid_that_follows_market_orders_is_measured_in_half_spreads() -> None:
    obs = np.zeros(2_000, OBS)
    obs["bid"], obs["ask"] = 100, 110
    obs["sign"][:1_500:50] = 1
    steps = np.zeros(2_000, np.int64)
    steps[5:1_500:50] = 2  # five events after each of 30 orders, spread over 1,500 events
    obs["bid"] += np.cumsum(steps)
    obs["ask"] += np.cumsum(steps)
    # `after` events later each order has seen its own step and those of the orders between
    expected = [0.4 * -(-after // 50) for after in AFTER]
    first = followed(obs[:1_000])
    assert first == pytest.approx(expected, rel=0.02)
    obs["sign"] *= -1
    assert followed(obs[:1_000]) == pytest.approx([-x for x in first])


def test_a_naive_maker_loses_in_the_shipped_flow_and_earns_where_nobody_knows_anything() -> None:
    flow = study_maker("goog", shipped_flow(), 0.5, 0.5, 400)
    assert flow.verdict == "loses"
    assert flow.markouts["10"].low > 0  # right after a fill the spread looks earned
    assert flow.markouts["1000"].high < flow.markouts["10"].low
    assert study_maker("zi", zi_params(), 0.0, 0.0, 30, 400).verdict == "earns"


@pytest.mark.real_data
def test_the_shipped_flow_looks_like_the_part_of_the_day_it_was_not_fitted_to(data_dir: Path) -> None:
    made = study(next((data_dir / "lobster").glob("GOOG*message*")))
    held = without_fitted(made, named_source("goog"))
    tape = observe_market(Market(shipped_flow(), 1, int(held.tape.obs["bid"][0])), 600_000, "goog")
    rows = distance_rows(tape, held.tape, held.fitted, held.recording.levels)
    assert len(rows) == 10
    assert [r.name for r in rows if not r.passed] == []
    hits = tape.obs[tape.obs["sign"] != 0]
    half = float(0.5 * (hits["ask"] - hits["bid"]).mean())
    for gained, least in zip(markouts(tape.obs, (1.0, 10.0)), (0.6, 0.8), strict=True):
        assert 1.0 - gained / half > least  # recorded: 0.67 to 0.82, 0.93 to 0.96
