"""The console in Firefox and in WebKit: what Chromium is held to in `test_page`, as far as engines may differ."""

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.observe.board import LinkView
from tests.console.engines import firefox, missing, webkit
from tests.console.kit import GOLD, TOKEN, served, view
from tests.console.test_page import CONTRAST, DRAWN, LONG, SECOND, feed

pytestmark = pytest.mark.service

SOON_S = 60.0


@pytest.fixture(scope="module", params=["firefox", "webkit"])
def tab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A window of the browser; it may not have told an error at the end."""
    lacking = missing(request.param)
    if lacking:
        message = f"no {request.param}: install {lacking} to test the console in it"
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with {"firefox": firefox, "webkit": webkit}[request.param](
        tmp_path_factory.mktemp(request.param)
    ) as opened:
        yield opened
        assert not [one for one in opened.errors if "event source" not in one and "/events" not in one]


def until(tab: Any, holds: str) -> None:
    end = time.monotonic() + SOON_S
    while not tab.evaluate(holds):
        assert time.monotonic() < end, f"it never came true: {holds}"
        time.sleep(0.05)


def words_of(tab: Any) -> str:
    return " ".join(tab.evaluate("document.body.innerText").split())


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG."""
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


@pytest.mark.parametrize("width", [390, 1280])
def test_it_shows_what_was_published_fits_reads_well_and_draws(tab: Any, width: int) -> None:
    tab.resize(width, 900)
    with served() as page:
        feed(page, 40, 0, LONG)
        newest = msgspec.structs.replace(GOLD, last_ts=GOLD.last_ts + 40 * SECOND)
        page.board.publish(
            view(newest, LONG, now_ns=40 * SECOND, links={"trade": LinkView(up=False, reason="good night")})
        )
        tab.goto(page.server.url)
        until(tab, "document.querySelectorAll('#decisions td.l').length > 0")
        assert width <= tab.evaluate("innerWidth") <= max(width, tab.narrowest)
        until(tab, "document.querySelector('#ladder').innerText.includes('34 ahead')")
        shown = words_of(tab)
        for words in ("EMP MOCK", "run RUN", "trade down", "1,995.7", "-12.5", "position 4 of 10 lots"):
            assert words in shown, words
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for chart in ("#price", "#pnl", "#position", "#came", "#fan"):
            tab.evaluate(f"document.querySelector('{chart}').scrollIntoView()")
            until(tab, f"({DRAWN})('{chart} canvas')")
        assert tab.evaluate(f"({CONTRAST})()") == []
        seen_width, seen_height = size_of(tab.picture())
        assert seen_width >= width
        assert seen_height > 0


def test_history_outlives_a_reload_and_a_lost_connection_is_said(tab: Any) -> None:
    tab.resize(1280, 900)
    with served() as page:
        feed(page, 50)
        tab.goto(page.server.url)
        until(tab, "globalThis.emp?.store?.lines?.ts?.length === 50")
        feed(page, 5, 50)
        until(tab, "emp.store.lines.ts.length === 55")
        tab.goto(f"{page.server.url}/?again")
        until(tab, "globalThis.emp?.store?.lines?.ts?.length === 55")
        assert tab.evaluate("emp.store.lines.position.at(-1)") == 54
    until(tab, "/does not answer|no connection|has ended/i.test(document.body.innerText)")


def test_a_control_takes_two_presses_and_the_token(tab: Any) -> None:
    with served() as page:
        feed(page, 2)
        tab.goto(f"{page.server.url}/#token={TOKEN}")
        until(tab, "document.querySelector('[data-do=halt]') !== null && !location.href.includes('token')")
        press = "document.querySelector('[data-do=halt]').click()"
        tab.evaluate(press)
        until(tab, "document.querySelector('[data-do=halt]').innerText === 'Press again: halt'")
        time.sleep(0.4)  # a double click is one press
        tab.evaluate(press)
        until(tab, "document.querySelector('#answer').innerText.includes('the run has not begun yet')")


def test_a_picture_is_what_a_person_would_see(tab: Any, tmp_path: Path) -> None:
    tab.resize(1280, 900)
    with served() as page:
        feed(page, 40)
        tab.goto(page.server.url)
        until(tab, f"({DRAWN})('#price canvas')")
        picture = tab.picture()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000, "a page with a chart and tables is no blank sheet"
    folder = os.environ.get("EMP_PICTURES")
    if folder:
        Path(folder, f"console-{type(tab).__name__.lower()}.png").write_bytes(picture)
