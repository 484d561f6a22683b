"""The page that `emp report` writes, in a browser: it asks nobody for anything, its charts of time zoom together."""

from pathlib import Path
from typing import Any

import pytest

from emp.app.report.page import write_report
from tests.kit.backtests import backtest
from tests.kit.events import random_events
from tests.kit.models import engine

pytestmark = pytest.mark.usefixtures("compiled_engine")

DRAWN = """() => [...document.querySelectorAll("g[id^='time-']")].map((chart) => ({
  axis: chart.querySelector("[id='matplotlib.axis_1']").style.display,
  times: [...chart.querySelectorAll(".times text")].map((text) => text.textContent),
  scale: Math.max(...[...chart.querySelectorAll("[transform^=matrix]")].map((g) => g.transform.baseVal[0].matrix.a)),
}))"""


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    running = backtest(tmp_path, engine(tmp_path / "model"), random_events(2_500, 5), "run")
    running.run()
    write_report(tmp_path / "run", tmp_path / "page.html")
    page = browser.new_page(viewport={"width": 1000, "height": 1400})
    asked, wrong = [], []
    page.on("request", lambda one: asked.append(one.url))
    page.on("pageerror", lambda one: wrong.append(str(one)))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert wrong == []
    page.close()


def shown(page: Any) -> tuple[float, float]:
    first, last = page.evaluate("document.body.dataset.shown").split(",")
    return float(first), float(last)


def drag(page: Any, begin: float, end: float) -> None:
    """Over the first chart, from and to a share of its width."""
    chart = page.locator("figure svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + begin * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y)
    page.mouse.up()


def test_what_is_dragged_over_is_shown_by_every_chart_of_time(page: Any) -> None:
    whole = shown(page)
    assert [(one["axis"], one["scale"]) for one in page.evaluate(DRAWN)] == [("", 1)] * 4
    drag(page, 0.5, 0.7)
    first, last = shown(page)
    assert whole[0] < first < last < whole[1]
    assert (last - first) / (whole[1] - whole[0]) == pytest.approx(0.2, abs=0.05)
    drawn = page.evaluate(DRAWN)
    assert len(drawn) == 4
    for one in drawn:
        assert one["axis"] == "none"
        assert 1 < len(one["times"]) <= 8
        assert one["scale"] == pytest.approx((whole[1] - whole[0]) / (last - first), rel=0.02)
    assert len({tuple(one["times"]) for one in drawn}) == 1, "the charts show different times"
    page.locator("figure svg").first.dblclick()
    assert shown(page) == whole


def test_the_keyboard_zooms_and_moves_and_a_click_alone_does_nothing(page: Any) -> None:
    whole = shown(page)
    drag(page, 0.5, 0.501)
    assert shown(page) == whole
    page.locator("figure svg").first.focus()
    page.keyboard.press("+")
    first, last = shown(page)
    assert last - first == pytest.approx((whole[1] - whole[0]) / 2)
    page.keyboard.press("ArrowRight")
    assert shown(page)[0] > first
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert shown(page)[1] == pytest.approx(whole[1])
    page.keyboard.press("-")
    assert shown(page) == pytest.approx(whole)
    page.keyboard.press("+")
    page.keyboard.press("Escape")
    assert shown(page) == whole
