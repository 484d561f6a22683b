"""Draw the picture of a run's page in docs/ from a simulated market: python scripts/report_picture.py"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import emp

sys.path.insert(0, str(Path(__file__).parent))
from console_pictures import ROOT, browser_path

SIZE = {"width": 1040, "height": 1180}


def main() -> None:
    """Trade, write the page, draw it."""
    browser = browser_path()
    result = emp.backtest(emp.simulate("goog", "GOOG", events=30_000, seed=4))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        written = Path(folder) / "page.html"
        result.page(written)
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport=SIZE, color_scheme="light")
        page.goto(written.as_uri())
        page.screenshot(path=ROOT / "docs/report.png")


if __name__ == "__main__":
    main()
