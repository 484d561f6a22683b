"""A browser, shared by the tests of a file."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.console.kit import chromium

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; skips without it, fails where CI demands services."""
    found = chromium()
    if found is None:
        message = "no Chromium found: install it (Debian: apt install chromium) to test the console"
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages of a size and colour scheme; at the end none may have told an error, but those that `fails`."""
    contexts: list[Any] = []
    errors: list[str] = []

    def opened(
        url: str, width: int = 1280, height: int = 900, scheme: str = "light", *, fails: bool = False
    ) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if not fails:
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
