"""The tables of `emp evaluate --trade`: intervals for all series at once, and what parts of the rule bring."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp.core.records import ACCOUNT, Array
from emp.decision.outcomes import new_lots
from emp.decision.rule import Part
from emp.train.judge import rule_parts
from emp.train.judge.outcomes import line_of, outcome_rows, trip_sums
from emp.train.judge.rule_parts import BeforeTest, rows_of_parts, starts_before_test
from tests.kit.datasets import InBatches, dataset


def traded(believed: Array, brought: Array, name: str = "A") -> dict[str, Any]:
    """What `trade_test_part` says of trips of one lot each."""
    lots = new_lots()[0]
    n, missed = len(believed), brought - believed
    sums: dict[str, float] = {
        "trips": n,
        "trip_lots": n,
        "lots2": n,
        "trip_brought": brought.sum(),
        "brought2": (brought**2).sum(),
        "brought_lots": brought.sum(),
        "trip_missed": missed.sum(),
        "missed2": (missed**2).sum(),
        "missed_lots": missed.sum(),
        "trip_believed": believed.sum(),
        "believed2": (believed**2).sum(),
        "brought_believed": (believed * brought).sum(),
    }
    for key, value in sums.items():
        lots[key] = value
    return {
        "series": name,
        "model": "linear",
        "passive_lots": 2 * n,
        "crossing_lots": 0,
        "closed_lots": n,
        "round_trips": n,
        "expected_value_per_lot": float(believed.mean()) if n else None,
        "realised_value_per_lot": {"closed": float(brought.mean()) if n else None},
        "sums": trip_sums(lots),
    }


def test_intervals_hold_for_all_series_at_once() -> None:
    rng = np.random.default_rng(1)
    false, alone, rounds, series = 0, 0, 400, 8
    for _ in range(rounds):
        found = []
        for k in range(series):
            believed = rng.uniform(1.0, 5.0, 150)
            found.append(traded(believed, believed + rng.normal(0.0, 8.0, 150), str(k)))
        rows = outcome_rows(found)
        false += any(row["agrees"] is False for row in rows)
        alone += any(outcome_rows([one])[0]["agrees"] is False for one in found)
    assert false / rounds < 0.05 + 3 * np.sqrt(0.05 * 0.95 / rounds)
    assert alone / rounds > 0.05  # an interval for each series by itself misses somewhere far more often


def test_a_belief_that_is_too_high_does_not_agree_and_a_loss_is_told() -> None:
    rng = np.random.default_rng(2)
    believed = rng.uniform(1.0, 5.0, 400)
    rows = outcome_rows(
        [
            traded(believed, believed + rng.normal(0.0, 5.0, 400), "true"),
            traded(believed, rng.normal(-2.0, 5.0, 400), "false"),
            traded(believed[:3], believed[:3], "few"),
        ]
    )
    assert [row["agrees"] for row in rows] == [True, False, None]
    assert [row["loses"] for row in rows] == [False, True, None]
    slope, intercept = (rows[0]["line"][name + "_interval"] for name in ("slope", "intercept"))
    assert slope[0] < 1.0 < slope[1]
    assert intercept[0] < 0.0 < intercept[1]


def test_the_line_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(0.0, 4.0, 60)
    y = 0.5 + 0.8 * x + rng.normal(0.0, 1.0, 60)
    found = line_of(traded(x, y)["sums"], 0.05)
    assert found is not None
    fit, covariance = np.polyfit(x, y, 1, cov=True)
    assert found["slope"] == pytest.approx(fit[0])
    assert found["intercept"] == pytest.approx(fit[1])
    halves = [found[f"{n}_interval"][1] - found[n] for n in ("slope", "intercept")]
    np.testing.assert_allclose(halves, 2.0017 * np.sqrt(np.diag(covariance)), rtol=1e-3)  # t of 58


@pytest.mark.parametrize("seed", range(5))
def test_nothing_of_the_test_part_is_read_and_every_outcome_stands_in_its_block(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_parts, "BLOCK_NS", 5_000_000_000)
    data = dataset(6_000, seed)
    rng = np.random.default_rng(seed)
    desk = SimpleNamespace(account=np.zeros(1, ACCOUNT), lots=new_lots(), shadow_lots=new_lots())
    starts = starts_before_test(data)
    past: Any = BeforeTest(
        InBatches(data.ts, rng),  # type: ignore[arg-type]
        SimpleNamespace(desk=desk),  # type: ignore[arg-type]
        data.split.test_ns,
        starts,
    )
    came = {int(ts): rng.normal(size=4).round(3) for ts in data.ts}
    seen = []
    for events in past.batches():
        for ts in events["ts"].tolist():
            seen.append(ts)
            desk.account["pnl"] += came[ts][0]
            desk.shadow_lots["brought"] += came[ts][2]
    assert seen == data.ts[data.ts < data.split.test_ns].tolist()
    found = past.came()
    block = np.searchsorted(starts, np.array(seen), side="right") - 1
    assert len(found) == len(starts) > 10
    for column in (0, 2):
        expected = np.bincount(block, [came[ts][column] for ts in seen], minlength=len(starts))
        np.testing.assert_allclose(found[:, column], expected, atol=1e-9)


def test_a_part_is_judged_over_blocks_with_all_parts_in_mind() -> None:
    rng = np.random.default_rng(4)
    whole = rng.normal(0.0, 1.0, (60, 4))
    earns, noise = whole.copy(), whole.copy()
    earns[:, 0] -= rng.normal(1.0, 1.0, 60)
    noise[:, 0] += rng.normal(0.0, 1.0, 60)
    rows = rows_of_parts([("A", {Part(0): whole, Part.CANCEL: earns, Part.MOVE: noise})])
    assert [(row["part"], row["verdict"], row["shadow_verdict"]) for row in rows] == [
        ("cancel", "earns", "same"),
        ("move", "not told apart", "same"),
    ]
    alone = rows_of_parts([("A", {Part(0): whole, Part.CANCEL: earns})])
    assert alone[0]["half"] < rows[0]["half"]
