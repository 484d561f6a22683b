"""The pages that say what to type are typed: every block, in order, in an empty folder, as a newcomer would."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, script


def typed(page: str, folder: Path) -> str:
    """What the page's blocks print; fails with the last of it where any of them fails."""
    where = str(Path(sys.executable).parent)
    told = {
        k: v for k, v in os.environ.items() if not k.startswith("EMP_") or k in ("EMP_STATE", "EMP_CACHE")
    }
    told |= {
        "PATH": f"{where}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "EMP_HTTP__PORT": "0",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        ["sh", "-c", script(ROOT / "docs" / page)], cwd=folder, env=told, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.long
def test_the_tutorial_does_what_it_says(tmp_path: Path, compiled_engine: None) -> None:
    said = typed("tutorial.md", tmp_path)
    assert "post_edge" in said
    assert len(list(tmp_path.glob("runs/mock-*/report.html"))) == 1
    assert (tmp_path / "maker.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_the_how_tos_do_what_they_say(tmp_path: Path, compiled_engine: None) -> None:
    said = typed("howto.md", tmp_path)
    assert "MYCOIN" in said
    assert "my-collector" in said
    assert (tmp_path / "models" / "mine" / "manifest.json").exists()


def test_a_page_with_a_block_that_cannot_be_tried_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n")
    with pytest.raises(ValueError, match="no test can run"):
        script(page)
