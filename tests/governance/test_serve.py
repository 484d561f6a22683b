"""A run serves what was promoted; another model is marked on paper and refused live."""

from pathlib import Path

import pytest

from emp.app.wiring.governed import load_models
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import GovernanceError
from emp.engine.choose import load_model
from emp.engine.watched_days import DAY_NS
from emp.governance.gates import read_gates
from emp.governance.judge import Judgement
from emp.governance.registry import Registry
from emp.governance.seal import content_address, write_sealed
from tests.governance.conftest import paper


def config(mode: str, **model: object) -> SystemConfig:
    access = {"connection_protocol": "fix", "host": "h", "port": 1}
    return SystemConfig(mode=mode, instruments={"names": ["GOOG"]}, access=access, model=model)  # type: ignore[arg-type]


@pytest.fixture
def promoted(registry: Registry) -> Registry:
    linear = load_model("linear").artifact
    registry.register(linear)
    passed = Judgement(
        model_hash=linear.hash,
        verdict="pass",
        gates_sha256=content_address(read_gates()),
        reference="",
        code="",
        gates=(),
    )
    name = write_sealed(registry.verdicts, registry.store.keys.seal("verdict", passed))
    registry._say("promote", linear.hash, previous="", verdict=name)
    return registry


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
    today = LiveClock().now_ns() // DAY_NS
    for day in range(today - 14, today):
        promoted.store.add(paper(linear, day))
    models = load_models(config("live", registry=home))
    assert models.serving.artifact.hash == linear
    assert models.standing == {linear: "approved"}
    assert (
        load_models(config("live", registry=home, fallback_artifact=str(shipped("mamba2")))).standby is None
    )
    assert "nothing stands by" in capsys.readouterr().err


def test_paper_serves_the_default_and_marks_what_was_named(promoted: Registry) -> None:
    linear = load_model("linear").artifact.hash
    assert load_models(config("paper", registry=promoted.home)).standing == {linear: "approved"}
    named = load_models(config("paper", registry=promoted.home, ssm_impl="mamba3", fallback_impl="none"))
    assert set(named.standing.values()) == {"candidate"}
    assert set(load_models(config("paper")).standing.values()) == {"candidate"}
    assert load_models(config("mock")).standing == {}


def test_the_newest_candidate_of_the_registry_is_the_challenger(promoted: Registry) -> None:
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


def test_an_artifact_changed_in_the_registry_is_refused(promoted: Registry) -> None:
    file = promoted.folder(promoted.standing().default) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(Exception, match="does not match its hash"):
        load_models(config("paper", registry=promoted.home))


def shipped(name: str) -> Path:
    from emp.engine.choose import artifact_folder

    return artifact_folder(name)
