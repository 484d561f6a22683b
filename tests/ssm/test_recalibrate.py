"""Forecasts held against outcomes: what is learned, from which outcomes, and never before they are known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, HORIZONS, Array
from emp.model import recalibrate as re
from emp.perception.targets import classes, targets

K_SIGMA = 0.5
THRESHOLD = 0.4


@kernel
def carry(r: Any, ts: Array, bid: Array, ask: Array, sigma: Array, broken: Array, f: Array) -> None:
    """Recalibrate every forecast of a stream in place."""
    for i in range(ts.size):
        re.recalibrate(r, ts[i], bid[i], ask[i], sigma[i], broken[i], f[i])


class Stream:
    """A market of our own: a mid that moves by chance, stamps in bursts, breaks where asked for."""

    def __init__(self, n: int, seed: int, drift: Array | None = None, breaks: tuple[int, ...] = ()) -> None:
        rng = np.random.default_rng(seed)
        steps = rng.choice([-1, 0, 0, 1], n) if drift is None else drift
        self.bid = (1_000 + np.cumsum(steps)).astype(np.int64)
        self.ask = self.bid + rng.integers(1, 3, n)
        self.ts = np.cumsum(rng.choice([0, 1_000_000, 20_000_000, 300_000_000], n, p=[0.1, 0.5, 0.3, 0.1]))
        self.ts = self.ts.astype(np.int64)
        self.sigma = rng.uniform(0.1, 3.0, n)
        self.broken = np.zeros(n, bool)
        self.broken[[0, *breaks]] = True

    @property
    def unit(self) -> Array:
        return np.maximum((self.ask - self.bid).astype(float), K_SIGMA * self.sigma)

    def labels(self) -> Any:
        return targets(self.bid + self.ask, self.ts, self.unit, np.cumsum(self.broken))

    def said(self, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        f = np.zeros(len(self.ts), FORECAST)
        f["p"] = rng.dirichlet([2.0, 3.0, 2.0], (len(f), HORIZONS))
        f["q"] = np.sort(rng.normal(0.0, 0.5, (len(f), HORIZONS, 3)), axis=2)
        f["mean"] = rng.normal(0.0, 0.3, (len(f), HORIZONS))
        return f

    def correct(self, said: Array, trained: bool = True, learns: bool = True) -> tuple[Array, Any]:
        r = re.new_recalibration()
        re.begin(r, np.full((1, HORIZONS), THRESHOLD), K_SIGMA, np.array([trained]), learns)
        out = said.copy()
        carry(r[0], self.ts, self.bid, self.ask, self.sigma, self.broken, out)
        return out, r[0]


def log_loss(p: Array, label: Array) -> float:
    known = label >= 0
    return float(-np.log(p[known, label[known]]).mean())


class Reference:
    """One horizon, written a second time and the long way: lists, float64, labels from `perception.targets`."""

    def __init__(self, h: int, trained: bool) -> None:
        self.h, self.prior_slope = h, float(trained)
        self.weight = np.full(5, 0.2)
        self.said, self.realised, self.ratio = np.zeros((5, 3)), np.zeros(3), np.ones((5, 3))
        self.size, self.n, self.square, self.xx, self.xy, self.slope, self.margin = (
            0.0,
            0,
            0.0,
            0.0,
            0.0,
            float(trained),
            0.0,
        )
        self.waiting: list[dict[str, Any]] = []
        self.kept: int | None = None

    def experts(self, p: Array) -> Array:
        p = np.maximum(p.astype(float), 1e-6)
        rows = np.stack([p, p, p**0.5, p**0.25, np.ones(3)]) * self.ratio
        return rows / rows.sum(axis=1, keepdims=True)

    def learn(self, w: dict[str, Any], move: float, event: int) -> None:
        came = int(classes(np.array([move]), np.array(THRESHOLD))[0])
        rate = min(1.0, w["for"] / np.sqrt(max(event - w["event"], 1)))
        self.n += 1
        self.weight *= np.maximum(w["experts"][:, came], 1e-6) ** rate
        back = rate / 2048
        self.weight = self.weight / self.weight.sum() * (1 - back) + back / 5
        fade, powers = 1 - w["for"] / 8192, w["experts"][0] ** np.array([[1], [1], [0.5], [0.25], [0]])
        self.realised = self.realised * fade + w["for"] * np.eye(3)[came]
        self.said = self.said * fade + w["for"] * powers / powers.sum(axis=1, keepdims=True)
        belief = 64 * self.said / self.said.sum(axis=1, keepdims=True)
        self.ratio = (self.realised + belief) / (self.said + belief)
        self.ratio[0] = 1
        if self.n > 64:
            most = 4 * np.sqrt(self.square)
            x, y = w["mean"], float(np.clip(move, -most, most))
            self.xx, self.xy = fade * self.xx + rate * x * x, fade * self.xy + rate * x * y
            prior = self.square / 0.25
            self.slope = float(np.clip((self.xy + prior * self.prior_slope) / (self.xx + prior), 0, 2))
        self.square += (move**2 - self.square) * max(1 / self.n, w["for"] / 8192)
        step = max(1 / self.n, w["for"] / 8192)
        if self.n > 64:
            self.margin += step * self.size * (-1 if w["low"] <= move <= w["high"] else 1)
        self.size += (abs(move) - self.size) * step

    def run(self, s: Stream, said: Array) -> Array:
        moves, out = s.labels().delta_hat[:, self.h].astype(float), []
        for i in range(len(s.ts)):
            if s.broken[i]:
                self.waiting, self.kept = [], None
            while self.waiting and self.known(s, self.waiting[0], i):
                w = self.waiting.pop(0)
                self.learn(w, moves[w["event"]], i)
            experts, q = self.experts(said["p"][i, self.h]), said["q"][i, self.h].astype(float)
            since = 1 if self.kept is None else i - self.kept
            if self.kept is None or (since >= 4 + len(self.waiting) // 2 and len(self.waiting) < 64):
                low, high = min(q[0] - self.margin, q[1]), max(q[2] + self.margin, q[1])
                self.kept = i
                self.waiting.append(
                    {"event": i, "for": since, "experts": experts, "mean": float(said["mean"][i, self.h])}
                    | {"low": low, "high": high}
                )
            low, high = min(q[0] - self.margin, q[1]), max(q[2] + self.margin, q[1])
            mean = float(said["mean"][i, self.h]) * self.slope
            out.append([*(self.weight @ experts), mean, low, q[1], high])
        return np.array(out)

    def known(self, s: Stream, w: dict[str, Any], i: int) -> bool:
        if self.h < 3:
            return bool(i - w["event"] >= (1, 5, 20)[self.h])
        return bool(s.ts[i] > s.ts[w["event"]] + (100, 500, 2_000)[self.h - 3] * 1_000_000)


@pytest.mark.parametrize("h", range(HORIZONS))
@pytest.mark.parametrize("trained", [True, False])
def test_it_computes_what_the_description_says(h: int, trained: bool) -> None:
    s = Stream(1_500, h, breaks=(400, 401, 900))
    said = s.said(h)
    reference = Reference(h, trained)
    expected = reference.run(s, said)
    f, r = s.correct(said, trained)
    assert reference.n == r["labels"][h] > 100
    got = np.column_stack([f["p"][:, h], f["mean"][:, h], f["q"][:, h]])
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(50, 900), seed=st.integers(0, 5))
def test_what_comes_later_changes_nothing_before(cut: int, seed: int) -> None:
    s, other = Stream(1_000, seed), Stream(1_000, seed)
    other.bid[cut:] += 37
    other.ask[cut:] += 41
    other.ts[cut:] += 5_000_000_000
    said = s.said(seed)
    assert s.correct(said)[0][:cut].tobytes() == other.correct(said)[0][:cut].tobytes()


def test_probabilities_sum_to_one_and_quantiles_stay_in_order() -> None:
    s = Stream(5_000, 3)
    f, _ = s.correct(s.said(3))
    np.testing.assert_allclose(f["p"].sum(axis=2), 1.0, atol=1e-5)
    assert (np.diff(f["q"], axis=2) >= 0).all()
    assert (f["p"] > 0).all()


def test_a_head_of_another_market_comes_to_this_ones_shares() -> None:
    """Most moves are none here, and the head says the opposite with confidence."""
    rng = np.random.default_rng(5)
    s = Stream(20_000, 5, drift=rng.choice([-1, 0, 1], 20_000, p=[0.05, 0.9, 0.05]))
    said = s.said(5)
    said["p"] = [0.48, 0.04, 0.48]
    label = classes(s.labels().delta_hat, np.array(THRESHOLD))
    f, _ = s.correct(said, trained=False)
    late = slice(2_000, None)
    for h in range(HORIZONS):
        shares = np.bincount(label[late, h][label[late, h] >= 0], minlength=3) / (label[late, h] >= 0).sum()
        best = log_loss(np.broadcast_to(shares, f["p"][late, h].shape), label[late, h])
        assert log_loss(f["p"][late, h], label[late, h]) < best + 0.03
    assert log_loss(said["p"][late, 0], label[late, 0]) > 2.5


def test_a_head_that_is_right_is_left_as_it_is() -> None:
    rng = np.random.default_rng(6)
    n = 30_000
    up = rng.uniform(0.05, 0.95, n)
    steps = np.where(rng.uniform(size=n) < up, 1, -1)
    s = Stream(n, 6, drift=steps)
    s.ask = s.bid + 1
    said = s.said(6)
    said["p"][:-1, 0, 0], said["p"][:-1, 0, 1], said["p"][:-1, 0, 2] = 1 - up[1:] - 5e-4, 1e-3, up[1:] - 5e-4
    said["mean"][:-1, 0] = (2 * up[1:] - 1) / s.unit[:-1]
    label = classes(s.labels().delta_hat, np.array(0.1))[:, 0]
    f, r = s.correct(said)
    assert log_loss(f["p"][:, 0], label) < log_loss(said["p"][:, 0], label) + 0.004
    assert 0.9 < r["slope"][0] < 1.1


def test_the_scale_of_the_mean_is_that_of_real_moves() -> None:
    rng = np.random.default_rng(7)
    n = 20_000
    steps = rng.choice([-1, 1], n)
    s = Stream(n, 7, drift=steps)
    said = s.said(7)
    known = np.append(steps[1:], 0) * (rng.uniform(size=n) < 0.6) / s.unit
    for factor, trained, low, high in (
        (20.0, True, 0.02, 0.08),
        (-1.0, True, 0.0, 0.05),
        (1.0, False, 0.5, 1.3),
    ):
        said["mean"][:, 0] = factor * known
        assert low <= s.correct(said, trained)[1]["slope"][0] <= high
    said["mean"][:, 0] = 1.0
    assert (
        s.correct(said, trained=False)[0]["mean"][:60, 0] == 0.0
    ).all()  # nothing is believed before it is earned


def test_half_of_the_moves_come_to_lie_between_the_outer_quantiles() -> None:
    rng = np.random.default_rng(8)
    s = Stream(30_000, 8, drift=rng.integers(-9, 10, 30_000))
    move = s.labels().delta_hat
    late = np.arange(15_000, 29_000)
    for width in (0.01, 10.0):
        said = s.said(8)
        said["q"] = np.array([-width, 0.0, width])
        f, _ = s.correct(said)
        for h in (0, 1, 2):
            inside = (f["q"][late, h, 0] <= move[late, h]) & (move[late, h] <= f["q"][late, h, 2])
            assert 0.4 < inside.mean() < 0.6


def test_a_break_drops_what_waits() -> None:
    s = Stream(200, 9, breaks=tuple(range(0, 200, 2)))
    _, r = s.correct(s.said(9))
    assert list(r["labels"][1:3]) == [0, 0]


def test_a_rule_in_a_models_place_is_taken_at_its_word() -> None:
    s = Stream(500, 10)
    said = s.said(10)
    out = s.correct(said, learns=False)[0]
    assert all(out[name].tobytes() == said[name].tobytes() for name in ("p", "q", "mean"))
