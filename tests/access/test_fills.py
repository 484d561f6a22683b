"""What a report is the first to tell of our own orders, and that both live doors hold their books against it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.feed import Feed
from emp.access.ctrader.settings import Credentials, Report, Settings
from emp.access.fills import REMEMBERED, Fills
from emp.access.fix.client import FixAccess
from emp.access.fix.dialect import MOCK, PLAIN
from emp.access.fix.frame import Framer
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.settings import FixSettings
from emp.access.fix.text import Scale
from emp.core.clock import SimClock
from emp.core.codes import OrderStatus, Reason
from emp.core.config.secrets import Secret
from emp.core.contracts import Command, NewOrder, OrderUpdate, Replace
from tests.fix.wire import framed
from tests.kit.instruments import currency_pair

A, B = currency_pair("A", 0.01, 1.0), currency_pair("B", 0.01, 1.0)


def new(name: str = "R-1", instrument: str = "B") -> NewOrder:
    return NewOrder(
        cl_ord_id=name, instrument=instrument, side=1, qty=5, px=300, immediate=False, ts=1,
        reason=Reason.CROSS_EDGE, decision_seq=1,
    )  # fmt: skip


def told(filled: int, price: int = 100, name: str = "R-1", **more: Any) -> OrderUpdate:
    status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    return OrderUpdate(
        clOrdID=name,
        execID=f"x{filled}",
        status=status,
        filled=filled,
        price=price,
        ts=2,
        instrument="B",
        side=1,
        **more,
    )


def change() -> Replace:
    return Replace(
        cl_ord_id="R-2", orig="R-1", instrument="B", side=1, px=299, qty=4, ts=3, reason=Reason.CROSS_EDGE,
        decision_seq=2,
    )  # fmt: skip


def test_each_fill_of_an_order_of_this_process_is_told_once() -> None:
    fills = Fills()
    assert not fills.first(told(2)), "nobody knows when an order of before has filled"
    fills.sent(new())
    assert [fills.first(told(n)) for n in (0, 2, 2, 1, 5)] == [False, True, False, False, True]


def test_a_correction_tells_no_fill() -> None:
    fills = Fills()
    fills.sent(new())
    assert not fills.first(told(2, 300, correction=True))
    assert not fills.first(told(2, 100))


def test_a_replaced_order_goes_on_with_what_it_had_filled() -> None:
    fills = Fills()
    fills.sent(new())
    fills.first(told(2))
    fills.sent(change())
    assert [fills.first(told(n, name="R-2")) for n in (2, 3)] == [False, True]


def test_what_fills_before_a_replacement_is_in_force_is_told_once_under_both_ids() -> None:
    fills = Fills()
    fills.sent(new())
    fills.sent(change())
    assert fills.first(told(2))
    assert not fills.first(told(2, 299, name="R-2")), "the acknowledgement of the replacement"
    assert fills.first(told(3, name="R-2"))
    assert not fills.first(told(3))


def test_old_orders_are_forgotten() -> None:
    fills = Fills()
    for k in range(REMEMBERED + 1):
        fills.sent(new(f"R-{k}"))
    assert not fills.first(told(1, name="R-0"))
    assert fills.first(told(1, name="R-1"))


A_FILL = "37=V|11=R-1|55=2|54=1|17=e1|150=F|39=1|14=2|151=3|"


@pytest.mark.parametrize(
    ("report", "px"),
    [
        (A_FILL + "32=2|31=1.00|", 100),
        (A_FILL + "32=2|31=1.00|6=1.00|", 100),
        (A_FILL + "32=2|6=1.00|", 100),  # as cTrader tells it
        (A_FILL + "6=1.00|", 100),
        (A_FILL + "6=1|", 0),  # as good as any price from 0.5 to 1.5
        (A_FILL.replace("14=2", "14=0") + "6=1.00|", 0),  # nothing has filled
        (A_FILL + "31=1.46|6=1|", 0),  # of which lots is not said
        (A_FILL.replace("14=2", "14=9") + "32=1|31=3.00|6=1.20|", 300),  # other reports were missed
        (A_FILL + "31=1.00|", 0),
        (A_FILL, 0),
        (A_FILL.replace("150=F", "150=I") + "32=2|31=1.00|", 0),  # asked for
        (A_FILL.replace("150=F", "150=G") + "19=e0|32=2|31=1.00|6=1.00|", 0),
        ("43=Y|" + A_FILL + "32=2|31=1.00|", 0),  # sent again
    ],
)
def test_the_price_of_what_has_just_filled_is_what_a_fix_report_says_of_it(report: str, px: int) -> None:
    orders = Orders({"B": Scale(B)}, {"B": "2"}, PLAIN, "", "ME")
    framer = Framer()
    header = "35=8|34=5|49=V|52=20240605-12:00:01|56=ME|"
    [frame] = framer.frames(framed(header + report))
    message = Message(framer, frame)
    orders.report(message)
    assert orders.fresh_price(message, "R-1") == px
    assert orders.fresh_price(message, "unknown") == 0


@pytest.mark.parametrize(
    ("filled", "average", "px"),
    [
        (4, "1.50", 200),  # two more at 2.00
        (4, "2.0", 0),  # a twentieth either way, twice, of 3.00
        (2, "1.00", 0),  # no more than before
    ],
)
def test_the_price_of_what_filled_last_is_what_the_average_moved_by(
    filled: int, average: str, px: int
) -> None:
    orders = Orders({"B": Scale(B)}, {"B": "2"}, PLAIN, "", "ME")
    header = "35=8|34=5|49=V|52=20240605-12:00:01|56=ME|"
    for report in (
        A_FILL + "6=1.00|",
        A_FILL.replace("17=e1", "17=e2").replace("14=2", f"14={filled}") + f"6={average}|",
    ):
        framer = Framer()
        [frame] = framer.frames(framed(header + report))
        message = Message(framer, frame)
        orders.report(message)
    assert orders.fresh_price(message, "R-1") == px


class Believing:
    """A door's books that believe in 300 ticks, and how they are told of orders and reports."""

    def __init__(self, judges: Any) -> None:
        self.judges = judges
        self.judges["known"], self.judges["mid2"], self.judges["unit2"] = True, 600, 2.0

    @property
    def contradicted(self) -> list[int]:
        return [int(n) for n in self.judges["contradicted"]]


def over_fix() -> tuple[Believing, Any, Any]:
    settings = FixSettings(host="h", port=1, sender="E", target="V", dialect=MOCK, tls=False)
    access = FixAccess(settings, SimClock())
    access.market = Market([A, B], ["1", "2"], MOCK)
    access._out = SimpleNamespace(report=lambda _: None)
    access._recovery = SimpleNamespace(
        told=lambda _: None, doubt=lambda _: None, sent=lambda *_: None, busy=False
    )
    access.orders = SimpleNamespace(
        body=lambda _: (b"D", b""), sent=lambda *_: None, must_cancel=lambda _: False
    )
    session = SimpleNamespace(send=lambda *_: 1)
    link: Any = SimpleNamespace(session=session, flush=lambda: None)

    def send(command: Command) -> None:
        access._send(command, link)

    return Believing(access.market.books["judge"]), send, access


def over_the_open_api(monkeypatch: pytest.MonkeyPatch) -> tuple[Believing, Any, Any]:
    secret = Secret("s")
    credentials = Credentials(client_id=secret, client_secret=secret, access_token=secret)
    access = CTraderAccess(Settings(account=7), credentials, host="h", clock=SimClock())
    feed = Feed(7, depth=True)
    terms: Any = [SimpleNamespace(instrument=one) for one in (A, B)]
    access._session = SimpleNamespace(feed=feed, send=lambda _: None)  # type: ignore[assignment]
    access._sink = SimpleNamespace(report=lambda _: None)  # type: ignore[assignment]
    feed._books = np.zeros(2, feed._books.dtype)
    feed.terms = terms
    monkeypatch.setattr(access, "_write", lambda: None)
    monkeypatch.setattr("emp.access.ctrader.access.command_of", lambda command: command)

    def report(update: OrderUpdate, px: int = 0) -> None:
        access._act(Report(update, px))

    return Believing(feed._books["judge"]), access.send, report


def by(door: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Believing, Any, Any]:
    if door == "open api":
        return over_the_open_api(monkeypatch)
    books, send, access = over_fix()
    return books, send, access.report


@pytest.mark.parametrize("door", ["fix", "open api"])
def test_a_fill_far_from_a_book_that_is_believed_contradicts_it(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, send, report = by(door, monkeypatch)
    report(told(1), 100)
    assert books.contradicted == [0, 0], "of an order that this process has not sent"
    send(new())
    report(told(0, 300))
    report(told(1, 301), 301)
    assert books.contradicted == [0, 0]
    report(told(2, 100), 100)
    report(told(2, 100), 100)
    assert books.contradicted == [0, 1]
    assert books.judges["mid2"].tolist() == [600, 200]


@pytest.mark.parametrize("door", ["fix", "open api"])
def test_a_fill_of_which_no_price_is_told_contradicts_nothing(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, send, report = by(door, monkeypatch)
    send(new())
    report(told(1, 100))
    report(told(1, 100), 100)
    assert books.contradicted == [0, 0]


def test_a_fill_that_is_found_out_afterwards_contradicts_nothing() -> None:
    books, send, access = over_fix()
    send(new())
    access._recovery.busy = True
    access.report(told(1), 100)
    access._recovery.busy = False
    access.report(told(1), 100)
    assert books.contradicted == [0, 0]
    access.report(told(2), 100)
    assert books.contradicted == [0, 1]
