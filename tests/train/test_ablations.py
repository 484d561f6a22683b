"""A model without a part of its inputs does not see it, loses what it told, and needs it beyond doubt only."""

from pathlib import Path

import numpy as np
import pytest

from emp.app.commands.ablate import HARMFUL, NEEDED, UNDECIDED, Judged, worth
from emp.engine.load import load_folder
from emp.governance.evaluated import of_evaluation
from emp.governance.evidence import Record, new_evidence
from emp.model.artifact import save
from emp.perception.normalise import INPUT_NAMES
from emp.train.judge.ablations import (
    K_SIGMA,
    MATRIX,
    WHOLE,
    Variant,
    ablated,
    inputs_of,
    judge_variants,
    train_variant,
)
from tests.kit.datasets import dataset

NO_IMBALANCE = Variant("no_imbalance", K_SIGMA, ("qimbalance", "depth_", "ofi_norm", "slope", "curve"))


def test_the_matrix_is_the_roadmaps() -> None:
    without = {one.name: [INPUT_NAMES[i] for i in inputs_of(one)] for one in MATRIX}
    assert without["no_ofi"] == ["ofi_norm"]
    assert {name.split("_")[0] for name in without["no_depth"]} == {"slope", "curve", "depth"}
    assert without["whole"] == without["k=0.3"] == without["k=0.7"] == []
    assert sorted({one.k_sigma for one in MATRIX}) == [0.3, 0.5, 0.7]


def test_what_is_taken_away_is_nought_through_every_encoder() -> None:
    data = dataset(2_000)
    gone = inputs_of(NO_IMBALANCE)
    rng = np.random.default_rng(0)
    from emp.train.data.table import random_encoder

    for one in (ablated(data, gone), ablated(data, gone).encoded(random_encoder(rng))):
        assert not one.x[:, gone].any()
        kept = np.setdiff1d(np.arange(len(INPUT_NAMES)), gone)
        np.testing.assert_array_equal(one.x[:, kept], data.x[:, kept])
    assert data.x[:, gone].any()


def test_a_model_without_the_input_that_tells_does_worse(tmp_path: Path) -> None:
    data = dataset(6_000, signal=0.9)
    models = []
    for variant in (WHOLE, NO_IMBALANCE):
        trained = train_variant(variant, [data], 0, lambda *_: None)
        save(tmp_path / variant.name, trained.manifest, trained.tensors)
        models.append((variant, load_folder(tmp_path / variant.name)))
    gone = inputs_of(NO_IMBALANCE)
    assert not models[1][1].artifact.tensors["weight"][:, gone].any()
    assert models[0][1].artifact.tensors["weight"][:, gone].any()
    contenders, found = judge_variants(models, [data], 0, lambda *_: None)
    made = of_evaluation(contenders, [data], found, [], {}, 0)
    judged = [Judged(v, m.artifact.manifest, e) for (v, m), e in zip(models, made, strict=True)]
    assert worth(judged) == {"no_imbalance": UNDECIDED}, "a minute of trading is no interval"
    loss = {row["model"]: row["log_loss"] for row in found.table if row["horizon"] == "1ev"}
    assert loss["no_imbalance"] > 1.02 * loss["linear"]


@pytest.mark.parametrize(
    ("gain", "said"), [(-5.0, NEEDED), (5.0, HARMFUL), (0.0, UNDECIDED), (-0.05, UNDECIDED)]
)
def test_beyond_doubt_and_not_at_the_mean(gain: float, said: str) -> None:
    blocks = tuple(gain + 0.3 * np.sin(np.arange(20.0)))
    record = Record("f1_gain_pct", "s", "GOOG", "equity", "5ev", blocks, "5min", 99)
    evidence = new_evidence("evaluation", "m", [record], {})
    assert worth([Judged(NO_IMBALANCE, None, evidence)]) == {"no_imbalance": said}
