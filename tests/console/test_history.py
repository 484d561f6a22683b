"""What pages that come late or come back are told: everything that is kept, in order, once."""

import itertools
import json
import math

import msgspec
import pytest

from emp.observe import history as history_module
from emp.observe.history import KEPT, RINGS, History, encoded
from tests.console.kit import DECISION, FILL, GOLD, SILVER, view

SECOND = 1_000_000_000


def fed(history: History, views: int, apart_ns: int = 100_000_000, first: int = 0) -> None:
    for i in range(first, first + views):
        one = msgspec.structs.replace(GOLD, last_ts=i * apart_ns, position=i, bid=100 + i, ask=102 + i)
        history.add(view(one, now_ns=i * apart_ns))


def test_samples_are_a_quarter_of_a_second_apart_and_tell_the_moment() -> None:
    history = History()
    fed(history, 21)
    lines = history.of("GC")["lines"]
    assert lines["ts"] == [i * 100_000_000 for i in (0, 3, 6, 9, 12, 15, 18)]
    assert lines["position"] == [0, 3, 6, 9, 12, 15, 18]
    assert lines["bid"][1] == 103
    assert (lines["low"][0], lines["high"][0]) == (-1.0, 1.2)
    book = history.of("GC")["books"]["levels"][0]
    assert (book[:3], book[10:13], book[20:22], book[30:32]) == (
        [19_957, 19_956, 0],
        [12, 40, 0],
        [19_958, 0],
        [9, 0],
    )


def test_what_is_old_is_coarser_and_nothing_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = tuple((apart, size // 20) for apart, size in RINGS)
    monkeypatch.setattr(history_module, "RINGS", rings)
    monkeypatch.setattr(history_module, "BOOKS_SENT", 60)
    history = History()
    fed(history, 1_500, apart_ns=250_000_000)
    found = history.of("GC")
    ts = found["lines"]["ts"]
    assert ts == sorted(set(ts))
    steps = [b - a for a, b in itertools.pairwise(ts)]
    assert steps[0] == 30 * SECOND
    assert steps[-1] == 250_000_000
    assert 2 * SECOND in steps
    assert ts[0] == 0
    assert len(ts) <= sum(size for _, size in rings)
    assert len(found["books"]["ts"]) == 60
    assert found["books"]["ts"][-1] == ts[-1]


def test_a_page_gets_what_is_newer_than_it_has_and_each_row_once_unless_it_changed() -> None:
    history = History()
    fed(history, 3)
    has = history.stamp
    assert len(history.of("GC")["decisions"]) == 1
    fed(history, 4, first=3)
    since = history.since(has)["GC"]
    assert since["lines"]["position"] == [3, 6]
    assert (since["decisions"], since["recent_fills"]) == ([], [])
    known = msgspec.structs.replace(DECISION, came_ticks=2.0)
    brought = msgspec.structs.replace(FILL, realised_ticks=-1.0)
    has = history.stamp
    history.add(view(msgspec.structs.replace(GOLD, decisions=(known,), recent_fills=(brought,))))
    since = history.since(has)["GC"]
    assert (since["decisions"], since["recent_fills"]) == ([known], [brought])
    assert history.of("GC")["decisions"] == [known]
    assert history.since(history.stamp)["GC"]["lines"]["ts"] == []


def test_lists_are_bounded_and_in_order_and_survive_that_a_view_holds_only_the_newest() -> None:
    history = History()
    for i in range(1, 2_000):
        rows = tuple(msgspec.structs.replace(DECISION, n=n) for n in range(i, max(0, i - 20), -1))
        history.add(view(msgspec.structs.replace(GOLD, decisions=rows), now_ns=i))
    kept = [row.n for row in history.of("GC")["decisions"]]
    assert kept == list(range(2_000 - KEPT["decisions"], 2_000))


def test_whether_everything_since_a_stamp_is_still_here() -> None:
    history = History()
    fed(history, 10)
    assert history.reaches(0)
    assert history.reaches(history.stamp)
    assert not history.reaches(history.stamp + 1), "another process counted that"
    fed(history, 3 * RINGS[0][1], apart_ns=250_000_000, first=10)
    assert not history.reaches(5)
    assert history.reaches(history.stamp - 100)


def test_what_is_not_known_is_null_and_no_instrument_but_those_that_were_seen_is_there() -> None:
    history = History()
    history.add(view(msgspec.structs.replace(SILVER, unrealised_ticks=None)))
    assert history.of("XX") == {}
    found = history.of("SI")
    assert math.isnan(found["lines"]["unrealised"][0])
    told = json.loads(encoded(found))
    assert told["lines"]["unrealised"] == [None]
    assert told["lines"]["low"] == [None]
    history.add(view(msgspec.structs.replace(SILVER, bid=0, ask=0), now_ns=5 * SECOND))
    assert len(history.of("SI")["lines"]["ts"]) == 1, "without a book there is no moment"
