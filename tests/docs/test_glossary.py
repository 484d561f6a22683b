"""docs/glossary.md has every code of emp.core.codes in its own table, and none that is gone."""

import re
from enum import Enum

import pytest

from emp.core import codes
from tests.docs.pages import ROOT

SECTIONS: dict[type[Enum], str] = {
    codes.Action: "action",
    codes.Reason: "reason | meaning | what to do",
    codes.WorkingState: "state",
    codes.OrderStatus: "status",
    codes.Quarantine: "reason | meaning",
    codes.EventFlag: "flag of an event",
    codes.Session: "session",
    codes.Liquidity: "liquidity",
}


def table(head: str) -> dict[str, list[str]]:
    """The other cells of each name in the table whose head begins so."""
    found: dict[str, list[str]] = {}
    for part in (ROOT / "docs" / "glossary.md").read_text().split("\n\n"):
        lines = part.splitlines()
        if lines[0].startswith("| ") and lines[0].removeprefix("| ") in (f"{head} |", f"{head} | meaning |"):
            for line in lines[2:]:
                first, *others = [cell.strip() for cell in line.strip("|").split("|")]
                found |= dict.fromkeys(re.findall(r"`(\w+)`", first), others)
    return found


@pytest.mark.parametrize("kind", SECTIONS, ids=lambda kind: kind.__name__)
def test_every_code_has_an_entry_with_words_and_no_entry_is_of_a_code_that_is_gone(kind: type[Enum]) -> None:
    entries = table(SECTIONS[kind])
    assert set(entries) == {name.lower() for name in kind.__members__}
    assert all(cell for cells in entries.values() for cell in cells)
