"""The index against its formula, its chance level against simulation, and excuses that must be measured."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from emp.core.errors import DataError
from emp.observe.psi import LIMIT, chance_level, decile_edges, effective_size, psi
from emp.perception.state import CORE_INPUTS
from emp.train.judge.psi import LUMP, REASONS, commonest_share, compare, least_wait, verdict
from tests.kit.datasets import dataset


def test_the_index_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5_000), rng.normal(0.5, 1.5, 4_000)
    edges = np.array([-np.inf, *np.quantile(a, np.linspace(0.1, 0.9, 9)), np.inf])
    total = 0.0
    for low, high in pairwise(edges):
        p, q = ((a > low) & (a <= high)).mean(), ((b > low) & (b <= high)).mean()
        total += (p - q) * np.log(p / q)
    assert psi(a, b) == pytest.approx(total, rel=1e-9)
    assert psi(a, a) == 0.0
    assert psi(a, a + 10.0) > LIMIT


def test_chance_alone_stays_below_its_level_19_times_of_20() -> None:
    rng = np.random.default_rng(1)
    level = chance_level(10, 5_000, 2_000)
    over = [psi(rng.normal(size=5_000), rng.normal(size=2_000)) > level for _ in range(300)]
    assert 0.02 < np.mean(over) < 0.09


def test_neighbours_that_are_alike_count_less() -> None:
    rng = np.random.default_rng(2)
    alone = rng.normal(size=6_000)
    alike = np.repeat(rng.normal(size=120), 50)
    edges = decile_edges(alone)
    assert effective_size(alone, edges) > 3_000
    assert effective_size(alike, edges) < 250
    assert effective_size(np.zeros(100), np.array([0.0])) == 100.0


def test_one_lump_passes_the_limit_however_it_is_scaled() -> None:
    assert (LUMP - 0.1) * np.log(LUMP / 0.1) == pytest.approx(LIMIT, abs=0.002)
    rng = np.random.default_rng(3)
    lumped = np.where(rng.random(20_000) < LUMP + 0.02, 0.0, rng.normal(size=20_000))
    for scale in (0.1, 1.0, 10.0):
        assert psi(rng.normal(size=20_000), scale * lumped) > LIMIT


def test_an_excuse_is_measured_and_never_given() -> None:
    wide, other = dataset(3_000, 0, name="a"), dataset(3_000, 1, name="b")
    assert commonest_share(wide, "spread") == 1.0
    x = other.seen.x.copy()
    place = CORE_INPUTS.index("ofi_norm"), CORE_INPUTS.index("spread")
    x[:, place] += 5.0
    moved = replace(other, seen=other.seen._replace(x=x))
    cells = {(c.input, c.reference): c for c in compare([wide, moved])}
    assert cells["ofi_norm", "a"].psi > LIMIT
    assert cells["ofi_norm", "a"].exception == ""
    assert cells["spread", "a"].exception == "lumped"
    said = verdict(list(cells.values()))
    assert not said["passed"]
    assert any(line.startswith("ofi_norm: a -> b") for line in said["failed"])
    assert not any(line.startswith("spread") for line in said["failed"])


def test_a_series_without_a_warm_event_is_named() -> None:
    whole, short = dataset(3_000, 0, name="a"), dataset(3_000, 1, name="b")
    rows = short.seen.rows.copy()
    rows["since_reset"] = 10
    with pytest.raises(DataError, match=r"^b: nothing to compare"):
        compare([whole, replace(short, seen=short.seen._replace(rows=rows))])


def test_a_throttled_feed_shows_in_its_shortest_waits() -> None:
    data = dataset(3_000)
    assert least_wait(data, "stale") < 0.1
    states = data.seen.states.copy()
    states["ts"] = states["ts"][0] + np.arange(len(states)) * 100_000_000
    assert least_wait(replace(data, seen=data.seen._replace(states=states)), "stale") == 1.0
    assert {name for reason in REASONS for name in reason.inputs} <= set(CORE_INPUTS) | {"microprice_off"}
