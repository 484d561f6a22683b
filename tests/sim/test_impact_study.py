"""Metaorder impact by LOB-Impact: its arithmetic by hand-worked numbers, its runs by what they must share."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.core.errors import UsageError
from emp.sim.book.book import BEST, BUY, SELL, level_qty
from emp.sim.book.check import check_book
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.shipped import shipped_flow
from emp.sim.measure import impact_law as law
from emp.sim.measure import impact_study
from emp.sim.measure.child_orders import follower, replay_metaorder, work_metaorder
from emp.sim.measure.impact_study import Shape, study_impact
from emp.sim.world.market import Market

EVERY, CHILDREN, STEPS = 40, 6, 600


def market(seed: int = 3) -> Market:
    made = Market(shipped_flow(), seed, 58_000)
    made.run(2**62, 5_000)
    return made


def worked(base: Market, side: int, child: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mids, lots, px = np.zeros(STEPS), np.zeros(CHILDREN, np.int64), np.zeros(CHILDREN, np.int64)
    work_metaorder(base.clone().flow, EVERY, child, side, mids, lots, px)
    return mids, lots, px


def replayed(base: Market, child: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    alone, mids = np.zeros(STEPS), np.zeros((2, STEPS))
    lots, px = np.zeros((2, CHILDREN), np.int64), np.zeros((2, CHILDREN), np.int64)
    bought, sold = follower(base), follower(base)
    replay_metaorder(base.clone().flow, bought, sold, EVERY, child, alone, mids, lots, px)
    assert check_book(bought.book) is None
    assert check_book(sold.book) is None
    return alone, mids, lots, px


def test_shortfall_and_participation_by_hand() -> None:
    lots, px = np.array([100, 80, 100]), np.array([5800100, 5800300, 5800400])
    assert law.vwap(lots, px) == pytest.approx(5800264.285714, abs=1e-6)
    assert law.vwap(lots, px) / 5800000 - 1 == pytest.approx(4.556650e-5, abs=1e-11)
    assert law.participation(35, 308, 0.0292, 35) == pytest.approx(0.100064, abs=1e-6)
    assert law.interval_for(0.1, 35, 0.0292, 35) == 308
    assert law.parkinson(110.0, 100.0) == pytest.approx(np.log(1.1) / 1.66511, rel=1e-6)


def test_the_exponent_has_a_free_intercept_and_depends_on_volatility() -> None:
    lots = np.array([200, 500, 900, 1500, 2400, 3900.0])
    volume = np.array([1.2, 1.0, 1.4, 1.1, 1.3, 0.9]) * 1e6
    moved = np.array([2.1, 3.9, 4.4, 7.0, 7.7, 12.5]) * 1e-4
    sigma = np.array([0.018, 0.021, 0.016, 0.024, 0.020, 0.027])
    x = np.log(lots / volume)
    plain, scaled = law.line(x, np.log(moved)), law.line(x, np.log(moved / sigma))
    assert (plain.beta, plain.alpha, plain.r2) == pytest.approx((0.547224, -3.698365, 0.998476), abs=1e-6)
    assert (scaled.beta, scaled.alpha, scaled.r2) == pytest.approx((0.428296, -0.652303, 0.941453), abs=1e-6)


@pytest.mark.parametrize(
    ("length", "longest", "share"), [(10, 9.0, 0.732864), (9, 6.0, 0.750185)], ids=["older", "later"]
)
def test_relaxation_by_hand(length: int, longest: float, share: float) -> None:
    n = np.arange(90)
    f = np.where(n < 4, 0.0, np.where(n < 9, 3.0, 6.0 * (1.0 + np.maximum(n - 9, 0) / 10) ** -0.3))
    bought, sold = (1e6 + 0.5 * n + 100 * sign * f for sign in (1, -1))
    path = law.in_normal_time(law.combined(bought, sold), length, longest)
    peak, end = (np.full((1, 4), path[law.nearest(longest, u)]) for u in (1.0, 3.0))
    if length == 10:
        assert peak[0, 0] == pytest.approx(5.839370e-4, abs=1e-10)
        assert end[0, 0] == pytest.approx(4.279465e-4, abs=1e-10)
    found = law.relaxation(peak, end, 1)
    assert found.value == pytest.approx(share, abs=1e-6)
    assert found.low == pytest.approx(share, abs=1e-6)  # days that are all alike leave no doubt


def test_both_estimators_find_a_known_exponent_and_say_how_well() -> None:
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(40), 100)
    x = rng.uniform(-8, -4, len(day))
    y = 0.3 * np.exp(0.5 * x) + rng.normal(0, 0.01, len(x))
    signed = law.direct(x, y, day, 40, 1)
    assert signed.low <= 0.5 <= signed.high
    assert signed.high - signed.low < 0.2
    logs = law.slope(x, 0.5 * x + rng.normal(0, 1, len(x)), day, 40, 1)
    assert logs.low <= 0.5 <= logs.high
    assert logs.high - logs.low < 0.15


def test_intervals_know_that_a_day_is_one_observation() -> None:
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(20), 200)
    x = rng.uniform(-8, -4, len(day))
    tilt = rng.normal(0.5, 0.3, 20)  # each day has a slope of its own
    found = law.slope(x, tilt[day] * x, day, 20, 1)
    assert found.high - found.low > 0.1


def test_a_metaorder_of_nothing_leaves_every_run_alone() -> None:
    base = market()
    alone, mids, lots, _ = replayed(base, 0)
    assert (mids == alone).all()
    assert not lots.any()
    assert np.array_equal(worked(base, BUY, 0)[0], alone)
    undisturbed = base.clone()
    undisturbed.run(2**62, STEPS - CHILDREN)
    assert alone[-1] == 0.5 * (int(undisturbed.book[BEST]) + int(undisturbed.book[BEST + 1]))


def test_children_pay_the_best_price_and_never_walk_the_book() -> None:
    base = market()
    before = base.clone()
    before.run(2**62, EVERY)
    ask = int(before.book[BEST + 1])
    offered = level_qty(before.book, SELL, ask)
    for child in (1, 10**6):
        lots, px = worked(base, BUY, child)[1:]
        assert px[0] == ask
        assert lots[0] == min(child, offered)
    assert (replayed(base, 10**6)[2] > 0).all()


def test_the_flow_answers_and_its_replay_does_not() -> None:
    base = market()
    alone, mids, lots, _ = replayed(base, 50)
    assert lots.all()
    again, *_ = replayed(base, 0)
    assert np.array_equal(alone, again)  # what is replayed never sees the children
    assert (mids[0] != alone).any()
    first = EVERY  # the first child's own step
    bought = worked(base, BUY, 50)[0]
    assert np.array_equal(bought[:first], alone[:first])
    assert bought[first] == mids[0, first]  # it takes the same lots from the same book
    assert (bought[first:] != mids[0, first:]).any()


def test_a_run_lasts_three_lengths_in_whole_blocks() -> None:
    for kind in (Shape(2, 0.1, 237), Shape(16, 0.2, 5), Shape(1, 0.5, 1)):
        assert (kind.steps - kind.length) % kind.every == 0
        assert 3.0 < kind.longest < 3.0 + (kind.every + 1) / kind.length + 1e-9


def test_a_study_says_the_same_twice_and_spreads_its_kinds() -> None:
    flow = shipped_flow()
    assert flow["model"][0] == QUEUE_REACTIVE
    one, two = (
        study_impact(flow, "goog", pairs=160, days=5, children=(2, 4), shares=(0.2, 0.5)) for _ in range(2)
    )
    assert one == two
    assert one.reaction.n + one.reaction.dropped == one.pairs == 160
    assert [(row.children, row.share) for row in one.replay.lengths] == [
        (2, 0.2),
        (2, 0.5),
        (4, 0.2),
        (4, 0.5),
    ]
    assert abs(one.replay.curve[-1]) < abs(one.replay.curve[66])  # nothing answers, so nothing is kept
    with pytest.raises(UsageError, match="too few"):
        study_impact(flow, "goog", pairs=4, days=2, children=(1, 2, 3, 4), shares=(0.1, 0.2))


def test_a_flow_that_never_trades_is_refused() -> None:
    flow = shipped_flow()
    flow["kind_weight"][..., 5] = 0.0
    flow["burst_usual"] = flow["burst"] = 0.0
    with pytest.raises(UsageError, match="no market orders"):
        study_impact(flow, "still", pairs=100, days=5)


def test_the_command_prints_one_object(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = [
        "sim",
        "impact",
        "goog",
        "--pairs",
        "100",
        "--days",
        "5",
        "--children",
        "2",
        "--participation",
        "0.3,0.5",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*argv, "--plot", f"{tmp_path}/impact.png", "--json"])
    assert ended.value.code in (0, None)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert found["ci"][0] <= found["beta"] <= found["ci"][1]
    assert {"relaxation", "relaxation_ci", "paired_beta", "replay", "pairs"} <= set(found)
    for wrong in ("0.2,x", "0,0.1", "0.1,0.1"):
        with pytest.raises(SystemExit) as ended:
            main([*argv[:-1], wrong])
        assert ended.value.code not in (0, None)
        assert "participation" in capsys.readouterr().err


def test_the_judge_adds_impact(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(study_impact, pairs=100, days=5, children=(2,), shares=(0.5,))
    monkeypatch.setattr(impact_study, "study_impact", small)
    out = str(tmp_path / "XYZ_2024-01-02_message_10.csv")
    for argv in (
        ["sim", "generate", out, "--model", "goog", "--events", "6000", "--seed", "4"],
        ["sim", "judge", "goog", out, "--sequences", "5", "--impact", "--json"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert ended.value.code in (0, None)
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    known = small(shipped_flow(), "goog")
    assert found["pairs"] == known.pairs
    assert found["beta"] == pytest.approx(known.reaction.beta.value, abs=1e-5)
    assert len(found["scores"]) == 21
