"""What the console looks like, whole and full of everything, against pictures of before.

    EMP_PICTURES_ANEW=1 python -m pytest tests/console/test_pictures.py      keep what it looks like now

A kept picture (`pictures/`) has a pixel for each 8 by 8 of the page: so coarse that how a letter is smoothed is no
difference, and so fine that each rule of the style sheet is one. They are compared where CI says so
(EMP_REQUIRE_SERVICES=1), for fonts differ from machine to machine.
"""

import io
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from emp.core.clock import SimClock
from emp.observe.board import Board, LinkView
from emp.observe.trading_views import LimitView
from tests.console.kit import DECISION, FILL, GOLD, SILVER, Served, served, view
from tests.console.test_page import DRAWN, SECOND, feed, until

pytestmark = pytest.mark.service

KEPT = Path(__file__).with_name("pictures")
CELL = 8
"""Pixels of the page, each way, that are one of a picture."""

MEAN, MOST = 0.5, 12.0
"""Difference (of 255, of the colour that differs most) that is none: over all cells, and of one cell."""

REST_MS, PATIENCE_S = 1_200, 60.0
"""The page writes some of its parts once in 900 ms."""

HEIGHT = "Math.ceil(document.querySelector('main').getBoundingClientRect().bottom + scrollY)"

LOOKS = [
    ("desktop", 1280, "light"),
    ("desktop-dark", 1280, "dark"),
    ("phone", 390, "light"),
    ("phone-dark", 390, "dark"),
]


@pytest.fixture(autouse=True)
def where_fonts_are_known() -> None:
    if os.environ.get("EMP_REQUIRE_SERVICES") != "1" and "EMP_PICTURES_ANEW" not in os.environ:
        pytest.skip(
            "pictures of the console are compared where EMP_REQUIRE_SERVICES=1 says that fonts are CI's"
        )


def fill(page: Served) -> None:
    """Publish what makes use of every part of the page, and of every colour in it."""
    feed(page, 40, 0, SILVER)
    sold = msgspec.structs.replace(FILL, n=2, side=-1, order="RUN-2", maker=False, realised_ticks=-1.5)
    waits = msgspec.structs.replace(DECISION, n=2, action="hold", reason="in_flight", side=0, qty=0)
    bought = msgspec.structs.replace(DECISION, n=3, side=1, came_ticks=2.0)
    full = msgspec.structs.replace(
        GOLD,
        last_ts=GOLD.last_ts + 40 * SECOND,
        position=40,
        stale=True,
        context_mult=0.5,
        context_reason="a notice",
        limits=(*GOLD.limits, LimitView(name="drawdown", value=9, limit=10, unit="ticks")),
        recent_fills=(FILL, sold),
        decisions=(bought, waits, DECISION),
    )
    links = {"market": LinkView(up=True), "trade": LinkView(up=False, reason="good night")}
    page.board.publish(view(full, SILVER, now_ns=40 * SECOND, links=links))
    for level in ("info", "warning", "error"):
        page.console.log.add(f'{{"ts": 1700000000000000000, "level": "{level}", "event": "of that kind"}}\n')


def open_full(open_page: Any, page: Served, width: int, scheme: str) -> Any:
    """A tab on that page, as high as all of it, once nothing in it moves any more."""
    tab = open_page(page.server.url, width, 900, scheme)
    tab.wait_for_selector("#log .error")
    for chart in ("price", "pnl", "position", "came", "fan"):
        tab.locator(f"#{chart}").scroll_into_view_if_needed()
        until(tab, DRAWN, f"#{chart} canvas")
    tab.evaluate("scrollTo(0, 0)")
    before, end = b"", time.monotonic() + PATIENCE_S
    while (now := tab.screenshot()) != before:
        assert time.monotonic() < end, "it never comes to rest"
        tab.set_viewport_size({"width": width, "height": tab.evaluate(HEIGHT)})
        tab.wait_for_timeout(REST_MS)
        before = now
    return tab


def picture_of(tab: Any) -> "np.ndarray[Any, Any]":
    """Colours of every cell of all that a tab shows: (rows, columns, 3)."""
    with Image.open(io.BytesIO(tab.screenshot())) as seen:
        return np.asarray(seen.convert("RGB").reduce(CELL), dtype=np.uint8)


def kept(name: str) -> "np.ndarray[Any, Any]":
    with Image.open(KEPT / f"{name}.png") as picture:
        return np.asarray(picture.convert("RGB"))


def apart(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """How far two pictures differ: over all cells, and where they differ most; of other sizes: infinitely."""
    if one.shape != other.shape:
        return np.inf, np.inf
    cells = np.abs(one.astype(float) - other.astype(float)).max(axis=2)
    return float(cells.mean()), float(cells.max())


def differ(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> bool:
    mean, most = apart(one, other)
    return mean > MEAN or most > MOST


@pytest.mark.parametrize(("name", "width", "scheme"), LOOKS)
def test_it_looks_as_it_did(open_page: Any, name: str, width: int, scheme: str) -> None:
    with served(board=Board(SimClock())) as page:
        fill(page)
        seen = picture_of(open_full(open_page, page, width, scheme))
    if "EMP_PICTURES_ANEW" in os.environ:
        KEPT.mkdir(exist_ok=True)
        Image.fromarray(seen).save(KEPT / f"{name}.png", optimize=True)
        return
    assert not differ(seen, kept(name)), "look at it; if it is meant, keep it: EMP_PICTURES_ANEW=1"


LOSE = """(at) => {
  const sheet = document.styleSheets[0], text = sheet.cssRules[at].cssText;
  sheet.deleteRule(at);
  return text;
}"""
GIVE_BACK = "([at, text]) => document.styleSheets[0].insertRule(text, at)"
FIND = """(selector) => [...document.styleSheets[0].cssRules].findIndex((rule) => rule.selectorText === selector)"""

SHOWN = (
    "h1", ".pill.bad", "button.danger", "#notices li", ".card b", ".sell", ".legend",
    'button[aria-pressed="true"], [role="tab"][aria-selected="true"]',
    ".ladder", ".bidbar", ".askbar", "tr.fold td", ".track.near i", "#system", ".log .error",
)  # fmt: skip
"""Rules of the style sheet from all over the page."""

ELSEWHERE = (
    "prefers-color-scheme", "data-theme", "max-width", ".skip", ":hover", ":focus", ".armed", ":disabled", "#answer",
    "#tokenform", ".badge.live", ".pill.wait", ":empty", ".tip", "login",
    ".chart canvas", ".field", ".legend span", ".scroll", ".log div",  # what is longer, wider or under a finger
)  # fmt: skip
"""Rules for what stands on no picture of a desk by day: other looks and pages, what is pointed at or being asked."""


def without(tab: Any, at: int) -> tuple[str, bool]:
    """A rule of the style sheet, and whether the page looks otherwise without it."""
    text = tab.evaluate(LOSE, at)
    tab.wait_for_timeout(60)
    seen = differ(picture_of(tab), kept("desktop"))
    tab.evaluate(GIVE_BACK, [at, text])
    return text, seen


@pytest.fixture
def desk(open_page: Any) -> Any:
    """The page whose picture is kept as `desktop`."""
    with served(board=Board(SimClock())) as page:
        fill(page)
        yield open_full(open_page, page, 1280, "light")


def test_what_the_page_loses_is_seen(desk: Any) -> None:
    for selector in SHOWN:
        at = desk.evaluate(FIND, selector)
        assert at >= 0, selector
        assert without(desk, at)[1], selector
    for part in ("#price canvas", "#cards .card:nth-child(4)", "#fills tr:nth-child(2)", "[data-do=kill]"):
        desk.evaluate("(part) => { document.querySelector(part).style.visibility = 'hidden'; }", part)
        assert differ(picture_of(desk), kept("desktop")), part
        desk.evaluate("(part) => { document.querySelector(part).style.visibility = ''; }", part)
    assert not differ(picture_of(desk), kept("desktop"))


@pytest.mark.long
def test_no_rule_of_the_style_sheet_can_be_lost_unseen(desk: Any) -> None:
    count = desk.evaluate("document.styleSheets[0].cssRules.length")
    lost = [without(desk, at) for at in range(count)]
    unseen = [text for text, seen in lost if not seen and not any(one in text for one in ELSEWHERE)]
    assert not unseen, "\n".join(unseen)
