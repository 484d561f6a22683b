"""Rows are recognised by their content, in whichever file they lie, and how much of it is left."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp.app.planner.gate import _refuse_trained
from emp.core.errors import UsageError
from emp.model.artifact import ENCODER
from emp.train.data.data import label
from emp.train.data.fingerprint import SAMPLING, pack, rows_sha256, sample, unpack
from emp.train.fit.fit import provenance
from emp.train.judge.evaluate import refuse_overlap
from tests.kit.datasets import GOOG, dataset, market, seen


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.integers(1, 1_000, n))
    bid = 1_000 + np.cumsum(rng.integers(-1, 2, n))
    return ts, bid, bid + 1


def test_a_stretch_shares_its_part_of_the_sample_and_nothing_else_does() -> None:
    whole = rows(20_000)
    cut = tuple(a[5_000:9_000] for a in whole)
    ours = sample(*whole)
    assert len(ours) == pytest.approx(20_000 / SAMPLING, rel=0.3)
    assert len(sample(*cut)) > 10
    assert np.isin(sample(*cut), ours).all()
    assert not np.isin(sample(*rows(20_000, 1)), ours).any()
    assert not np.isin(sample(whole[0], whole[1] + 1, whole[2] + 1), ours).any()
    np.testing.assert_array_equal(unpack(pack(ours)), ours)
    assert rows_sha256(*whole) != rows_sha256(*cut)


def model(used: dict[str, Any], of: str = "series") -> Any:
    """A model of which only the training is known, or that of its depth encoder."""
    return SimpleNamespace(artifact=SimpleNamespace(manifest=SimpleNamespace(provenance={of: [used]})))


def test_a_cut_and_renamed_copy_of_the_training_is_refused() -> None:
    trained = dataset(6_000, 1)
    copy = label("other", GOOG, ({"name": "x.csv", "sha256": "0"},), seen(market(6_000, 1, 0.5)[:3_500]), 0.5)
    with pytest.raises(UsageError, match="its test part begins before the model's training ended"):
        refuse_overlap(model(provenance(trained)), copy)
    refuse_overlap(model(provenance(trained)), trained)  # its own later part
    refuse_overlap(model(provenance(trained)), dataset(3_500, 2))  # other rows of the same time


def test_an_older_artifact_is_not_judged_on_its_instrument_at_the_time_of_its_training() -> None:
    trained = dataset(6_000, 1)
    used = {name: value for name, value in provenance(trained).items() if not name.startswith("rows_s")}
    refuse_overlap(model(used), trained)
    early = replace(trained, split=trained.split._replace(test_ns=trained.split.calibrate_ns - 1))
    with pytest.raises(UsageError):
        refuse_overlap(model(used), early)
    with pytest.raises(UsageError):
        refuse_overlap(model(used), dataset(3_500, 2))


@pytest.mark.parametrize("of", ["series", ENCODER])
def test_what_the_depth_encoder_was_trained_on_counts_as_seen(of: str) -> None:
    trained = dataset(6_000, 1)
    early = replace(trained, split=trained.split._replace(test_ns=trained.split.calibrate_ns - 1))
    used = provenance(trained)
    spans = {name: used[name] for name in ("series", "instrument", "train_ns")} | {
        "train_ns": [used["train_ns"][0], used["calibrate_ns"][1]]
    }
    refuse_overlap(model(spans, of), trained)
    with pytest.raises(UsageError, match="its test part begins before"):
        refuse_overlap(model(spans, of), early)


@pytest.mark.parametrize("of", ["series", ENCODER])
def test_the_planner_s_gate_counts_it_too(of: str) -> None:
    trained = dataset(6_000, 1)
    planner: Any = SimpleNamespace(manifest=SimpleNamespace(provenance={}))
    begin, end = trained.span("test")
    spans = {"series": trained.series, "instrument": trained.instrument.name, "train_ns": [begin - 9, begin]}
    _refuse_trained(planner, model(spans, of), trained, "test")
    with pytest.raises(UsageError, match="the model was trained on some of its test part"):
        _refuse_trained(planner, model(spans | {"train_ns": [begin - 9, end]}, of), trained, "test")
