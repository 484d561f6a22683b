"""What a venue states, as inputs: told when it is new, in money that is the account's, never guessed."""

import asyncio
from collections.abc import Sequence

import pytest

from emp.access.port import StatesTerms, VenueFinancing, VenueMargin
from emp.core.contracts import Control
from emp.core.errors import VenueError
from emp.engine.venue_terms import NIGHTS_A_YEAR, VenueTerms
from tests.engine.test_account_limits import EURUSD, STOCK, Desk

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000


class Stated:
    """An access that states what the test says."""

    def __init__(self) -> None:
        self.rolls = [VenueFinancing(instrument="EURUSD", long=-6.5, short=1.5, minute=1_320, triple=2)]
        self.now: VenueMargin | VenueError = VenueMargin(
            currency="EUR", equity=1_000.0, used=10.0, lots={"EURUSD": 33.0}
        )

    def financing(self) -> Sequence[VenueFinancing]:
        return self.rolls

    async def margin(self) -> VenueMargin:
        if isinstance(self.now, VenueError):
            raise self.now
        return self.now


def told(terms: VenueTerms, desk: Desk) -> list[tuple[str, str, float]]:
    found: list[Control] = asyncio.run(terms.look(lambda: desk.ts))
    for one in found:
        desk.driver.control(one)
    return [(one.action, one.reason, one.value) for one in found]


def test_financing_is_told_once_and_again_when_it_changes() -> None:
    desk, venue = Desk(EURUSD), Stated()
    assert isinstance(venue, StatesTerms)
    terms = VenueTerms(desk.engine, venue)
    assert told(terms, desk) == [
        ("terms", "minute", 1_320.0),
        ("terms", "triple", 2.0),
        ("terms", "long", -6.5),
        ("terms", "short", 1.5),
    ]
    assert told(terms, desk) == []
    venue.rolls = [VenueFinancing(instrument="EURUSD", long=-6.5, short=1.0)]
    assert told(terms, desk) == [("terms", "short", 1.0)]
    assert desk.engine.desk.financing["rate_short"][0] == 1.0
    assert desk.engine.desk.financing["at_minute"][0] == 1_320


def test_a_rate_a_year_is_worth_a_night_of_the_price() -> None:
    desk, venue = Desk(EURUSD), Stated()
    venue.rolls = [VenueFinancing(instrument="EURUSD", long=-3.6, short=0.0, percent=True)]
    terms = VenueTerms(desk.engine, venue)
    assert told(terms, desk) == [], "there is no price yet"
    desk.move(0)
    ((_, _, long), (_, _, short)) = told(terms, desk)
    assert long == pytest.approx(-3.6 / 100 / NIGHTS_A_YEAR * 100_001.0, rel=1e-4)
    assert short == 0.0
    desk.move(0, 500)
    assert told(terms, desk) == [], "it follows the price from roll to roll, not from tick to tick"


def test_margin_is_told_when_it_changes_or_grows_old() -> None:
    desk, venue = Desk(EURUSD, min_margin_level=1.0, margin_max_age_ns=60 * S), Stated()
    venue.rolls = []
    desk.move(0)
    terms = VenueTerms(desk.engine, venue)
    assert told(terms, desk) == [
        ("margin", "lot", 33.0),
        ("margin", "equity", 1_000.0),
        ("margin", "used", 10.0),
    ]
    assert told(terms, desk) == []
    desk.move(0, wait=31 * S)
    assert told(terms, desk) == [("margin", "equity", 1_000.0), ("margin", "used", 10.0)]
    venue.now = VenueMargin(currency="EUR", equity=900.0, used=10.0, lots={"EURUSD": 66.0})
    assert told(terms, desk) == [
        ("margin", "lot", 66.0),
        ("margin", "equity", 900.0),
        ("margin", "used", 10.0),
    ]
    assert desk.engine.desk.exposure["margin"][0] == pytest.approx(0.066, rel=0.01)


def test_margin_in_other_money_or_unanswered_is_not_told() -> None:
    desk, venue = Desk(STOCK, EURUSD, min_margin_level=1.0), Stated()
    venue.rolls, terms = [], VenueTerms(desk.engine, venue)
    venue.now = VenueMargin(currency="JPY", equity=1e6, used=0.0, lots={})
    assert told(terms, desk) == []
    assert "counts in JPY" in terms.problem
    venue.now = VenueError("no answer")
    assert told(terms, desk) == []
    assert terms.problem == "no answer"
    venue.now = VenueMargin(currency="EUR", equity=1e6, used=0.0, lots={})
    assert len(told(terms, desk)) == 2
    assert terms.problem == ""


def test_margin_that_nobody_limits_is_not_asked_for() -> None:
    desk, venue = Desk(EURUSD), Stated()
    venue.rolls, venue.now = [], VenueError("it was asked for")
    terms = VenueTerms(desk.engine, venue)
    assert told(terms, desk) == []
    assert terms.problem == ""


def test_a_statement_that_crossed_the_report_of_a_fill_is_mended_at_the_second_look() -> None:
    desk, venue = Desk(EURUSD, min_margin_level=1.0, margin_max_age_ns=3_600 * S), Stated()
    venue.rolls = []
    desk.move(0)
    terms, folio = VenueTerms(desk.engine, venue), desk.engine.desk.portfolio
    told(terms, desk)  # a lot is in `used` already whose fill we have not heard of
    folio["used"] = folio["used_then"] + 33.0  # now we have: it counts twice
    assert told(terms, desk) == [], "at the first look the venue may be the one that is behind"
    assert told(terms, desk) == [("margin", "equity", 1_000.0), ("margin", "used", 10.0)]
    assert folio["used"][0] == folio["used_then"][0]
    assert told(terms, desk) == []
    folio["used"] = folio["used_then"] + 12.0  # prices have moved
    assert told(terms, desk) == told(terms, desk) == []
    for change in (33.0, -33.0, 33.0):  # opened and closed again between two looks
        folio["used"] = folio["used_then"] + change
        assert told(terms, desk) == []
