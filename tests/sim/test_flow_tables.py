"""Tables that stand in for calculations: the same law as the calculation."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import one_of, seeded, uniform
from emp.sim.book import book as eb
from emp.sim.book.check import check_book
from emp.sim.book.matching import submit
from emp.sim.fit.calibrate import calibrate
from emp.sim.flow.params import KINDS, LASTS
from emp.sim.flow.qr import CANCEL_AT, CANCEL_DEEP, HIT, TOOK, draw_kind, happens
from emp.sim.flow.tables import LOG_SHIFT_NS, tabulate
from emp.sim.flow.zi import zi_params
from emp.sim.measure.observe_market import observe_market
from emp.sim.world.market import Market

LAW = tabulate(calibrate(observe_market(Market(zi_params(), 7, 50_000), 20_000, "zi").obs, "qr"))


@kernel
def _disagree(p: Any, odds: float, n: int, one: Any, two: Any) -> int:
    wrong = 0
    for _ in range(n):
        wrong += happens(p, odds, one) != (uniform(two) * (1.0 + np.exp(-odds)) < 1.0)
    return wrong


def test_a_logistic_draw_needs_no_exponential_and_is_exact() -> None:
    for odds in (-12.0, -7.3, -2.0, -0.3, 0.0, 0.01, 1.7, 6.9, 40.0):
        assert _disagree(LAW[0], odds, 50_000, seeded(3, "a"), seeded(3, "a")) == 0


@kernel
def _kinds(flow: Any, i: int, j: int, n: int, out: Any) -> None:
    for _ in range(n):
        out[draw_kind(flow, i, j)] += 1


def test_kinds_come_in_proportion_to_their_weights() -> None:
    market = Market(LAW, 2, 50_000)
    market.run(2**62, 2_000)
    crowd = (market.book[eb.LIVE] - market.book[eb.OWN_LIVE]) / LAW["live_ref"][0]
    for i, j, last in ((0, 0, 0), (3, 2, 5), (6, 5, 3), (4, 3, TOOK)):
        market.state["last"] = last
        market.state["burst"] = busy = np.array([0.3, 0.2, 0.1]) * last / LASTS
        weight = LAW["kind_weight"][0, i, j] * LAW["after"][0, last]
        weight[HIT] *= LAW["burst_usual"][0] + LAW["burst"][0] @ busy
        weight[[CANCEL_AT, CANCEL_DEEP]] *= crowd
        seen = np.zeros(KINDS, np.int64)
        _kinds(market.flow._replace(rng=seeded(i, "k")), i, j, 200_000, seen)
        assert np.abs(seen / 200_000 - weight / weight.sum()).max() < 0.005


def test_gaps_are_kept_to_seven_digits() -> None:
    gap, log = LAW["gaps"][0, ..., 0], LAW["gaps"][0, ..., 1]
    assert np.abs(gap / LAW["gap_ns"][0] - 1.0).max() < 1e-7
    assert np.abs(log - np.log(LAW["gap_ns"][0] + LOG_SHIFT_NS)).max() < 1e-6
    assert tabulate(LAW) is LAW


def test_one_of_is_even() -> None:
    r = seeded(5, "one")
    seen = np.bincount([one_of(7, r) for _ in range(14_000)], minlength=7)
    assert len(seen) == 7
    assert np.abs(seen / 2_000 - 1.0).max() < 0.12


def test_the_next_level_is_found_wherever_it_is() -> None:
    rng = np.random.default_rng(6)
    b, fills = eb.new_book(1_000, 256, 64), eb.new_fills()
    for side, prices in ((eb.BUY, range(1_001, 1_120)), (eb.SELL, range(1_130, 1_255))):
        for px in rng.choice(list(prices), 12, replace=False):
            submit(b, fills, side, int(px), 1, eb.LIMIT, 0, 0)
    eb.slide(b, 1_010)
    check_book(b)
    for px in range(1_010, 1_266):
        bids = [q for q in range(1_011, px) if eb.level_qty(b, eb.BUY, q)]
        asks = [q for q in range(px + 1, 1_265) if eb.level_qty(b, eb.SELL, q)]
        assert eb.next_level(b, eb.BUY, px) == max(bids, default=1_010)
        assert eb.next_level(b, eb.SELL, px) == min(asks, default=1_265)
