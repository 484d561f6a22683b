"""Where recorded markets are looked for."""

from pathlib import Path

import pytest

from emp.core.numba.cache import PACKAGE
from emp.core.recorded import recordings_folder


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_variable_is_none(
    value: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if value is None:
        monkeypatch.delenv("EMP_DATA", raising=False)
    else:
        monkeypatch.setenv("EMP_DATA", value)
    assert recordings_folder() == PACKAGE.parent.parent / "shared" / "data"


def test_a_package_without_checkout_looks_beside_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("EMP_DATA", raising=False)
    monkeypatch.setattr("emp.core.recorded.PACKAGE", tmp_path / "site-packages" / "emp")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert recordings_folder() == tmp_path / "shared" / "data"


def test_a_named_folder_stands_from_the_current_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMP_DATA", "markets")
    assert recordings_folder() == tmp_path / "markets"
