"""Paper fills worked out by hand: what each rule of the venue does to an order."""

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import REPORTS, ROUND_TRIP_NS, ROWS, PaperVenue
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import Command, OrderUpdate
from emp.core.errors import UsageError, VenueError
from emp.core.records import Array
from tests.paper.worlds import GOOG, cancel, event, order, query

S = OrderStatus

BIDS = [(100, 50), (99, 70), (98, 30)]
ASKS = [(102, 20), (103, 40), (105, 10)]


class Day:
    """A market that is told event by event, and the venue on it."""

    def __init__(self, entry_ns: int = 10, report_ns: int = 0, first: Array | None = None) -> None:
        self.paper = PaperVenue(GOOG, entry_ns=entry_ns, report_ns=report_ns)
        self.last = event(1, BIDS, ASKS) if first is None else first

    def then(self, happens: Array) -> list[OrderUpdate]:
        told = self.paper.step(self.last, happens)
        self.last = happens
        return told

    def send(self, *commands: Command) -> None:
        for command in commands:
            self.paper.send(command)


def short(updates: list[OrderUpdate]) -> list[tuple[str, str, int, int]]:
    return [(u.clOrdID, u.status.value, u.filled, u.price) for u in updates]


def resting(px: int = 100, qty: int = 10, side: int = 1) -> Day:
    """A day with one order resting at ts 11."""
    day = Day()
    day.send(order("A", side, qty, px, ts=1))
    assert short(day.then(event(20, BIDS, ASKS))) == [("A", "new", 0, px)]
    return day


def test_an_order_joins_behind_the_visible_queue_and_fills_when_trades_eat_through_it() -> None:
    day = Day()
    day.send(order("A", 1, 10, 100, ts=1))
    (new,) = day.then(event(20, BIDS, ASKS))
    assert (new.status, new.queue_ahead, new.leaves, new.ts, new.side) == (S.NEW, 50, 10, 11, 1)
    assert day.then(event(30, [(100, 20)], ASKS, trade=(100, -30))) == []  # 20 ahead
    (part,) = day.then(event(40, [(100, 80)], ASKS, trade=(100, -24)))  # 20 ahead, then 4 of ours
    assert (part.status, part.filled, part.leaves, part.price) == (S.PARTIALLY_FILLED, 4, 6, 100)
    assert (part.maker, part.fee, part.queue_ahead, part.ts) == (True, 4 * -0.25, 20, 40)
    (full,) = day.then(event(50, [(100, 70)], ASKS, trade=(100, -100)))
    assert (full.status, full.filled, full.leaves, full.fee) == (S.FILLED, 10, 0, 6 * -0.25)
    assert not day.paper.busy or day.then(event(60, BIDS, ASKS)) == []
    assert not day.paper.busy
    assert day.paper.position().qty == 10


def test_cancellations_are_credited_only_when_the_level_is_smaller_than_our_queue() -> None:
    day = resting()
    assert day.then(event(30, [(100, 60)], ASKS)) == []  # grew behind us: still 50 ahead
    assert day.then(event(31, [(100, 55)], ASKS)) == []  # cancelled somewhere: still 50 ahead
    assert day.then(event(32, [(100, 30)], ASKS)) == []  # at most 30 ahead
    assert day.then(event(33, [(100, 90)], ASKS)) == []  # still 30
    assert day.then(event(34, [(100, 60)], ASKS, trade=(100, -30))) == []
    assert short(day.then(event(35, [(100, 59)], ASKS, trade=(100, -1)))) == [
        ("A", "partially_filled", 1, 100)
    ]


def test_an_emptied_level_puts_us_first() -> None:
    day = resting(px=99)
    assert day.then(event(30, [(100, 50), (98, 30)], ASKS)) == []  # nothing is left at 99
    assert day.then(event(31, [(100, 50), (99, 500)], ASKS)) == []  # who comes now stands behind us
    assert short(day.then(event(32, [(99, 490)], ASKS, trade=(99, -10, 2)))) == [
        ("A", "partially_filled", 2, 99)
    ]


def test_only_the_quantity_at_our_price_eats_our_queue() -> None:
    day = resting(px=99)
    assert day.then(event(30, [(99, 70)], ASKS, trade=(100, -50))) == []
    assert day.then(event(31, [(99, 10)], ASKS, trade=(99, -110, 60))) == []  # 70 - 60 ahead
    assert short(day.then(event(32, [(98, 9)], ASKS, trade=(99, -13, 13)))) == [
        ("A", "partially_filled", 3, 99)
    ]


def test_a_sweep_through_our_price_fills_us_at_our_price_by_what_would_have_reached_us() -> None:
    """50 lots better than ours and 70 ahead of us take 120 of the 145; the other 25 traded beyond us."""
    day = resting(px=99, qty=500)
    (part,) = day.then(event(30, [(98, 5)], ASKS, trade=(98, -145, 25)))
    assert (part.status, part.filled, part.price, part.queue_ahead) == (S.PARTIALLY_FILLED, 25, 99, 70)
    small = resting(px=99, qty=20)
    assert short(small.then(event(30, [(98, 5)], ASKS, trade=(98, -145, 25)))) == [("A", "filled", 20, 99)]
    hidden = resting(px=99, qty=500)  # who stood before us was not all shown: what went past us is certain
    (part,) = hidden.then(event(30, [(97, 5)], ASKS, trade=(97, -110, 15)))
    assert part.filled == 15


def test_an_order_alone_at_its_price_is_filled_by_the_flow_that_went_elsewhere_and_no_more() -> None:
    day = resting(px=101, qty=40)
    assert short(day.then(event(30, [(100, 38)], ASKS, trade=(100, -12)))) == [
        ("A", "partially_filled", 12, 101)
    ]
    assert short(day.then(event(31, [(99, 70)], ASKS, trade=(99, -60, 22)))) == [("A", "filled", 40, 101)]
    assert day.paper.lots == {"queue": 0, "sweep": 0, "improving": 40, "quote": 0, "taken": 0}


def test_lots_are_counted_by_what_filled_them() -> None:
    day = resting(px=100, qty=100)
    day.then(event(30, [(100, 20)], ASKS, trade=(100, -55, 55)))  # 50 ahead: 5
    day.then(event(31, [(99, 70)], ASKS, trade=(99, -30, 7)))  # through us: 30 less the 0 left ahead
    day.then(event(32, [(98, 70)], [(99, 5), (101, 9)]))  # offered below us: 5
    day.send(order("B", -1, 3, 98, ts=32, immediate=True))
    day.then(event(50, [(98, 70)], [(99, 5), (101, 9)]))
    assert day.paper.lots == {"queue": 5, "sweep": 30, "improving": 0, "quote": 5, "taken": 3}


def test_a_halt_stops_matching_until_it_ends() -> None:
    day = resting()
    assert day.then(event(30, BIDS, ASKS, flags=EventFlag.HALT)) == []
    day.send(order("B", 1, 1, 102, ts=30, immediate=True), order("C", 1, 1, 98, ts=30))
    told = day.then(event(50, [(95, 1)], [(97, 9)], trade=(95, -900)))  # nothing of this is matched
    assert [(u.clOrdID, u.status, u.text) for u in told] == [
        ("B", S.REJECTED, "the market is halted"),
        ("C", S.REJECTED, "the market is halted"),
    ]
    day.send(cancel("X", "A", ts=50))
    assert short(day.then(event(70, [(95, 1)], [(97, 9)]))) == [("A", "canceled", 0, 100)]
    other = resting()
    other.then(event(30, BIDS, ASKS, flags=EventFlag.HALT))
    resumed = event(40, [(98, 1)], [(99, 4)], trade=(98, 700), flags=EventFlag.AUCTION | EventFlag.RESUME)
    assert other.then(resumed) == []  # the reopening cross is nobody's flow
    assert short(other.then(event(41, [(98, 1)], [(99, 4)]))) == [("A", "partially_filled", 4, 100)]


def test_a_trade_on_the_other_side_or_of_an_auction_fills_nothing() -> None:
    day = resting()
    assert day.then(event(30, BIDS, ASKS, trade=(100, 500))) == []
    assert day.then(event(31, BIDS, ASKS, trade=(90, -500), flags=EventFlag.AUCTION)) == []
    assert day.paper.open_orders()[0].leaves == 10


def test_the_opposite_best_beyond_our_price_fills_us_and_at_our_price_does_not() -> None:
    day = resting()
    assert day.then(event(30, [(99, 70)], [(100, 5), (101, 5)])) == []
    assert short(day.then(event(31, [(98, 70)], [(99, 5)]))) == [("A", "partially_filled", 5, 100)]
    assert day.then(event(32, [(98, 70)], [(99, 5)])) == []  # the same five lots
    assert day.then(event(33, [(98, 70)], [(99, 2)])) == []
    assert short(day.then(event(34, [(97, 70)], [(98, 1), (99, 8)]))) == [("A", "filled", 10, 100)]


def test_sells_mirror_buys() -> None:
    day = resting(px=102, qty=30, side=-1)
    assert day.then(event(30, BIDS, [(102, 5), (103, 40)], trade=(102, 15))) == []  # 5 ahead
    (part,) = day.then(event(31, BIDS, [(103, 40)], trade=(102, 9, 9)))
    assert (part.filled, part.price, part.maker, part.side) == (4, 102, True, -1)
    assert short(day.then(event(32, [(102, 8)], [(104, 40)], trade=(103, 40)))) == [("A", "filled", 30, 102)]
    assert day.paper.position().qty == -30
    crossed = resting(px=103, side=-1)
    assert crossed.then(event(30, [(103, 8)], [(104, 40)])) == []
    assert short(crossed.then(event(31, [(104, 12)], [(105, 40)]))) == [("A", "filled", 10, 103)]


def test_crossing_pays_level_by_level_at_the_book_of_its_arrival() -> None:
    day = Day()
    day.send(order("A", 1, 70, 104, ts=1, immediate=True))
    day.then(event(5, BIDS, [(103, 15), (104, 25), (106, 99)]))  # before the arrival at 11
    told = day.then(event(30, BIDS, [(110, 500)]))  # after it
    assert [(u.status, u.filled, u.price, u.fee, u.maker, u.ts) for u in told] == [
        (S.PARTIALLY_FILLED, 15, 103, 7.5, False, 11),
        (S.PARTIALLY_FILLED, 40, 104, 12.5, False, 11),
        (S.CANCELED, 40, 104, 0.0, False, 11),
    ]
    assert day.paper.position().qty == 40
    assert len({u.execID for u in told}) == 3


def test_crossing_that_finds_enough_is_filled_and_one_that_finds_nothing_is_cancelled() -> None:
    day = Day()
    day.send(order("A", -1, 60, 99, ts=1, immediate=True), order("B", -1, 5, 101, ts=2, immediate=True))
    assert short(day.then(event(30, BIDS, ASKS))) == [
        ("A", "partially_filled", 50, 100),
        ("A", "filled", 60, 99),
        ("B", "canceled", 0, 101),
    ]


@pytest.mark.parametrize(("side", "px"), [(1, 102), (1, 103), (-1, 100), (-1, 99)])
def test_a_resting_order_that_would_take_is_rejected(side: int, px: int) -> None:
    day = Day()
    day.send(order("A", side, 10, px, ts=1))
    (told,) = day.then(event(30, BIDS, ASKS))
    assert (told.status, told.filled, told.text) == (S.REJECTED, 0, "post-only order would take")


def test_arrival_before_during_and_after_an_event() -> None:
    for ts, ahead in (
        (9, 50),
        (10, 7),
        (11, 7),
    ):  # arrives at 19, 20, 21: the event at 20 comes first on a tie
        day = Day()
        day.send(order("A", 1, 10, 100, ts=ts))
        told = day.then(event(20, [(100, 7)], ASKS)) + day.then(event(40, [(100, 7)], ASKS))
        assert [u.queue_ahead for u in told] == [ahead]


def test_reports_take_their_time() -> None:
    day = Day(entry_ns=10, report_ns=25)
    day.send(order("A", 1, 10, 102, ts=1, immediate=True))
    assert day.then(event(30, BIDS, ASKS)) == []
    assert day.paper.busy
    assert day.then(event(35, BIDS, ASKS)) == []
    (told,) = day.then(event(36, BIDS, ASKS))
    assert (told.status, told.ts) == (S.FILLED, 11)
    day.then(event(37, BIDS, ASKS))
    assert not day.paper.busy


def test_a_cancel_withdraws_and_one_that_comes_too_late_is_refused_under_its_own_id() -> None:
    day = resting()
    day.send(cancel("C", "A", ts=20))
    assert short(day.then(event(31, [(100, 4)], ASKS, trade=(100, -54, 54)))) == [("A", "canceled", 0, 100)]
    late = resting()
    late.send(cancel("C", "A", ts=25))
    assert short(late.then(event(31, [(99, 9)], ASKS, trade=(100, -60, 60)))) == [("A", "filled", 10, 100)]
    (told,) = late.then(event(40, BIDS, ASKS))
    assert (told.clOrdID, told.status, told.filled, told.text) == (
        "C",
        S.REJECTED,
        0,
        "too late: the order has ended",
    )


def test_a_query_is_answered_with_the_orders_state() -> None:
    day = resting()
    day.send(query("A", ts=20))
    assert short(day.then(event(31, BIDS, ASKS))) == [("A", "new", 0, 100)]
    day.then(event(32, [(99, 9)], ASKS, trade=(100, -53, 53)))
    day.send(query("A", ts=32), query("NOBODY", ts=32))
    assert short(day.then(event(50, BIDS, ASKS))) == [
        ("A", "partially_filled", 3, 100),
        ("NOBODY", "rejected", 0, 0),
    ]
    day.then(event(51, [(98, 9)], ASKS, trade=(98, -90)))
    day.send(query("A", ts=51))
    assert short(day.then(event(70, BIDS, ASKS))) == [("A", "filled", 10, 100)]


def test_quotes_without_sizes_fill_only_when_crossed_and_cross_at_the_quote() -> None:
    def quote(ts: int, bid: int, ask: int) -> Array:
        return event(ts, [(bid, 0)], [(ask, 0)], flags=EventFlag.NO_SIZE | EventFlag.NO_DEPTH)

    day = Day(first=quote(1, 100, 102))
    day.send(order("A", 1, 10, 100, ts=1), order("B", 1, 7, 103, ts=2, immediate=True))
    told = day.then(quote(20, 100, 102))
    assert short(told) == [("A", "new", 0, 100), ("B", "filled", 7, 102)]
    assert told[0].queue_ahead == -1
    assert day.then(quote(21, 99, 101)) == []
    assert day.then(quote(22, 98, 100)) == []
    assert short(day.then(quote(23, 97, 99))) == [("A", "filled", 10, 100)]


def test_a_level_below_the_visible_book_is_unknown_until_it_is_seen() -> None:
    day = resting(px=96)
    assert day.then(event(30, [(98, 30)], ASKS)) == []
    assert day.then(event(31, [(96, 12)], ASKS, trade=(97, -5))) == []  # seen now: 12 ahead
    assert short(day.then(event(32, [(95, 1)], ASKS, trade=(96, -14, 14)))) == [
        ("A", "partially_filled", 2, 96)
    ]


def test_our_own_orders_at_one_price_fill_in_their_order() -> None:
    day = Day()
    day.send(order("A", 1, 10, 100, ts=1))
    day.then(event(20, [(100, 60)], ASKS))
    day.send(order("B", 1, 10, 100, ts=20))
    assert day.then(event(40, [(100, 60)], ASKS))[0].queue_ahead == 60
    # in line: 50 visible, 10 of A, 10 visible, then B
    assert short(day.then(event(41, [(100, 60)], ASKS, trade=(100, -58, 58)))) == [
        ("A", "partially_filled", 8, 100)
    ]
    assert short(day.then(event(42, [(100, 60)], ASKS, trade=(100, -15, 15)))) == [
        ("A", "filled", 10, 100),
        ("B", "partially_filled", 3, 100),  # of the 15: 2 for A, 10 visible ahead, 3 for B
    ]


def test_without_a_book_nothing_is_accepted() -> None:
    day = Day(first=event(1, [], ASKS))
    day.send(order("A", 1, 10, 100, ts=1), order("B", 1, 10, 110, ts=1, immediate=True))
    told = day.then(event(30, BIDS, ASKS))
    assert [(u.status, u.text) for u in told] == [(S.REJECTED, "no book")] * 2


def test_time_may_pass_without_events() -> None:
    day = Day(entry_ns=10, report_ns=5)
    day.send(order("A", 1, 10, 102, ts=1, immediate=True))
    assert day.paper.advance(day.last, 10) == []
    assert day.paper.advance(day.last, 15) == []
    assert short(day.paper.advance(day.last, 16)) == [("A", "filled", 10, 102)]


def test_open_orders_and_position_are_what_a_reconciliation_asks_for() -> None:
    day = resting()
    day.send(order("B", -1, 5, 103, ts=20))
    day.then(event(31, BIDS, ASKS))
    day.then(event(32, [(99, 9)], ASKS, trade=(100, -53, 53)))
    assert [(u.clOrdID, u.status, u.filled, u.leaves, u.side) for u in day.paper.open_orders()] == [
        ("A", S.PARTIALLY_FILLED, 3, 7, 1),
        ("B", S.NEW, 0, 5, -1),
    ]
    assert day.paper.open_orders() == day.paper.open_orders()
    assert (day.paper.position().qty, day.paper.position().instrument) == (3, "GOOG")


def test_a_copy_of_its_arrays_is_the_venue() -> None:
    day = resting()
    day.send(cancel("C", "A", ts=25))
    twin = Day()
    for name, array in day.paper.state().items():
        twin.paper.state()[name][...] = array
    twin.last = day.last
    for happens in (event(31, [(100, 4)], ASKS, trade=(100, -52, 52)), event(40, BIDS, ASKS)):
        assert day.then(happens) == twin.then(happens)


def test_misuse_ends_in_one_line() -> None:
    with pytest.raises(UsageError, match="must not be negative"):
        PaperVenue(GOOG, entry_ns=-1)
    day = resting()
    with pytest.raises(VenueError, match="A was sent before"):
        day.send(order("A", 1, 10, 100))
    with pytest.raises(VenueError, match="longer than 32"):
        day.send(order("A" * 33, 1, 10, 100))

    for n in range(ROWS - 1):
        day.send(order(f"F{n}", 1, 1, 90))
    with pytest.raises(VenueError, match=f"more than {ROWS}"):
        day.send(order("G", 1, 1, 90))
    storm = resting(qty=2 * REPORTS)
    storm.paper.venue["report_ns"] = 1 << 40
    storm.then(event(100, [(100, 1)], ASKS, trade=(100, -50, 50)))
    for n in range(REPORTS):
        storm.then(event(101 + n, [(100, 1)], ASKS, trade=(100, -1, 1)))
    with pytest.raises(VenueError, match="reports were under way"):
        storm.then(event(9999, [(100, 1)], ASKS, trade=(100, -1, 1)))


def test_a_query_about_an_order_long_gone_is_not_answered_with_another_ones_state() -> None:
    day = resting()
    day.send(query("A", ts=20))
    assert short(day.then(event(25, [(98, 1)], ASKS, trade=(99, -90)))) == [("A", "filled", 10, 100)]
    day.then(event(26, BIDS, ASKS))
    for n in range(ROWS - 1):
        day.send(order(f"F{n}", 1, 1, 90, ts=26))
    (told,) = day.then(event(31, BIDS, ASKS))
    assert (told.clOrdID, told.status, told.text) == ("A", S.REJECTED, "unknown order")


def test_as_many_orders_as_there_are_rows_rest_at_once_and_are_met_in_the_order_of_joining() -> None:
    day = resting()
    names = [f"F{n}" for n in range(ROWS - 1)]
    for name in names:
        day.send(order(name, 1, 1, 90, ts=20))
    day.then(event(40, BIDS, ASKS))
    assert len(day.paper.open_orders()) == ROWS
    told = short(day.then(event(50, [(80, 1)], [(85, 10 * ROWS)])))
    assert told == [("A", "filled", 10, 100), *((name, "filled", 1, 90) for name in names)]
    assert not day.paper.venue["at_work"][0]


def test_every_venue_has_a_latency_and_rows_are_used_again() -> None:
    assert PaperVenue(GOOG).venue["entry_ns"][0] == 78_000_000
    assert all(ns > 0 for ns in ROUND_TRIP_NS.values())
    day = Day()
    for n in range(3 * ROWS):
        day.send(order(f"O{n}", 1, 1, 101, ts=100 * n, immediate=True))
        assert len(day.then(event(100 * n + 50, BIDS, ASKS))) == 1
    assert np.unique(day.paper.names).size == ROWS
    assert msgspec.to_builtins(day.paper.position())["qty"] == 0
