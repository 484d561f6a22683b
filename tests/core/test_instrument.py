"""The catalogue: what ships is complete, a user's file adds and overrides, mistakes end in one line."""

from pathlib import Path

import pytest

from emp.core.codes import AssetClass, Venue
from emp.core.errors import ConfigError, UnknownInstrumentError
from emp.core.instrument import catalogue, find

REQUIRED = {
    *("AAPL", "AMZN", "GOOG", "INTC", "MSFT", "SPY", "TSLA", "GC", "6B", "6E", "ES"),
    *("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "NZDUSD", "XAUUSD", "BTCUSDT", "ETHUSDT", "A50"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_all_required_instruments_ship_with_sourced_fees() -> None:
    known = catalogue()
    assert set(known) >= REQUIRED
    for name, instrument in known.items():
        assert instrument.name == name
        assert instrument.sessions
        assert len(instrument.fee_source) > 10
        assert instrument.tick > 0
        assert instrument.lot > 0


def test_facts_of_a_future() -> None:
    gold = find("GC")
    assert (gold.tick, gold.point_value, gold.venue, gold.asset_class) == (
        0.1,
        100.0,
        Venue.GLOBEX,
        AssetClass.FX_FUT,
    )
    assert gold.taker_fee == pytest.approx(2.47 / (gold.tick * gold.point_value))


def test_own_file_adds_and_overrides(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        calendars:
          mornings:
            sessions: [{session: ny, start: "09:30", end: "12:00", zone: America/New_York}]
        instruments:
          ACME: {tick: 1e-2, lot: 1, venue: nasdaq, asset_class: equity, taker_fee: 0.1, maker_fee: -0.2,
                 fee_source: my contract, calendar: mornings}
          GOOG: {taker_fee: 0.3}
          AAPL: {calendar: mornings}
        """,
    )
    known = catalogue(path)
    assert known["ACME"].tick == 0.01
    assert known["ACME"].sessions[0].end == "12:00"
    assert known["GOOG"].taker_fee == 0.3
    assert known["GOOG"].sessions == catalogue()["GOOG"].sessions
    assert known["AAPL"].sessions == known["ACME"].sessions
    assert known["AAPL"].holidays == ()
    assert catalogue()["GOOG"].taker_fee == 0.5


def entry(more: str) -> str:
    fields = (
        "tick: 0.01, lot: 1, venue: nasdaq, asset_class: equity, taker_fee: 0, maker_fee: 0, fee_source: x"
    )
    return f"instruments: {{X: {{{fields}, {more}}}}}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("instrumnets: {}", "instrumnets: unknown key; did you mean 'instruments'?"),
        ("instruments: {GOOG: {tik: 0.01}}", "instruments.GOOG.tik: unknown key; did you mean 'tick'?"),
        ("instruments: {GOOG: {tick: penny}}", "instruments.GOOG.tick: expected a number, got str 'penny'"),
        ("instruments: {GOOG: {tick: true}}", "instruments.GOOG.tick: expected a number"),
        ("instruments: {GOOG: {tick: -1}}", "instruments.GOOG.tick: expected a positive number"),
        ("instruments: {GOOG: {tick: .nan}}", "instruments.GOOG.tick: expected a positive number"),
        ("instruments: {GOOG: {margin: -0.1}}", "instruments.GOOG.margin: expected a share from 0"),
        ("instruments: {GOOG: {margin: 30}}", "instruments.GOOG.margin: expected a share from 0"),
        ("instruments: {GOOG: {swap_time: 17}}", "instruments.GOOG.swap_time: expected a time"),
        ("instruments: {GOOG: {swap_zone: Mars}}", "instruments.GOOG.swap_zone: unknown time zone"),
        ("instruments: {GOOG: {swap_triple: sun}}", "instruments.GOOG.swap_triple: expected one of"),
        ("instruments: {GOOG: {venue: nyse}}", "instruments.GOOG.venue: expected one of nasdaq"),
        ("instruments: {GOOG: {calendar: mars}}", "instruments.GOOG.calendar: unknown calendar 'mars'"),
        ("instruments: {GOOG: 3}", "instruments.GOOG: expected a table of fields, got int 3"),
        ("instruments: {X: {tick: 0.01}}", "instruments.X: the field 'lot' is missing"),
        (entry("day_zone: UTC"), "instruments.X: the field 'sessions' is missing"),
        (
            entry('sessions: [{session: ny, start: 17:00, end: "18:00"}]'),
            'instruments.X.sessions[0].start: expected a time "HH:MM" in quotes, got 1020',
        ),
        (
            entry('sessions: [{session: mars, start: "17:00", end: "18:00"}]'),
            "instruments.X.sessions[0].session: expected one of asia",
        ),
        (
            entry('sessions: [{session: ny, start: "17:00", end: "18:00", days: [mo]}]'),
            "instruments.X.sessions[0].days: expected a list of mon",
        ),
        (
            entry('sessions: [{session: ny, start: "17:00", end: "18:00", zone: NY}]'),
            "instruments.X.sessions[0].zone: unknown time zone 'NY'",
        ),
        ("instruments: {GOOG: {holidays: [soon]}}", "instruments.GOOG.holidays[0]: expected a date"),
        ("instruments: {GOOG: {tick: [}}", "not valid YAML at line 1"),
        ("just text", "expected the tables 'calendars' and 'instruments'"),
    ],
)
def test_a_mistake_ends_in_one_line_that_names_its_path(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        catalogue(path)
    message = str(error.value)
    assert says in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_a_missing_file_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot be read: No such file"):
        catalogue(tmp_path / "nowhere.yaml")


def test_unknown_instrument_says_how_to_add_it_and_what_was_meant() -> None:
    with pytest.raises(UnknownInstrumentError) as error:
        find("eurusd ")
    message = str(error.value)
    assert "did you mean EURUSD" in message
    assert "instruments:" in message
    assert "\n" not in message


def test_the_entry_that_the_message_proposes_works(tmp_path: Path) -> None:
    with pytest.raises(UnknownInstrumentError) as error:
        find("ZZZZ")
    proposed = str(error.value).split("'")[3]
    assert find("ZZZZ", write(tmp_path, proposed)).name == "ZZZZ"
