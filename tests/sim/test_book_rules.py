"""Exchange rules worked by hand, and what a book promises beyond them."""

import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.sim.book import book as eb
from emp.sim.book.auction import begin_auction, halt, uncross
from emp.sim.book.check import check_book
from emp.sim.book.matching import replace, submit

BUY, SELL = eb.BUY, eb.SELL


class Venue:
    """A book with short names for a test."""

    def __init__(self, stp: int = eb.STP_CANCEL_OLD, rule: int = eb.REPLACE_KEEPS) -> None:
        self.b = eb.new_book(0, 256, 64, stp, rule)
        self.f = eb.new_fills(64)
        self.tag = 0

    def send(self, side: int, px: int, qty: int, kind: int = eb.LIMIT, owner: int = 1) -> int:
        self.tag += 1
        h = submit(self.b, self.f, side, px, qty, kind, owner, self.tag)
        check_book(self.b)
        return int(h)

    @property
    def status(self) -> int:
        return int(self.b[eb.STATUS])

    @property
    def trades(self) -> list[tuple[int, int, int]]:
        """(maker's tag, price, lots) of every fill so far."""
        rows = self.f[: self.b[eb.N_FILLS]]
        return list(zip(rows["maker_tag"].tolist(), rows["px"].tolist(), rows["qty"].tolist(), strict=True))

    def touch(self) -> tuple[int, int, int, int]:
        bid, ask = int(self.b[eb.BEST]), int(self.b[eb.BEST + 1])
        return bid, int(eb.level_qty(self.b, BUY, bid)), ask, int(eb.level_qty(self.b, SELL, ask))


def test_price_goes_before_time_and_time_before_size() -> None:
    v = Venue()
    v.send(SELL, 101, 5)  # tag 1
    v.send(SELL, 100, 5)  # tag 2: better price
    v.send(SELL, 100, 90)  # tag 3: larger, but later than 2
    v.send(BUY, 101, 7, owner=2)
    assert v.trades == [(2, 100, 5), (3, 100, 2)]
    assert v.touch()[2:] == (100, 88)


def test_a_sweep_takes_every_level_and_the_rest_rests_uncrossed() -> None:
    """Sell 15 at 99 into two 10-lot bids at 100: 10 and 5 trade, nothing is left at 99 under a 100 bid."""
    v = Venue()
    v.send(BUY, 100, 10)
    v.send(BUY, 100, 10)
    v.send(SELL, 99, 15, owner=2)
    assert v.trades == [(1, 100, 10), (2, 100, 5)]
    assert v.touch() == (100, 5, 255, 0)
    v.send(SELL, 98, 9, owner=2)
    assert v.trades[2:] == [(2, 100, 5)]
    assert v.touch() == (0, 0, 98, 4)


def test_sweep_over_five_levels_trades_at_each_makers_price() -> None:
    v = Venue()
    for k in range(5):
        v.send(SELL, 100 + 3 * k, 2)
    v.send(BUY, 110, 9, owner=2)
    assert v.trades == [(1, 100, 2), (2, 103, 2), (3, 106, 2), (4, 109, 2)]
    assert v.touch() == (110, 1, 112, 2)
    assert int(v.b[eb.TRADE_PX]), int(v.b[eb.TRADE_QTY]) == (109, 8)
    assert int(v.b[eb.TRADE_LAST]) == 2


def test_ioc_fok_and_post_only() -> None:
    v = Venue()
    v.send(SELL, 100, 5)
    assert v.send(BUY, 100, 8, eb.IOC, 2) == 0
    assert (v.status, int(v.b[eb.FILLED])) == (eb.OK_EXPIRED, 5)
    v.send(SELL, 100, 5)
    v.send(SELL, 101, 2)
    v.send(BUY, 101, 8, eb.FOK, 2)
    assert v.status == eb.BAD_FOK
    v.send(BUY, 101, 7, eb.FOK, 2)
    assert v.status == eb.OK_FILLED
    v.send(SELL, 100, 1)
    v.send(BUY, 100, 1, eb.POST_ONLY, 2)
    assert v.status == eb.BAD_POST
    assert v.send(BUY, 99, 1, eb.POST_ONLY, 2) != 0


def test_market_order_sweeps_and_never_rests() -> None:
    v = Venue()
    v.send(SELL, 200, 3)
    assert v.send(BUY, 0, 5, eb.MARKET, 2) == 0
    assert v.trades == [(1, 200, 3)]
    assert v.status == eb.OK_EXPIRED
    assert v.touch() == (0, 0, 255, 0)


def test_replace_keeps_the_place_only_for_less_at_the_same_price() -> None:
    v = Venue()
    first = v.send(BUY, 100, 10)
    second = v.send(BUY, 100, 10)
    assert replace(v.b, v.f, first, 100, 4) == first
    assert eb.ahead_of(v.b, second) == 4
    assert replace(v.b, v.f, first, 100, 5) != 0  # more: to the end
    assert eb.ahead_of(v.b, second) == 0
    loses = Venue(rule=eb.REPLACE_LOSES)
    first = loses.send(BUY, 100, 10)
    second = loses.send(BUY, 100, 10)
    replace(loses.b, loses.f, first, 100, 4)
    assert eb.ahead_of(loses.b, second) == 0


def test_replace_through_the_spread_trades() -> None:
    v = Venue()
    v.send(SELL, 105, 3)
    h = v.send(BUY, 100, 5, owner=2)
    h = int(replace(v.b, v.f, h, 105, 5))
    assert v.trades == [(1, 105, 3)]
    assert v.touch() == (105, 2, 255, 0)
    check_book(v.b)


def test_partial_cancel_keeps_the_place() -> None:
    v = Venue()
    first = v.send(BUY, 100, 10)
    second = v.send(BUY, 100, 10)
    assert eb.reduce(v.b, first, 7) == 7
    assert eb.ahead_of(v.b, second) == 3
    assert eb.reduce(v.b, first, 3) == 3
    assert not eb.alive(v.b, first)
    assert eb.cancel(v.b, first) == 0
    assert v.status == eb.BAD_HANDLE


@pytest.mark.parametrize(
    ("rule", "status", "touch", "trades"),
    [
        (eb.STP_NONE, eb.OK_RESTING, (100, 1, 255, 0), [(1, 100, 3), (2, 100, 4), (3, 100, 2)]),
        (eb.STP_CANCEL_NEW, eb.OK_EXPIRED, (0, 0, 100, 6), [(1, 100, 3)]),
        (eb.STP_CANCEL_OLD, eb.OK_RESTING, (100, 5, 255, 0), [(1, 100, 3), (3, 100, 2)]),
        (eb.STP_DECREMENT, eb.OK_RESTING, (100, 1, 255, 0), [(1, 100, 3), (3, 100, 2)]),
    ],
)
def test_self_trade_prevention(
    rule: int, status: int, touch: tuple[int, ...], trades: list[tuple[int, int, int]]
) -> None:
    """3 of a stranger, 4 of our own, 2 of a stranger; we buy 10."""
    v = Venue(stp=rule)
    v.send(SELL, 100, 3, owner=2)
    v.send(SELL, 100, 4, owner=1)
    v.send(SELL, 100, 2, owner=2)
    v.send(BUY, 100, 10, owner=1)
    assert (v.status, v.touch(), v.trades) == (status, touch, trades)


def test_opening_auction_takes_the_price_of_most_volume() -> None:
    """Buys 100@103 50@102 30@101, sells 60@100 40@102 80@103.

    At 102: 150 against 100, so 100 trade; at 103: 100 against 180, so 100; at 101: 180 against 60.
    The tie goes to the smaller surplus: 50 at 102, 80 at 103.
    """
    v = Venue()
    begin_auction(v.b)
    for px, qty in ((103, 100), (102, 50), (101, 30)):
        v.send(BUY, px, qty)
    for px, qty in ((100, 60), (102, 40), (103, 80)):
        v.send(SELL, px, qty, owner=2)
    assert v.trades == []
    assert uncross(v.b, v.f, 101) == (102, 100)
    check_book(v.b)
    assert v.trades == [(1, 102, 100), (4, 102, 60), (5, 102, 40)]
    assert v.touch() == (102, 50, 103, 80)


def test_auction_surplus_and_reference_break_ties() -> None:
    def price(buys: int, sells: int, reference: int) -> int:
        v = Venue()
        begin_auction(v.b)
        v.send(BUY, 110, buys)
        v.send(SELL, 100, sells, owner=2)
        return int(uncross(v.b, v.f, reference)[0])

    assert price(10, 5, 105) == 110  # buyers left over: the highest
    assert price(5, 10, 105) == 100  # sellers left over: the lowest
    assert price(5, 5, 103) == 103  # balanced: the reference
    assert price(5, 5, 90) == 100  # the nearest to it


def test_market_orders_go_first_in_an_auction_and_do_not_outlive_it() -> None:
    v = Venue()
    begin_auction(v.b)
    v.send(BUY, 105, 10)
    v.send(BUY, 0, 10, eb.MARKET)
    v.send(BUY, 0, 10, eb.IOC)
    assert v.status == eb.BAD_PHASE or v.status == eb.BAD_PRICE
    v.send(SELL, 104, 12, owner=2)
    assert uncross(v.b, v.f, 100) == (105, 12)
    assert v.trades == [(2, 105, 10), (1, 105, 2), (4, 105, 12)]
    check_book(v.b)
    v2 = Venue()
    begin_auction(v2.b)
    v2.send(BUY, 0, 10, eb.MARKET)
    v2.send(SELL, 0, 4, eb.MARKET, 2)
    assert uncross(v2.b, v2.f, 77) == (77, 4)
    assert v2.touch() == (0, 0, 255, 0)
    check_book(v2.b)


def test_a_halt_takes_cancels_only_and_ends_in_an_auction() -> None:
    v = Venue()
    h = v.send(BUY, 100, 10)
    keep = v.send(BUY, 99, 10)
    halt(v.b)
    assert v.send(SELL, 100, 5, owner=2) == 0
    assert v.status == eb.BAD_PHASE
    assert replace(v.b, v.f, keep, 100, 1) == keep
    assert v.status == eb.BAD_PHASE
    assert eb.cancel(v.b, h) == 10
    begin_auction(v.b)
    v.send(SELL, 98, 5, owner=2)
    assert uncross(v.b, v.f, 99) == (99, 5)
    assert v.send(SELL, 99, 5, owner=2) == 0
    assert v.trades[-1] == (2, 99, 5)


def test_own_orders_of_one_level_share_one_queue() -> None:
    """Ours, a stranger's, ours: filled in that order, each told what stood before it."""
    v = Venue()
    v.send(BUY, 100, 2, owner=1)
    v.send(BUY, 100, 5, owner=0)
    mine = v.send(BUY, 100, 3, owner=1)
    assert eb.ahead_of(v.b, mine) == 7
    v.send(SELL, 100, 8, owner=0)
    rows = v.f[: v.b[eb.N_FILLS]]
    assert rows["maker_tag"].tolist() == [1, 3]
    assert rows["ahead"].tolist() == [0, 7]
    assert rows["leaves"].tolist() == [0, 2]


def test_the_window_slides_and_drops_only_what_falls_out() -> None:
    v = Venue()
    v.send(BUY, 10, 1)
    v.send(BUY, 100, 2)
    v.send(SELL, 110, 3)
    v.send(SELL, 250, 4)
    assert eb.slide(v.b, 50) == 1
    check_book(v.b)
    assert v.touch() == (100, 2, 110, 3)
    assert v.send(SELL, 300, 1) != 0
    assert eb.slide(v.b, 5000) == 4
    check_book(v.b)
    assert v.touch() == (5000, 0, 5255, 0)
    assert eb.slide(v.b, -5000) == 0
    v.send(BUY, -4900, 1)
    assert v.touch() == (-4900, 1, -4745, 0)


def test_a_clone_is_a_copy_of_words() -> None:
    v = Venue()
    v.send(BUY, 100, 2)
    twin = v.b.copy()
    submit(twin, v.f, SELL, 100, 1, eb.LIMIT, 2, 9)
    assert not np.array_equal(twin, v.b)
    v.send(SELL, 100, 1, owner=2)
    twin[eb.STAMP : eb.STATUS] = v.b[eb.STAMP : eb.STATUS]
    assert v.touch() == (100, 1, 255, 0)


def test_a_full_book_refuses_before_it_trades() -> None:
    v = Venue()
    for k in range(64):
        assert v.send(BUY, 10 + k, 1) != 0
    assert v.send(BUY, 100, 1) == 0
    assert v.status == eb.BAD_FULL
    v.send(SELL, 73, 1, eb.IOC, 2)
    assert v.send(BUY, 100, 1) != 0


def test_the_checker_sees_damage() -> None:
    v = Venue()
    h = v.send(BUY, 100, 2)
    mark = eb.HEADER + 8 * 256 + (100 >> 5)
    for word, value in (
        (h + eb.QTY, 3),
        (h + eb.PX, 99),
        (h + eb.PREV, 8),
        (eb.BEST, 99),
        (eb.LIVE, 2),
        (mark, 0),
    ):
        broken = v.b.copy()
        broken[word] = value
        with pytest.raises(AssertionError, match="order book: "):
            check_book(broken)
    with pytest.raises(UsageError, match="power of two"):
        eb.new_book(0, 100)
