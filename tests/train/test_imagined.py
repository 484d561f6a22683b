"""The planner's gate on choices whose truth is planted: it passes where it must, and fails for the right reason."""

import numpy as np
import pytest

from emp.core.records import Array
from emp.plan.artifact import PlannerArtifact
from emp.train.data.choices import HORIZON_NAMES, Choices, follow_up, kinds, known_cost
from emp.train.judge import imagined
from emp.train.judge.imagined import GATE, judge_series, verdict
from tests.train.test_choices import some_points

BLOCKS = 40


def choices(n: int, seed: int) -> Choices:
    p = some_points(n, seed)
    found = follow_up(p)
    rng = np.random.default_rng(seed)
    found.points["qimbalance"] = rng.normal(size=len(found.kind))
    found.points["rule_gain"] = rng.normal(size=len(found.kind))
    return found._replace(kind=kinds(found.points))


def judged(
    monkeypatch: pytest.MonkeyPatch, said: Array, came: Array, found: Choices, seed: int = 1
) -> imagined.Judged:
    width = len(HORIZON_NAMES)
    found = found._replace(realised=np.repeat(came[:, None], width, axis=1))
    acts = found.kind != 0

    def given(_artifact: PlannerArtifact, some: Choices, _depth: int) -> Array:
        assert len(some.kind) == acts.sum()
        return np.repeat(said[acts][:, None], width, axis=1)

    monkeypatch.setattr(imagined, "imagined_values", given)
    block = np.arange(len(found.kind)) * BLOCKS // len(found.kind)
    artifact: PlannerArtifact = None  # type: ignore[assignment]
    return judge_series("planted", artifact, found, block, 3, seed)


def test_foresight_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(6_000, 0)
    rng = np.random.default_rng(1)
    said = rng.normal(size=len(found.kind))
    one = judged(
        monkeypatch, said - 3 * known_cost(found)[:, 0], said + 2.0 * rng.normal(size=len(said)), found
    )
    assert one.why == []
    assert verdict([one]) == ("pass", [])
    line = one.gate
    assert line is not None
    assert line.less_cost == pytest.approx(1 / np.sqrt(5), abs=0.04)
    assert line.slope == pytest.approx(1.0, abs=0.1)
    assert line.ci is not None
    assert line.ci[0] < line.less_cost < line.ci[1]
    assert one.blocks.mean() == pytest.approx(line.less_cost, abs=0.01)
    means = [d["realised"] for d in one.deciles]
    assert means[0] < -1.0 < 1.0 < means[-1]


def test_known_cost_alone_is_no_foresight(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(6_000, 2)
    rng = np.random.default_rng(3)
    cost = -2.0 * known_cost(found)[:, 0] - known_cost(found)[:, 2]
    n = len(cost)
    one = judged(monkeypatch, cost + 0.2 * rng.normal(size=n), cost + rng.normal(size=n), found)
    line = one.gate
    assert line is not None
    assert line.corr is not None
    assert line.corr > 0.4, "the plain correlation is high"
    assert line.less_cost == pytest.approx(0.0, abs=0.05)
    assert any("below 0.2" in why for why in one.why)
    assert verdict([one])[0] == "fail"


@pytest.mark.parametrize(("factor", "word"), [(0.4, "slope"), (2.5, "slope"), (-1.0, "below")])
def test_a_wrong_slope_or_sign_fails(monkeypatch: pytest.MonkeyPatch, factor: float, word: str) -> None:
    found = choices(6_000, 4)
    rng = np.random.default_rng(5)
    said = rng.normal(size=len(found.kind))
    one = judged(monkeypatch, said, factor * said + 0.5 * rng.normal(size=len(said)), found)
    assert any(word in why for why in one.why)


def test_what_the_imbalance_or_the_rule_says_as_well_is_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(6_000, 6)
    rng = np.random.default_rng(7)
    p = found.points
    way = np.where(p["position"] != 0, -1.0, 1.0)
    for name, said in (("imbalance", way * p["qimbalance"]), ("rule", way * p["rule_gain"] / p["unit"])):
        mine = said + 0.3 * rng.normal(size=len(said))
        one = judged(monkeypatch, mine, said + rng.normal(size=len(said)), found)
        assert len(one.why) == 1, one.why
        assert name in one.why[0]


def test_the_interval_is_wide_where_blocks_are_alike_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, not rows, are independent: repeating each choice twenty times must not narrow the interval."""
    small = choices(700, 8)
    rng = np.random.default_rng(9)
    said = rng.normal(size=len(small.kind))
    came = said + 2.0 * rng.normal(size=len(said))
    few = judged(monkeypatch, said, came, small).gate
    many = small.of(np.repeat(np.arange(len(said)), 20))
    repeated = judged(monkeypatch, np.repeat(said, 20), np.repeat(came, 20), many).gate
    assert few is not None
    assert few.ci is not None
    assert repeated is not None
    assert repeated.ci is not None
    assert repeated.ci[1] - repeated.ci[0] == pytest.approx(few.ci[1] - few.ci[0], rel=0.05)


def test_an_imbalance_that_is_not_known_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(6_000, 11)
    found.points["qimbalance"] = 0.0
    rng = np.random.default_rng(12)
    said = rng.normal(size=len(found.kind))
    one = judged(monkeypatch, said, said + rng.normal(size=len(said)), found)
    assert one.why == []
    assert one.gate is not None
    assert one.gate.imbalance is None


def test_without_fills_there_is_nothing_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choices(3_000, 10)
    found = found._replace(filled=np.zeros(len(found.kind), np.bool_))
    said = np.zeros(len(found.kind))
    one = judged(monkeypatch, said, said, found)
    assert one.table == []
    assert verdict([one]) == ("fail", ["no series has fills"])
    assert HORIZON_NAMES.index("closed") == GATE
