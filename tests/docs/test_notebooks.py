"""The notebooks run, and show what their cells say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "scripts" / "notebook.py"), *words]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def written(path: Path, *sources: str) -> Path:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["# not code"]}]
    cells += [
        {"cell_type": "code", "metadata": {}, "source": one.splitlines(keepends=True), "outputs": []}  # type: ignore[dict-item]
        for one in sources
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    return path


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_its_outputs_are_its_own(
    tmp_path: Path, path: Path, compiled_engine: None
) -> None:
    done = run(tmp_path, "--check", str(path))
    assert done.returncode == 0, done.stderr


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first_look.ipynb"]


def test_cells_share_a_namespace_and_outputs_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "n.ipynb", "x = 2\nprint('said')", "x + 1", "x;")
    assert run(tmp_path, str(path)).returncode == 0
    first, second, third = (
        one for one in json.loads(path.read_text())["cells"] if one["cell_type"] == "code"
    )
    assert first["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["said\n"]}]
    assert second["outputs"][0]["data"] == {"text/plain": ["3"]}
    assert third["execution_count"] == 3
    assert run(tmp_path, "--check", str(path)).returncode == 0


def test_a_notebook_that_was_edited_since_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "n.ipynb", "x = 2")
    run(tmp_path, str(path))
    path.write_text(path.read_text().replace("x = 2", "x = 3"))
    done = run(tmp_path, "--check", str(path))
    assert done.returncode == 1
    assert "outputs are not of these cells" in done.stderr


def test_a_cell_that_fails_is_told_with_its_number(tmp_path: Path) -> None:
    done = run(tmp_path, "--check", str(written(tmp_path / "n.ipynb", "x = 2", "x / 0")))
    assert done.returncode == 1
    assert "n.ipynb, cell 2" in done.stderr
