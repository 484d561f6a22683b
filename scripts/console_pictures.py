"""Draw the pictures of the console in docs/ from a run of the built-in market: python scripts/console_pictures.py

It takes two minutes: the market runs at ten times its speed until there is enough to see.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
ENOUGH = "(globalThis.emp?.store.recent_fills.length ?? 0) >= 12"
PATIENCE_S = 240.0

PICTURES = (
    ("console-desktop.png", 1280, 1180, "light"),
    ("console-dark.png", 1280, 1180, "dark"),
    ("console-phone.png", 390, 1180, "dark"),
)


def main() -> None:
    """Run the market, wait, draw, end the run."""
    browser = browser_path()
    with console_of_a_market(EMP_ACCESS__SPEED="10") as address:
        draw(browser, address)


@contextmanager
def console_of_a_market(**settings: str) -> Iterator[str]:
    """Run the built-in market meanwhile; where its console is."""
    with tempfile.TemporaryDirectory() as folder:
        ours = {"EMP_RUN_DIR": folder, "EMP_HTTP__PORT": "0"}
        with subprocess.Popen(
            [sys.executable, "-m", "emp", "run", "--config", str(ROOT / "examples/mock.yaml")],
            env=os.environ | ours | settings,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            try:
                yield address_of(process)
            finally:
                process.terminate()


def browser_path() -> str:
    """Where Chromium is."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium found (Debian: apt install chromium)")
    return browser


def address_of(process: "subprocess.Popen[str]") -> str:
    """Where the run says that its console is."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return found[0]
    sys.exit("the run did not begin")


def draw(browser: str, address: str) -> None:
    """Draw each picture once there is enough to see."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for name, width, height, scheme in PICTURES:
            page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address)
            wait_for(page, ENOUGH)
            page.wait_for_timeout(2_000)
            path = ROOT / "docs" / name
            page.screenshot(path=path)
            with Image.open(path) as picture:
                picture.convert("RGB").save(path, optimize=True)
            print(f"{path} {path.stat().st_size >> 10} KiB")
            page.close()
        chromium.close()


def wait_for(page: Any, holds: str) -> None:
    """Wait until an expression is true on the page."""
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(holds):
        if time.monotonic() > end:
            sys.exit("too little happened")
        page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
