"""The slow context's providers: macro events by rule and by date, recorded values, and what holds at once."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.errors import ConfigError, DataError
from emp.core.instrument import catalogue, find
from emp.risk.context.calendar import Calendar, read_events, shipped_events
from emp.risk.context.port import Window, in_force
from emp.risk.context.recurrence import us_federal_holidays
from emp.risk.context.volatility import Volatility, read_values

S = 1_000_000_000
HOUR = 3_600 * S
EURUSD, GBPJPY, CL, AUDUSD = (find(name) for name in ("EURUSD", "GBPJPY", "CL", "AUDUSD"))


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


def calendar(folder: Path, text: str) -> Calendar:
    path = folder / "events.yaml"
    path.write_text(text)
    return Calendar(read_events(path, frozenset({"XPT"})))


def at(found: Calendar | Volatility, ts: int, instrument=EURUSD) -> tuple[float, str]:
    return in_force(found.windows(instrument, ts - HOUR, ts + HOUR), ts, ts + HOUR)[:2]


def edges(found: Calendar, day: str, instrument=EURUSD) -> list[tuple[int, int]]:
    start = ns(day)
    return sorted(w[:2] for w in found.windows(instrument, start, start + 24 * HOUR))


@pytest.mark.parametrize(
    ("first", "days"),
    [
        (date(2012, 6, 1), [1]),
        (date(2013, 3, 1), [8]),  # the first Friday was the 1st
        (date(2015, 1, 1), [9]),  # the rule alone gives the 2nd
        (date(2015, 7, 1), [2]),  # 3 July was a holiday
        (date(2016, 1, 1), [8]),
        (date(2021, 4, 1), [2]),  # Good Friday is no federal holiday
        (date(2021, 10, 1), [8]),
        (date(2024, 1, 1), [5]),
    ],
)
def test_the_employment_report_comes_on_the_days_on_which_it_came(first: date, days: list[int]) -> None:
    rule = shipped_events()[0].recurrence
    assert rule is not None
    assert [day.day for day in rule.days(first, first.replace(day=28))] == days


def test_a_release_keeps_its_local_hour_across_both_changes_of_the_clock() -> None:
    shipped = Calendar(shipped_events())
    for day, hour in (("2024-03-07", 13), ("2024-03-14", 12), ("2024-10-31", 12), ("2024-11-07", 13)):
        release = ns(f"{day}T{hour}:30")
        assert edges(shipped, day) == [(release - 120 * S, release + 120 * S)]


def test_a_holiday_moves_or_cancels_a_release() -> None:
    shipped = Calendar(shipped_events())
    claims = ns("2020-11-25T13:30")  # the day before Thanksgiving
    assert (claims - 120 * S, claims + 120 * S) in edges(shipped, "2020-11-25")
    assert edges(shipped, "2020-11-26") == []
    petroleum = ns("2024-01-10T15:30")
    assert edges(shipped, "2024-01-10", CL) == [(petroleum - 120 * S, petroleum + 120 * S)]
    assert edges(shipped, "2024-01-17", CL) == []  # Monday was a holiday
    assert edges(shipped, "2023-12-05", AUDUSD)[0][0] == ns("2023-12-05T03:28")
    assert edges(shipped, "2024-02-06", AUDUSD) == []  # the days are announced since
    assert date(2021, 6, 18) in us_federal_holidays(2021)
    assert date(2021, 12, 31) in us_federal_holidays(2021)
    assert date(2020, 6, 19) not in us_federal_holidays(2020)


def test_the_third_business_day_skips_holidays_and_weekends() -> None:
    (services,) = [e for e in shipped_events() if e.name == "ISM services index"]
    assert services.recurrence is not None
    for month, day in ((date(2024, 9, 1), 5), (date(2022, 7, 1), 6), (date(2021, 4, 1), 5)):
        assert [d.day for d in services.recurrence.days(month, month.replace(day=28))] == [day]


def test_a_window_is_exact_to_the_nanosecond(tmp_path: Path) -> None:
    found = calendar(
        tmp_path,
        "events: [{name: x, currencies: [EUR], time: '2024-06-05 14:00', zone: Europe/Berlin, minutes: 1}]",
    )
    event = ns("2024-06-05T12:00")
    inside, outside = (0.0, "macro: x"), (1.0, "")
    assert at(found, event - 60 * S - 1) == outside
    assert at(found, event - 60 * S) == inside
    assert at(found, event + 60 * S - 1) == inside
    assert at(found, event + 60 * S) == outside
    assert at(found, event, GBPJPY) == outside


def test_an_instrument_without_currencies_is_concerned_by_every_event() -> None:
    unknown = msgspec.structs.replace(EURUSD, currencies=())
    start = ns("2024-01-01T00:00")
    shipped = Calendar(shipped_events())
    every = len(shipped.windows(unknown, start, start + 744 * HOUR))
    assert every == 10  # 4 claims, employment, 2 ISM, 3 petroleum: 3 and 17 January follow a holiday
    assert len(shipped.windows(EURUSD, start, start + 744 * HOUR)) == 7
    assert shipped.windows(GBPJPY, start, start + 744 * HOUR) == []


def test_every_instrument_that_ships_names_its_currencies() -> None:
    assert [name for name, one in catalogue().items() if not one.currencies] == []


def test_of_two_events_at_once_the_smaller_multiplier_holds_and_equal_ones_are_both_named(
    tmp_path: Path,
) -> None:
    found = calendar(
        tmp_path,
        """
events:
  - {name: wide, currencies: [USD], time: "2024-06-05T12:00Z", multiplier: 0.3, minutes: 30}
  - {name: b, currencies: [USD], time: "2024-06-05T12:00Z"}
  - {name: a, currencies: [EUR], time: "2024-06-05T12:01Z"}
""",
    )
    noon = ns("2024-06-05T12:00")
    assert at(found, noon - 121 * S) == (0.3, "macro: wide")
    assert at(found, noon - 120 * S) == (0.0, "macro: b")
    assert at(found, noon) == (0.0, "macro: a; macro: b")
    assert at(found, noon + 179 * S) == (0.0, "macro: a")
    assert at(found, noon + 180 * S) == (0.3, "macro: wide")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "not valid YAML at line 1"),
        ("events: 3", "events: expected a list"),
        ("other: []", "expected one list"),
        ("events: [3]", r"events\[0\]: expected a table"),
        (
            "events: [{name: x, currencies: [UDS], time: '2024-06-05T12:00Z'}]",
            "unknown currency 'UDS' .did you",
        ),
        ("events: [{name: x, currencies: [], time: '2024-06-05T12:00Z'}]", "expected a list of codes"),
        ("events: [{name: x, currencies: [USD], time: '2024-06-05 12:00'}]", r"zone: missing"),
        ("events: [{name: x, currencies: [USD], time: 2024-06-05, zone: UTC}]", "an hour is missing"),
        ("events: [{name: x, currencies: [USD], time: soon, zone: UTC}]", "expected a time"),
        ("events: [{name: x, currencies: [USD], time: '2024-06-05 12:00', zone: Mars}]", "unknown time zone"),
        (
            "events: [{name: x, currencies: [USD], time: '2024-03-10 02:30', zone: America/New_York}]",
            "the clock changes",
        ),
        (
            "events: [{name: x, currencies: [USD], time: '2024-11-03 01:30', zone: America/New_York}]",
            "the clock changes",
        ),
        ("events: [{name: x, currencies: [USD], at: '12:00', zone: UTC}]", "a rule needs"),
        ("events: [{name: x, currencies: [USD], zone: UTC}]", "expected either `time`"),
        ("events: [{name: x, currencies: [USD], at: 750, zone: UTC, weekday: fri}]", "in quotes"),
        (
            "events: [{name: x, currencies: [USD], at: '12:00', zone: UTC, weekday: fri, nth: 5}]",
            "every month",
        ),
        ("events: [{name: x, currencies: [USD], time: '2024-06-05T12:00Z', nth: 1}]", "belongs to a rule"),
        ("events: [{name: x, currencies: [USD], time: '2024-06-05T12:00Z', minutes: 0}]", "minutes"),
        ("events: [{name: x, currencies: [USD], time: '2024-06-05T12:00Z', multiplier: 0.5}]", "0 or 0.3"),
        ("events: [{name: x, currencys: [USD], time: '2024-06-05T12:00Z'}]", "did you mean 'currencies'"),
    ],
)
def test_a_broken_calendar_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        calendar(tmp_path, text)
    assert "\n" not in str(refused.value)
    assert "events.yaml" in str(refused.value)


def test_a_calendar_may_name_a_currency_of_the_users_catalogue(tmp_path: Path) -> None:
    assert calendar(tmp_path, "events: [{name: x, currencies: [XPT], time: '2024-06-05T12:00Z'}]").events
    with pytest.raises(ConfigError, match="cannot be read"):
        read_events(tmp_path / "none.yaml")


spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.sampled_from([0.0, 0.3, 1.0])).map(
        lambda x: Window(min(x[:2]), max(x[:2]), x[2], f"{x[2]}")
    ),
    max_size=8,
)


@given(spans)
def test_what_holds_is_the_smallest_of_what_covers_an_instant_until_the_next_edge(
    found: Sequence[Window],
) -> None:
    for ts in range(62):
        now = in_force(found, ts, 100)
        covering = [w.multiplier for w in found if w.start_ns <= ts < w.end_ns]
        assert now.multiplier == min([*covering, 1.0])
        assert bool(now.reason) == (now.multiplier < 1.0)
        assert now.until_ns > ts
        for later in range(ts, min(now.until_ns, 62)):
            assert in_force(found, later, 100).multiplier == now.multiplier


def values(folder: Path, *rows: tuple[str, float]) -> Path:
    path = folder / "vix.csv"
    path.write_text("time,value\n" + "".join(f"{when},{value}\n" for when, value in rows))
    return path


def test_a_value_counts_from_its_time_on_until_the_next_one_or_until_it_is_stale(tmp_path: Path) -> None:
    rows = [("2024-08-05T12:00Z", 35.0), ("2024-08-05T13:00Z", 35.01), ("2024-08-05T14:00+00:00", 20.0)]
    vix = Volatility(values(tmp_path, *rows), 35.0, 2 * HOUR)
    noon = ns("2024-08-05T12:00")
    unknown, high = (0.3, "volatility: no recent value"), (0.3, "volatility: above 35")
    assert at(vix, noon - 1) == unknown
    assert at(vix, noon) == (1.0, "")
    assert at(vix, noon + HOUR - 1) == (1.0, "")
    assert at(vix, noon + HOUR) == high
    assert at(vix, noon + 2 * HOUR - 1) == high
    assert at(vix, noon + 2 * HOUR) == (1.0, "")
    assert at(vix, noon + 4 * HOUR - 1) == (1.0, "")
    assert at(vix, noon + 4 * HOUR) == unknown


def test_values_that_fail_are_on_the_safe_side_until_they_can_be_read(tmp_path: Path) -> None:
    path = values(tmp_path, ("2024-08-05T12:00Z", 20.0))
    vix, noon = Volatility(path, 35.0, HOUR), ns("2024-08-05T12:00")
    assert not vix.refresh()
    path.write_text("time,value\nsoon,20\n")
    assert vix.refresh()
    assert "line 2" in vix.failure
    assert at(vix, noon)[0] == 0.3
    path.unlink()
    assert vix.refresh()
    assert "cannot be read" in vix.failure
    assert not vix.refresh()
    values(tmp_path, ("2024-08-05T12:00Z", 21.0))
    assert vix.refresh()
    assert (vix.failure, at(vix, noon)[0]) == ("", 1.0)


@pytest.mark.parametrize("row", ["2024-08-05T12:00,1", "1,nan", "1,-1", "1", "5,1\n5,2", "x,1"])
def test_a_row_that_is_no_value_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "vix.csv"
    path.write_text(f"time,value\n{row}\n")
    with pytest.raises(DataError, match=r"line [23]"):
        read_values(path)
