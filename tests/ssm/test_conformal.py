"""Intervals of 90 %: what the ends follow, what is owed, how ties count."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, HORIZONS, INTERVAL_SIGMAS, Array
from emp.model import conformal, recalibrate
from emp.perception.targets import targets

MOVES = 60_000
STANDS_FOR = 4.0
"""Events of which one is kept, as in a market of horizons of a few events."""

BLOCK = 10_000


@kernel
def follow_all(ends: Any, move: Array, delay: int, edges: Array) -> None:
    """Say the ends of every move, and hear of each `delay` moves later; edges float64[n, 2] as said."""
    for i in range(move.size):
        edges[i] = ends.edge
        if i >= delay:
            conformal.follow_tails(
                ends, move[i - delay], 1.0, edges[i - delay], STANDS_FOR, STANDS_FOR * delay
            )


@kernel
def carry(r: Any, ts: Array, bid: Array, ask: Array, f: Array) -> None:
    """Recalibrate every forecast of an unbroken stream in place."""
    for i in range(ts.size):
        recalibrate.recalibrate(r, ts[i], bid[i], ask[i], 0.0, i == 0, f[i])


def followed(move: Array, delay: int = 1) -> tuple[Array, Any]:
    """Whether each move came to lie between the ends said of it, bool[n, 2] by side, and what is known at the end."""
    ends, edges = np.zeros(1, conformal.INTERVAL), np.zeros((len(move), 2))
    follow_all(ends[0], move, delay, edges)
    below, above = conformal.START + edges.T
    return np.column_stack([-move <= below, move <= above]), ends[0]


def markets(n: int) -> dict[str, Array]:
    """Moves that do what a market may: calm and wild hours, heavy tails, drift to one side, no move at all."""
    rng = np.random.default_rng(1)
    regime = np.where(np.arange(n) // 5_000 % 2 == 0, 1.0, 10.0)
    return {
        "normal": rng.normal(size=n),
        "calm and wild": rng.normal(size=n) * regime,
        "heavy tails": rng.standard_t(2, n),
        "drifting": rng.normal(size=n) + np.where(np.arange(n) // 5_000 % 2 == 0, 2.0, -2.0),
        "clustered": rng.normal(size=n) * np.exp(np.repeat(rng.normal(size=n // 200 + 1), 200)[:n]),
        "tiny": rng.normal(size=n) * 1e-3,
    }


@pytest.mark.parametrize("delay", [1, 50])
@pytest.mark.parametrize("market", markets(10))
def test_every_stretch_is_covered_whatever_the_market_does(market: str, delay: int) -> None:
    hit, _ = followed(markets(MOVES)[market], delay)
    block = max(BLOCK, 200 * delay)
    both = hit.all(axis=1).reshape(-1, block).mean(axis=1)
    assert (abs(both - 0.9) < 0.02).all(), both
    assert (abs(hit.reshape(-1, block, 2).mean(axis=1) - 0.95) < 0.015).all()


def test_what_is_owed_stays_bounded_against_an_adversary() -> None:
    """Moves that always go just beyond the upper end, or never do, as it hurts most: no learner can predict them."""

    @kernel
    def attack(ends: Any, n: int, worst: Array) -> None:
        edge = np.zeros(2)
        for i in range(n):
            edge[:] = ends.edge
            up = i // 500 % 2 == 0
            move = (
                min(conformal.START + edge[1] + 0.01, 50.0)
                if up
                else -min(conformal.START + edge[0] + 0.01, 50.0)
            )
            conformal.follow_tails(ends, move, 1.0, edge, STANDS_FOR, STANDS_FOR)
            for side in range(2):
                worst[side] = max(worst[side], abs(ends.owed[side]))

    ends, worst = np.zeros(1, conformal.INTERVAL), np.zeros(2)
    attack(ends[0], 20_000, worst)
    assert (worst < 5 * conformal.PATIENCE_EVENTS).all(), worst
    assert (ends["bettor"]["won"] > -1.0).all()


def test_the_ends_are_those_of_the_market() -> None:
    """Not only the coverage: a normal's ends, with nothing lost by following it."""
    move = np.random.default_rng(2).normal(size=40_000)
    ends, edges = np.zeros(1, conformal.INTERVAL), np.zeros((len(move), 2))
    follow_all(ends[0], move, 1, edges)
    late = conformal.START + edges[5_000:]
    assert np.allclose(late.mean(axis=0), 1.645, atol=0.06)
    assert (late.std(axis=0) < 0.2).all()


def test_bettors_of_short_lives_are_heard_where_the_market_turns() -> None:
    move = np.random.default_rng(3).normal(size=20_000) * np.where(np.arange(20_000) < 10_000, 1.0, 8.0)
    hit, _ = followed(move)
    assert (
        hit[10_200:10_600].all(axis=1).mean() > 0.75
    )  # a thousand outcomes of the calm before notwithstanding


def test_a_still_market_has_a_narrow_interval_that_covers_nine_tenths_of_its_half_ticks() -> None:
    n = 30_000
    ts = np.arange(n, dtype=np.int64) * 50_000_000
    bid, ask = np.full(n, 1_000, np.int64), np.full(n, 1_004, np.int64)
    r, f = recalibrate.new_recalibration(), np.zeros(n, FORECAST)
    f["p"] = 1 / 3
    recalibrate.begin(r, np.full((1, HORIZONS), 0.1), 0.5, np.array([True]))
    carry(r[0], ts, bid, ask, f)
    assert np.allclose(r["ends"][0]["overlap"], (1, 5, 20, 3, 11, 41), atol=0.1)
    ties = conformal.ties_ticks(ts, bid + ask) / 4.0
    assert np.unique(ties).size > 0.99 * n  # each row has its own
    assert abs(ties).max() <= 0.25 / 4.0
    for h in range(HORIZONS):
        low, high = f["interval"][10_000:, h].T
        held = (low <= ties[10_000:]) & (ties[10_000:] <= high)
        assert abs(held.mean() - 0.9) < 0.02
        assert 0.0 < float((high - low).mean()) < 0.5 / 4.0


def test_ties_are_uniform_and_the_rows_own() -> None:
    ts = np.arange(200_000, dtype=np.int64) + 1_340_287_200_000_000_000
    ties = conformal.ties_ticks(ts, np.full(len(ts), 11_620_000, np.int64))
    counts = np.histogram(ties, 50, (-0.25, 0.25))[0]
    assert abs(counts - 4_000).max() < 5 * np.sqrt(4_000)
    assert abs(np.corrcoef(ties[1:], ties[:-1])[0, 1]) < 0.01
    assert conformal.tie_ticks(ts[7], 11_620_000) == ties[7]
    assert conformal.tie_ticks(ts[7], 11_620_001) != ties[7]


def splitmix64(z: int) -> int:
    """Written a second time, with integers that have no end."""
    mask = 2**64 - 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_a_tie_is_the_same_on_every_machine() -> None:
    for ts, mid2 in ((0, 0), (1_340_287_200_000_000_000, 1_234_567), (2**62, -5)):
        z = splitmix64((ts * 0x9E3779B97F4A7C15 + mid2) % 2**64)
        assert conformal.tie_ticks(ts, mid2) == float(Fraction(z >> 11, 2**54) - Fraction(1, 4))


def test_ends_never_cross() -> None:
    rng = np.random.default_rng(4)
    ends, q, out = np.zeros(1, conformal.INTERVAL)[0], np.zeros(3, np.float32), np.zeros(2, np.float32)
    lay = kernel(lambda a, b, c: conformal.lay_out(a, b, c))
    for _ in range(500):
        ends["edge"] = rng.normal(-1.0, 3.0, 2)
        q[:] = np.sort(rng.normal(size=3))
        lay(ends, out, q)
        assert out[0] <= out[1]


def test_before_any_outcome_and_without_learning_it_is_a_normals() -> None:
    f = np.zeros(1, FORECAST)
    f["q"] = np.array([-0.5, 0.1, 0.7])
    r = recalibrate.new_recalibration()
    carry(r[0], np.zeros(1, np.int64), np.array([10]), np.array([12]), f)
    low, high = f["interval"][0, 0]
    assert float(high - low) / INTERVAL_SIGMAS == pytest.approx(1.2 / 1.34898, rel=1e-4)
    assert float(high + low) == pytest.approx(0.2, rel=1e-5)
    recalibrate.begin(r, np.full((1, HORIZONS), 0.1), 0.5, np.array([True]))
    carry(r[0], np.zeros(1, np.int64), np.array([10]), np.array([12]), f)
    low, high = f["interval"][0, 0]
    assert float(high) == pytest.approx(conformal.START * (1.2 + conformal.FLOOR), rel=1e-5) == -float(low)


class Bettor:
    """One life after another, the long way."""

    def __init__(self, life: int) -> None:
        self.life, self.age = life, life
        self.pulls: list[float] = []
        self.wealth, self.lead_wealth, self.leads, self.began, self.bet, self.heard = (
            1.0,
            1.0,
            0.0,
            0.0,
            0.0,
            0.0,
        )

    def hear(self, b: float, beyond: float, size: float, weight: float) -> None:
        if self.age < self.life:
            stands = self.began + self.bet * size
            pull = weight * (float(beyond > stands) - 0.05)
            self.wealth += pull * self.bet
            self.pulls.append(pull)
            lead = float(np.clip(weight * (float(beyond > b) - 0.05) * (stands - b) / size, -1, 1))
            lead = lead if self.heard > 0 else max(lead, 0.0)
            self.lead_wealth += lead * self.heard
            self.leads += lead
            self.age += 1
        if self.age == self.life:
            self.age, self.pulls, self.wealth, self.lead_wealth, self.leads, self.began = (
                0,
                [],
                1.0,
                1.0,
                0.0,
                b,
            )
        self.bet = sum(self.pulls) / (len(self.pulls) + 1) * self.wealth
        self.heard = self.leads / (len(self.pulls) + 1) * self.lead_wealth


def long_hand(move: Array, stands_for: Array, overlap: float) -> Array:
    """Ends as said before each move, float64[n, 2]; an outcome is heard before the next forecast is made."""
    lives = [[Bettor(2**k) for k in (7, 8, 9, 10)] for _ in range(2)]
    trust = np.array([1.0, 0.5, 0.25, 0.125])
    b, owed, edge, said = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], []
    size = mean_for = 0.0
    for n, (s, events) in enumerate(zip(move, stands_for, strict=True), 1):
        said.append(list(edge))
        size += (abs(s) - size) / min(n, 2048)
        mean_for += (events - mean_for) / min(n, 2048)
        weight = min(1.0, events / (2 * mean_for))
        for side, beyond in enumerate((-s - 1.2193969406839467, s - 1.2193969406839467)):
            owed[side] += events * (float(beyond > edge[side]) - 0.05)
            if n == 32:
                b[side] = min(0.0, 2.0616 * size - 1.2193969406839467)
            if n > 32:
                for one in lives[side]:
                    one.hear(b[side], beyond, size, weight)
                heard = np.array([max(one.heard, 0.0) for one in lives[side]]) * trust
                heard = heard if heard.sum() > 0 else trust
                b[side] = float(heard @ [one.began + one.bet * size for one in lives[side]] / heard.sum())
                e = owed[side] / (64 + 1.5 * overlap)
                edge[side] = b[side] + size * (e + e**3)
            else:
                edge[side] = b[side]
    return np.array(said)


@pytest.mark.parametrize("market", markets(10))
def test_it_computes_what_the_description_says(market: str) -> None:
    @kernel
    def hear_all(ends: Any, move: Array, stands_for: Array, edges: Array) -> None:
        for i in range(move.size):
            edges[i] = ends.edge
            conformal.follow_tails(ends, move[i], 1.0, edges[i], stands_for[i], 20.0)

    move = markets(6_000)[market][:6_000]
    stands_for = np.random.default_rng(5).integers(1, 30, len(move)).astype(float)
    ends, edges = np.zeros(1, conformal.INTERVAL), np.zeros((len(move), 2))
    hear_all(ends[0], move, stands_for, edges)
    assert (
        abs(edges - long_hand(move, stands_for, 20.0)).max() < 1e-3 * abs(move).mean()
    )  # rounding may flip a tie


def test_outcomes_count_as_the_events_they_stand_for() -> None:
    """Calm hours in which all is kept, wild ones in which little is: coverage is that of events."""
    rng = np.random.default_rng(6)
    n = 80_000
    ts = np.zeros(n, np.int64)
    steps = np.where(np.arange(n) // 2_000 % 2 == 0, 400_000_000, 1_000_000)
    ts[1:] = np.cumsum(steps)[1:]
    wild = np.where(steps == 1_000_000, 3, 1)
    bid = 10_000 + np.cumsum(rng.integers(-1, 2, n) * wild)
    ask = bid + 2
    r, f = recalibrate.new_recalibration(), np.zeros(n, FORECAST)
    f["p"] = 1 / 3
    recalibrate.begin(r, np.full((1, HORIZONS), 0.1), 0.5, np.array([True]))
    carry(r[0], ts, bid, ask, f)
    move = targets(bid + ask, ts, np.full(n, 2.0), np.zeros(n, np.int64)).delta_hat
    moved = move + (conformal.ties_ticks(ts, bid + ask) / 2.0)[:, None]
    inside = (f["interval"][:, :, 0] <= moved) & (moved <= f["interval"][:, :, 1])
    shares = inside[20_000:70_000, :5].mean(axis=0)  # two seconds are a whole wild hour here
    assert (abs(shares - 0.9) < 0.015).all(), shares
