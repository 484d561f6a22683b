"""Fill models are scored on what they did not see; a forecast that knows wins, one that is off is told by its bias."""

import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.records import Array
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.fill_models import (
    AFTER,
    AHEAD,
    BY_QUEUE,
    COLUMNS,
    FLOW,
    HORIZONS,
    MODELS,
    OTHER,
    QUEUES,
    kaplan_meier,
    linear,
    logistic,
    queue_errors,
    score,
    watched_market,
)
from emp.sim.measure.probe import WAIT
from emp.sim.measure.queue_models import NAMES, behind_share, follow_queue
from emp.sim.world.market import Market


def drawn(n: int) -> Array:
    """Orders whose filling is known: at a steady pace that falls with the queue ahead, whatever the flow says."""
    rng = generator(5, "fills")
    probes = np.zeros((n, COLUMNS))
    probes[:, AHEAD] = rng.integers(1, 200, n)
    probes[:, OTHER] = rng.integers(1, 200, n)
    probes[:, FLOW] = rng.exponential(2.0, n)
    after = np.ceil(rng.exponential(20.0 + 2.0 * probes[:, AHEAD]))
    probes[:, AFTER] = np.where(after <= WAIT, after, 0.0)
    return probes


def test_fitted_models_find_the_chance_that_is_there() -> None:
    probes = drawn(20_000)
    for fit in (kaplan_meier, logistic):
        forecast = fit(probes[:12_000])
        for h in HORIZONS:
            true = 1.0 - np.exp(-h / (20.0 + 2.0 * probes[12_000:, AHEAD]))
            assert np.abs(forecast(probes[12_000:], h) - true).mean() < 0.05
    found = {m.name: m for m in score(probes)}
    for name in ("kaplan-meier", "logistic"):
        assert found[name].less + found[name].less_half < 0.0
        assert max(abs(b) for b in found[name].bias.values()) < 0.02
    assert found["flow over queue"].bias[200] > 0.1


@pytest.mark.parametrize("flow", ["goog", "tsla"])
def test_what_the_rule_believes_comes_true_as_often_as_it_says(flow: str) -> None:
    market = Market(named_flow(flow), 7, 100_000)
    market.run(2**62, 5_000)
    found = {m.name: m for m in score(watched_market(market, 6_000))}
    assert found["rule"].brier < found["logistic"].brier + 0.01, "which was fitted to it afterwards"
    assert max(abs(b) for b in found["rule"].bias.values()) < 0.07
    assert found["flow over queue"].bias[50] > 0.3, "what it starts from"


def test_a_model_is_fitted_on_the_first_part_alone() -> None:
    probes = drawn(2_000)
    other = probes.copy()
    other[1_200:, AFTER] = 1.0
    before, after = ({m.name: m for m in score(x)} for x in (probes, other))
    for name in ("kaplan-meier", "logistic"):
        said = [found[name].bias[10] for found in (before, after)]
        filled = [np.mean((x[1_200:, AFTER] > 0) & (x[1_200:, AFTER] <= 10)) for x in (probes, other)]
        assert said[0] + filled[0] == pytest.approx(said[1] + filled[1])


def test_in_a_flow_an_order_behind_more_lots_waits_longer() -> None:
    market = Market(named_flow("goog"), 2, 100_000)
    market.run(2**62, 5_000)
    probes = watched_market(market, 4_000)
    assert (probes[:, FLOW] > 0).mean() > 0.9
    assert ((probes[:, AFTER] >= 0) & (probes[:, AFTER] <= WAIT)).all()
    short = probes[probes[:, AHEAD] <= np.quantile(probes[:, AHEAD], 0.3)]
    long = probes[probes[:, AHEAD] >= np.quantile(probes[:, AHEAD], 0.7)]
    assert (short[:, AFTER] > 0).mean() > (long[:, AFTER] > 0).mean() + 0.1


def test_too_few_orders_are_said() -> None:
    with pytest.raises(UsageError, match="too few to fit"):
        score(drawn(50))


def test_a_straight_line_is_found_and_cut_off() -> None:
    rng = generator(7, "line")
    probes = np.zeros((20_000, COLUMNS))
    probes[:, AHEAD], probes[:, OTHER] = rng.integers(1, 100, (2, len(probes)))
    chance = 0.9 - 0.008 * probes[:, AHEAD] + 0.001 * probes[:, OTHER]
    probes[:, AFTER] = rng.uniform(size=len(probes)) < chance
    said = linear(probes[:12_000])(probes[12_000:], 10)
    assert np.abs(said - chance[12_000:]).max() < 0.03
    far = probes[:2].copy()
    far[:, AHEAD] = 1e4, -1e4
    assert list(linear(probes[:12_000])(far, 10)) == [0.0, 1.0]


def followed(messages: list[tuple[int, int, int]], ahead: float) -> Array:
    out = np.full(len(NAMES), ahead)
    for before, after, traded in messages:
        follow_queue(out, before, after, traded)
    return out


def test_models_of_the_queue_follow_their_definitions() -> None:
    assert behind_share(0, 3.0, 7.0) == pytest.approx(np.log(8) / (np.log(8) + np.log(4)))
    for n in (1, 2, 3):
        assert behind_share(n, 3.0, 7.0) == pytest.approx(7**n / (7**n + 3**n))
    assert (followed([(10, 6, 4)], 5.0) == 1.0).all()  # a trade takes from the front
    assert (followed([(10, 15, 0)], 5.0) == 5.0).all()  # what comes is behind
    log, even, square, cube, averse = followed([(10, 8, 0)], 4.0)  # two cancelled, four ahead, six behind
    assert even == pytest.approx(4.0 - 2.0 * 0.4)
    assert square == pytest.approx(4.0 - 2.0 * 16 / 52)
    assert cube == pytest.approx(4.0 - 2.0 * 64 / 280)
    assert log == pytest.approx(4.0 - 2.0 * np.log(5) / (np.log(5) + np.log(7)))
    assert averse == 4.0
    assert (followed([(10, 3, 0)], 5.0) <= 3.0).all()  # never more than the level holds
    assert (followed([(5, 2, 0)], 5.0) == 2.0).all()  # nothing behind: all was ahead
    assert (followed([(4, 0, 9)], 2.0) == 0.0).all()


def test_no_model_of_the_queue_tells_more_than_the_count_of_who_is_ahead() -> None:
    market = Market(named_flow("goog"), 3, 100_000)
    market.run(2**62, 5_000)
    probes = watched_market(market, 6_000, rest=50)
    off = probes[:, QUEUES:] - probes[:, AHEAD : AHEAD + 1]
    errors = queue_errors(probes)
    assert [errors[name][0] for name in NAMES] == pytest.approx(off.mean(axis=0))
    assert (
        off[:, NAMES.index("risk-averse")] >= 0.0
    ).all()  # it never thinks itself further ahead than it is
    assert (off[:, NAMES.index("risk-averse")] == 0.0).mean() > 0.917  # trades are taken from the front
    assert all(size < 10.0 for _, size in errors.values())  # of queues of 75 lots at their joining
    found = {m.name: m for m in score(probes, MODELS | BY_QUEUE)}
    known = found["kaplan-meier"].brier
    assert all(-0.002 < found[name].brier - known < 0.002 for name in BY_QUEUE)


def test_an_order_that_joins_has_the_whole_queue_ahead_by_every_model() -> None:
    market = Market(named_flow("tsla"), 4, 100_000)
    market.run(2**62, 5_000)
    probes = watched_market(market, 500)
    assert (probes[:, QUEUES:] == probes[:, AHEAD : AHEAD + 1]).all()
    assert (probes[:, AHEAD] > 0).all()
