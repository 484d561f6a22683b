"""What followed a choice, against a loop that goes from point to point."""

import numpy as np
import pytest

from emp.core.records import Array
from emp.plan.planner import POINT
from emp.train.data.choices import (
    HORIZON_NAMES,
    HORIZONS,
    KINDS,
    MOST_STEPS,
    follow_up,
    join,
    kinds,
    known_cost,
)


def some_points(n: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    p = np.zeros(n, POINT)
    p["ts"] = np.arange(n) * 1_000
    p["since_reset"] = np.arange(n) + 600
    p["since_reset"][n // 2 :] -= n // 2 - 3  # the stream broke
    p["side"] = rng.choice([-1, 1], n)
    p["action"] = rng.integers(0, 3, n)
    p["position"] = rng.integers(-1, 2, n)
    p["resting"] = rng.random(n) < 0.4
    p["fills"] = np.cumsum(rng.random(n) < 0.3)
    p["pnl"] = np.cumsum(rng.normal(size=n))
    p["mid"] = 1_000 + np.cumsum(rng.integers(-2, 3, n)) / 2
    p["spread"], p["unit"] = rng.integers(1, 6, n), rng.uniform(0.5, 3.0, n)
    p["taker_fee"], p["maker_fee"] = 0.25, 0.125
    p["z"] = rng.normal(size=p["z"].shape)
    return p


def by_hand(p: Array, i: int) -> list[float] | None:
    """Realised values of point i; None where its trip runs into a break or the end."""
    found: dict[str, float] = {}
    for k in range(1, MOST_STEPS + 1):
        j = i + k
        if j >= len(p) or p["since_reset"][j] <= p["since_reset"][j - 1]:
            return None
        marked = (p["pnl"][j] - p["pnl"][i]) / p["unit"][i]
        if k in HORIZONS:
            found[f"{k}step"] = marked
        if (p["position"][j] == 0 and not p["resting"][j]) or k == MOST_STEPS:
            cost = abs(p["position"][j]) * (p["spread"][j] / 2 + p["taker_fee"][j]) / p["unit"][i]
            for n in HORIZONS:
                if n > k:
                    found[f"{n}step"] = marked - cost
            found["closed"] = marked - cost
            return [found[name] for name in HORIZON_NAMES]
    raise AssertionError


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_followed_is_what_a_loop_finds(seed: int) -> None:
    p = some_points(120, seed)
    expected = {int(p["ts"][i]): by_hand(p, i) for i in range(len(p))}
    found = follow_up(p)
    whole = {ts for ts, values in expected.items() if values is not None}
    assert set(found.points["ts"].tolist()) == whole
    assert len(whole) > 60
    at = {int(ts): i for i, ts in enumerate(p["ts"])}
    for row, ts in enumerate(found.points["ts"].tolist()):
        i = at[ts]
        np.testing.assert_allclose(found.realised[row], expected[ts])
        assert found.reward[row] == pytest.approx((p["pnl"][i + 1] - p["pnl"][i]) / p["unit"][i])
        assert found.filled[row] == (p["fills"][i + 1] != p["fills"][i])
        move = p["side"][i] * (p["mid"][i + 1] - p["mid"][i]) / p["unit"][i]
        assert found.move[row] == pytest.approx(move)
        np.testing.assert_array_equal(found.following[row], p["z"][i + 1])


def test_nothing_after_a_choice_changes_what_came_of_an_earlier_one() -> None:
    p = some_points(100, 4)
    cut = follow_up(p[:40])
    masked = p.copy()
    masked["pnl"][40:] = 1e9
    masked["mid"][40:] = 1e9
    again = follow_up(masked).of(np.arange(len(cut.kind)))
    assert len(cut.kind) > 10
    for mine, other in zip(cut, again, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_kinds_and_known_costs_are_those_of_what_stood() -> None:
    p = some_points(60, 5)
    found = follow_up(p)
    for k, cost, one in zip(found.kind, known_cost(found), found.points, strict=True):
        name = KINDS[k]
        assert ("held" in name or "close" in name) == (one["position"] != 0 and not one["resting"])
        assert (name in ("keep", "cancel", "move")) == bool(one["resting"])
        assert (cost[0] > 0) == name.endswith("take")
        assert (cost[2] > 0) == (one["position"] != 0)
    assert len(set(kinds(p).tolist())) == len(KINDS)


def test_too_few_points_have_nothing_that_followed() -> None:
    assert len(join([follow_up(some_points(1, 0)), follow_up(some_points(0, 0))]).kind) == 0
    with pytest.raises(TypeError, match="POINT"):
        follow_up(np.zeros(3))
