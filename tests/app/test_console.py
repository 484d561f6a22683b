"""The console in a real browser: what the engine published is what a person sees."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from emp.app import console
from emp.core.clock import SimClock
from emp.observe.board import Board, DecisionView, InstrumentView, OrderView, View
from emp.observe.http import HttpServer, create_app

DECISION = DecisionView(
    ts=1_700_000_000_123_000_000,
    seq=9,
    action="post",
    reason="post_edge",
    side=1,
    px=19_957,
    qty=2,
    edge_ticks=3.25,
    cost_to_take=0.75,
    context_mult=1.0,
    inventory=-4,
    latency_ms=0.009,
)
GOLD = InstrumentView(
    name="GC",
    tick=0.1,
    bid=19_957,
    ask=19_958,
    position=-4,
    pnl_ticks=-12.5,
    fills=7,
    events=1234,
    open_orders=(OrderView(cl_ord_id="RUN-00000007", side=1, px=19_957, qty=2, filled=1, status="new"),),
    decisions=(DECISION,),
)
VIEW = View(mode="mock", run="RUN", model="m" * 64, now_ns=10**9, started_ns=0, instruments=(GOLD,))


@pytest.fixture(scope="module")
def browser() -> str:
    """Chromium; skips without it, fails where CI demands services."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "no Chromium found: install it (Debian: apt install chromium) to test the console"
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


@contextmanager
def page_of(browser: str, url: str) -> Iterator[tuple[object, list[str]]]:
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        chromium = playwright.chromium.launch(executable_path=browser, args=options)
        try:
            page = chromium.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console", lambda message: errors.append(message.text) if message.type == "error" else None
            )
            page.goto(url)
            yield page, errors
        finally:
            chromium.close()


def test_the_console_shows_what_was_published_and_says_when_it_ends(browser: str) -> None:
    clock = SimClock()
    board = Board(clock)
    board.publish(VIEW)
    server = HttpServer(create_app(board, console.routes()), "127.0.0.1", 0)
    server.start()
    try:
        with page_of(browser, server.url) as (page, errors):
            page.wait_for_selector("section[data-name=GC]")  # type: ignore[attr-defined]
            text = page.inner_text("body")  # type: ignore[attr-defined]
            for shown in (
                "EMP mock",
                "1,995.7",
                "1,995.8",
                "-4",
                "-12.5",
                "post, post edge",
                "RUN-00000007",
                "1/2",
            ):
                assert shown in text, shown
            board.publish(msgspec.structs.replace(VIEW, halted=True, halt_reason="daily_loss"))
            page.wait_for_selector(".pill.bad")  # type: ignore[attr-defined]
            assert not errors or all("503" in error for error in errors), errors
            server.stop()
            page.wait_for_selector("text=the engine does not answer")  # type: ignore[attr-defined]
    finally:
        server.stop()
