"""The stamps of a venue whose clock was set back, and of one that tells again what was."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.codes import EventFlag
from emp.core.records import Array, empty_events
from emp.engine.venue_time import PATIENCE_NS, VenueTime
from tests.live.world import World, book

S = 1_000_000_000
MS = 1_000_000
NOON = 1_700_000_000 * S


def row(seq: int, ts: int, instrument: int = 0) -> Array:
    made = empty_events(1)
    made["seq"], made["ts"], made["instrument"] = seq, ts, instrument
    return made


class Feed:
    """Rows every 100 ms, from a venue whose clock is `off_ns` beyond ours."""

    def __init__(self) -> None:
        self.time = VenueTime(2)
        self.seq, self.now_ns, self.off_ns = 0, 0, 0

    def follow(self, seconds: float) -> list[tuple[int, int]]:
        """What becomes of stamps, and what they would be by our clock."""
        found = []
        for _ in range(int(seconds * 10)):
            self.seq, self.now_ns = self.seq + 1, self.now_ns + 100 * MS
            true = NOON + self.now_ns
            taken = self.time.take(row(self.seq, true + self.off_ns), self.now_ns)
            found.append((int(taken["ts"][0]), true))
        return found


def test_a_clock_that_is_right_changes_nothing() -> None:
    feed = Feed()
    rows = row(1, NOON)
    assert feed.time.take(rows, 1) is rows
    assert all(stamp == true for stamp, true in feed.follow(10))
    assert feed.time.steps == 0


def test_one_that_was_set_back_goes_on_slower_until_it_has_caught_up() -> None:
    feed = Feed()
    feed.off_ns = 30 * S
    last, _ = feed.follow(2)[-1]
    feed.off_ns = 0
    refused = [stamp for stamp, _ in feed.follow(PATIENCE_NS / S)]
    assert all(stamp < last for stamp in refused), "for a while it may be what was, told again"
    stamps = [stamp for stamp, _ in feed.follow(49)]
    assert (np.diff([last, *stamps[1:]]) > 0).all()
    assert stamps[101] - stamps[1] == pytest.approx(5 * S), "half as fast"
    assert feed.time.steps == 1
    assert all(stamp == true for stamp, true in feed.follow(30)[150:])
    assert feed.time.steps == 1


def test_the_first_row_behind_it_tells_of_a_gap() -> None:
    feed = Feed()
    feed.follow(1)
    feed.off_ns = -60 * S
    feed.follow(PATIENCE_NS / S)
    for gap in (True, False):
        feed.seq, feed.now_ns = feed.seq + 1, feed.now_ns + 100 * MS
        taken = feed.time.take(row(feed.seq, NOON + feed.now_ns + feed.off_ns), feed.now_ns)
        assert bool(taken["flags"][0] & EventFlag.GAP) is gap


def test_a_clock_that_stands_still_goes_on_too() -> None:
    """A door that lets no stamp go back lets them stand still for as long as its clock was ahead."""
    feed = Feed()
    feed.off_ns = 30 * S
    still, true = feed.follow(2)[-1]
    stamps = []
    for _ in range(300):
        feed.seq, feed.now_ns = feed.seq + 1, feed.now_ns + 100 * MS
        stamps.append(int(feed.time.take(row(feed.seq, still), feed.now_ns)["ts"][0]))
    assert stamps[:49] == [still] * 49
    assert (np.diff(stamps[49:]) > 0).all()
    assert stamps[-1] - still == pytest.approx(15 * S)
    assert feed.time.steps == 1
    feed.off_ns = 0
    assert feed.follow(1)[-1][0] == pytest.approx(stamps[-1], abs=S)
    assert true < still


def test_what_is_told_again_is_never_believed() -> None:
    """Stamps that do not run on as time does are no clock's: the same few rows for a minute, or all of them at once."""
    feed = Feed()
    feed.follow(10)
    for k in range(600):
        feed.seq, feed.now_ns = feed.seq + 1, feed.now_ns + 100 * MS
        old = row(feed.seq, NOON + (k % 3) * S)
        assert feed.time.take(old, feed.now_ns) is old
    for k in range(90):
        feed.seq += 1
        old = row(feed.seq, NOON + k * 100 * MS)
        assert feed.time.take(old, feed.now_ns) is old
    assert feed.time.steps == 0


def test_an_old_number_says_nothing_of_a_clock_and_each_instrument_has_its_own() -> None:
    time = VenueTime(2)
    time.take(row(5, NOON), 0)
    time.take(row(5, NOON - 60 * S, 1), 0)
    for k in range(100):
        late = row(5, NOON - 60 * S + k * 100 * MS)
        assert time.take(late, k * 100 * MS) is late
    assert time.steps == 0
    other = row(6, NOON - 30 * S, 1)
    assert time.take(other, 99) is other


def test_a_live_engine_sees_a_market_again_whose_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emp.engine.venue_time.PATIENCE_NS", 0)
    world = World(tmp_path)
    now = world.clock.now_ns()
    world.live.events(book(1, now + 3_600 * S, 1))
    world.live.events(book(2, now, 1))
    world.live.events(book(3, now + S, 1))
    assert world.bus.depth(0) >= 2
    world.taps.close()
    world.ledger.close()
