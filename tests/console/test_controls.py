"""Controls from the page at a real run of the built-in market: done, recorded, flat in time, and told."""

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from emp.app.console.token import NAME
from emp.core.contracts import Control
from emp.journal.reader import LedgerReader
from tests.console.test_page import press_twice, text_of, until
from tests.live.test_run import start

FLAT_MS = 200.0
TRIES = 4
"""Kills, of which the fastest counts: a busy machine is late now and then."""


class Mock(NamedTuple):
    process: Any
    folder: Path
    address: str


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Mock]:
    """`emp run` of built-in markets, at fifty times their speed."""
    with start(folder, EMP_ACCESS__SPEED="50", **settings) as process:
        try:
            assert process.stderr is not None
            address = ""
            for line in process.stderr:
                found = re.search(r"(http://\S+/#token=\S+)", address + line.strip())
                if found:
                    address = found[1]
                    break
            yield Mock(process, next(folder.glob("mock-*")), address)
        finally:
            process.send_signal(signal.SIGCONT)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mock]:
    """A run of one market."""
    with serving(tmp_path_factory.mktemp("run")) as running:
        yield running


def test_kill_is_flat_within_200_ms_of_the_press_and_recorded(mock: Mock, open_page: Any) -> None:
    tab = open_page(mock.address)
    took: list[float] = []
    for _ in range(TRIES):
        until(tab, "(emp.store.one?.position ?? 0) !== 0", seconds=60)
        tab.fill("#reason", "fire drill")
        press_twice(tab, "kill")
        until(tab, "document.querySelector('#answer').dataset.ms > 0")
        assert "flat after" in tab.inner_text("#answer")
        until(tab, "emp.store.one.position === 0 && emp.store.one.open_orders.length === 0")
        took.append(tab.evaluate("Number(document.querySelector('#answer').dataset.ms)"))
        tab.wait_for_selector("#health.bad >> text=risk halted")
        until(tab, "emp.store.view.controls[0].flat_ms !== null")
        press_twice(tab, "resume")
        tab.wait_for_selector("#answer >> text=trading again")
        tab.wait_for_selector("#health >> text=healthy")
        if took[-1] <= FLAT_MS:
            break
    assert min(took) <= FLAT_MS, took
    press_twice(tab, "halt")
    tab.wait_for_selector("#answer >> text=halt: ")
    reader = LedgerReader(mock.folder / "ledger.sqlite")
    asked = [(e.body.action, e.body.reason) for e in reader.events() if isinstance(e.body, Control)]
    reader.close()
    owners = [one for one in asked if one[0] in ("kill", "resume", "halt")]
    assert owners[-3:] == [("kill", "fire drill"), ("resume", "fire drill"), ("halt", "fire drill")]
    tab.wait_for_selector("#system dd >> text=/fire drill, flat after \\d+ ms/")
    press_twice(tab, "resume")
    tab.wait_for_selector("#answer >> text=trading again")


AGREE = """({one, recent_fills: fills, outcomes}) => {
  const held = fills.reduce((sum, f) => sum + f.side * f.qty, 0);
  return one.calibration["2s"].outcomes >= outcomes.length && (held === one.position || fills[0].n > 1);
}"""
"""Whether position and counts are those of the rows; for a moment one may be newer than the other."""


def test_the_page_shows_what_the_engine_says(mock: Mock, open_page: Any) -> None:
    tab = open_page(mock.address, 390, 844, "dark")
    until(tab, "emp.store.recent_fills.length > 0 && emp.store.outcomes.length > 0", seconds=60)
    until(
        tab, "emp.store.decisions.some((d) => d.came_ticks !== null && d.expected_ticks !== null)", seconds=60
    )
    until(tab, f"({AGREE})(emp.store)")
    found = tab.evaluate("({one: emp.store.one, fills: emp.store.recent_fills})")
    one, fills = found["one"], found["fills"]
    assert sum(one["reasons"].values()) >= sum(one["orders"].values()) > 0
    assert [fill["n"] for fill in fills] == list(range(fills[0]["n"], fills[-1]["n"] + 1))
    assert len(one["bids"]) > 0
    assert abs(one["drawdown_ticks"]) <= next(o["limit"] for o in one["limits"] if o["name"] == "drawdown")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_run_that_stands_still_is_said_and_one_that_goes_on_too(mock: Mock, open_page: Any) -> None:
    tab = open_page(mock.address, fails=True)
    tab.wait_for_selector(".card")
    samples = tab.evaluate("emp.store.lines.ts.length")
    mock.process.send_signal(signal.SIGSTOP)
    tab.wait_for_selector("#health >> text=connection lost")
    mock.process.send_signal(signal.SIGCONT)
    until(tab, "!/lost/.test(document.querySelector('#health').textContent)")
    until(tab, f"emp.store.lines.ts.length > {samples}")


def test_the_token_is_its_owners_and_stop_ends_the_run_in_order(mock: Mock, open_page: Any) -> None:
    path = mock.folder / NAME
    assert path.stat().st_mode & 0o777 == 0o600
    assert mock.address.endswith(path.read_text().strip())
    tab = open_page(mock.address, fails=True)
    tab.wait_for_selector(".card")
    press_twice(tab, "stop")
    tab.wait_for_selector("#health >> text=the run has ended")
    assert "stop: " in text_of(tab, "#answer")
    deadline = time.monotonic() + 30
    while mock.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mock.process.returncode == 0
    assert not path.exists()
    assert json.loads((mock.folder / "summary.json").read_text())["fills"] > 0
