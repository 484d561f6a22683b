"""Recoveries keep their pace whatever happens around them."""

import itertools

from emp.access.fix.pacing import FIRST_NS, LONGEST_NS, STEADY_NS, Conversation
from emp.access.fix.terms import NEVER
from emp.core.ids import generator

S = 1_000_000_000


def test_the_first_begins_at_once_and_only_one_runs() -> None:
    books = Conversation(10 * S)
    assert books.due_ns() == NEVER
    assert books.want(5 * S)
    assert not books.want(5 * S)
    assert not books.tick(6 * S)
    books.done(6 * S)
    assert books.tick(6 * S)  # what was lost while it ran is lost again
    assert books.begun == 2


def test_recoveries_that_do_not_hold_come_later_each_time() -> None:
    books = Conversation(10 * S)
    begun, now = [], 0
    while now < 200 * S:
        if books.want(now):
            begun.append(now)
        books.done(now)
        now += FIRST_NS // 50
    gaps = [b - a for a, b in itertools.pairwise(begun)]
    assert gaps[:7] == [FIRST_NS << n for n in range(6)] + [LONGEST_NS]
    assert set(gaps[6:]) == {LONGEST_NS}


def test_what_has_held_for_long_begins_anew() -> None:
    books = Conversation(10 * S)
    now = 0
    for _ in range(4):
        assert books.want(now)
        books.done(now)
        now = max(now, books._not_before_ns)
    now += STEADY_NS
    assert books.want(now)
    books.done(now)
    assert not books.want(now + FIRST_NS - 1)
    assert books.tick(now + FIRST_NS)


def test_an_unanswered_one_is_tried_again_when_it_is_time() -> None:
    books = Conversation(10 * S)
    assert books.want(0)
    assert books.due_ns() == 10 * S
    assert not books.tick(10 * S - 1)
    assert books.tick(10 * S)
    books.failed(11 * S)
    assert books.pending
    assert not books.tick(10 * S + 2 * FIRST_NS - 1)
    assert books.due_ns() == 10 * S + 2 * FIRST_NS
    books.stop()
    assert books.due_ns() == NEVER
    assert not books.running


def test_ten_seconds_of_losses_bring_few_recoveries() -> None:
    books = Conversation(10 * S)
    rng = generator(3, "pacing")
    now = 0
    for _ in range(2_000):
        now += 5_000_000
        books.want(now)
        if rng.random() < 0.5:
            books.done(now)
    assert books.begun <= 6


def test_what_a_venue_has_missed_is_asked_for_at_once_and_then_ever_later() -> None:
    books = Conversation(10 * S)
    now = 0
    for _ in range(8):  # sessions that each lose a request have a pace of their own: that of the connections
        now += S
        books.start(now)
        assert books.unheard(now + 1)
        assert books.running
        assert not books.pending
        books.done(now + 2)
    begun = []
    while now < 200 * S:  # a venue that never hears
        if books.unheard(now) or books.tick(now):
            begun.append(now)
        now += FIRST_NS // 50
    gaps = [b - a for a, b in itertools.pairwise(begun)]
    assert gaps[:6] == [FIRST_NS << n for n in range(6)]
    books.start(now)
    books.done(now)
    assert books.unheard(now + S), "not of the first request, but the first that was missed"
