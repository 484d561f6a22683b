"""A run serves what was promoted; another model is marked on paper and refused live."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from emp.app.wiring.governed import load_models
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import ArtifactError, GovernanceError
from emp.engine.choose import load_model
from emp.engine.load import load_folder
from emp.engine.watched_days import DAY_NS
from emp.governance.registry import Registry
from tests.governance.conftest import runs
from tests.kit.promoted import promote


def config(mode: str, **model: object) -> SystemConfig:
    access = {"connection_protocol": "fix", "host": "h", "port": 1}
    return SystemConfig(mode=mode, instruments={"names": ["GOOG"]}, access=access, model=model)  # type: ignore[arg-type]


@pytest.fixture
def promoted(registry: Registry) -> Registry:
    promote(registry, "linear")
    return registry


def green_weeks(registry: Registry, model: str) -> None:
    today = LiveClock().now_ns() // DAY_NS
    for one in runs(model, *range(today - 14, today)):
        registry.store.add(one)


def test_live_without_a_registry_is_refused() -> None:
    with pytest.raises(GovernanceError, match="names no registry"):
        load_models(config("live"))


def test_live_needs_promotion_and_then_two_green_weeks(
    promoted: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    home, linear = promoted.home, load_model("linear").artifact.hash
    with pytest.raises(GovernanceError, match="is not what"):
        load_models(config("live", registry=home, ssm_impl="mamba3"))
    with pytest.raises(GovernanceError, match="green days"):
        load_models(config("live", registry=home))
    green_weeks(promoted, linear)
    models = load_models(config("live", registry=home))
    assert models.serving.artifact.hash == linear
    assert models.standing == {linear: "approved"}
    assert (
        load_models(config("live", registry=home, fallback_artifact=str(shipped("mamba2")))).standby is None
    )
    assert "nothing stands by" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["other gates", "these"])
def test_what_other_gates_have_promoted_does_not_stand_by_live(
    by: str, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    mamba2 = promote(registry, "mamba2", **({"gates_sha256": "0" * 64} if by == "other gates" else {}))
    green_weeks(registry, mamba2)
    green_weeks(registry, promote(registry, "linear"))
    models = load_models(config("live", registry=registry.home, fallback_impl="mamba2"))
    stands_by = "" if models.standby is None else models.standby.artifact.hash
    assert stands_by == ("" if by == "other gates" else mamba2)
    assert ("was promoted by other gates" in capsys.readouterr().err) == (by == "other gates")


def test_paper_serves_the_default_and_marks_what_was_named(promoted: Registry) -> None:
    linear = load_model("linear").artifact.hash
    assert load_models(config("paper", registry=promoted.home)).standing == {linear: "approved"}
    named = load_models(config("paper", registry=promoted.home, ssm_impl="mamba3", fallback_impl="none"))
    assert set(named.standing.values()) == {"candidate"}
    assert set(load_models(config("paper")).standing.values()) == {"candidate"}
    assert load_models(config("mock")).standing == {}


def test_the_newest_candidate_of_the_registry_is_the_challenger(
    promoted: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    def challenger(**model: object) -> str:
        found = load_models(config("paper", registry=promoted.home, **model)).challenger
        return "" if found is None else found.artifact.hash

    assert challenger() == "", "the default is no challenger to itself"
    hashes = {}
    for name in ("mamba2", "mamba3"):
        hashes[name] = load_model(name).artifact.hash
        promoted.register(load_model(name).artifact)
    assert challenger() == hashes["mamba3"]
    assert challenger(challenger="mamba2") == hashes["mamba2"]
    assert challenger(ssm_impl="mamba3", fallback_impl="none") == hashes["mamba2"]
    assert challenger(monitor=False) == ""
    (promoted.folder(hashes["mamba3"]) / "manifest.json").unlink()
    assert challenger() == "", "a damaged candidate keeps nothing from serving"
    assert "the newest candidate is no challenger" in capsys.readouterr().err


def test_an_artifact_changed_in_the_registry_is_refused(promoted: Registry) -> None:
    file = promoted.folder(promoted.standing().default) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(Exception, match="does not match its hash"):
        load_models(config("paper", registry=promoted.home))


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors"])
def test_whatever_byte_of_an_artifact_is_changed_it_is_refused_in_one_line(
    name: str, promoted: Registry
) -> None:
    """Also where what is left is no text."""
    folder = promoted.folder(promoted.standing().default)
    whole = (folder / name).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 25).astype(int):
        for bit in (0x01, 0x80):
            data = bytearray(whole)
            data[at] ^= bit
            (folder / name).write_bytes(bytes(data))
            with pytest.raises(ArtifactError) as refused:
                load_folder(folder)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize("byte", [b"\xb3", b"\xff"])
def test_a_list_of_keys_that_is_no_text_is_refused_in_one_line(byte: bytes, promoted: Registry) -> None:
    path = promoted.home / "keys" / "trusted.json"
    path.write_bytes(path.read_bytes().replace(b"training", b"train" + byte + b"ng"))
    with pytest.raises(GovernanceError, match="not a readable list of keys"):
        promoted.store.all()


def test_another_artifact_in_the_place_of_the_default_is_refused(promoted: Registry) -> None:
    place = promoted.folder(promoted.standing().default)
    shutil.rmtree(place)
    shutil.copytree(shipped("mamba2"), place)
    with pytest.raises(ArtifactError, match="holds another model than its name says"):
        load_models(config("paper", registry=promoted.home))


def shipped(name: str) -> Path:
    from emp.engine.choose import artifact_folder

    return artifact_folder(name)
