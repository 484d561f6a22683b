"""What the console looks like, against pictures of before: coarse ones, so that a font is no difference and a panel is.

    EMP_PICTURES_ANEW=1 python -m pytest tests/console/test_pictures.py      keep what it looks like now

A picture is the mean brightness of each cell of a grid. It is compared where CI says so (EMP_REQUIRE_SERVICES=1), for
fonts differ from machine to machine.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.console.kit import SILVER, served
from tests.console.test_page import DRAWN, feed, until

pytestmark = pytest.mark.service

KEPT = Path(__file__).with_name("pictures.json")
COLUMNS, ROWS = 32, 24
MEAN, MOST = 1.5, 60.0
"""Difference in brightness (of 255) that is none: over all cells, and of one cell."""

GRID = """async ([picture, columns, rows]) => {
  const image = new Image();
  image.src = picture;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
  const g = canvas.getContext("2d");
  g.drawImage(image, 0, 0);
  const {width, height} = image, {data} = g.getImageData(0, 0, width, height);
  const sums = Array(columns * rows).fill(0), counts = [...sums];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const cell = Math.floor(y * rows / height) * columns + Math.floor(x * columns / width), i = 4 * (y * width + x);
    sums[cell] += .2126 * data[i] + .7152 * data[i + 1] + .0722 * data[i + 2]; counts[cell]++;
  }
  return sums.map((sum, i) => Math.round(sum / counts[i]));
}"""

LOOKS = [("desktop", 1280, 900, "light"), ("desktop-dark", 1280, 900, "dark"), ("phone", 390, 844, "light")]


@pytest.fixture(autouse=True)
def where_fonts_are_known() -> None:
    if os.environ.get("EMP_REQUIRE_SERVICES") != "1" and "EMP_PICTURES_ANEW" not in os.environ:
        pytest.skip(
            "pictures of the console are compared where EMP_REQUIRE_SERVICES=1 says that fonts are CI's"
        )


def grid_of(tab: Any) -> list[int]:
    """The brightness of every cell of what a tab shows, once all of it is laid out."""
    tab.wait_for_timeout(1_500)
    picture = "data:image/png;base64," + base64.b64encode(tab.screenshot()).decode()
    other = tab.context.new_page()
    grid: list[int] = other.evaluate(GRID, [picture, COLUMNS, ROWS])
    other.close()
    return grid


def differ(one: list[int], other: list[int]) -> bool:
    apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return sum(apart) / len(apart) > MEAN or max(apart) > MOST


def shown(open_page: Any, page: Any, width: int, height: int, scheme: str, **more: bool) -> Any:
    feed(page, 40, 0, SILVER)
    tab = open_page(page.server.url, width, height, scheme, **more)
    until(tab, "globalThis.emp?.store?.lines?.ts?.length === 40")
    until(tab, DRAWN, "#price canvas")
    until(tab, "document.querySelectorAll('#decisions td.l').length > 0")
    return tab


@pytest.mark.parametrize(("name", "width", "height", "scheme"), LOOKS)
def test_it_looks_as_it_did(open_page: Any, name: str, width: int, height: int, scheme: str) -> None:
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    with served() as page:
        grid = grid_of(shown(open_page, page, width, height, scheme))
    if "EMP_PICTURES_ANEW" in os.environ:
        KEPT.write_text(json.dumps(kept | {name: grid}) + "\n")
        return
    assert not differ(grid, kept[name]), "look at it; if it is meant, keep it: EMP_PICTURES_ANEW=1"


@pytest.mark.parametrize(
    "broken",
    [
        "document.querySelector('link[rel=stylesheet]').remove()",
        "document.querySelector('#price').closest('section').remove()",
        "document.querySelector('#cards').remove()",
        "document.querySelector('#ladder').closest('section').style.gridColumn = 'span 12'",
    ],
)
def test_a_page_that_has_fallen_apart_looks_otherwise(open_page: Any, broken: str) -> None:
    kept = json.loads(KEPT.read_text())
    with served() as page:
        tab = shown(open_page, page, 1280, 900, "light", fails=True)
        tab.evaluate(broken)
        tab.wait_for_timeout(300)
        assert differ(grid_of(tab), kept["desktop"])
