"""Trades taken back or corrected, and fills that were lost: position and cash end as the venue says, in any way."""

import asyncio

import pytest

from emp.access.fix.text import FieldError
from emp.core.codes import OrderStatus
from emp.execution.orders import OrderManager
from tests.fix.scripted import connected
from tests.fix.test_orders import book, heard, report
from tests.fix.test_quickfix import until
from tests.kit.orders import cleared, new_order, replace_order

BASE = "37=V9|11=R-1|55=1|54=1|"


class Books:
    """Our orders over the wire, and the position and cash that follow from them."""

    def __init__(self, qty: int = 10) -> None:
        self.orders, self.manager = book(), OrderManager(["EURUSD"])
        self.seq = 1
        self.order = new_order("R-1", 1, qty, 108_800)
        self.orders.body(self.order)
        self.manager.sent(self.order)

    def tell(self, text: str, base: str = BASE) -> None:
        """A report; each comes at a later time, so that answers about status are told apart."""
        self.seq += 1
        for update in report(self.orders, f"{base}{text}60=20240605-12:00:{self.seq:02d}|"):
            assert self.manager.apply(update).alarm is None, update

    def fill(self, name: str, lots: int, px: str, cum: int, average: str, base: str = BASE) -> None:
        status = 2 if cum == 10 else 1
        self.tell(
            f"17={name}|150=F|39={status}|32={lots}000|31={px}|14={cum}000|151={10 - cum}000|6={average}|",
            base,
        )

    @property
    def stand(self) -> tuple[int, float]:
        account = self.manager.accounts[0]
        return int(account["position"]), round(-float(account["cash"]), 6)


def filled() -> Books:
    books = Books()
    books.fill("e1", 4, "1.0870", 4, "1.0870")
    books.fill("e2", 3, "1.0873", 7, "1.08712857")
    assert books.stand == (7, 4 * 108_700 + 3 * 108_730)
    return books


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("150=H|19=e1|39=1|", (3, 3 * 108_730)),
        ("150=H|19=e2|39=1|14=4000|", (4, 4 * 108_700)),
        ("150=G|19=e2|39=1|32=3000|31=1.0880|", (7, 4 * 108_700 + 3 * 108_800)),
        ("150=G|19=e1|39=1|32=1000|31=1.0860|6=9|", (4, 108_600 + 3 * 108_730)),
    ],
)
def test_a_correction_without_its_figures_follows_from_the_fill_that_it_names(
    text: str, stands: tuple[int, float]
) -> None:
    books = filled()
    books.tell(f"17=e3|{text}")
    assert books.stand == stands
    order = books.manager.order("R-1")
    assert order is not None
    assert order.leaves == 10 - stands[0]
    books.tell(f"17=e3|{text}")
    assert books.stand == stands


def test_a_correction_of_a_correction_names_the_correction() -> None:
    books = filled()
    books.tell("17=e3|150=G|19=e2|39=1|32=2000|31=1.0880|")
    assert books.stand == (6, 4 * 108_700 + 2 * 108_800)
    with pytest.raises(FieldError):
        books.tell("17=e4|150=H|19=e2|39=1|")
    books.tell("17=e5|150=H|19=e3|39=1|")
    assert books.stand == (4, 4 * 108_700)
    books.tell("17=e6|150=H|19=e1|39=0|")
    assert books.stand == (0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "150=H|",
        "150=H|19=e9|",
        "150=G|19=e1|",
        "150=G|19=e1|32=2000|",
        "150=H|19=e1|14=4000|",
        "150=H|19=e1|14=x|",
    ],
)
def test_a_correction_that_does_not_say_what_stands_is_refused_and_the_state_of_the_order_settles_it(
    text: str,
) -> None:
    books = filled()
    books.tell("17=e2b|150=4|39=4|14=7000|151=0|6=1.08712857|")  # it has ended: nothing asks for it by itself
    before = books.stand
    message = heard(f"35=8|{BASE}17=e3|39=1|{text}")
    with pytest.raises(FieldError):
        books.orders.report(message)
    assert books.stand == before
    assert books.orders.dispute(message) == "R-1"
    books.tell("17=0|150=I|39=4|14=3000|151=0|6=1.0873|")
    assert books.stand == (3, 3 * 108_730)
    books.tell("17=0|150=I|39=4|14=2000|151=0|6=1.0873|")  # nothing is in doubt: late, and says nothing new
    assert books.stand == (3, 3 * 108_730)


def test_a_refused_report_on_nothing_of_ours_disputes_nothing() -> None:
    books = filled()
    assert books.orders.dispute(heard("35=8|37=W1|11=foreign|17=e3|150=F|39=1|55=1|54=1|32=x|")) == ""
    assert books.orders.dispute(heard("35=9|37=V9|11=R-1|41=R-0|39=1|")) == ""


def test_a_trade_of_before_a_replacement_is_taken_back_after_it() -> None:
    books = Books()
    books.fill("e1", 4, "1.0870", 4, "1.0870")
    change = replace_order("R-2", "R-1", 1, 12, 108_810, ts=1)
    books.orders.body(change)
    books.manager.sent(change)
    new = BASE.replace("R-1", "R-2")
    books.tell("41=R-1|17=e2|150=5|39=1|38=12000|44=1.0881|14=4000|151=8000|6=1.0870|", new)
    books.fill("e3", 2, "1.0880", 6, "1.08733333", new)
    books.tell("17=e4|150=H|19=e1|39=1|", new)
    assert books.stand == (2, 2 * 108_800)
    books.tell("17=e5|150=H|19=e3|39=1|")  # some name the id that the order had
    assert books.stand == (0, 0)


def test_a_replacement_whose_consent_was_lost_is_in_force_by_whatever_is_told_under_its_id() -> None:
    books = Books()
    books.fill("e1", 4, "1.0870", 4, "1.0870")
    change = replace_order("R-2", "R-1", 1, 12, 108_810, ts=1)
    books.orders.body(change)
    books.manager.sent(change)
    new = BASE.replace("R-1", "R-2")
    books.tell("41=R-1|17=p|150=E|39=E|14=4000|151=6000|6=1.0870|", new)  # under way: says nothing of fills
    assert books.orders.net == {"EURUSD": 4}
    assert books.orders.in_force("R-2") == ""
    books.fill("e2", 2, "1.0880", 6, "1.08733333", new)
    assert books.stand == (6, 4 * 108_700 + 2 * 108_800)
    assert books.orders.net == {"EURUSD": 6}
    assert books.orders.in_force("R-2") == "R-1"
    books.tell("41=R-1|17=e3|150=5|39=1|38=12000|44=1.0881|14=6000|151=6000|6=1.08733333|", new)  # late
    books.tell("17=e4|150=H|19=e1|39=1|", new)
    assert books.stand == (2, 2 * 108_800)
    assert books.orders.net == {"EURUSD": 2}


def test_the_net_of_all_fills_follows_every_correction() -> None:
    books = filled()
    other = new_order("S-1", -1, 5, 108_700)
    books.orders.body(other)
    books.manager.sent(other)
    base = "37=V8|11=S-1|55=1|54=2|"
    steps = [
        (BASE, "17=e3|150=H|19=e1|39=1|", 3),
        (BASE, "17=e4|150=G|19=e2|39=1|32=2000|31=1.0880|", 2),
        (base, "17=f1|150=F|39=1|32=3000|31=1.0870|14=3000|151=2000|6=1.0870|", -1),
        (base, "17=f2|150=G|19=f1|39=1|32=5000|31=1.0870|14=5000|6=1.0870|", -3),
        (base, "17=f3|150=H|19=f2|39=1|14=0|6=0|", 2),
        (BASE, "17=e5|150=F|39=2|32=8000|31=1.0870|14=10000|151=0|6=1.0872|", 10),
    ]
    for under, text, net in steps:
        books.tell(text, under)
        assert books.orders.net == {"EURUSD": net}, text
        assert books.stand[0] == net
    earlier = "37=V1|11=Q-1|55=1|54=1|17=g1|150=F|39=1|32=3000|31=1.0870|14=3000|151=2000|6=1.0870|"
    report(books.orders, earlier)  # of an order of an earlier run: what it had filled was held before
    assert books.orders.net == {"EURUSD": 10}
    report(books.orders, earlier.replace("17=g1", "17=g2").replace("14=3000", "14=5000"))
    assert books.orders.net == {"EURUSD": 12}


def test_fills_that_were_lost_cost_what_the_average_says() -> None:
    books = Books()
    books.fill("e1", 1, "1.0870", 1, "1.0870")
    books.fill("e3", 2, "1.0880", 6, "1.08750000")  # three lots of which nothing was heard
    assert books.stand == (6, 6 * 108_750)
    books.tell("17=0|150=I|39=1|14=9000|151=1000|6=1.08766667|")
    assert books.stand[0] == 9
    assert books.stand[1] == pytest.approx(9 * 108_766.667, abs=0.1)
    books.fill("e9", 1, "1.0900", 10, "1.08790000")
    assert books.stand == (10, pytest.approx(9 * 108_766.667 + 109_000, abs=0.1))


def test_a_rounded_average_moves_no_price_off_its_tick() -> None:
    books = Books()
    books.fill("e1", 3, "1.0870", 3, "1.0870")
    books.tell(
        "17=0|150=I|39=1|14=7000|151=3000|6=1.08741|"
    )  # 4 at 1.08772 or thereabouts: one price explains it
    assert books.stand == (7, 3 * 108_700 + 4 * 108_772)


def test_a_fill_told_late_changes_nothing_of_what_its_cost_was_settled_by() -> None:
    books = Books()
    books.tell("17=0|150=I|39=1|14=7000|151=3000|6=1.08712857|")
    stood = books.stand
    assert stood == (7, pytest.approx(4 * 108_700 + 3 * 108_730, abs=0.01))
    books.fill("e1", 4, "1.0870", 4, "1.0870")
    books.fill("e2", 3, "1.0873", 7, "1.08712857")
    assert books.stand == stood


def test_a_report_that_names_our_order_by_the_venues_id_alone_is_about_it() -> None:
    books = filled()
    bare = "37=V9|55=1|54=1|"
    books.fill("e3", 1, "1.0880", 8, "1.087275", bare)
    assert books.stand[0] == 8
    other = new_order("R-7", 1, 5, 108_800)
    books.orders.body(other)
    books.manager.sent(other)
    books.tell("17=f1|150=0|39=0|14=0|151=5000|6=0|", "37=V9|11=R-7|55=1|54=1|")  # one id for two orders
    [update] = report(books.orders, bare + "17=e4|150=F|39=1|32=1000|31=1.088|14=9000|151=1000|6=1.0873|")
    assert update.clOrdID == ""
    assert update.status is OrderStatus.PARTIALLY_FILLED


def test_a_correction_that_was_refused_is_asked_for_although_the_order_has_ended() -> None:
    async def run() -> None:
        async with connected() as (venue, access):
            manager = OrderManager(["EURUSD"])
            order = new_order("R-1", 1, 4, 108_800, immediate=True)
            base = "37=V9|11=R-1|55=EURUSD|54=1|60=20240605-12:00:00|"
            access.on_report(lambda update: manager.apply(update))
            venue.on["AF"] = lambda asked: venue.say("j", f"45={asked[34]}|372=AF|379={asked[584]}|380=1|")
            venue.on["H"] = lambda _: venue.say("8", f"{base}17=0|150=I|39=4|14=1000|151=0|6=1.087|")
            manager.sent(order)
            access.send(cleared(order))
            venue.say("8", f"{base}17=e1|150=F|39=2|32=4000|31=1.087|14=4000|151=0|6=1.087|")
            await until(lambda: manager.position("EURUSD") == 4)
            venue.say("8", f"{base}17=e2|150=H|39=2|")
            await until(lambda: manager.position("EURUSD") == 1)
            assert float(manager.accounts["cash"][0]) == -108_700
            assert venue.count("3") == venue.count("H") == 1
            venue.say("8", f"{base}17=e3|150=I|39=4|14=0|151=0|6=0|")  # not asked for: late
            venue.say("8", f"{base}17=e4|150=H|19=e1|39=4|14=0|151=0|6=0|")
            await until(lambda: manager.position("EURUSD") == 0)
            assert manager.quarantined == []

    asyncio.run(run())


def test_what_a_missing_average_leaves_open_the_next_one_settles() -> None:
    books = Books()
    books.tell("17=e1|150=F|39=1|32=4000|31=1.0870|14=4000|151=6000|6=|")
    assert books.stand == (4, 4 * 108_700)
    books.tell("17=0|150=I|39=1|14=6000|151=4000|6=1.0872|")  # the fill told what it cost
    assert books.stand == (6, 6 * 108_720)
    books.tell("17=e3|150=F|39=1|32=1000|31=1.0880|14=9000|151=1000|")  # two lots were lost before it
    assert books.stand[0] == 9
    books.fill("e4", 1, "1.0890", 10, "1.08760")
    assert books.stand == (10, pytest.approx(10 * 108_760))


def test_what_still_works_after_a_correction_follows_where_the_venue_does_not_say() -> None:
    books = filled()
    [update] = report(books.orders, f"{BASE}17=e3|150=H|19=e1|39=1|60=20240605-12:00:50|")
    assert (update.filled, update.leaves) == (3, 7)


def test_a_trade_of_an_order_whose_cost_was_never_told_is_not_taken_back_by_guess() -> None:
    books = Books()
    report(books.orders, f"{BASE}17=e0|150=F|39=1|32=0|14=2000|151=8000|60=20240605-12:00:40|")  # no 6, no 31
    report(books.orders, f"{BASE}17=e1|150=F|39=1|32=4000|31=1.0870|14=6000|151=4000|60=20240605-12:00:41|")
    with pytest.raises(FieldError, match="never told"):
        report(books.orders, f"{BASE}17=e2|150=H|19=e1|39=1|60=20240605-12:00:42|")
