"""Every acceptance definition of QuickFIX for FIX 4.4 that applies holds at both of our ends, and the docs say so."""

from pathlib import Path

import pytest

from tests.fix.acceptance.__main__ import played, table
from tests.fix.acceptance.cases import CASES, Case
from tests.fix.acceptance.ends import Acceptor, Initiator, Side

DOCS = Path(__file__).parents[2] / "docs" / "fix.md"


@pytest.mark.parametrize("side", [Acceptor, Initiator])
@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_definition(one: Case, side: type[Side]) -> None:
    assert played(one, side) in ("passes", one.initiator)


def test_the_documentation_has_the_whole_table() -> None:
    assert len({one.name for one in CASES}) == len(CASES) == 59
    assert "\n".join(table()) in DOCS.read_text()
