"""The compiled step of a shipped model says what its tensors are defined to say; one tensor that differs is seen."""

import numpy as np
import pytest

from emp.engine.choose import load_model
from emp.model.artifact import Artifact
from emp.train.data.table import extract_features
from emp.train.fit.export import PARITY_LIMIT
from emp.train.judge.forecasts import serving_head
from emp.train.judge.step_parity import PIECES, step_differences
from tests.kit.datasets import GOOG, market


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [("linear", "weight"), ("mamba2", "heads.direct"), ("mamba3", "features.first.weight")],
)
def test_a_tensor_that_was_packed_wrongly_is_seen(kind: str, tensor: str) -> None:
    model = load_model(kind)
    events = market(1_600, 1, 0.5)
    events["ts"][800:] += 3_600 * 10**9  # a pause: the state starts anew in both
    seen = extract_features([events], GOOG, model.encoder)
    assert (seen.rows["since_reset"] == 1).sum() == 2
    head = serving_head(model, GOOG)
    found, n = step_differences(model, head, seen)
    assert (len(found), n) == (PIECES, 1_600)
    assert 0.0 < max(found) < PARITY_LIMIT
    tensors = {**model.artifact.tensors, tensor: model.artifact.tensors[tensor] * np.float32(1.01)}
    other = model._replace(artifact=Artifact(model.artifact.manifest, tensors))
    assert max(step_differences(other, head, seen)[0]) > PARITY_LIMIT
