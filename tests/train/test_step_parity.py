"""The compiled step of a shipped model says what its tensors are defined to say; one tensor that differs is seen."""

import numpy as np
import pytest

from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.model.artifact import Artifact
from emp.train.data.table import extract_features
from emp.train.fit.export import PARITY_LIMIT
from emp.train.fit.restarts import restarts
from emp.train.judge import step_parity
from emp.train.judge.forecasts import serving_head
from emp.train.judge.masking import look
from emp.train.judge.step_parity import PIECES, step_differences
from tests.kit.datasets import GOOG, market, without_a_book


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
    model = load_model("mamba3")
    events = without_a_book(market(1_200, 1, 0.5), 800)
    found = look(model, GOOG, events, EngineLimits())
    rows = found.decisions[found.decisions["state_events"] > 0]
    after = int(np.searchsorted(rows["seq"], events["seq"][804]))
    assert (int(rows["since_reset"][after]), int(rows["state_events"][after])) == (801, 1)
    assert len(rows) == len(found.known)
    for name, said in found.columns["forecasts"].items():
        np.testing.assert_array_equal(rows[name], said)


def test_rows_are_marked_where_the_engine_begins_a_state_anew() -> None:
    model = load_model("mamba3")
    events = without_a_book(market(1_200, 1, 0.5), 800)
    events["ts"][400:] += 3_600 * 10**9  # a pause: the stream is broken
    rows = look(model, GOOG, events, EngineLimits()).decisions
    rows = rows[rows["state_events"] > 0]
    found = restarts(rows["since_reset"], rows["ts"])
    assert np.flatnonzero(found).tolist() == [0, 400, 800]
    np.testing.assert_array_equal(found, rows["state_events"] == 1)
    at_most = rows["ts"][800] - rows["ts"][799]
    assert restarts(rows["since_reset"], rows["ts"], at_most).sum() == 2, (
        "a state lives for so long, not less"
    )


def test_the_step_is_held_against_a_definition_that_begins_anew_where_the_engine_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, asked = load_model("mamba3"), []
    defined = step_parity.defined

    def noted(model: LoadedModel, head: int, x: Array, breaks: Array) -> dict[str, Array]:
        asked.extend(breaks.tolist())
        return defined(model, head, x, breaks)

    monkeypatch.setattr(step_parity, "defined", noted)
    seen = extract_features([without_a_book(market(1_200, 1, 0.5), 800)], GOOG, model.encoder)
    assert max(step_differences(model, serving_head(model, GOOG), seen)[0]) < PARITY_LIMIT
    assert asked == [800]


@pytest.mark.parametrize("n", [1, 3, 9])
def test_few_rows_make_few_pieces(n: int) -> None:
    model = load_model("linear")
    seen = extract_features([market(n, 1, 0.5)], GOOG, model.encoder)
    found, rows = step_differences(model, serving_head(model, GOOG), seen)
    assert (len(found), rows) == (min(n, PIECES), n)
