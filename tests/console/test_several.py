"""Controls of one instrument of a run that has two: that one is closed and halted, the other trades on."""

from pathlib import Path
from typing import Any

import pytest

from tests.console.test_controls import FLAT_MS, TRIES, Mock, serving
from tests.console.test_page import press_twice, text_of, until

OF = "emp.store.view.instruments.find((one) => one.name === '{}')"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`emp run` of two built-in markets, at fifty times their speed."""
    folder: Path = tmp_path_factory.mktemp("two")
    with serving(folder, EMP_INSTRUMENTS__NAMES="GOOG,TSLA") as mock:
        yield mock


def test_a_kill_of_one_is_flat_in_time_and_the_other_trades_on(two: Mock, open_page: Any) -> None:
    tab = open_page(two.address)
    goog, tsla = OF.format("GOOG"), OF.format("TSLA")
    until(tab, "emp.store.view?.instruments.length === 2", seconds=60)
    tab.select_option("#scope", "TSLA")
    took: list[float] = []
    for _ in range(TRIES):
        until(tab, f"{tsla}.position !== 0", seconds=120)
        press_twice(tab, "kill")
        until(tab, "document.querySelector('#answer').dataset.ms > 0")
        took.append(tab.evaluate("Number(document.querySelector('#answer').dataset.ms)"))
        until(tab, f"{tsla}.position === 0 && {tsla}.open_orders.length === 0")
        tab.wait_for_selector("#health.bad >> text=risk halted: kill_switch (TSLA)")
        tab.wait_for_selector("#tabs [data-name=TSLA] >> text=halted")
        if took[-1] <= FLAT_MS:
            break
        press_twice(tab, "resume")
        tab.wait_for_selector("#answer >> text=trading again")
    assert min(took) <= FLAT_MS, took
    fills, before = tab.evaluate(f"{tsla}.fills"), tab.evaluate(f"{goog}.fills")
    until(tab, f"{goog}.fills > {before}", seconds=120)
    assert tab.evaluate(f"{tsla}.fills") == fills, "it traded although killed"
    assert tab.evaluate(f"{goog}.halted") == ""


def test_what_was_announced_is_what_is_done(two: Mock, open_page: Any) -> None:
    tab = open_page(two.address)
    until(tab, "emp.store.view?.instruments.length === 2", seconds=60)
    tab.select_option("#scope", "TSLA")
    tab.click("[data-do=halt]")
    assert "press again to halt for TSLA" in text_of(tab, "#answer")
    tab.select_option("#scope", "GOOG")
    assert tab.locator(".armed").count() == 0, "the press counted for another instrument"
    tab.click("[data-do=stop]")
    assert "press again to stop the run;" in text_of(tab, "#answer")
    tab.keyboard.press("Escape")


def test_the_picker_shows_the_instrument_that_is_chosen_on_a_phone_too(two: Mock, open_page: Any) -> None:
    tab = open_page(two.address, 390, 844, "dark")
    for name, other in (("TSLA", "GOOG"), ("GOOG", "TSLA")):
        tab.click(f"#tabs [data-name={name}]")
        until(tab, f"emp.store.one.name === '{name}' && emp.store.lines.ts.length > 0")
        assert tab.get_attribute(f"#tabs [data-name={name}]", "aria-selected") == "true"
        assert tab.get_attribute(f"#tabs [data-name={other}]", "aria-selected") == "false"
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
