"""Fitting a planner: it finds what was planted, merges outcomes by what they bring, and is exported as it is."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.errors import ArtifactError, DataError
from emp.plan.artifact import PlannerArtifact, load_planner, save_planner, write_manifest
from emp.plan.essentials import ACTIONS, WIDTH
from emp.plan.imagine import imagine, without_value
from emp.train.data.choices import Choices, follow_up, kinds
from emp.train.fit import rounds
from emp.train.fit.outcomes import RAW, flat_band, merge, raw_classes
from emp.train.fit.planner import fit, standardised
from emp.train.fit.rounds import Origin, Settings, choices_of, export, train_rounds
from tests.train.test_choices import some_points


def planted(n: int, seed: int) -> Choices:
    """Taking brings the first essential, resting twice the second where it fills, half the time; waiting nothing."""
    found = follow_up(some_points(n, seed))
    rng = np.random.default_rng(seed)
    z, action = found.points["z"], found.points["action"]
    filled = rng.random(len(action)) < 0.5
    brings = np.where(action == 1, z[:, 0], np.where((action == 2) & filled, 2.0 * z[:, 1], 0.0))
    reward = brings + 0.3 * rng.normal(size=len(action))
    found.points["position"], found.points["resting"] = 0, 0
    return found._replace(
        filled=(action == 2) & filled,
        reward=reward,
        realised=np.repeat(reward[:, None], 4, axis=1),
        following=z * 0.0,
        kind=kinds(found.points),
    )


@pytest.fixture(scope="module")
def fitted_and_artifact() -> tuple[rounds.Fitted, PlannerArtifact, Choices]:
    learned = planted(6_000, 0)
    fitted = fit([learned], [True], outcomes=3, hidden=64, seed=1, epochs=30)
    settings = Settings(outcomes=3, hidden=64, seed=1)
    return fitted, export(fitted, "f" * 64, settings, {}, learned), learned


def test_it_finds_what_was_planted(
    fitted_and_artifact: tuple[rounds.Fitted, PlannerArtifact, Choices],
) -> None:
    _, artifact, _ = fitted_and_artifact
    fresh = planted(2_000, 9)
    z = standardised(fresh.points["z"], artifact.centre, artifact.spread)
    q = imagine(artifact.transition(), z, 1)
    raw = fresh.points["z"]
    truth = np.stack([np.zeros(len(raw)), raw[:, 0], raw[:, 1]], axis=1)
    for a in (1, 2):
        assert np.corrcoef(q[:, a], truth[:, a])[0, 1] > 0.8
    assert np.abs(q[:, 0]).mean() < 0.25
    assert np.polyfit(q[:, 1], truth[:, 1], 1)[0] == pytest.approx(1.0, abs=0.2)


def test_the_same_seed_gives_the_same_planner_and_another_does_not() -> None:
    learned = planted(900, 2)
    hashes = []
    for seed in (1, 1, 2):
        fitted = fit([learned], [True], outcomes=2, hidden=8, seed=seed, epochs=2)
        hashes.append(export(fitted, "", Settings(outcomes=2, hidden=8, seed=1), {}, learned).hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_kernel_that_computes_something_else_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, fitted_and_artifact: tuple[rounds.Fitted, PlannerArtifact, Choices]
) -> None:
    fitted, _, learned = fitted_and_artifact

    def wrong(model: object, states: object, depth: int) -> object:
        return imagine(model, states, depth) * 1.05 + 0.05  # type: ignore[arg-type]

    monkeypatch.setattr(rounds, "imagine", wrong)
    with pytest.raises(ArtifactError, match="differs from the network"):
        export(fitted, "", Settings(outcomes=3, hidden=64), {}, learned)


def test_without_value_a_depth_imagines_its_steps_alone(
    fitted_and_artifact: tuple[rounds.Fitted, PlannerArtifact, Choices],
) -> None:
    fitted, artifact, learned = fitted_and_artifact
    import torch

    z = standardised(learned.points["z"][:50], artifact.centre, artifact.spread)
    found = imagine(without_value(artifact.transition()), z, 1)
    with torch.no_grad():
        for a in range(ACTIONS):
            step, _ = fitted.net.imagined(torch.from_numpy(z), torch.full((50,), a))
            np.testing.assert_allclose(found[:, a], step.numpy(), rtol=2e-3, atol=2e-3)


def test_outcomes_that_bring_the_same_are_merged() -> None:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, RAW, 6_000)
    brings = np.array([0.0, 0.02, 0.01, 3.0, -3.0, 3.05])[raw][:, None] + 0.01 * rng.normal(size=(6_000, 1))
    merged = merge(raw, brings, 3)
    assert merged.tolist() == [0, 0, 0, 1, 2, 1]
    assert merge(raw[raw < 2], brings[raw < 2], 4).tolist()[:2] == [0, 1]
    found = planted(500, 1)
    classes = raw_classes(found, flat_band(found))
    assert ((classes >= 3) == found.filled).all()
    assert np.bincount(classes % 3)[1] == pytest.approx(len(classes) / 3, abs=2)


def test_nothing_is_learned_of_what_comes_after_the_training_part() -> None:
    points = some_points(300, 3)
    points["since_reset"] = np.arange(300) + 600
    origin = Origin("recorded", lambda _manner, _seed: points, int(points["ts"][200]))
    mine = choices_of(origin, rounds.Manner(20, 1.0), [0])
    masked = points.copy()
    for name in ("pnl", "mid", "position", "unit"):
        masked[name][200:] = 77
    other = choices_of(
        Origin("recorded", lambda _m, _s: masked, int(points["ts"][200])), rounds.Manner(20, 1.0), [0]
    )
    assert len(mine.kind) > 100
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounds_go_on_with_the_planner_before() -> None:
    seen: list[tuple[float, str]] = []

    def choose(manner: rounds.Manner, seed: int) -> np.ndarray:
        seen.append((manner.explore, manner.artifact.hash if manner.artifact else ""))
        return some_points(400, seed)

    trained = train_rounds(
        [Origin("a", choose, 0)], "", Settings(rounds=2, passes=2, epochs=1, hidden=8), {"series": []}
    )
    assert [one[0] for one in seen] == [1.0, 1.0, 0.3, 0.3]
    assert seen[0][1] == ""
    assert seen[2][1] not in ("", trained.artifact.hash)
    assert trained.choices["a"] > 800
    with pytest.raises(DataError, match="too few"):
        train_rounds(
            [Origin("a", lambda _m, _s: some_points(50, 0), 0)], "", Settings(rounds=1, passes=1), {}
        )


def test_an_artifact_is_read_back_and_what_is_wrong_with_one_is_one_line(
    tmp_path: Path, fitted_and_artifact: tuple[rounds.Fitted, PlannerArtifact, Choices]
) -> None:
    _, made, _ = fitted_and_artifact
    saved = save_planner(tmp_path / "p", made.manifest, made.tensors)
    again = load_planner(tmp_path / "p")
    assert again.hash == saved.hash == made.hash
    assert not again.passed
    z = np.random.default_rng(0).normal(size=(9, WIDTH)).astype(np.float32)
    assert imagine(again.transition(), z, 2).tobytes() == imagine(made.transition(), z, 2).tobytes()
    write_manifest(tmp_path / "p", msgspec.structs.replace(again.manifest, gate={"verdict": "pass"}))
    assert load_planner(tmp_path / "p").passed, "a verdict is no part of what the hash names"

    with pytest.raises(ArtifactError, match="no such file: not a planner"):
        load_planner(tmp_path / "nowhere")
    write_manifest(tmp_path / "p", msgspec.structs.replace(again.manifest, step=3))
    with pytest.raises(ArtifactError, match="does not match its hash"):
        load_planner(tmp_path / "p")
    save_planner(tmp_path / "q", msgspec.structs.replace(made.manifest, essentials=["a"]), made.tensors)
    with pytest.raises(ArtifactError, match="other essentials"):
        load_planner(tmp_path / "q")
    save_planner(tmp_path / "r", made.manifest, made.tensors | {"w1": made.tensors["w1"] * np.nan})
    with pytest.raises(ArtifactError, match="not finite"):
        load_planner(tmp_path / "r")
    (tmp_path / "p" / "planner.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ArtifactError, match="not a readable planner"):
        load_planner(tmp_path / "p")
