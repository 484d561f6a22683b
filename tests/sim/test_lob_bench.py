"""LOB-Bench's scores: against values of its public package on a GOOG day, and against loops on corner cases."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from plain_scores import plain_l1, plain_responses, plain_samples, plain_volatility, plain_w1

from emp.core.errors import DataError
from emp.sim.facts.conditional import CONDITIONS, conditional, deciles, midnight_before, volatility
from emp.sim.facts.judge import ROWS, Comparison, compare, judge, two_sided
from emp.sim.facts.losses import fd_edges, l1, w1
from emp.sim.facts.response import CLASSES, LAGS, differences, responses, touch_events
from emp.sim.facts.scores import SCORES, Stretch, sample, stretch
from emp.sim.flow.params import Source
from emp.sim.flow.shipped import shipped_flow
from emp.sim.tape.recording import load_recording
from emp.sim.world.market import Market
from emp.sim.world.printed import printed

KNOWN = json.loads((Path(__file__).parent / "lob_bench_goog.json").read_text())
"""What commit 276baf30 of the package prints of GOOG, 2012-06-21: [L1, its interval, W1, its interval]."""

GOOG = "lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"
AFTERNOON, MORNING, PAIRS = 80_911, 12_648, 67

Sets = dict[str, list[Stretch]]


@pytest.fixture(scope="module")
def sets(data_dir: Path) -> Sets:
    made = load_recording(data_dir / GOOG)
    blocks = [stretch(made, AFTERNOON + 500 * k, 500) for k in range(2 * PAIRS)]
    first = blocks[0::2]
    return {
        "A": first,
        "B": blocks[1::2],
        "C": [stretch(made, MORNING + 500 * k, 500) for k in range(PAIRS)],
        "A10": first[:10],
        "D": [spoiled(s) for s in first[:10]],
    }


def spoiled(s: Stretch) -> Stretch:
    """A sequence with gaps of nothing, empty levels, one-sided and empty books and prices of empty levels."""
    ts, kind, px, book = s.ts.copy(), s.kind.copy(), s.px.copy(), s.book.copy()
    for r in range(len(ts)):
        if r > 0 and r % 20 == 0:
            ts[r] = ts[r - 1]
        for level in range(10):
            if (r % 10 == 3 and level >= 5) or r % 50 in (7, 31):
                book[r, 4 * level : 4 * level + 2] = -1, 0
            if r % 50 in (23, 31):
                book[r, 4 * level + 2 : 4 * level + 4] = -1, 0
        if r % 100 == 13:
            kind[r], px[r] = 1, -1
    return s._replace(ts=ts, kind=kind, px=px, book=book)


PAIRED = ["A_vs_B", "A_vs_C", "A10_vs_D"]


@pytest.fixture(scope="module")
def compared(sets: Sets) -> dict[str, Comparison]:
    return {pair: compare(*(sets[side] for side in pair.split("_vs_"))) for pair in PAIRED}


@pytest.mark.parametrize("pair", PAIRED)
def test_scores_are_those_of_the_public_package(compared: dict[str, Comparison], pair: str) -> None:
    done = compared[pair]
    for part, found in (("scores", done.scores), ("conditional", done.conditional)):
        assert list(found) == list(KNOWN[pair][part])
        for name, (first, second) in found.items():
            got = np.array([first.value, *first.interval, second.value, *second.interval])
            wanted = np.array(KNOWN[pair][part][name], float)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("pair", PAIRED)
def test_responses_are_those_of_the_public_package(
    sets: Sets, compared: dict[str, Comparison], pair: str
) -> None:
    known = KNOWN[pair]["impact"]
    for side, name in zip(("real", "made"), pair.split("_vs_"), strict=True):
        found = dict(zip(CLASSES, responses(sets[name]), strict=True))
        assert found.keys() == known[side].keys()
        for kind, values in found.items():
            np.testing.assert_allclose(values, np.array(known[side][kind], float), rtol=0, atol=2e-6)
    sums = np.array([known["sums"][kind] for kind in CLASSES], float)
    done = compared[pair]
    np.testing.assert_allclose(differences(done.real_response, done.response), sums, rtol=0, atol=2e-6)


def random_stretch(seed: int, n: int = 160, seconds: float = 3.0) -> Stretch:
    """A sequence full of corner cases: every kind of message, orders told of again and again, placeholder prices."""
    r = np.random.default_rng(seed)
    ts = 34_200 * 10**9 + np.sort(r.integers(0, int(seconds * 1e9), n))
    ts[r.integers(1, n, n // 8)] = 0
    ts = np.maximum.accumulate(np.maximum(ts, ts[0]))
    mid = 1000 + np.cumsum(r.integers(-1, 2, n))
    book = np.zeros((n, 40), np.int64)
    for level in range(10):
        book[:, 4 * level] = 100 * (mid + 1 + level)
        book[:, 4 * level + 2] = 100 * (mid - level)
        book[:, 4 * level + 1], book[:, 4 * level + 3] = r.integers(1, 50, (2, n))
    for side in (0, 2):
        gone = r.random(n) < 0.1
        first = r.integers(0, 10, n)
        for t in np.flatnonzero(gone):
            for level in range(first[t], 10):
                book[t, 4 * level + side : 4 * level + side + 2] = -1, 0
    kind = r.choice([1, 2, 3, 4, 5, 7], n, p=[0.4, 0.1, 0.3, 0.1, 0.05, 0.05])
    px = 100 * (mid + r.integers(-12, 13, n))
    px[r.random(n) < 0.05] = -1
    return Stretch(ts, kind, r.integers(0, 40, n), r.integers(1, 9, n), px, r.choice([-1, 1], n), book)


@pytest.mark.parametrize("seed", range(12))
def test_samples_are_those_of_loops_over_rows(seed: int) -> None:
    s = random_stretch(seed, seconds=(0.05, 0.9, 3.0, 20.0)[seed % 4])
    wanted = plain_samples(s)
    for score in SCORES:
        np.testing.assert_allclose(
            score.values(s), wanted.get(score.name, []), rtol=1e-12, err_msg=score.name
        )
    assert set(wanted) <= {score.name for score in SCORES}


@pytest.mark.parametrize("n", [0, 1, 2, 100, 101, 102])
def test_short_sequences_give_what_there_is(n: int) -> None:
    s = random_stretch(3, 160)
    cut = Stretch(*(column[:n] for column in s))
    wanted = plain_samples(cut)
    for score in SCORES:
        np.testing.assert_allclose(score.values(cut), wanted.get(score.name, []), err_msg=score.name)


def volumes(*trades: tuple[float, int]) -> list[float]:
    s = random_stretch(0, len(trades))
    ts = np.array([round(t * 1e9) for t, _ in trades])
    s = s._replace(ts=ts, kind=np.full(len(trades), 4), qty=np.array([q for _, q in trades]))
    return [float(x) for x in sample(next(c for c in SCORES if c.name == "vol_per_min"), [s])]


def test_seconds_at_the_ends_of_a_sequence() -> None:
    assert volumes((5.3, 10)) == [600]
    assert volumes((5.3, 10), (5.35, 1)) == []
    assert volumes((5.3, 10), (5.8, 2)) == pytest.approx([1440])
    assert volumes((5.3, 10), (6.1, 2), (7.05, 3)) == [120]
    assert volumes((5.95, 10), (6.1, 2), (7.5, 3)) == pytest.approx([12_000, 120, 360])


@pytest.mark.parametrize("seed", range(6))
def test_losses_are_those_of_loops_over_values(seed: int) -> None:
    r = np.random.default_rng(seed)
    a, b = r.normal(size=70).round(1), r.normal(0.3, 2, 90).round(1)
    pooled = np.concatenate((a, b))
    edges = np.histogram_bin_edges(pooled, "fd")
    rng = np.random.default_rng(1)
    assert l1(a, b, False, rng).value == pytest.approx(plain_l1(list(a), list(b), list(edges)))
    assert l1(a, b, True, rng).value == pytest.approx(plain_l1(list(a), list(b), sorted(set(pooled))))
    assert w1(a, b, rng).value == pytest.approx(plain_w1(list(a), list(b)))


def test_the_largest_value_has_a_group_of_its_own() -> None:
    a, b = np.array([0.0, 1.0, 2.0, 3.9, 3.9]), np.array([0.0, 1.0, 2.0, 4.0, 4.0])
    assert len(fd_edges(np.concatenate((a, b)))) < 5
    assert l1(a, b, False, np.random.default_rng(0)).value == pytest.approx(0.4)


def test_values_that_are_no_numbers() -> None:
    a, b, nan = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, math.nan]), np.full(2, math.nan)
    rng = np.random.default_rng(0)
    assert l1(a, b, True, rng).value == pytest.approx(1 / 3)
    assert math.isnan(w1(a, b, rng).value)
    assert math.isnan(w1(a, nan, rng).interval[0])
    assert l1(a, np.zeros(0), False, rng).value == 1.0
    assert l1(np.zeros(0), a, False, rng).interval == (1.0, 1.0)
    assert math.isnan(w1(a, np.zeros(0), rng).value)
    assert math.isnan(w1(np.ones(3), np.ones(2), rng).value)
    assert l1(np.ones(3), np.ones(2), False, rng).value == 0.0


def test_values_far_off_are_refused_in_one_line() -> None:
    x = np.append(np.linspace(0, 1, 1000), 1e12)
    with pytest.raises(DataError, match="far from all others"):
        fd_edges(x)


def test_intervals_hold_the_distance_of_samples_that_differ() -> None:
    r = np.random.default_rng(5)
    a, b = r.normal(size=4_000), r.normal(1.0, 1.0, 4_000)
    rng = np.random.default_rng(0)
    low, high = w1(a, b, rng).interval
    assert low < w1(a, b, rng).value < high
    assert high - low < 0.15


@pytest.mark.parametrize("seed", range(8))
def test_responses_and_volatility_are_those_of_loops_over_rows(seed: int) -> None:
    parts = [
        random_stretch(10 * seed + k, n, seconds=(0.02, 3.0)[seed % 2])
        for k, n in enumerate((160, 1, 2, 300))
    ]
    wanted = plain_responses(parts, [int(lag) for lag in LAGS])
    np.testing.assert_allclose(responses(parts), [wanted[kind] for kind in CLASSES], rtol=1e-9)
    for s in parts:
        assert volatility(s) == pytest.approx(plain_volatility(s), abs=1e-12)


def test_executions_of_one_order_are_one_event() -> None:
    s = random_stretch(1, 4)
    book = np.tile(s.book[0], (4, 1))
    book[:, :4] = [[200, 9, 100, 5], [200, 7, 100, 5], [200, 4, 100, 5], [300, 2, 100, 5]]
    ts = np.array([0, 10_000, 10_900, 11_700])
    same = s._replace(
        ts=ts,
        kind=np.array([1, 4, 4, 4]),
        px=np.full(4, 200),
        direction=np.full(4, -1),
        book=book,
    )
    kind, sign, mid = touch_events(same)
    assert [CLASSES[k] for k in kind] == ["LO_1", "MO_1"]
    assert sign.tolist() == [-1, 1]
    assert mid.tolist() == [150, 200]
    apart = same._replace(ts=np.array([0, 10_000, 11_001, 11_700]))
    assert [CLASSES[k] for k in touch_events(apart)[0]] == ["LO_1", "MO_0", "MO_1"]
    other = same._replace(px=np.array([200, 200, 200, 300]))
    assert [CLASSES[k] for k in touch_events(other)[0]] == ["LO_1", "MO_0", "MO_1"]


def test_deciles_that_repeat_have_a_group_of_their_own() -> None:
    x = np.array([1.0] * 4 + [5.0] * 36 + [7.0, 8.0, 9.0])
    assert deciles(x).tolist() == [5.0, 5.01]
    assert deciles(np.arange(11.0)) == pytest.approx(np.arange(1.0, 10.0))


def test_groups_of_one_side_count_and_groups_without_a_number_are_nothing() -> None:
    first, second = (np.random.default_rng(0) for _ in range(2))
    early = random_stretch(1, 40)
    late = early._replace(ts=early.ts + 3 * 3600 * 10**9)
    at = CONDITIONS[1]
    apart, far = conditional(at, [early], [late], 0, first, second)
    assert (apart.value, far.value) == (1.0, 0.0)
    half, near = conditional(at, [early, late], [late], 0, first, second)
    assert half.value == pytest.approx(1 / 3)
    assert near.value == 0.0


def test_midnight_is_new_yorks() -> None:
    noon = 1_340_294_400 * 10**9  # 2012-06-21, 16:00 UTC
    assert midnight_before(noon) == noon - 12 * 3600 * 10**9


def test_what_a_flow_was_fitted_to_is_scored_in_its_place() -> None:
    made = two_sided(printed(Market(shipped_flow(), 3, 58_000), 9_200, "XYZ"))
    source = Source("XYZ", int(made.msgs["ts"][0]), int(made.msgs["ts"][2_999]))
    found = judge(shipped_flow(), source, "goog", made, 5, 1)
    part = [stretch(made, int(at), ROWS) for at in np.linspace(0, 2_500, 5)]
    real = [stretch(made, len(made.msgs) - 5_000 + ROWS * k, ROWS) for k in range(0, 10, 2)]
    by_hand = compare(real, part).scores["ask_volume"]
    row = next(one for one in found.scores if one.name == "ask_volume")
    assert (row.fitted_l1, row.fitted_w1) == (by_hand[0].value, by_hand[1].value)
    other = judge(shipped_flow(), Source("ABC", source.first_ns, source.last_ns), "goog", made, 5, 1)
    assert all(np.isnan(one.fitted_l1) for one in other.scores)
