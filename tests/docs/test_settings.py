"""docs/configuration.md is the schema's, and says something of every setting."""

import subprocess
import sys

from emp.core.config.config import SystemConfig
from emp.core.config.config_source import _field_names
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text()


def test_the_page_is_what_the_schema_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/settings.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_setting_has_a_row_with_words_and_its_variable() -> None:
    rows = {line.split("|")[-2].strip(): line for line in PAGE.splitlines() if line.startswith("| `")}
    for name in _field_names(SystemConfig):
        row = rows[f"`EMP_{name.replace('.', '__').upper()}`"]
        assert len(row.split("|")[5].strip()) > 3, row


def test_the_schema_has_the_bounds_that_a_value_is_held_to() -> None:
    risk = SystemConfig.model_json_schema()["$defs"]["Risk"]["properties"]
    assert risk["depth_share"]["exclusiveMinimum"] == 0
    assert risk["depth_share"]["maximum"] == 1.0
    assert risk["max_order_lots"]["exclusiveMinimum"] == 0
