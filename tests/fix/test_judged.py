"""Books over FIX that are not believed, part lots and quotes without sizes, and the trades in between."""

from emp.access.fix.dialect import MOCK, PLAIN
from emp.core.codes import EventFlag, Quarantine
from tests.fix.desk import Screen, levels
from tests.fix.wire import incremental, snapshot
from tests.kit.instruments import currency_pair

VISIBLE, GAP = int(EventFlag.VISIBLE), int(EventFlag.GAP)


def crossing(bid: str, ask: str, size: int = 5) -> bytes:
    return snapshot([f"269=0|270={bid}|271={size}|278=1", f"269=1|270={ask}|271={size}|278=2"])


def test_a_book_that_cannot_be_believed_makes_no_event_and_its_trades_wait() -> None:
    screen = Screen(MOCK, [currency_pair("A", 0.01, 1.0)], ["1"])
    [first] = screen.show(crossing("1.00", "1.02"))
    trade = incremental(["279=0|269=2|55=1|270=1.02|271=2"])
    assert screen.show(crossing("1.03", "1.02")) == []
    assert screen.show(trade) == []  # the book is still crossed
    assert screen.show(crossing("1.02", "1.02")) == []
    assert screen.show(snapshot(["269=0|270=1.00|271=5|278=1"])) == []
    assert screen.show(crossing("9.00", "9.02")) == []
    [row] = screen.show(crossing("1.00", "1.02"))
    assert levels(row) == levels(first)
    assert row["flags"] == int(EventFlag.TRADE), "the book is the last good one again"
    assert (row["trade_px"], row["trade_qty"], row["trade_qty_last"]) == (102, 2, 2)
    [row] = screen.show(crossing("1.00", "1.03"))
    assert row["flags"] == VISIBLE
    assert screen.market.quarantined == {
        Quarantine.CROSSED: 2,
        Quarantine.LOCKED: 1,
        Quarantine.ONE_SIDED: 1,
        Quarantine.ABSURD_PRICE: 1,
    }
    assert screen.market.quarantined[Quarantine.CROSSED] == 2, "looking does not count twice"


def test_a_gap_is_told_by_the_next_book_that_is_believed() -> None:
    screen = Screen(PLAIN, [currency_pair("A", 0.01, 1.0)], ["1"])
    screen.show(crossing("1.00", "1.02"))
    screen.market.invalidate()
    assert screen.show(crossing("1.02", "1.02")) == []
    [row] = screen.show(crossing("1.00", "1.02"))
    assert row["flags"] == VISIBLE | GAP
    assert row["seq"] == 2


def test_a_trade_far_off_the_book_is_counted_and_left_out() -> None:
    screen = Screen(MOCK, [currency_pair("A", 0.01, 1.0)], ["1"])
    screen.show(crossing("1.00", "1.02"))
    [row] = screen.show(incremental(["279=0|269=2|55=1|270=11.02|271=2"]))
    assert (row["flags"], row["trade_qty"]) == (0, 0)
    assert screen.market.quarantined == {Quarantine.ABSURD_PRICE: 1}


def test_sizes_are_unknown_only_as_long_as_an_entry_lacks_one() -> None:
    no_size = int(EventFlag.NO_SIZE)
    screen = Screen(PLAIN, [currency_pair("A", 0.01, 1.0)], ["1"])
    [row] = screen.show(snapshot(["269=0|270=1.00|278=1", "269=1|270=1.02|271=7|278=2"]))
    assert (row["flags"], levels(row)) == (VISIBLE | no_size, ([(100, 0)], [(102, 0)]))
    [row] = screen.show(incremental(["279=1|278=1|55=1|271=4"]))
    assert (row["flags"], levels(row)) == (VISIBLE, ([(100, 4)], [(102, 7)]))
    [row] = screen.show(incremental(["279=1|278=1|55=1|271=0.5"]))  # less than a lot, and nothing else to buy
    assert (row["flags"], levels(row)) == (VISIBLE | no_size, ([(100, 0)], [(102, 0)]))
    assert screen.market.sub_lot_levels == 1


def test_quotes_without_sizes_show_the_best_price_of_each_side() -> None:
    screen = Screen(PLAIN, [currency_pair("A", 0.01, 1.0)], ["1"])
    sides = {"0": ("0.99", "1.00", "0.98"), "1": ("1.02", "1.03")}
    entries = [f"269={side}|270={px}|278={side}{px}" for side, prices in sides.items() for px in prices]
    [row] = screen.show(snapshot(entries))
    assert levels(row) == ([(100, 0)], [(102, 0)])
    assert not row["bid_px"][1:].any()
    assert not row["ask_px"][1:].any()


def test_a_trade_where_the_market_was_lets_far_books_begin_anew() -> None:
    for px, far_rows in (("1.01", 1), ("9.01", 2)):
        screen = Screen(MOCK, [currency_pair("A", 0.01, 1.0)], ["1"])
        screen.show(crossing("1.00", "1.02"))
        assert screen.show(crossing("9.00", "9.02")) == []
        assert screen.show(incremental([f"279=0|269=2|55=1|270={px}|271=2"])) == []
        assert screen.market.books[0]["judge"]["far_rows"] == far_rows
