"""The page of all runs: what `emp runs` says of them, read by a process of its own."""

import asyncio
import json
import re
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emp.app.console import run_pages
from tests.console.kit import served
from tests.console.test_page import no_sideways, text_of, until
from tests.kit.backtests import backtest, kill
from tests.kit.events import random_events
from tests.kit.models import engine

pytestmark = pytest.mark.usefixtures("compiled_engine")
EVENTS = random_events(2_500, 5)
FIRST, SECOND = "replay-GOOG-AAAAAAAA", "replay-GOOG-BBBBBBBB"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended and one that was killed."""
    folder = tmp_path_factory.mktemp("runs")
    ended = backtest(folder, engine(folder / "model"), EVENTS, FIRST)
    summary = ended.run()
    assert ended.journal is not None
    ended.journal.folder.write_summary(summary)
    kill(backtest(folder, engine(folder / "model"), EVENTS, SECOND), after=3)
    shutil.rmtree(folder / "model")
    return folder


def test_a_run_that_has_not_begun_knows_of_no_others() -> None:
    with served() as page:
        assert page.ask("GET", "/runs.json").status == 503


def answered(page: Any, path: str) -> Any:
    """The answer that the page gets, who asks again while it is read."""
    while (found := page.ask("GET", path)).status == run_pages.ASK_AGAIN:
        pass
    return found


def test_the_list_is_what_emp_runs_says(runs: Path) -> None:
    with served() as page:
        page.console.attach(runs / FIRST)
        told = answered(page, "/runs.json").told
        assert [(Path(one["folder"]).name, one["state"]) for one in told["runs"]] == [
            (FIRST, "ended"),
            (SECOND, "unfinished"),
        ]
        summary = json.loads((runs / FIRST / "summary.json").read_text())
        assert told["runs"][0]["pnl_ticks"] == summary["pnl_ticks"]
        both = answered(page, f"/runs.json?compare={FIRST}&compare={SECOND}").told
        assert both["runs"] == [FIRST, SECOND]
        assert "fills" in both["differences"]


@pytest.mark.parametrize("error", [OSError("no process to be had"), RuntimeError("no answer of ours")])
def test_runs_that_cannot_be_read_are_no_endless_wait(
    runs: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def failing(self: run_pages.RunPages, names: tuple[str, ...]) -> bytes:
        raise error

    monkeypatch.setattr(run_pages.RunPages, "_read", failing)
    with served() as page:
        page.console.attach(runs / FIRST)
        assert page.ask("GET", "/runs.json").status == 503


@pytest.mark.parametrize(
    "query",
    [
        f"compare={FIRST}",
        f"compare={FIRST}&compare=..",
        f"compare={FIRST}&compare=%2Fetc",
        f"compare={FIRST}&compare=--help",
        f"compare={FIRST}&compare={FIRST}%2F..%2F{SECOND}",
        "&".join([f"compare={FIRST}"] * 9),
    ],
)
def test_nothing_but_runs_of_the_list_is_compared(runs: Path, query: str) -> None:
    with served() as page:
        page.console.attach(runs / FIRST)
        assert page.ask("GET", f"/runs.json?{query}").status == 400


def test_off_loopback_the_runs_need_a_login_too(runs: Path) -> None:
    with served(login=True) as page:
        page.console.attach(runs / FIRST)
        assert page.ask("GET", "/runs.json").status == 401
        assert page.ask("GET", "/runs").status == 401


def test_folders_are_not_read_for_every_page_that_asks(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []
    real = run_pages.RunPages._read

    async def counted(self: run_pages.RunPages, names: tuple[str, ...]) -> bytes:
        read.append(names)
        return await real(self, names)

    monkeypatch.setattr(run_pages.RunPages, "_read", counted)
    monkeypatch.setattr(run_pages, "KEPT_S", 3_600.0)
    with served() as page:
        page.console.attach(runs / FIRST)
        answers = [answered(page, "/runs.json").body for _ in range(3)]
    assert read == [()]
    assert len(set(answers)) == 1


def test_what_takes_long_to_read_is_asked_for_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []
    real = run_pages.RunPages._read

    async def slow(self: run_pages.RunPages, names: tuple[str, ...]) -> bytes:
        read.append(names)
        await asyncio.sleep(1.0)
        return await real(self, names)

    monkeypatch.setattr(run_pages.RunPages, "_read", slow)
    monkeypatch.setattr(run_pages, "WAIT_S", 0.1)
    monkeypatch.setattr(run_pages, "KEPT_S", 3_600.0)
    with served() as page:
        page.console.attach(runs / FIRST)
        answers = [page.ask("GET", "/runs.json")]
        while answers[-1].status == run_pages.ASK_AGAIN:
            answers.append(page.ask("GET", "/runs.json"))
    assert len(answers) > 5
    assert answers[0].body == "the runs are being read: ask again\n"
    assert answers[-1].status == 200
    assert read == [()], "it is read once, however often it is asked for"


def test_who_comes_back_late_gets_what_was_read_for_him(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, ...]] = []

    async def slow(self: run_pages.RunPages, names: tuple[str, ...]) -> bytes:
        read.append(names)
        await asyncio.sleep(0.3)
        return b"{}"

    monkeypatch.setattr(run_pages.RunPages, "_read", slow)
    monkeypatch.setattr(run_pages, "WAIT_S", 0.1)
    monkeypatch.setattr(run_pages, "KEPT_S", 0.0)
    with served() as page:
        page.console.attach(runs / FIRST)
        assert page.ask("GET", "/runs.json").status == run_pages.ASK_AGAIN
        time.sleep(0.5)
        assert page.ask("GET", "/runs.json").status == 200, "however old it is by now"
        assert page.ask("GET", "/runs.json").status == run_pages.ASK_AGAIN, (
            "the next one is not given it again"
        )
    assert len(read) == 2


def test_the_page_asks_again_for_what_is_being_read(
    runs: Path, open_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_pages, "WAIT_S", 0.05)
    monkeypatch.setattr(run_pages, "KEPT_S", 3_600.0)
    with served() as page:
        page.console.attach(runs / FIRST)
        tab = open_page(page.server.url + "/runs", 390)
        until(tab, "document.querySelector('#state').textContent === 'the runs are being read'")
        tab.wait_for_selector("#runs tbody tr:nth-child(2)")


def test_what_cannot_be_read_is_said_and_kept_for_nobody(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_pages.sys, "executable", "/bin/false")
    with served() as page:
        page.console.attach(runs / FIRST)
        assert page.ask("GET", "/runs.json").status == 503
        monkeypatch.undo()
        monkeypatch.setattr(run_pages, "KEPT_S", 0.0)
        assert page.ask("GET", "/runs.json").status == 200


def test_runs_are_chosen_and_compared_on_the_page(runs: Path, open_page: Any) -> None:
    with served() as page:
        page.console.attach(runs / FIRST)
        tab = open_page(page.server.url + "/runs", 390)
        tab.wait_for_selector("#runs tbody tr:nth-child(2)")
        shown = text_of(tab, "#runs")
        for name, state in ((FIRST, "ended"), (SECOND, "unfinished")):
            assert re.search(f"{name} .*{state}", shown), shown
        assert no_sideways(tab)
        assert tab.is_disabled("#compare")
        for box in tab.query_selector_all("#runs input"):
            box.check()
        tab.click("#compare")
        tab.wait_for_selector("#differences:visible tbody tr")
        assert "fills" in text_of(tab, "#table")
        until(tab, "/\\d+ differences/.test(document.querySelector('#state').textContent)")
        assert no_sideways(tab)


def test_a_server_that_ends_leaves_no_reader_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    real = asyncio.create_subprocess_exec

    async def slow(*_: str, **told: Any) -> asyncio.subprocess.Process:
        started.append(await real("sleep", "600", **told))
        return started[0]

    async def ended_meanwhile() -> None:
        pages = run_pages.RunPages()
        pages.folder = tmp_path
        reading = asyncio.create_task(pages._read(()))
        while not started:
            await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    with ThreadPoolExecutor(1) as apart:  # the browser's loop runs in this thread
        apart.submit(lambda: asyncio.run(ended_meanwhile())).result()
    assert started[0].returncode == -signal.SIGKILL
