"""The documentation builds as a site without a warning, holds every page, and asks no other host for anything."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//|@import|url\([\"']?(?:https?:)?//"
)


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> "subprocess.CompletedProcess[str]":
    if find_spec("mkdocs") is None:
        message = "mkdocs is not here: pip install '.[docs]' to build the site"
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(config),
        "-d",
        str(folder),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_site_builds_strictly_and_is_self_contained(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in tmp_path.glob("*.html")}
    for file in [*tmp_path.rglob("*.html"), *tmp_path.rglob("*.css")]:
        assert not (found := _FETCHED.search(file.read_text())), f"{file.name}: {found and found[0]}"


def test_a_page_that_the_text_names_and_that_is_not_there_refuses_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("See `docs/nowhere.md`.\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"site_name: x\nhooks: [{ROOT}/scripts/site_links.py]\ntheme: {{name: readthedocs, highlightjs: false}}\n"
    )
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
