"""A market that is shut is silent, and nobody need be woken for it; by the clock, since no event tells."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from emp.core.codes import Session
from emp.core.instrument import catalogue
from emp.engine.hours import Hours
from tests.live.world import World

SECOND = 1_000_000_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


FRIDAY, SATURDAY, SUNDAY = at("2026-11-20T20:00:00"), at("2026-11-21T12:00:00"), at("2026-11-22T23:30:00")


def test_a_weekend_is_no_silence_and_ends_by_the_clock() -> None:
    hours = Hours([catalogue()["EURUSD"]])
    assert hours.silent_ms(0, FRIDAY + 7 * SECOND, FRIDAY) == 7_000.0
    assert hours.silent_ms(0, SATURDAY, FRIDAY) == 0.0
    opened = hours.opened_ns(0, SUNDAY)
    assert opened is not None
    assert SATURDAY < opened < SUNDAY
    assert hours.silent_ms(0, opened - 1, FRIDAY) == 0.0
    assert hours.silent_ms(0, opened + 2 * SECOND, FRIDAY) == 2_000.0, (
        "it is not as silent as the weekend was long"
    )


def test_sessions_that_follow_each_other_are_one() -> None:
    hours = Hours([catalogue()["EURUSD"]])
    midweek = at("2026-11-18T15:00:00")
    opened = hours.opened_ns(0, midweek)
    assert opened is not None
    assert midweek - opened > 8 * 3600 * SECOND


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_instrument_is_open_at_some_time_and_its_calendar_goes_on(name: str) -> None:
    hours = Hours([catalogue()[name]])
    week = [hours.opened_ns(0, FRIDAY + k * 3600 * SECOND) for k in range(24 * 8)]
    assert any(found is not None for found in week)
    assert all(found is None or found <= FRIDAY + k * 3600 * SECOND for k, found in enumerate(week))


class Forex(World):
    instrument = catalogue()["EURUSD"]


@pytest.mark.usefixtures("compiled_engine")
def test_no_alarm_is_raised_over_a_market_that_closed_after_its_last_event(tmp_path: Path) -> None:
    world = Forex(tmp_path)
    seen = world.viewer._seen[0]
    seen.events, seen.last_ts = 1, at("2026-11-20T20:59:00")
    world.engine.desk.perception["session_id"] = int(Session.NY)
    seen.at_ns = world.clock.monotonic_ns() - 3 * SECOND
    assert world.viewer.stale_ms(0) == pytest.approx(3_000.0, abs=1_000)
    seen.at_ns = world.clock.monotonic_ns() - 6 * 3600 * SECOND  # it is the weekend by now
    assert world.viewer.stale_ms(0) == 0.0
    world.taps.close()
    world.ledger.close()
