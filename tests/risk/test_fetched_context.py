"""Context that is fetched: on the safe side before an answer and behind an old one, exact windows in between."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from emp.app.wiring.context import recorded_context
from emp.app.wiring.openbb import fetch
from emp.core.config.config import Context, OpenBB
from emp.core.errors import ConfigError
from emp.core.instrument import find
from emp.engine.context import SlowContext
from emp.risk.context.fetched import Facts, Fetched
from emp.risk.context.port import SAFE, in_force

S = 1_000_000_000
HOUR = 3_600 * S
EURUSD, AAPL = find("EURUSD"), find("AAPL")
ALL = OpenBB(calendar="fmp", volatility="cboe", earnings="nasdaq")


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * S


NOW = ns("2024-03-06T12:00:00+00:00")  # a Wednesday


class Answers:
    """OpenBB's documented rows, by standard model; an exception in the place of rows is raised."""

    def __init__(self, **rows: Any) -> None:
        self.rows, self.asked = rows, list[tuple[str, str, dict[str, Any]]]()

    def __call__(self, provider: str, model: str, params: dict[str, Any]) -> Any:
        self.asked.append((provider, model, params))
        found = self.rows[model]
        if isinstance(found, Exception):
            raise found
        return found


def event(when: datetime | None, country: str, importance: str | None, **more: Any) -> Any:
    return SimpleNamespace(
        date=when, country=country, importance=importance, event="CPI", currency=None, **more
    )


def rows() -> dict[str, Any]:
    return {
        "EconomicCalendar": [
            event(datetime(2024, 3, 7, 13, 30), "United States", "High"),
            event(datetime(2024, 3, 7, 10, 0, tzinfo=UTC), "euro_area", "high"),
            event(datetime(2024, 3, 7, 9, 0), "United States", "Low"),
            event(datetime(2024, 3, 7, 8, 0), "Atlantis", "High"),
            event(None, "United States", "High"),
        ],
        "IndexHistorical": [
            SimpleNamespace(date=date(2024, 3, 5), close=36.0),
            SimpleNamespace(date=date(2024, 3, 4), close=14.0),
        ],
        "CalendarEarnings": [SimpleNamespace(symbol="AAPL", report_date=date(2024, 3, 7))],
    }


def provider(fetches: Callable[[int], Facts], clock: list[int]) -> Fetched:
    return Fetched(
        "openbb",
        fetches,
        lambda: clock[0],
        every_ns=6 * HOUR,
        max_age_ns=24 * HOUR,
        above=35.0,
        value_max_age_ns=96 * HOUR,
    )


def at(one: Fetched, instrument: Any, ts: int) -> tuple[float, str]:
    found = in_force(one.windows(instrument, ts, ts + S), ts, ts + S)
    return found.multiplier, found.reason


def test_rows_become_windows_to_the_second() -> None:
    answers, clock = Answers(**rows()), [NOW]
    one = provider(lambda now: fetch(ALL, answers, now), clock)
    assert at(one, EURUSD, NOW) == (SAFE, "openbb: no recent answer")
    assert one.failure == "openbb: nothing was fetched yet"
    one.take()
    assert one.failure == ""
    assert one.refresh()
    assert not one.refresh()
    assert [(p, m) for p, m, _ in answers.asked] == [
        ("fmp", "EconomicCalendar"),
        ("cboe", "IndexHistorical"),
        ("nasdaq", "CalendarEarnings"),
    ]
    assert answers.asked[1][2]["symbol"] == "VIX"
    assert at(one, EURUSD, NOW) == (0.3, "volatility: above 35")
    # the release, two minutes either side, whatever the index says; and the euro's own
    for release in ("2024-03-07T13:30:00+00:00", "2024-03-07T10:00:00+00:00"):
        t = ns(release)
        assert at(one, EURUSD, t - 120 * S) == at(one, EURUSD, t + 120 * S - 1) == (0.0, "macro: CPI")
        assert at(one, EURUSD, t - 120 * S - 1)[0] == at(one, EURUSD, t + 120 * S)[0] == 0.3
    for nothing in ("2024-03-07T09:00:00+00:00", "2024-03-07T08:00:00+00:00"):
        assert at(one, EURUSD, ns(nothing))[0] == 0.3, "not important, or of a country unknown"
    assert "earnings: AAPL" in at(one, AAPL, ns("2024-03-07T05:00:00+00:00"))[1]
    assert "earnings: AAPL" not in at(one, AAPL, ns("2024-03-07T04:59:59+00:00"))[1]
    assert "earnings: AAPL" not in at(one, EURUSD, ns("2024-03-07T15:00:00+00:00"))[1]


def test_an_answer_that_grows_old_is_on_the_safe_side_to_the_nanosecond() -> None:
    calm = {**rows(), "IndexHistorical": [SimpleNamespace(date=date(2024, 3, 5), close=14.0)]}
    answers, clock = Answers(**calm), [NOW]
    settings = OpenBB(volatility="cboe")
    one = provider(lambda now: fetch(settings, answers, now), clock)
    one.take()
    assert at(one, EURUSD, NOW) == (1.0, "")
    answers.rows["IndexHistorical"] = OSError("no route to host\nand more")
    clock[0] = NOW + 6 * HOUR
    one.take()
    assert one.failure == "", "what is known is still young"
    assert at(one, EURUSD, NOW + 24 * HOUR - 1) == (1.0, "")
    assert at(one, EURUSD, NOW + 24 * HOUR) == (SAFE, "openbb: no recent answer")
    clock[0] = NOW + 24 * HOUR
    assert one.failure == "openbb: OSError: no route to host"
    asked = len(answers.asked)
    one.take()
    assert len(answers.asked) == asked + 1
    one.take()
    assert len(answers.asked) == asked + 1, "it is not asked again at once"
    answers.rows = calm
    clock[0] += 6 * HOUR
    one.take()
    assert one.failure == ""
    assert at(one, EURUSD, clock[0]) == (1.0, "")
    assert at(one, EURUSD, clock[0] - 1)[0] == SAFE, "what came now was not known then"


def test_a_second_answer_in_time_leaves_no_gap() -> None:
    answers, clock = Answers(IndexHistorical=[SimpleNamespace(date=date(2024, 3, 5), close=14.0)]), [NOW]
    settings = OpenBB(volatility="cboe")
    one = provider(lambda now: fetch(settings, answers, now), clock)
    one.take()
    clock[0] = NOW + 6 * HOUR
    one.take()
    assert at(one, EURUSD, clock[0] - 1) == (1.0, ""), "an event that was under way when the answer came"


@pytest.mark.parametrize(
    "broken",
    [
        TimeoutError(),
        ValueError("no key"),
        [],
        [SimpleNamespace(date=date(2024, 3, 5), close=None)],
        [object()],
    ],
)
def test_whatever_goes_wrong_in_one_answer_none_of_it_counts(broken: Any) -> None:
    answers, clock = Answers(**{**rows(), "IndexHistorical": broken}), [NOW]
    one = provider(lambda now: fetch(ALL, answers, now), clock)
    one.take()
    assert at(one, EURUSD, NOW) == (SAFE, "openbb: no recent answer")
    assert one.failure.startswith("openbb: ")
    assert "\n" not in one.failure


def test_it_is_one_provider_among_others() -> None:
    answers, clock = Answers(**rows()), [NOW]
    one = provider(lambda now: fetch(ALL, answers, now), clock)
    slow = SlowContext([EURUSD], [one])
    first = slow.change(0, NOW)
    assert first is not None
    assert first.value == SAFE
    one.take()
    assert slow.look()
    slow.renew()
    change = slow.change(0, ns("2024-03-07T13:29:00+00:00"))
    assert change is not None
    assert (change.value, change.reason) == (0.0, "macro: CPI")


def test_a_recording_is_not_traded_by_what_a_service_says_today() -> None:
    with pytest.raises(ConfigError, match=r"context\.openbb"):
        recorded_context(Context(openbb=ALL), [EURUSD])


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from emp.app.wiring.context import providers_of

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"context\.openbb: openbb_core is not installed \(extra context\)"):
        providers_of(Context(openbb=ALL))
