"""The judge of books against its rules in plain Python, and its promises one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.book import (
    FAR_ROWS,
    JUDGE,
    copy_book,
    filled,
    heard,
    judge,
    judge_touch,
    judge_trade,
    same_book,
    to_lots,
)
from emp.core.codes import EventFlag, Quarantine
from emp.core.records import Array
from tests.core.book_reference import Book, Judge, book_of, row_of, whole_lots

NO_SIZE = int(EventFlag.NO_SIZE)
OK = Quarantine.ACCEPTED


def fresh() -> Array:
    return np.zeros(1, JUDGE)


S = 10**9


def ask(state: Array, *books: Book, every: int = S // 5) -> list[Quarantine]:
    """What is said of books that come so many ns after each other, the first long after all before."""
    began = int(state[0]["far_since"]) + 10 * S
    return [Quarantine(judge(row_of(book)[0], state[0], began + k * every)) for k, book in enumerate(books)]


def touch(bid: int, offer: int, bid_sz: int = 1, ask_sz: int = 1) -> Book:
    return Book(((bid, bid_sz),), ((offer, ask_sz),))


def around(middle: int, half: int = 1) -> Book:
    return touch(middle - half, middle + half)


PRICES = st.integers(-60, 60) | st.integers(900, 1100) | st.sampled_from([0, 10**12, 10**12 + 1, -(10**13)])
SIZES = st.integers(0, 3500) | st.sampled_from([-1, 10**12, 10**12 + 1])


@st.composite
def sides(draw: st.DrawFn, sign: int) -> tuple[tuple[int, int], ...]:
    """Mostly in order, sometimes not."""
    n = draw(st.integers(0, 10) | st.just(2))
    if draw(st.integers(0, 9)) == 0:
        prices = draw(st.lists(PRICES, min_size=n, max_size=n))
    else:
        first = draw(st.integers(-12, 12) | st.integers(980, 1020))
        steps = draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
        prices = [first + sign * (sum(steps[:i]) + 1) for i in range(n)]
    usual = st.integers(1, 3500)
    sizes = [draw(SIZES if draw(st.integers(0, 7)) == 0 else usual) for _ in range(n)]
    return tuple(zip(prices, sizes, strict=True))


@st.composite
def books(draw: st.DrawFn) -> Book:
    return Book(draw(sides(-1)), draw(sides(1)))


WAITS = st.sampled_from([0, 1, 150_000_000, S, 25 * S, -S])


@given(st.lists(st.tuples(books(), WAITS), max_size=60), st.sampled_from([1, 7, 1000]))
@settings(max_examples=300)
def test_a_stream_of_books_against_the_rules_in_plain_python(
    stream: list[tuple[Book, int]], unit: int
) -> None:
    state, reference, now = fresh(), Judge(), 100 * S
    for raw, wait in stream:
        now += wait
        if unit > 1 and any(size < 0 for _, size in raw.bids + raw.asks):
            continue  # doors refuse negative sizes before they count in units
        expected, left_out = whole_lots(raw, unit)
        row = row_of(raw)
        assert to_lots(row[0], unit, 1.0 / unit) == left_out
        assert book_of(row[0]) == expected
        assert judge(row[0], state[0], now) == reference.book(expected, now)
        if reference.mid2 is not None:
            assert (state[0]["known"], state[0]["mid2"]) == (True, reference.mid2)
        for px, qty in ((expected.bids or ((0, 0),))[0], (reference.mid2 or 5, -3), (10**13, 1), (7, 0)):
            assert judge_trade(px, qty, state[0]) == reference.trade(px, qty)


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=120), st.integers(1, 4))
def test_a_walk_through_zero_loses_no_book(moves: list[int], half: int) -> None:
    """Moves of up to some spreads are never too far, on whichever side of zero."""
    state, middle = fresh(), 50
    for move in moves:
        middle += max(-8 * half, min(8 * half, move))
        code = judge(row_of(around(middle, half))[0], state[0], 0)
        first_at_zero = half in (middle, -middle) and not state[0]["known"]
        assert code == (Quarantine.ONE_SIDED if first_at_zero else OK)


@given(books(), books())
def test_same_and_copied_books(a: Book, b: Book) -> None:
    one, two = row_of(a), row_of(b, int(EventFlag.TRADE))
    assert same_book(one[0], two[0]) == (a == b)
    copy_book(two[0], one[0])
    assert same_book(one[0], two[0])
    for side in ("bid", "ask"):
        for i in range(len(a.bids if side == "bid" else a.asks)):
            for field in ("px", "sz"):
                other = one.copy()
                other[f"{side}_{field}"][0, i] += 1
                assert not same_book(one[0], other[0])
    assert book_of(two[0]) == a
    assert two["flags"][0] & int(EventFlag.TRADE)


def test_copying_takes_along_whether_sizes_are_known() -> None:
    sized, unsized = row_of(touch(9, 11)), row_of(Book(((9, 0),), ((11, 0),), sized=False))
    copy_book(sized[0], unsized[0])
    assert sized["flags"][0] == NO_SIZE
    copy_book(sized[0], row_of(touch(9, 11))[0])
    assert sized["flags"][0] == 0


@pytest.mark.parametrize(
    ("book", "after", "left_out"),
    [
        # part lots are rounded down, what is less than one lot is no level
        (Book(((9, 2999), (8, 999), (7, 1000)), ((11, 1000),)), Book(((9, 2), (7, 1)), ((11, 1),)), 1),
        (Book(((9, 0), (8, 1000)), ((11, 1000),)), Book(((8, 1),), ((11, 1),)), 1),
        # a side that would be empty keeps its best price, and the book has no sizes
        (Book(((9, 0),), ((11, 5000), (12, 1999))), Book(((9, 0),), ((11, 0),), sized=False), 1),
        (Book(((9, 1), (8, 2)), ((11, 0),)), Book(((9, 0),), ((11, 0),), sized=False), 3),
        (Book((), ((11, 1),)), Book((), ((11, 0),), sized=False), 1),
        (Book((), ((11, 1000),)), Book((), ((11, 1),)), 0),
    ],
)
def test_levels_below_one_lot(book: Book, after: Book, left_out: int) -> None:
    row = row_of(book)
    assert to_lots(row[0], 1000, 0.001) == left_out
    assert book_of(row[0]) == after


@pytest.mark.parametrize(
    ("book", "code"),
    [
        (touch(99, 101), OK),
        (Book((), ((101, 1),)), Quarantine.ONE_SIDED),
        (Book(((99, 1),), ()), Quarantine.ONE_SIDED),
        (touch(102, 101), Quarantine.CROSSED),
        (touch(101, 101), Quarantine.LOCKED),
        (touch(99, 101, 0), Quarantine.ABSURD_SIZE),
        (touch(99, 101, 1, -1), Quarantine.ABSURD_SIZE),
        (Book(((99, 0),), ((101, 0),), sized=False), OK),
        (touch(-5, 3), OK),
        (touch(-2, 0), OK),
    ],
)
def test_the_touch_alone(book: Book, code: Quarantine) -> None:
    assert judge_touch(row_of(book)[0]) == code


def test_prices_may_be_zero_and_less_and_what_is_in_use_is_told_by_the_counts() -> None:
    state = fresh()
    falling = [Book(((m - 1, 1), (m - 2, 1)), ((m + 1, 1), (m + 2, 1))) for m in range(6, -40, -1)]
    assert set(ask(state, *falling)) == {OK}
    assert state[0]["mid2"] == -78


def test_a_best_price_of_zero_far_from_the_market_is_nobody_quoting() -> None:
    market, no_bid, no_ask = around(10_000), touch(0, 10_001), touch(-10_001, 0)
    state = fresh()
    assert ask(state, no_bid, market, no_bid, no_ask, market) == [
        Quarantine.ONE_SIDED,
        OK,
        Quarantine.ONE_SIDED,
        Quarantine.ONE_SIDED,
        OK,
    ]


def test_a_far_book_is_absurd_until_enough_of_them_agree() -> None:
    state = fresh()
    far = [Quarantine.ABSURD_PRICE] * FAR_ROWS
    assert ask(state, around(1000), *[around(2001)] * (FAR_ROWS + 1)) == [OK, *far, OK]
    assert ask(state, *[around(1000)] * FAR_ROWS, around(2001), around(1000)) == [*far, OK, far[0]]
    assert state[0]["unit2"] == 4.0, "a jump that had to be confirmed is no usual move"
    # one that does not agree with those before it, or a good book, begins the count anew
    state = fresh()
    others = [around(2001)] * FAR_ROWS
    assert ask(state, around(1000), *others, around(10_000), around(2001)) == [OK, *far, far[0], far[0]]
    assert ask(state, *others[1:], around(1000), around(2001)) == [*far[1:], OK, far[0]]


def test_many_far_books_at_once_are_no_market() -> None:
    """A wrong feed sends as many in a millisecond: the engine bought at three times the price."""
    state, far = fresh(), [Quarantine.ABSURD_PRICE]
    assert ask(state, around(1000), *[around(3000)] * 500, every=1_000) == [OK, *far * 500]
    assert ask(state, around(1000), every=0) == [OK]


def test_few_far_books_over_a_minute_are_a_market_that_moves_seldom() -> None:
    state, far = fresh(), [Quarantine.ABSURD_PRICE]
    assert ask(state, around(1000), *[around(3000)] * 3, every=30 * S) == [OK, *far * 2, OK]


@given(st.lists(st.tuples(st.sampled_from([1000, 3000, 9000]), st.integers(0, 2 * S)), max_size=150))
def test_no_jump_is_believed_sooner(steps: list[tuple[int, int]]) -> None:
    """Whatever comes: a far book is believed only behind 32 others that agree, over 5 s, or two, over a minute."""
    state, now, run = fresh(), 0, list[tuple[int, int]]()
    for middle, wait in [(1000, 0), *steps]:
        now, good = now + wait, int(state[0]["mid2"])
        run = [*run, (middle, now)] if run and run[-1][0] == middle else [(middle, now)]
        code = judge(row_of(around(middle))[0], state[0], now)
        over = now - run[0][1]
        enough = (len(run) > FAR_ROWS and over >= 5 * S) or (len(run) > 2 and over >= 60 * S)
        assert (code == OK) == (good in (0, 2 * middle) or enough)


def test_a_trade_where_the_market_was_says_that_it_is_still_there() -> None:
    """A feed of wrong prices that lasts is believed where nobody trades, and while somebody does it is not."""
    for px, every, code in (
        (1000, 20, Quarantine.ABSURD_PRICE),  # others trade at the last good mid
        (1400, 20, Quarantine.ABSURD_PRICE),  # near it still
        (3000, 20, OK),  # where the books say
        (1700, 20, OK),  # near both: it says nothing
        (1000, 200, OK),  # nobody has traded for longer than books must agree
    ):
        state = fresh()
        judge(row_of(around(1000))[0], state[0], 0)
        said = []
        for k in range(100):
            if k % every == 10:
                heard(px, state[0])
            said.append(Quarantine(judge(row_of(around(3000))[0], state[0], 10 * S + k * S // 5)))
        assert said[-1] == code, px
        assert said[0] == Quarantine.ABSURD_PRICE


@pytest.mark.parametrize(
    ("rows", "every_ms", "late"),
    [
        (600, 100, 40),  # ten trades a second where the market is, one at its old price each 4 s
        (600, 1_000, 4),
        (50, 20_000, 3),  # a slow market: one each 20 s, and one a minute at the old price
        (50, 20_000, 2),
    ],
)
def test_a_market_that_has_jumped_is_believed_though_some_trades_are_told_late(
    rows: int, every_ms: int, late: int
) -> None:
    state = fresh()
    judge(row_of(around(1000))[0], state[0], 0)
    said = []
    for k in range(rows):
        if k % late == late // 2:
            heard(1000, state[0])
        heard(2500, state[0])
        said.append(Quarantine(judge(row_of(around(2500))[0], state[0], 10 * S + k * every_ms * 10**6)))
    assert OK in said
    assert set(said[said.index(OK) :]) == {OK}


@pytest.mark.parametrize("there", [0, 1, 2])
def test_few_trades_where_far_books_are_do_not_outweigh_those_where_the_market_was(there: int) -> None:
    """A wrong feed may tell some of its own."""
    state = fresh()
    judge(row_of(around(1000))[0], state[0], 0)
    said = []
    for k in range(3_000):
        for _ in range(there if k % 40 == 20 else 0):
            heard(3000, state[0])
        if k % 10 == 0:
            heard(1000, state[0])
        said.append(Quarantine(judge(row_of(around(3000))[0], state[0], 10 * S + k * S // 10)))
    assert OK not in said


def test_trades_where_far_books_were_before_count_for_no_later_ones() -> None:
    state = fresh()
    ask(state, around(1000), around(3000))
    for _ in range(100):
        heard(3000, state[0])
    ask(state, around(1000), around(3000), around(3000))
    assert state[0]["far_rows"] == 2
    heard(1000, state[0])
    assert state[0]["far_rows"] == 0


def test_a_trade_says_nothing_where_no_book_was_far() -> None:
    state = fresh()
    heard(1000, state[0])
    assert not state.view(np.uint8).any()
    assert ask(state, around(1000), around(1001)) == [OK, OK]
    before = state.copy()
    heard(5, state[0])
    assert before == state


def after(state: Any, middle: int, *, rows: int, over_s: float, at_s: float) -> list[Quarantine]:
    """What is said of so many books around `middle`, evenly from `at_s` on."""
    every = round(over_s * S / (rows - 1))
    books = row_of(around(middle))
    return [Quarantine(judge(books[0], state[0], round(at_s * S) + k * every)) for k in range(rows)]


@pytest.mark.parametrize("px", [1000, 1400, 700])
def test_a_fill_of_ours_where_the_market_was_outweighs_whatever_else_trades(px: int) -> None:
    state = fresh()
    ask(state, around(1000))
    after(state, 3000, rows=30, over_s=4, at_s=10)
    for _ in range(100):
        heard(3000, state[0])
    filled(px, state[0])
    assert OK not in after(state, 3000, rows=32, over_s=60, at_s=14.1)[:2]
    assert state[0]["contradicted"] == 0, "nothing wrong was believed"


def test_a_wrong_book_that_is_believed_is_contradicted_by_a_fill_of_ours() -> None:
    """The fill says where the market is: books near it are believed at once, others after twice as long each time."""
    state = fresh()
    ask(state, around(1000))
    at = 10.0
    for doublings in (0, 1, 2, 3, 4, 5, 6, 6):
        wait = 5.0 * 2**doublings
        said = after(state, 3000, rows=41, over_s=wait, at_s=at)
        assert set(said[:-1]) == {Quarantine.ABSURD_PRICE}
        assert said[-1] == OK
        at += wait + 1
        filled(1000, state[0])
        assert state[0]["contradicted"] == min(doublings + 1, 6)
    state = fresh()
    ask(state, around(1000))
    after(state, 3000, rows=41, over_s=5, at_s=10)
    filled(1000, state[0])
    assert after(state, 1010, rows=2, over_s=1, at_s=16) == [OK, OK]


def test_contradictions_are_forgotten_one_an_hour() -> None:
    state, hour = fresh(), 3600.0
    ask(state, around(1000))
    for k in range(3):
        after(state, 3000, rows=2001, over_s=100, at_s=10 + 200 * k)
        filled(1000, state[0])
    assert state[0]["contradicted"] == 3
    left = []
    for at_s in (700, 700 + 0.99 * hour, 700 + hour, 700 + 2.9 * hour, 700 + 3 * hour, 700 + 9 * hour):
        after(state, 1000, rows=2, over_s=0.001, at_s=at_s)
        left.append(int(state[0]["contradicted"]))
    assert left == [3, 3, 2, 1, 0, 0]
    after(state, 3000, rows=2001, over_s=100, at_s=100_000)
    filled(1000, state[0])
    after(state, 1000, rows=2, over_s=0.001, at_s=100_200 + 0.5 * hour)
    after(state, 3000, rows=4, over_s=60, at_s=100_300 + 0.5 * hour)
    after(state, 3000, rows=4, over_s=120, at_s=100_400 + 0.5 * hour)
    filled(1000, state[0])
    assert state[0]["contradicted"] == 2
    after(state, 1000, rows=2, over_s=0.001, at_s=100_600 + 0.5 * hour)
    after(state, 1000, rows=2, over_s=0.001, at_s=100_500 + 1.5 * hour)
    assert state[0]["contradicted"] == 2, "the hour is counted from the newest contradiction"
    after(state, 1000, rows=2, over_s=0.001, at_s=50_000)
    after(state, 1000, rows=2, over_s=0.001, at_s=50_000 + hour)
    assert state[0]["contradicted"] == 1, "a clock that is set back holds no hour up"


def test_where_a_fill_of_ours_has_shown_the_market_it_is_believed_again_as_soon_as_ever() -> None:
    state = fresh()
    ask(state, around(1000))
    after(state, 3000, rows=41, over_s=5, at_s=10)
    filled(1000, state[0])
    after(state, 3000, rows=41, over_s=10, at_s=20)
    assert state[0]["mid2"] == 6000, "the wrong feed has lasted, and nothing contradicts it any more"
    assert after(state, 1000, rows=41, over_s=4.9, at_s=40)[-1] == Quarantine.ABSURD_PRICE
    assert after(state, 1000, rows=2, over_s=0.2, at_s=44.95)[-1] == OK


def test_a_slow_market_must_agree_twice_as_long_too() -> None:
    state = fresh()
    ask(state, around(1000))
    assert after(state, 3000, rows=4, over_s=60, at_s=10)[-1] == OK
    filled(1000, state[0])
    assert after(state, 3000, rows=4, over_s=119.9, at_s=100)[-1] == Quarantine.ABSURD_PRICE
    assert after(state, 3000, rows=2, over_s=0.2, at_s=219.95)[-1] == OK


def test_a_fill_of_ours_where_far_books_are_does_not_hold_them_up() -> None:
    state = fresh()
    ask(state, around(1000))
    after(state, 3000, rows=40, over_s=4.9, at_s=10)
    filled(3010, state[0])
    assert state[0]["far_trades"] == 1
    assert after(state, 3000, rows=2, over_s=0.1, at_s=15) == [OK, OK]
    assert state[0]["contradicted"] == 0


def test_a_fill_of_ours_says_nothing_before_a_book_and_near_it() -> None:
    state = fresh()
    filled(1000, state[0])
    assert not state.view(np.uint8).any()
    ask(state, around(1000), around(1001))
    before = state.copy()
    filled(1400, state[0])
    assert before == state


def test_the_factor_is_two_and_holds_on_both_sides_of_zero() -> None:
    absurd = Quarantine.ABSURD_PRICE
    for sign in (1, -1):
        for middle, code in ((2000, OK), (2001, absurd), (500, OK), (499, absurd)):
            assert ask(fresh(), around(sign * 1000), around(sign * middle))[1] == code


def test_near_in_usual_spreads_is_never_far() -> None:
    # the usual spread is 20 ticks: 320 ticks of mid, 640 half ticks, are near
    for middle, code in ((-300, OK), (-301, Quarantine.ABSURD_PRICE)):
        assert ask(fresh(), around(20, 10), around(middle, 10)) == [OK, code]


@pytest.mark.parametrize(
    ("px", "qty", "code"),
    [
        (1000, 1, OK),
        (2000, -5, OK),
        (2001, 1, Quarantine.ABSURD_PRICE),
        (0, 1, Quarantine.ABSURD_PRICE),
        (-1000, 1, Quarantine.ABSURD_PRICE),
        (1000, 0, Quarantine.ABSURD_SIZE),
        (1000, -(10**12) - 1, Quarantine.ABSURD_SIZE),
    ],
)
def test_trades(px: int, qty: int, code: Quarantine) -> None:
    state: Any = fresh()
    assert judge_trade(px, qty, state[0]) == Quarantine.ONE_SIDED
    ask(state, around(1000))
    assert judge_trade(px, qty, state[0]) == code
