"""Which artifact serves and which stands by: what the configuration says is obeyed, or refused in one line."""

from pathlib import Path

import msgspec
import pytest

from emp.core.config.config import DEFAULT_IMPL, Model
from emp.core.errors import ArtifactError
from emp.engine import choose
from emp.engine import shipped as shipped_folder
from emp.engine.choose import load_model, load_serving, load_standby, shipped
from emp.model.artifact import save
from tests.kit.models import eager_model


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that ships a linear and a Mamba-2 artifact (whose weights do not matter here)."""
    folder = tmp_path / "artifacts"
    eager_model(folder / "linear", seed=1)
    eager_model(folder / "mamba2", seed=2)
    monkeypatch.setattr(shipped_folder, "_shipped_folder", lambda name: folder / name)
    return folder


def folder_hash(folder: Path) -> str:
    return load_model(folder).artifact.hash


def test_the_kinds_name_what_is_shipped(package: Path) -> None:
    model = Model(ssm_impl="mamba2", fallback_impl="linear")
    serving = load_serving(model)
    standby = load_standby(model, serving)
    assert serving.artifact.hash == folder_hash(package / "mamba2")
    assert standby is not None
    assert standby.artifact.hash == folder_hash(package / "linear")
    assert shipped() == ["linear", "mamba2"]


def test_what_is_not_shipped_is_one_clear_line(package: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        load_serving(Model(ssm_impl="mamba3"))
    assert str(refused.value).startswith("model.ssm_impl: no mamba3 artifact is shipped")
    assert "linear, mamba2" in str(refused.value)
    assert "\n" not in str(refused.value)
    (package / "mamba2" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"^model\.fallback_impl: no mamba2 artifact"):
        load_standby(Model(fallback_impl="mamba2"), load_serving(Model(ssm_impl="linear")))


def test_folders_come_before_kinds_and_must_be_of_a_kind_given_beside_them(tmp_path: Path) -> None:
    own = eager_model(tmp_path / "own", seed=5)
    model = Model(artifact=str(tmp_path / "own"), fallback_artifact=str(tmp_path / "own"))
    serving = load_serving(model)
    assert serving.artifact.hash == own.artifact.hash
    standby = load_standby(model, serving)
    assert standby is not None
    assert standby.artifact.hash == own.artifact.hash
    with pytest.raises(ArtifactError, match=r"is a linear model, model\.ssm_impl says mamba3"):
        load_serving(Model(artifact=str(tmp_path / "own"), ssm_impl="mamba3"))
    with pytest.raises(ArtifactError, match=r"is a linear model, model\.fallback_impl says mamba2"):
        load_standby(Model(fallback_artifact=str(tmp_path / "own"), fallback_impl="mamba2"), serving)


@pytest.mark.parametrize(
    ("kind", "at_hand", "stands_by"),
    [
        ("mamba3", ["linear", "mamba2"], "mamba2"),
        ("mamba3", ["linear"], "linear"),
        ("mamba2", ["linear", "mamba2"], "linear"),
        ("linear", ["linear", "mamba2"], None),
    ],
)
def test_without_a_word_the_next_simpler_kind_that_is_shipped_stands_by(
    package: Path, monkeypatch: pytest.MonkeyPatch, kind: str, at_hand: list[str], stands_by: str | None
) -> None:
    monkeypatch.setattr(choose, "shipped", lambda: at_hand)
    serving = load_model(package / "linear")
    manifest = msgspec.structs.replace(serving.artifact.manifest, kind=kind)  # type: ignore[arg-type]
    serving = serving._replace(artifact=msgspec.structs.replace(serving.artifact, manifest=manifest))
    standby = load_standby(Model(), serving)
    expected = None if stands_by is None else folder_hash(package / stands_by)
    assert (standby and standby.artifact.hash) == expected
    assert load_standby(Model(fallback_impl="none"), serving) is None


def test_the_default_is_shipped_and_serves(tmp_path: Path) -> None:
    assert DEFAULT_IMPL in shipped()
    assert load_serving(Model()).artifact.manifest.kind == DEFAULT_IMPL
    save(tmp_path / "copy", load_model().artifact.manifest, load_model().artifact.tensors)
    assert load_model(tmp_path / "copy").artifact.hash == load_model().artifact.hash
