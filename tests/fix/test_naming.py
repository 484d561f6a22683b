"""Our books beside a venue that keeps the truth, in every way of naming an entry."""

import os

import msgspec
import pytest

from emp.access.fix.book import UNKNOWN_ENTRY
from emp.access.fix.dialect import PLAIN
from emp.access.fix.market import BROKEN
from tests.fix.desk import EURUSD, Screen, levels
from tests.fix.naming import KEYING, SYMBOLS, WAYS, message
from tests.fix.naming_run import MS, Stand, run

STEPS = int(os.environ.get("EMP_FIX_STEPS", "8000"))
"""Messages per way of naming; 1,000,000 take minutes."""


@pytest.mark.parametrize("way", WAYS)
def test_our_books_are_the_venues_through_gaps_resends_and_reconnects(way: str) -> None:
    found = run(way, STEPS)
    assert found["wrong"] == []
    assert found["X"] >= STEPS
    assert found["messages/s"] >= 200
    for what in ("drop", "sent again", "filled", "connections lost", "asked for books", "quiet points"):
        assert found[what] > 1, f"{what} did not happen: the test shows nothing"


def shown(*bodies: str, way: str = "id") -> tuple[Screen, list[object]]:
    """A screen that has been told some messages (W… or X…), and the levels after each, None where no event came."""
    screen = Screen(msgspec.structs.replace(PLAIN, keying=KEYING[way]), (EURUSD, EURUSD), ("AAPL", "MSFT"))
    found: list[object] = []
    for body in bodies:
        rows = screen.show(message(body[0], 2, body[1:]))
        found.append(levels(rows[0]) if rows else None)
    return screen, found


W = "W55=AAPL|268=2|269=0|278=A|270=1.50000|271=50000|269=1|278=B|270=1.50002|271=40000|"
BEFORE = ([(150_000, 50)], [(150_002, 40)])


def test_a_change_may_carry_a_new_name_and_the_old_one_beside_it() -> None:
    screen, found = shown(
        W,
        "X268=1|279=1|269=0|278=C|280=A|55=AAPL|270=1.49999|271=70000|",
        "X268=1|279=1|269=1|278=D|280=B|55=AAPL|270=1.50000|271=70000|",
        "X268=1|279=0|269=1|278=F|55=AAPL|270=1.50003|271=9000|",
        "X268=1|279=2|280=D|55=AAPL|",
    )
    assert found == [
        BEFORE,
        ([(149_999, 70)], [(150_002, 40)]),
        ([(149_999, 70)], [(150_000, 70)]),
        ([(149_999, 70)], [(150_000, 70), (150_003, 9)]),
        ([(149_999, 70)], [(150_003, 9)]),
    ]
    assert not screen.market.quarantined


def test_an_entry_without_a_symbol_is_about_that_of_the_entry_before() -> None:
    screen, found = shown(
        W,
        "X268=2|279=0|269=0|278=E|55=AAPL|270=1.49998|271=70000|279=0|269=1|278=F|270=1.50005|271=9000|",
    )
    assert found[1] == ([(150_000, 50), (149_998, 70)], [(150_002, 40), (150_005, 9)])
    assert not screen.market.quarantined


@pytest.mark.parametrize(
    "body",
    [
        "X268=1|279=1|269=0|278=never|55=AAPL|270=1.49999|271=70000|",
        "X268=1|279=1|269=0|278=C|280=never|55=AAPL|270=1.49999|271=70000|",
        "X268=1|279=1|269=1|278=A|55=AAPL|270=1.50001|271=70000|",
        "X268=1|279=0|269=0|278=E|270=1.49998|271=70000|",
        "X268=1|279=0|269=0|278=E|55=AAPL|55=MSFT|270=1.49998|271=70000|",
        "X268=1|279=1|269=0|278=E|280=A|280=B|55=AAPL|270=1.49998|271=70000|",
        "X268=1|279=1|269=0|278=B|280=A|55=AAPL|270=1.49998|271=70000|",
        "X268=1|279=2|278=A|280=never|55=AAPL|",
        "X268=1|279=2|278=A|280=B|55=AAPL|",
        "X268=1|279=2|269=0|55=AAPL|270=1.49000|",
        "X268=1|279=1|269=0|55=AAPL|270=1.49000|271=1000|",
        "X268=1|279=0|269=10|278=E|55=AAPL|270=1.50010|271=1000|",
        "X268=1|279=10|269=0|278=A|55=AAPL|270=1.49998|271=70000|",
        "X268=1|279=0|269=2|278=T|55=AAPL|270=1,5|271=1000|",
        "X268=2|279=2|278=never|55=AAPL|279=1|278=A|270=x|271=1000|",
        "X268=2|279=2|278=never|55=IBM|279=1|278=A|55=AAPL|270=x|271=1000|",
        "X268=x|279=1|278=A|55=AAPL|271=1000|",
        "X268=2|279=2|278=never|55=MSFT|",
        "X268=2|",
        "X279=1|278=A|55=AAPL|271=1000|",
        "X268=1|279=3|269=0|278=A|55=AAPL|270=1.49998|271=70000|",
        "X268=1|279=1|269=0|278=A|55=AAPL|270=1.49998|270=1.49997|271=70000|",
        "X268=1|279=|278=A|55=AAPL|",
        "X268=1|278=A|55=AAPL|",
        "X268=1|279=2|278=A|55=|",
        "X268=1|279=2|278=A|280=|55=AAPL|",
        "X268=1|279=1|269=0|278=A|55=AAPL|270=|271=70000|",
        "X268=1|279=1|269=0|278=A|55=AAPL|270=1.49998|271=|",
        "X268=1|279=0|269=|278=E|55=AAPL|270=1.49998|271=70000|",
        "X268=1|279=0|269=0|278=E|55=AAPL|270=|271=70000|",
        "X268=2|279=2|278=A|55=AAPL|279=0|269=0|278=E|55=|270=1.49998|271=70000|",
        "W55=AAPL|268=1|269=0|278=A|270=1.5|270=1.6|271=50000|",
        "W55=AAPL|268=2|269=0|278=A|270=1.5|271=50000|269=1|278=A|270=1.6|271=50000|",
        "W55=AAPL|268=2|269=0|278=A|270=1.5|271=50000|269=0|278=A|270=1.4|271=50000|",
        "W55=AAPL|268=1|55=MSFT|269=0|278=A|270=1.5|271=50000|",
        "W55=AAPL|268=1|269=0|278=A|270=-1.5|271=50000|",
        "W55=AAPL|268=1|269=0|278=A|270=1.5e3|271=50000|",
        "W55=AAPL|268=1|269=0|278=A|270=1.5|271=1e9|",
        "W55=AAPL|268=1|270=1.5|278=A|271=50000|",
    ],
)
def test_what_cannot_be_applied_invalidates_the_book(body: str) -> None:
    screen, found = shown(W, body)
    assert found == [BEFORE, None]
    assert sum(screen.market.quarantined.values()) == 1
    assert not screen.market.books["whole"][0]
    assert screen.result in BROKEN, "nobody would ask for it anew"
    [row] = screen.show(message("W", 3, W[1:]))
    assert levels(row) == BEFORE


OTHER = "W55=MSFT|268=2|269=0|278=Y|270=2.5|271=50000|269=1|278=Z|270=2.50002|271=40000|"
OTHER_BEFORE = ([(250_000, 50)], [(250_002, 40)])


def both(screen: Screen) -> list[object]:
    """The levels of both books, None for one that waits for a snapshot."""
    return [levels(screen.cached(i)) if screen.market.books["whole"][i] else None for i in (0, 1)]


def test_a_new_entry_refers_to_another_for_its_instrument_alone() -> None:
    screen, _ = shown(
        W,
        OTHER,
        "X268=2|279=0|269=0|278=C|280=A|55=AAPL|270=1.49999|271=7000|279=0|269=1|278=D|280=Y|270=2.6|271=3000|",
        "X268=1|279=0|269=0|278=E|280=Z|270=2.4|271=2000|",
    )
    assert both(screen) == [
        ([(150_000, 50), (149_999, 7)], [(150_002, 40)]),
        ([(250_000, 50), (240_000, 2)], [(250_002, 40), (260_000, 3)]),
    ]
    assert not screen.market.quarantined


def test_a_name_alone_says_the_instrument_where_nothing_else_does() -> None:
    more = "X268=1|279=0|269=1|278=F|55=MSFT|270=2.50003|271=9000|"
    screen, _ = shown(W, OTHER, more, "X268=2|279=2|278=Z|279=1|278=Y|271=8000|")
    assert both(screen) == [BEFORE, ([(250_000, 8)], [(250_003, 9)])]
    assert not screen.market.quarantined


@pytest.mark.parametrize(
    "bodies",
    [
        (W, OTHER, "X268=2|279=1|278=A|55=AAPL|271=9000|279=2|278=Y|"),
        (W, W.replace("AAPL", "MSFT"), "X268=1|279=2|278=A|"),
        (W, OTHER, "X268=1|279=2|278=never|"),
        (W, OTHER, "X268=1|279=2|278=A|55=AAPL|55=MSFT|"),
        (W, OTHER, "X268=2|279=1|278=A|55=AAPL|271=9000|279=2|278=Y|55=|"),
        (W, OTHER, "X268=3|279=1|278=A|55=AAPL|271=9000|"),
        (W, OTHER, "X268=x|279=1|278=A|55=AAPL|271=9000|"),
    ],
    ids=[
        "carried or named",
        "in both",
        "in none",
        "two symbols",
        "empty symbol",
        "entries missing",
        "no count",
    ],
)
def test_where_the_instrument_cannot_be_told_every_book_is_asked_for(bodies: tuple[str, ...]) -> None:
    screen, _ = shown(*bodies)
    assert both(screen) == [None, None]
    assert screen.result in BROKEN


def test_a_name_is_not_looked_for_while_a_book_is_unknown() -> None:
    screen, _ = shown(W, "X268=1|279=2|278=A|")
    assert both(screen) == [None, None]


def test_an_entry_names_its_own_book_whatever_stands_before_the_group() -> None:
    screen, found = shown(
        W, "X55=IBM|268=2|279=1|278=A|55=AAPL|271=9000|279=0|269=1|278=C|270=1.50003|271=1000|"
    )
    assert found[1] == ([(150_000, 9)], [(150_002, 40), (150_003, 1)])
    assert shown(W, "X55=IBM|268=1|279=2|278=A|")[1] == [BEFORE, None]
    screen, _ = shown(W, "X55=IBM|268=1|279=2|278=A|")
    assert both(screen)[0] == BEFORE


def test_entries_named_by_price_where_ids_are_the_rule() -> None:
    screen, found = shown(
        W,
        "X268=2|279=0|269=0|55=AAPL|270=1.49998|271=7000|279=0|269=0|278=C|270=1.49997|271=3000|",
        "X268=1|279=1|269=0|55=AAPL|270=1.49998|271=8000|",
        "X268=1|279=1|269=0|55=AAPL|270=1.50000|271=6000|",
        "X268=2|279=2|269=0|55=AAPL|270=1.49998|279=2|278=A|",
    )
    assert found[1:] == [
        ([(150_000, 50), (149_998, 7), (149_997, 3)], [(150_002, 40)]),
        ([(150_000, 50), (149_998, 8), (149_997, 3)], [(150_002, 40)]),
        ([(150_000, 6), (149_998, 8), (149_997, 3)], [(150_002, 40)]),
        ([(149_997, 3)], [(150_002, 40)]),
    ]
    assert not screen.market.quarantined


@pytest.mark.parametrize(
    "change",
    [
        "279=1|269=0|55=AAPL|270=1.5|271=1000|",
        "279=2|269=0|278=Z|55=AAPL|270=1.5|",
        "279=0|269=0|55=AAPL|270=1.5|271=1000|",
    ],
)
def test_one_of_two_entries_at_a_price_cannot_be_told_by_it(change: str) -> None:
    twice = "W55=AAPL|268=3|269=0|270=1.5|271=7000|269=0|270=1.5|271=3000|269=1|270=1.51|271=7000|"
    assert shown(twice, f"X268=1|{change}")[1] == [([(150_000, 10)], [(151_000, 7)]), None]


@pytest.mark.parametrize(
    "body",
    [
        "W55=AAPL|268=3|269=0|290=1|270=1.5|271=7000|269=0|290=3|270=1.4|271=7000|269=1|290=1|270=1.6|271=7000|",
        "W55=AAPL|268=3|269=0|290=2|270=1.5|271=7000|269=0|290=1|270=1.4|271=7000|269=1|290=1|270=1.6|271=7000|",
        "W55=AAPL|268=3|269=0|270=1.5|271=7000|269=0|290=1|270=1.4|271=7000|269=1|290=1|270=1.6|271=7000|",
        "W55=AAPL|268=2|269=0|290=0|270=1.5|271=7000|269=1|290=1|270=1.6|271=7000|",
        "X268=1|279=1|269=1|290=2|55=AAPL|270=1.51|271=7000|",
        "X268=1|279=0|269=0|290=1|55=AAPL|270=1.3|271=7000|",
        "X268=1|279=1|269=1|290=1|290=2|55=AAPL|270=1.59|271=7000|",
    ],
    ids=["hole", "worse first", "some without", "zero", "change past the best", "new behind", "twice"],
)
def test_positions_that_cannot_be_invalidate_the_book(body: str) -> None:
    asks = "269=1|290=1|270=1.6|271=7000|269=1|290=2|270=1.7|271=7000|"
    screen, found = shown(f"W55=AAPL|268=3|269=0|290=1|270=1.5|271=7000|{asks}", body, way="position")
    assert found == [([(150_000, 7)], [(160_000, 7), (170_000, 7)]), None]
    assert screen.result in BROKEN


def test_a_trade_taken_back_is_no_trade() -> None:
    screen, _ = shown(W)
    rows = screen.show(message("X", 3, "268=1|279=2|269=2|278=T|55=AAPL|270=1.5|271=50000|"))
    assert [int(row["trade_qty"]) for row in rows] == [0]
    assert screen.result == UNKNOWN_ENTRY


@pytest.mark.parametrize("rest", ["269=|270=|271=|", "269=0|270=|271=|273=|58=|"])
def test_a_delete_needs_no_more_than_a_name(rest: str) -> None:
    more = "X268=1|279=0|269=0|278=E|55=AAPL|270=1.49998|271=70000|"
    screen, found = shown(W, more, f"X268=1|279=2|278=A|55=AAPL|{rest}")
    assert found[2] == ([(149_998, 70)], [(150_002, 40)])
    assert not screen.market.quarantined


@pytest.mark.parametrize("way", ["position", "price", "unnamed W"])
def test_a_snapshot_that_names_nothing_is_a_book_in_every_way_of_naming(way: str) -> None:
    nameless = "W55=AAPL|268=3|269=0|270=1.49|271=5000|269=0|270=1.5|271=7000|269=1|270=1.51|271=4000|"
    change = {"position": "290=2|", "price": "", "unnamed W": "278=Z|"}[way]
    px = "1.48" if way == "position" else "1.49"
    screen, found = shown(nameless, f"X268=1|279=1|269=0|{change}55=AAPL|270={px}|271=9000|", way=way)
    changed = 148_000 if way == "position" else 149_000
    assert found[1] == ([(150_000, 7), (changed, 9)], [(151_000, 4)])
    assert not screen.market.quarantined


def test_a_delete_of_what_an_unnamed_snapshot_may_hold_invalidates_the_book() -> None:
    nameless = "W55=AAPL|268=2|269=0|270=1.5|271=7000|269=1|270=1.51|271=7000|"
    delete = "X268=1|279=2|278=Z|55=AAPL|"
    assert shown(nameless, delete)[1] == [([(150_000, 7)], [(151_000, 7)]), None]
    screen, found = shown(W, delete)
    assert found == [BEFORE, BEFORE]
    assert sum(screen.market.quarantined.values()) == 1


def test_a_book_of_thousands_of_entries_is_taken() -> None:
    entries = [
        f"269={i % 2}|270=1.{40_000 - i if i % 2 == 0 else 50_000 + i}|271=1000|278=x{i}|"
        for i in range(2_282)
    ]
    whole = "55=AAPL|268=2282|" + "".join(entries)
    screen, found = shown("W" + whole)
    assert found == [
        ([(140_000 - i, 1) for i in range(0, 20, 2)], [(150_001 + i, 1) for i in range(0, 20, 2)])
    ]
    assert not screen.market.quarantined


@pytest.mark.parametrize(("price", "asks"), [("1.10000", True), ("1.08701", False)], ids=["crossed", "quiet"])
def test_a_book_that_stays_crossed_is_asked_for_anew(price: str, asks: bool) -> None:
    stand = Stand("id", 4)
    stand.faulty = False
    stand.session.connect()
    stand._listen()
    stand.quiet()
    stand.faulty = False
    before = stand.counts["asked for books"]
    stand._say("X", f"268=1|279=0|269={0 if asks else 1}|278=stray|55={SYMBOLS[0]}|270={price}|271=5000|")
    for _ in range(9 * 50):
        stand.pass_time(20 * MS)
    assert stand.counts["asked for books"] == before
    for _ in range(20 * 50):
        stand.pass_time(20 * MS)
        if stand.clock.monotonic_ns() // MS % 4_000 < 20:
            stand._say("0")
    assert (stand.counts["asked for books"] == before + 1) is asks
    assert stand.equal() is asks
    assert stand.wrong == []
