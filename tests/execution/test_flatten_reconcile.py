"""Getting flat and agreeing with the venue, by example."""

import itertools

import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, VenuePosition
from emp.execution.flatten import flatten, is_flat
from emp.execution.orders import OrderManager
from emp.execution.reconcile import CorrectionKind, reconcile_orders, reconcile_positions
from tests.execution.test_orders import cancel, new, report

S = OrderStatus


def flattening(
    manager: OrderManager, ids: "itertools.count[int]", touch: tuple[int, int] = (99, 101)
) -> list[Command]:
    commands = flatten(
        manager,
        "GOOG",
        bid=touch[0],
        ask=touch[1],
        through_ticks=20,
        next_id=lambda: f"F{next(ids)}",
        ts=5000,
        decision_seq=9,
    )
    for command in commands:
        manager.sent(command)
    return commands


def test_flattening_withdraws_and_closes_once_until_flat() -> None:
    manager, ids = OrderManager(["GOOG"]), itertools.count()
    manager.sent(new("A", qty=10))
    manager.apply(report("1", S.PARTIALLY_FILLED, 6))
    first = flattening(manager, ids)
    assert [type(c) for c in first] == [CancelOrder, NewOrder]
    close = first[1]
    assert isinstance(close, NewOrder)
    assert (close.side, close.qty, close.px, close.immediate) == (-1, 6, 79, True)
    assert flattening(manager, ids) == []  # everything needed is on its way
    manager.apply(report("2", S.PARTIALLY_FILLED, 8))  # the resting order fills before its cancel arrives
    second = flattening(manager, ids)
    assert [(c.side, c.qty) for c in second if isinstance(c, NewOrder)] == [(-1, 2)]
    manager.apply(report("3", S.CANCELED, 8, name="F0"))
    manager.apply(report("1", S.PARTIALLY_FILLED, 4, name="F1"))
    manager.apply(report("2", S.CANCELED, 4, name="F1"))  # the market was thin: the rest of the IOC is gone
    manager.apply(report("1", S.FILLED, 2, name="F2"))
    assert not is_flat(manager, "GOOG")
    third = flattening(manager, ids)
    assert [(c.side, c.qty) for c in third if isinstance(c, NewOrder)] == [(-1, 2)]
    manager.apply(report("1", S.FILLED, 2, name="F3"))
    assert is_flat(manager, "GOOG")
    assert flattening(manager, ids) == []


def test_a_short_is_bought_back_and_an_opening_order_in_flight_is_not_counted_as_closing() -> None:
    manager, ids = OrderManager(["GOOG"]), itertools.count()
    manager.sent(new("A", side=-1, qty=5, immediate=True))
    manager.apply(report("1", S.FILLED, 5))
    manager.sent(new("B", side=-1, qty=7, immediate=True))
    (close,) = flattening(manager, ids)
    assert isinstance(close, NewOrder)
    assert (close.side, close.qty, close.px) == (1, 5, 121)


@pytest.mark.parametrize(
    ("touch", "sell", "buy"),
    [
        ((-41, -40), -61, -20),
        ((-1, 1), -21, 21),
        ((0, 2), -20, 22),
        ((5, 6), 1, 26),
        ((0, 0), None, None),
        ((-5, -5), None, None),
    ],
)
def test_a_position_below_zero_is_closed_too(
    touch: tuple[int, int], sell: int | None, buy: int | None
) -> None:
    for side, px in ((1, sell), (-1, buy)):
        manager, ids = OrderManager(["GOOG"]), itertools.count()
        manager.sent(new("A", side=side, qty=5, immediate=True))
        manager.apply(report("1", S.FILLED, 5))
        closing = [(c.side, c.px) for c in flattening(manager, ids, touch) if isinstance(c, NewOrder)]
        assert closing == ([] if px is None else [(-side, px)])


def test_a_refused_cancel_is_sent_again_and_one_in_doubt_is_not() -> None:
    manager, ids = OrderManager(["GOOG"]), itertools.count()
    manager.sent(new("A"))
    assert len(flattening(manager, ids)) == 1
    (query,) = manager.timeouts(9000, 1000)
    manager.sent(query)
    assert flattening(manager, ids) == []
    manager.apply(report("r", S.REJECTED, name="F0"))
    assert len(flattening(manager, ids)) == 1


def test_orders_are_compared_with_the_venues_list() -> None:
    manager = OrderManager(["GOOG"])
    for name in "ABCD":
        manager.sent(new(name))
    manager.apply(report("1", S.FILLED, 10, name="D"))
    manager.sent(cancel("X", "C"))
    listed = [
        report("s1", S.PARTIALLY_FILLED, 3, name="A"),
        report("s2", S.NEW, name="STRANGER", instrument="GOOG"),
        report("s3", S.PARTIALLY_FILLED, 2, name="D", instrument="GOOG"),
    ]
    found = reconcile_orders(manager, listed, ts=7)
    assert [(c.kind, c.cl_ord_id) for c in found] == [
        (CorrectionKind.REPORT, "A"),
        (CorrectionKind.FOREIGN, "STRANGER"),
        (CorrectionKind.FOREIGN, "D"),
        (CorrectionKind.QUERY, "B"),
        (CorrectionKind.QUERY, "C"),
    ]
    assert found[0].update == listed[0]
    assert found[3].query is not None
    assert found[3].query.cl_ord_id == "B"
    assert all(c.reason for c in found)


def test_positions_are_compared_with_the_venues_and_differences_booked() -> None:
    manager = OrderManager(["GOOG", "MSFT", "AAPL"])
    manager.sent(new("A"))
    manager.apply(report("1", S.FILLED, 10))
    manager.adjust("AAPL", -4)
    agreed = [VenuePosition(instrument="GOOG", qty=10), VenuePosition(instrument="AAPL", qty=-4)]
    assert reconcile_positions(manager, agreed) == []
    found = reconcile_positions(manager, [VenuePosition(instrument="MSFT", qty=3, avg_px=70.5)])
    assert [(c.kind, c.instrument, c.qty, c.px) for c in found] == [
        (CorrectionKind.ADJUST, "GOOG", -10, 0.0),
        (CorrectionKind.ADJUST, "MSFT", 3, 70.5),
        (CorrectionKind.ADJUST, "AAPL", 4, 0.0),
    ]
    for correction in found:
        manager.adjust(correction.instrument, correction.qty)
    assert [manager.position(i) for i in manager.instruments] == [0, 3, 0]
    assert manager.accounts[1]["cash"] == 0, "what it is worth the market says"
    manager.value("MSFT", 3, 70.5)
    assert manager.accounts[1]["cash"] == -3 * 70.5
