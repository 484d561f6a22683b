"""What axe-core, the rules behind the usual accessibility audits, finds on the console: nothing serious."""

import os
from pathlib import Path
from typing import Any

import pytest

from emp.observe.board import LinkView
from tests.console.kit import GOLD, SILVER, served, view
from tests.console.test_page import feed, until

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, of the file that EMP_AXE names."""
    found = os.environ.get("EMP_AXE")
    if found is None or not Path(found).is_file():
        message = "no axe-core: npm install axe-core, and set EMP_AXE to its axe.min.js, to audit the console"
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return Path(found).read_text()


def serious(tab: Any, axe: str) -> list[tuple[str, str, list[str]]]:
    """(rule, impact, where) of what must be mended; also that the audit has looked at all."""
    tab.evaluate(axe)
    found = tab.evaluate("axe.run(document, {resultTypes: ['violations', 'passes']})")
    assert len(found["passes"]) > 8
    return [
        (one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_the_console_has_no_serious_finding(open_page: Any, axe: str, width: int, scheme: str) -> None:
    with served() as page:
        feed(page, 40, 0, SILVER)
        page.board.raise_alarm("disk", "1 GB is left")
        page.board.publish(view(GOLD, SILVER, links={"trade": LinkView(up=False, reason="good night")}))
        tab = open_page(page.server.url, width, 900, scheme)
        until(tab, "document.querySelectorAll('#decisions td.l').length > 0")
        assert serious(tab, axe) == []


def test_nor_has_the_login(open_page: Any, axe: str) -> None:
    with served(login=True) as page:
        tab = open_page(page.server.url, fails=True)
        tab.wait_for_selector("input")
        assert serious(tab, axe) == []


def test_a_finding_is_found(open_page: Any, axe: str) -> None:
    with served(login=True) as page:
        tab = open_page(page.server.url, fails=True)
        tab.wait_for_selector("input")
        tab.evaluate("document.body.append(document.createElement('button'))")
        assert "button-name" in [rule for rule, _, _ in serious(tab, axe)]
