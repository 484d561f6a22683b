"""`scripts/pythons`: no folder of tests is left out, and a part that is not green is not taken for one that is."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite tests="4" failures="{failures}" errors="0" skipped="2">
<testcase name="a"><skipped message="Skipped: no browser"/></testcase>
<testcase name="b"><skipped message="Skipped: no browser"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def pythons() -> Any:
    loader = SourceFileLoader("pythons", str(ROOT / "scripts/pythons"))
    spec = spec_from_loader("pythons", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_folder_of_tests_is_in_one_part(pythons: Any) -> None:
    found = sorted(folder for folders in pythons.parts().values() for folder in folders)
    assert found == sorted({f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")})


def test_every_python_that_is_promised_is_tried_with_what_is_pinned(pythons: Any) -> None:
    pinned = {kind.python for kind in pythons.KINDS if kind.packages == "pinned"}
    assert pinned == {"3.11", "3.12", "3.13", "3.14"}
    assert 'requires-python = ">=3.11,<3.15"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("failures", "code", "words", "good"),
    [
        (0, 0, "2 passed, 2 skipped in 1 min", True),
        (1, 1, "1 passed, 2 skipped, **1 failed** in 1 min", False),
    ],
)
def test_a_part_is_told_as_it_was(
    pythons: Any, tmp_path: Path, failures: int, code: int, words: str, good: bool
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(failures=failures))
    found = pythons.outcome(report, code, 60.0)
    assert (found.words, found.good) == (words, good)
    assert found.skipped == {"Skipped: no browser": 2}


def test_a_part_that_died_is_not_green(pythons: Any, tmp_path: Path) -> None:
    found = pythons.outcome(tmp_path / "none.xml", -11, 60.0)
    assert not found.good
    assert "-11" in found.words
