"""Records become events of one run at a time; what is missing, doubled or not to be believed is told and counted."""

import json

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.kafka.follow import HOLD_NS
from emp.access.kafka.port import Taken
from emp.core.codes import EventFlag, Quarantine
from emp.core.market_topic import Grid
from emp.core.records import Array, fieldwise_bytes
from tests.kafka.records import (
    HOST,
    NOW_NS,
    OTHER,
    PAIR,
    RUN,
    SECOND_NS,
    cursor_of,
    follower,
    fresh,
    grid_of,
    messages,
    take,
)

UNTOLD = frozenset({"ts_recv", "seq", "instrument"})


def rows_of(parts: list) -> Array:  # type: ignore[type-arg]
    return np.concatenate([one.rows for one in parts])


def gaps(rows: Array) -> list[bool]:
    return [bool(flags & EventFlag.GAP) for flags in rows["flags"].tolist()]


def test_the_rows_are_those_that_were_mirrored_and_carry_our_time() -> None:
    made, events = follower(), fresh(50)
    [part] = take(made, messages(events))
    assert part.age_ns == 0
    assert fieldwise_bytes(part.rows, UNTOLD) == fieldwise_bytes(events, UNTOLD)
    assert part.rows["seq"].tolist() == events["seq"].tolist()
    assert set(part.rows["ts_recv"].tolist()) == {NOW_NS}
    counts = made.counts
    assert (counts.rows, counts.events, counts.gaps) == (50, 50, 0)


def test_what_is_old_is_told_apart_in_its_place() -> None:
    events = fresh(6)
    events["ts_recv"][1:3] -= 6 * SECOND_NS
    parts = take(follower(), messages(events))
    assert [len(one.rows) for one in parts] == [1, 2, 3]
    assert parts[0].age_ns == parts[2].age_ns == 0
    assert parts[1].age_ns >= 6 * SECOND_NS


def test_a_record_that_comes_again_or_late_is_quarantined() -> None:
    made, found = follower(), messages(fresh(4))
    parts = take(made, [*found[:3], found[2], found[0], found[3]])
    assert len(rows_of(parts)) == 4
    assert made.quarantined == {Quarantine.DUPLICATE: 1, Quarantine.BACKWARDS: 1}
    assert gaps(rows_of(parts)) == [False] * 4


def test_a_hole_in_the_numbers_of_a_run_with_one_instrument_is_a_gap() -> None:
    found = messages(fresh(4))
    assert gaps(rows_of(take(follower(), [found[0], *found[2:]]))) == [False, True, False]


def test_the_numbers_of_a_run_with_others_have_holes() -> None:
    found = messages(fresh(4))
    made = follower(says=grid_of(PAIR, OTHER))
    assert gaps(rows_of(take(made, [found[0], *found[2:]]))) == [False] * 3


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (b"not json", "malformed"),
        (None, "value"),
    ],
)
def test_what_cannot_be_read_is_quarantined_and_leaves_a_gap(spoilt: bytes | None, why: str) -> None:
    made, found = follower(), messages(fresh(3))
    found[1] = found[1]._replace(value=spoilt)
    assert gaps(rows_of(take(made, found))) == [False, True]
    assert made.quarantined == {Quarantine.MALFORMED: 1}
    [sample] = made.counts.samples
    assert why in sample.text
    assert made.counts.rows == made.counts.events + 1


def test_a_record_under_the_key_of_another_is_quarantined() -> None:
    made = follower(of=(PAIR, OTHER), says=grid_of(PAIR, OTHER))
    found = messages(fresh(2))
    take(made, [found[0], found[1]._replace(key=OTHER.name.encode())])
    assert made.quarantined == {Quarantine.MALFORMED: 1}
    assert take(made, [found[1]._replace(key=b"GC")]) == []
    assert made.counts.rows == 2  # another instrument of the partition is none of ours


def test_a_book_that_cannot_be_is_quarantined_and_the_gap_waits_for_a_good_one() -> None:
    events = fresh(5)
    events["bid_px"][2, 0] = events["ask_px"][2, 0] + 3
    made, found = follower(), messages(events)
    rows = rows_of(take(made, [found[0], *found[2:]]))  # a hole before the crossed one
    assert made.quarantined == {Quarantine.CROSSED: 1}
    assert gaps(rows) == [False, True, False]
    rows = rows_of(take(made, messages(fresh(1, seed=1), first=9)))
    assert len(rows) == 1


def test_a_gap_that_no_good_book_has_carried_is_told_by_the_next_batch() -> None:
    events = fresh(4)
    events["bid_px"][2, 0] = events["ask_px"][2, 0] + 3
    made, found = follower(), messages(events)
    take(made, found[:1])
    assert take(made, found[2:3]) == []
    assert gaps(rows_of(take(made, found[3:]))) == [True]


def test_a_time_far_ahead_is_none() -> None:
    events = fresh(3)
    events["ts"][1] += 120 * SECOND_NS
    made = follower()
    assert len(rows_of(take(made, messages(events)))) == 2
    assert made.quarantined == {Quarantine.AHEAD: 1}


def test_a_run_whose_process_began_anew_goes_on_behind_a_gap() -> None:
    made = follower()
    take(made, messages(fresh(10)))
    rows = rows_of(take(made, messages(fresh(3, seed=2), first=11)))  # n goes on, seq begins at 1
    assert gaps(rows) == [True, False, False]
    assert rows["seq"].tolist() == [11, 12, 13]


def later(n: int, by_ns: int) -> Array:
    events = fresh(n, seed=3, now_ns=NOW_NS + by_ns)
    events["ts_recv"] = events["ts"]
    return events


def test_the_next_recorder_is_followed_behind_a_gap_once_the_first_is_silent() -> None:
    made = follower(RUN, "0SECOND")
    take(made, messages(fresh(10)))
    early = take(made, messages(later(4, SECOND_NS), "0SECOND", at_ns=NOW_NS + SECOND_NS))
    assert early == []
    now = NOW_NS + SECOND_NS + HOLD_NS
    rows = rows_of(take(made, messages(later(2, SECOND_NS + HOLD_NS), "0SECOND", 5, now), now))
    assert gaps(rows) == [True, False]
    assert rows["seq"].tolist() == [11, 12]


def test_a_second_recorder_is_not_followed_while_the_first_tells() -> None:
    made = follower(RUN, "0SECOND")
    take(made, messages(fresh(10)))
    for k in range(1, 20):
        now = NOW_NS + k * SECOND_NS
        one = later(1, k * SECOND_NS)
        one["seq"] = 10 + k
        assert take(made, messages(one, "0SECOND", k, now), now) == []
        assert gaps(rows_of(take(made, messages(one, RUN, 10 + k, now), now))) == [False]


def test_our_own_mirror_tells_nothing_later_and_is_never_followed() -> None:
    made = follower(RUN, "0ENGINE")
    events = fresh(10)
    take(made, messages(events))
    for k in range(20):
        now = NOW_NS + k * SECOND_NS
        assert take(made, messages(events, "0ENGINE", 1, now), now) == []
    assert made.counts.merged == 200


def test_a_run_in_other_ticks_is_not_followed_nor_one_of_which_nobody_says() -> None:
    made = follower(says={PAIR.name: Grid(PAIR.tick * 10, PAIR.lot)})
    assert take(made, messages(fresh(3))) == []
    assert made.quarantined == {Quarantine.ABSURD_PRICE: 3}
    made = follower()
    made.learn("0NOBODY", None)
    assert take(made, messages(fresh(3), "0NOBODY")) == []
    assert made.quarantined == {Quarantine.MALFORMED: 3}


def test_what_the_run_that_goes_on_knows_is_not_told_again() -> None:
    made, events = follower(), fresh(5)
    made.begin_after([int(events["ts"][2])])
    assert rows_of(take(made, messages(events)))["ts"].tolist() == events["ts"][3:].tolist()


def test_two_instruments_keep_their_places_and_their_gaps() -> None:
    made = follower(of=(OTHER, PAIR), says=grid_of(PAIR, OTHER))
    events = fresh(6)
    events["instrument"][::2] = 1
    rows = rows_of(take(made, messages(events)))
    assert rows["instrument"].tolist() == [0, 1] * 3
    made.invalidate([0])
    events = fresh(6, seed=2, now_ns=NOW_NS + SECOND_NS)
    events["seq"] += 6
    events["instrument"][::2] = 1
    rows = rows_of(take(made, messages(events, first=7)))
    assert gaps(rows) == [True, *[False] * 5]


def test_a_record_without_a_key_is_counted() -> None:
    made = follower()
    value = json.dumps({"run": RUN}).encode()
    assert take(made, [Taken(0, 1, None, value, 0)]) == []
    assert made.quarantined == {Quarantine.MALFORMED: 1}


@pytest.mark.parametrize(
    "origin",
    [
        {"mode": "paper"},
        {"mode": "live"},
        {"mode": "mock", "protocol": "mock"},
        {"protocol": "kafka"},
        {"protocol": "recording"},
        {"mode": "", "protocol": "", "host": ""},
    ],
)
def test_a_run_that_is_no_recorder_is_never_followed_and_is_named_once(origin: dict[str, str]) -> None:
    made = follower(RUN)
    made.learn("0ENGINE", cursor_of("0ENGINE", **origin))
    with structlog.testing.capture_logs() as logs:
        assert take(made, messages(fresh(3), "0ENGINE")) == []  # nor while nothing else is
        now = NOW_NS + 60 * SECOND_NS
        take(made, messages(fresh(3), RUN))
        assert take(made, messages(later(3, 60 * SECOND_NS), "0ENGINE", 4, now), now) == []
    assert made.counts.merged == 6
    assert [one["event"] for one in logs].count("run 0ENGINE is no recorder: it is not followed") == 1
    assert not made.quarantined


def test_a_recorder_of_another_host_is_not_followed_where_one_is_named() -> None:
    made = follower(RUN, host="elsewhere")
    with structlog.testing.capture_logs() as logs:
        assert take(made, messages(fresh(3))) == []
    assert [one["event"] for one in logs] == [f"run {RUN} records {HOST}, not elsewhere: it is not followed"]
    assert len(rows_of(take(follower(RUN, host=HOST), messages(fresh(3))))) == 3


def test_who_is_followed_and_who_takes_over_is_one_line_each() -> None:
    made = follower(RUN, "0SECOND")
    with structlog.testing.capture_logs() as logs:
        take(made, messages(fresh(10)))
        for s in (1, 7):
            now = NOW_NS + s * SECOND_NS
            take(made, messages(later(2, s * SECOND_NS), "0SECOND", 2 * s, now), now)
    told = {"host": HOST, "instrument": PAIR.name}
    assert [{k: one[k] for k in ("event", "run", "before", *told) if k in one} for one in logs] == [
        {"event": "followed", "run": RUN, **told},
        {"event": "taken over", "run": "0SECOND", "before": RUN, **told},
    ]


def test_what_two_others_have_told_is_not_added_up() -> None:
    made = follower(RUN, "0SECOND", "0THIRD")
    take(made, messages(fresh(5)))
    for run, s in (("0SECOND", 1), ("0THIRD", 20)):
        now = NOW_NS + s * SECOND_NS
        assert take(made, messages(later(1, s * SECOND_NS), run, 1, now), now) == []
    now = NOW_NS + 21 * SECOND_NS
    assert len(rows_of(take(made, messages(later(1, 21 * SECOND_NS), "0SECOND", 2, now), now))) == 1


def test_a_time_of_receipt_ahead_of_our_clock_makes_nothing_fresh() -> None:
    events = fresh(5, now_ns=NOW_NS - 86_400 * SECOND_NS)
    events["ts_recv"] = NOW_NS + 300 * SECOND_NS
    made = follower()
    assert take(made, messages(events)) == []
    assert made.quarantined == {Quarantine.AHEAD: 5}


def test_a_record_is_as_old_as_kafka_says_where_the_recorder_says_less() -> None:
    [part] = take(follower(), messages(fresh(2), at_ns=NOW_NS - 9 * SECOND_NS))
    assert part.age_ns == 9 * SECOND_NS
    [part] = take(follower(), messages(fresh(2), at_ns=0))  # the topic does not say
    assert part.age_ns == 0


@pytest.mark.parametrize("flag", [EventFlag.GAP, EventFlag.HALT, EventFlag.RESUME])
@pytest.mark.parametrize("why", ["far", "ahead"])
@pytest.mark.parametrize("apart", [False, True])
def test_what_a_refused_row_tells_is_told_by_the_next_good_one(
    flag: EventFlag, why: str, apart: bool
) -> None:
    events = fresh(12)
    events["flags"][8] |= np.uint32(flag)
    if why == "far":
        events["bid_px"][8] *= 5
        events["ask_px"][8] *= 5
    else:
        events["ts"][8] = NOW_NS + 61 * SECOND_NS
    made, found = follower(says=grid_of(PAIR, OTHER)), messages(events)
    cuts = [found[:9], found[9:]] if apart else [found]
    rows = rows_of([part for cut in cuts for part in take(made, cut)])
    assert len(rows) == 11
    assert rows["flags"][8] & flag
    assert not (rows["flags"][9:] & flag).any()
    if why == "ahead":
        assert gaps(rows)[8]


def test_a_halt_that_was_refused_does_not_undo_the_resume_that_is_told() -> None:
    events = fresh(12)
    events["flags"][8] |= np.uint32(EventFlag.HALT)
    events["flags"][9] |= np.uint32(EventFlag.RESUME)
    events["bid_px"][8] *= 5
    events["ask_px"][8] *= 5
    rows = rows_of(take(follower(), messages(events)))
    assert rows["flags"][8] & EventFlag.RESUME
    assert not rows["flags"][8] & EventFlag.HALT


NUMBERS = st.integers(-(2**64), 2**64) | st.sampled_from(
    [sign * 2**k + d for k in (31, 62, 63) for d in (-1, 0, 1) for sign in (1, -1)]
)
FIELDS = ("n", "ts", "seq", "ts_recv", "flags", "trade_px", "trade_qty", "trade_qty_last", "bid", "ask")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.none()
        | st.dictionaries(st.sampled_from([*FIELDS, "run", "instrument"]), NUMBERS | st.text(max_size=3)),
        max_size=8,
    )
)
def test_nothing_that_a_topic_holds_raises(values: list[bytes | dict[str, object] | None]) -> None:
    good = messages(fresh(10))
    made, found = follower(), good[:1]
    for k, value in enumerate(values, 1):
        if isinstance(value, dict):
            record = json.loads(good[k].value or b"") | value
            record["depth"] = [[record[s] for s in ("bid", "bid_sz", "ask", "ask_sz")], *record["depth"][1:]]
            found.append(good[k]._replace(value=json.dumps(record).encode()))
        else:
            found.append(good[k]._replace(value=value))
    take(made, [*found, good[9]])
    counts = made.counts
    assert counts.rows == counts.events + counts.merged + sum(counts.quarantined.values())


def test_numbers_at_their_bounds_end_nothing() -> None:
    def at(seq: int, n: int, run: str = RUN) -> Taken:
        [one] = messages(fresh(1), run, n)
        return one._replace(value=json.dumps(json.loads(one.value or b"") | {"seq": seq}).encode())

    made = follower()
    take(made, [at(2**62, 1), at(1, 2), at(2**62, 3), at(2**62, 4)])
    assert made.quarantined == {Quarantine.MALFORMED: 2}


def test_what_is_known_of_one_instrument_is_not_of_another() -> None:
    made = follower(of=(PAIR, OTHER), says=grid_of(PAIR, OTHER))
    events = fresh(6)
    events["instrument"][::2] = 1
    made.begin_after([int(events["ts"][-1]), 0])
    assert rows_of(take(made, messages(events)))["instrument"].tolist() == [1, 1, 1]
