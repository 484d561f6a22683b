"""The inputs as the model sees them, a second time, and the reference that an artifact carries."""

import msgspec
import numpy as np
import pytest

from emp.core.errors import ArtifactError
from emp.core.instrument import find
from emp.engine.choose import load_model, shipped
from emp.engine.inputs import PREFIX, InputStream, reference_of, reference_tensors, told_inputs
from emp.model.artifact import Artifact
from emp.observe.drift import Reference
from emp.perception.normalise import CORE
from emp.perception.state import CORE_INPUTS
from tests.kit.datasets import market, seen


def test_inputs_are_those_that_training_sees_however_they_arrive() -> None:
    events = market(3_000, 3, 0.5)
    table = seen(events)
    stream = InputStream(find("GOOG"))
    parts = [stream.take(events[a : a + 700]) for a in range(0, 3_000, 700)]
    rows = np.concatenate([rows for rows, _ in parts])
    ages = np.concatenate([ages for _, ages in parts])
    np.testing.assert_array_equal(rows, told_inputs(table.x))
    np.testing.assert_array_equal(ages[:, 1], table.rows["since_reset"])
    np.testing.assert_array_equal(ages[:, 2], table.rows["day"])
    assert not np.isnan(rows).any()


def test_what_a_feed_does_not_tell_is_no_number() -> None:
    events = market(50, 3, 0.5, levels=1)
    rows, _ = InputStream(find("GOOG")).take(events)
    untold = np.isnan(rows).all(axis=0)
    assert [name for name, no in zip(CORE_INPUTS, untold, strict=True) if no] == [
        "slope_bid",
        "slope_ask",
        "curve_bid",
        "curve_ask",
    ]


def made(number: float) -> Reference:
    return Reference(
        np.full((CORE, 9), number), np.full((CORE, 10), 0.1), np.full(CORE, 2.0), np.full(CORE, number)
    )


def test_an_artifact_gives_each_head_its_reference_back() -> None:
    shipped_one = load_model("linear").artifact
    heads = len(shipped_one.manifest.domains)
    tensors = reference_tensors([made(1.0), None, *(made(k) for k in range(2, heads))])
    artifact = Artifact(shipped_one.manifest, tensors)
    assert reference_of(artifact, 1) is None
    for head, number in ((0, 1.0), (2, 2.0)):
        again = reference_of(artifact, head)
        assert again is not None
        for ours, theirs in zip(again, made(number), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert reference_of(Artifact(shipped_one.manifest, {}), 0) is None
    assert reference_tensors([None, None]) == {}


@pytest.mark.parametrize("spoil", ["gone", "shape", "heads"])
def test_half_a_reference_is_refused(spoil: str) -> None:
    artifact = load_model("linear").artifact
    tensors = dict(artifact.tensors)
    if spoil == "gone":
        del tensors[f"{PREFIX}alike"]
    elif spoil == "shape":
        tensors[f"{PREFIX}edges"] = tensors[f"{PREFIX}edges"][:, :, 1:]
    manifest = artifact.manifest
    if spoil == "heads":
        manifest = msgspec.structs.replace(manifest, domains=manifest.domains[1:])
    with pytest.raises(ArtifactError, match="emp train --reference"):
        reference_of(Artifact(manifest, tensors), 0)


def test_every_shipped_model_says_what_its_training_looked_like() -> None:
    for name in shipped():
        artifact = load_model(name).artifact
        for head in range(len(artifact.manifest.domains)):
            reference = reference_of(artifact, head)
            assert reference is not None, (name, artifact.manifest.domains[head])
            told = reference.size > 0.0
            np.testing.assert_allclose(reference.shares[told].sum(axis=1), 1.0)
            assert (reference.alike[told] >= 1.0).all()
            assert told[CORE_INPUTS.index("spread")]
