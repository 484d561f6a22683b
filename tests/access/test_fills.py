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
from emp.access.fix.dialect import MOCK
from emp.access.fix.market import Market
from emp.access.fix.settings import FixSettings
from emp.core.clock import SimClock
from emp.core.codes import OrderStatus, Reason
from emp.core.config.secrets import Secret
from emp.core.contracts import Command, NewOrder, OrderUpdate, Replace
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


def test_each_fill_of_an_order_of_this_process_is_told_once() -> None:
    fills = Fills()
    assert fills.price(told(2)) == 0, "nobody knows when an order of before has filled"
    fills.sent(new())
    said = [fills.price(told(n, px)) for n, px in ((0, 300), (2, 100), (2, 100), (1, 90), (5, 101))]
    assert said == [0, 100, 0, 0, 101]


def test_a_correction_tells_no_fill() -> None:
    fills = Fills()
    fills.sent(new())
    assert fills.price(told(2, 300, correction=True)) == 0
    assert fills.price(told(2, 100)) == 0


def test_a_replaced_order_goes_on_with_what_it_had_filled() -> None:
    fills = Fills()
    fills.sent(new())
    fills.price(told(2))
    change = Replace(
        cl_ord_id="R-2", orig="R-1", instrument="B", side=1, px=299, qty=4, ts=3, reason=Reason.CROSS_EDGE,
        decision_seq=2,
    )  # fmt: skip
    fills.sent(change)
    assert [fills.price(told(n, name="R-2")) for n in (2, 3)] == [0, 100]


def test_old_orders_are_forgotten() -> None:
    fills = Fills()
    for k in range(REMEMBERED + 1):
        fills.sent(new(f"R-{k}"))
    assert fills.price(told(1, name="R-0")) == 0
    assert fills.price(told(1, name="R-1")) == 100


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
    access._recovery = SimpleNamespace(told=lambda _: None, doubt=lambda _: None, sent=lambda *_: None)
    access.orders = SimpleNamespace(
        body=lambda _: (b"D", b""), sent=lambda *_: None, must_cancel=lambda _: False
    )
    session = SimpleNamespace(send=lambda *_: 1)
    link: Any = SimpleNamespace(session=session, flush=lambda: None)

    def send(command: Command) -> None:
        access._send(command, link)

    return Believing(access.market.books["judge"]), send, access.report


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

    def report(update: OrderUpdate) -> None:
        access._act(Report(update))

    return Believing(feed._books["judge"]), access.send, report


@pytest.mark.parametrize("door", ["fix", "open api"])
def test_a_fill_far_from_a_book_that_is_believed_contradicts_it(
    door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, send, report = over_fix() if door == "fix" else over_the_open_api(monkeypatch)
    report(told(1))
    assert books.contradicted == [0, 0], "of an order that this process has not sent"
    send(new())
    report(told(0, 300))
    report(told(1, 301))
    assert books.contradicted == [0, 0]
    report(told(2, 100))
    report(told(2, 100))
    assert books.contradicted == [0, 1]
    assert books.judges["mid2"].tolist() == [600, 200]
