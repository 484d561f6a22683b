"""The compiled step of a shipped model says what its tensors are defined to say; one tensor that differs is seen."""

import numpy as np
import pytest

from emp.engine.choose import load_model
from emp.engine.limits import EngineLimits
from emp.model.artifact import Artifact
from emp.train.data.table import extract_features
from emp.train.fit.export import PARITY_LIMIT
from emp.train.judge.forecasts import serving_head
from emp.train.judge.masking import look
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


def test_evaluation_lets_a_state_die_without_a_believable_book_as_the_engine_does() -> None:
    """A minute of crossed books breaks no stream, but a state that saw none for so long is too old."""
    model = load_model("mamba3")
    events = market(1_200, 1, 0.5)
    crossed = slice(800, 804)
    for name in ("ts", "ts_recv"):
        events[name][crossed] += np.arange(1, 5) * 17 * 10**9
        events[name][804:] += 70 * 10**9
    events["bid_px"][crossed] += 5
    found = look(model, GOOG, events, EngineLimits())
    rows = found.decisions[found.decisions["state_events"] > 0]
    after = int(np.searchsorted(rows["seq"], events["seq"][804]))
    assert (int(rows["since_reset"][after]), int(rows["state_events"][after])) == (801, 1)
    assert len(rows) == len(found.known)
    for name, said in found.columns["forecasts"].items():
        np.testing.assert_array_equal(rows[name], said)
