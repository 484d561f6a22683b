"""The order manager by example: each report that may come, and each that may not."""

import msgspec
import numpy as np
import pytest

from emp.core.account import apply_fill, mark
from emp.core.codes import OrderStatus, WorkingState
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, QueryOrder
from emp.core.records import ACCOUNT, WORKING
from emp.execution.orders import OrderManager
from emp.execution.transitions import Alarm
from tests.kit.orders import cancel_order, new_order

S = OrderStatus


def new(name: str = "A", side: int = 1, qty: int = 10, px: int = 100, immediate: bool = False) -> NewOrder:
    return new_order(name, side, qty, px, instrument="GOOG", immediate=immediate, ts=1000)


def cancel(name: str = "C", orig: str = "A", ts: int = 2000) -> CancelOrder:
    return cancel_order(name, orig, instrument="GOOG", ts=ts)


def report(
    exec_id: str, status: OrderStatus, filled: int = 0, price: int = 100, name: str = "A", **rest: object
) -> OrderUpdate:
    fields = {"clOrdID": name, "execID": exec_id, "status": status, "filled": filled, "price": price, "ts": 1}
    return msgspec.convert(fields | rest, OrderUpdate)


@pytest.fixture
def manager() -> OrderManager:
    made = OrderManager(["GOOG", "MSFT"])
    made.sent(new())
    return made


def account(manager: OrderManager) -> tuple[int, float, float, int, int]:
    a = manager.accounts[0]
    return int(a["position"]), float(a["cash"]), float(a["fees"]), int(a["traded"]), int(a["fills"])


def working(manager: OrderManager) -> tuple[WorkingState, int]:
    return WorkingState(manager.working[0]["state"]), int(manager.working[0]["leaves"])


def test_an_order_lives_and_the_shared_records_follow() -> None:
    accounts, shared = np.zeros(2, ACCOUNT), np.zeros(2, WORKING)
    manager = OrderManager(["MSFT", "GOOG"], accounts, shared)
    assert list(shared["queue_ahead"]) == [-1, -1]
    manager.sent(new(px=99))
    record = shared[1]
    assert (record["state"], record["side"], record["px"], record["leaves"], record["ts"]) == (
        1,
        1,
        99,
        10,
        1000,
    )
    manager.apply(report("1", S.NEW, queue_ahead=40))
    assert (record["state"], record["queue_ahead"]) == (WorkingState.RESTING, 40)
    applied = manager.apply(report("2", S.PARTIALLY_FILLED, 4, 99, fee=0.5, maker=True, queue_ahead=40))
    assert applied.fill is not None
    assert (applied.fill.qty, applied.fill.px, applied.fill.fee, applied.fill.maker) == (4, 99, 0.5, True)
    assert (record["leaves"], record["queue_ahead"]) == (6, 0)
    manager.sent(cancel())
    assert record["state"] == WorkingState.CANCELLING
    manager.apply(report("3", S.CANCELED, 4, 99, name="C"))
    assert (record["state"], record["leaves"], record["queue_ahead"]) == (WorkingState.NONE, 0, -1)
    assert manager.open_orders() == []
    assert (accounts[1]["position"], accounts[1]["cash"], accounts[1]["fees"]) == (4, -4 * 99, 0.5)
    assert accounts[0]["position"] == 0
    assert manager.quarantined == []


def test_a_repeated_report_changes_nothing(manager: OrderManager) -> None:
    update = report("1", S.PARTIALLY_FILLED, 4)
    assert manager.apply(update).changed
    before = account(manager)
    for _ in range(3):
        again = manager.apply(update)
        assert (again.changed, again.fill, again.alarm) == (False, None, None)
    assert account(manager) == before


def test_a_missing_report_heals_and_a_late_one_corrects_the_price(manager: OrderManager) -> None:
    healed = manager.apply(report("2", S.PARTIALLY_FILLED, 7, 103, fee=1.0))
    assert healed.fill is not None
    assert healed.fill.qty == 7
    assert account(manager) == (7, -7 * 103.0, 1.0, 7, 1)
    late = manager.apply(report("1", S.PARTIALLY_FILLED, 3, 101, fee=0.5))
    assert late.fill is None
    assert account(manager) == (7, -3 * 101.0 - 4 * 103.0, 1.5, 7, 2)
    assert working(manager) == (WorkingState.RESTING, 3)


def test_a_fill_after_its_status_brings_the_fee_once(manager: OrderManager) -> None:
    manager.apply(report("status", S.PARTIALLY_FILLED, 4, 100))
    manager.apply(report("fill", S.PARTIALLY_FILLED, 4, 100, fee=2.0))
    manager.apply(report("status2", S.PARTIALLY_FILLED, 4, 100))
    manager.apply(report("end", S.CANCELED, 4, 100, fee=2.0))
    assert account(manager) == (4, -400.0, 2.0, 4, 1)


def test_fills_told_after_a_cancel_count(manager: OrderManager) -> None:
    manager.sent(cancel())
    manager.apply(report("c", S.CANCELED, 0))
    assert manager.apply(report("f", S.PARTIALLY_FILLED, 4)).fill is not None
    assert manager.order("A").status is S.CANCELED  # type: ignore[union-attr]
    assert manager.apply(report("g", S.FILLED, 10)).fill is not None
    assert manager.order("A").status is S.FILLED  # type: ignore[union-attr]
    assert account(manager)[0] == 10
    assert manager.quarantined == []
    assert manager.open_orders() == []


def test_late_reports_tell_nothing_new(manager: OrderManager) -> None:
    manager.apply(report("2", S.PARTIALLY_FILLED, 6))
    assert not manager.apply(report("1", S.NEW)).changed
    assert working(manager) == (WorkingState.RESTING, 4)
    manager.apply(report("3", S.FILLED, 10))
    assert not manager.apply(report("0", S.PENDING_NEW)).changed
    assert not manager.apply(report("0b", S.NEW)).changed
    assert working(manager)[0] is WorkingState.NONE
    assert manager.quarantined == []


def test_a_late_report_does_not_answer_a_query(manager: OrderManager) -> None:
    manager.apply(report("2", S.PARTIALLY_FILLED, 6))
    manager.sent(QueryOrder(cl_ord_id="A", instrument="GOOG", ts=2000))
    manager.apply(report("1", S.PARTIALLY_FILLED, 3))
    assert working(manager) == (WorkingState.UNKNOWN, 4)
    manager.apply(report("q", S.PARTIALLY_FILLED, 6))
    assert working(manager) == (WorkingState.RESTING, 4)


def test_a_fill_while_a_cancel_is_on_its_way_leaves_it_on_its_way(manager: OrderManager) -> None:
    manager.apply(report("1", S.NEW))
    manager.sent(cancel())
    manager.apply(report("2", S.PARTIALLY_FILLED, 6))
    assert working(manager) == (WorkingState.CANCELLING, 4)


def test_a_refused_cancel_leaves_the_order_as_it_was(manager: OrderManager) -> None:
    manager.apply(report("1", S.PARTIALLY_FILLED, 6))
    manager.sent(cancel())
    manager.apply(report("r", S.REJECTED, name="C"))
    assert working(manager) == (WorkingState.RESTING, 4)
    manager.sent(cancel("C2"))
    manager.apply(report("r2", S.REJECTED, name="C"))  # about the older cancel
    assert working(manager) == (WorkingState.CANCELLING, 4)
    manager.apply(report("f", S.FILLED, 10))
    assert not manager.apply(report("r3", S.REJECTED, name="C2")).changed
    assert manager.quarantined == []


def test_a_timeout_asks_and_never_resends(manager: OrderManager) -> None:
    assert manager.timeouts(1999, 1000) == []
    queries = manager.timeouts(2000, 1000)
    assert queries == [QueryOrder(cl_ord_id="A", instrument="GOOG", ts=2000)]
    manager.sent(queries[0])
    assert working(manager) == (WorkingState.UNKNOWN, 10)
    assert manager.timeouts(2500, 1000) == []
    assert manager.timeouts(3000, 1000) == [QueryOrder(cl_ord_id="A", instrument="GOOG", ts=3000)]
    manager.apply(report("1", S.PARTIALLY_FILLED, 3))
    assert working(manager) == (WorkingState.RESTING, 7)
    assert manager.timeouts(99999, 1000) == []
    manager.sent(cancel(ts=100_000))
    assert manager.timeouts(101_000, 1000) != []


def test_a_cancel_that_never_arrived_is_under_way_no_more_once_the_venue_says_that_the_order_works(
    manager: OrderManager,
) -> None:
    manager.apply(report("1", S.NEW))
    manager.sent(cancel())
    order = manager.order("A")
    assert order is not None
    manager.apply(report("2", S.PARTIALLY_FILLED, 3))  # told before the cancel was read
    assert order.cancel is not None
    manager.sent(QueryOrder(cl_ord_id="A", instrument="GOOG", ts=4000))
    manager.apply(report("1b", S.NEW))  # late: no answer
    assert order.cancel is not None
    manager.apply(report("q", S.PARTIALLY_FILLED, 3))
    assert order.cancel is None
    assert working(manager) == (WorkingState.RESTING, 7)
    manager.sent(cancel("C2"))
    manager.apply(report("c", S.CANCELED, 3))
    assert working(manager)[0] is WorkingState.NONE
    assert not manager.apply(report("r", S.REJECTED, name="C")).changed
    assert manager.quarantined == []


def test_an_order_the_venue_never_saw_is_dead(manager: OrderManager) -> None:
    manager.sent(QueryOrder(cl_ord_id="A", instrument="GOOG", ts=2000))
    manager.apply(report("q", S.REJECTED, text="unknown order"))
    assert working(manager)[0] is WorkingState.NONE
    assert manager.open_orders() == []


def test_the_most_forbidding_of_several_orders_is_shown(manager: OrderManager) -> None:
    manager.apply(report("1", S.NEW))
    manager.sent(new("B", side=-1, immediate=True))
    record = manager.working[0]
    assert (record["state"], record["side"], record["immediate"]) == (WorkingState.IN_FLIGHT, -1, True)
    manager.apply(report("1", S.FILLED, 10, name="B"))
    assert working(manager) == (WorkingState.RESTING, 10)


@pytest.mark.parametrize(
    ("reason", "reports"),
    [
        (Alarm.UNKNOWN_ORDER, [report("1", S.NEW, name="Z")]),
        (Alarm.CONTRADICTION, [report("1", S.NEW), report("1", S.PARTIALLY_FILLED, 3)]),
        (Alarm.MISMATCH, [report("1", S.NEW, instrument="MSFT")]),
        (Alarm.MISMATCH, [report("1", S.NEW, side=-1)]),
        (Alarm.OVERFILL, [report("1", S.FILLED, 11)]),
        (Alarm.OVERFILL, [report("1", S.PARTIALLY_FILLED, -1)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.FILLED, 9)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.PARTIALLY_FILLED, 10)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.PARTIALLY_FILLED, 0)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.NEW, 2)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.CANCELED, 10)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.PARTIALLY_FILLED, 2), report("2", S.REJECTED)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.REJECTED), report("2", S.PARTIALLY_FILLED, 2)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.REJECTED), report("2", S.FILLED, 10)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.FILLED, 10), report("2", S.CANCELED, 3)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.CANCELED, 3), report("2", S.EXPIRED, 3)]),
        (Alarm.IMPOSSIBLE_STATUS, [report("1", S.CANCELED, 3), report("2", S.REJECTED)]),
    ],
)
def test_what_cannot_be_is_quarantined_and_never_applied(
    manager: OrderManager, reason: Alarm, reports: list[OrderUpdate]
) -> None:
    for update in reports[:-1]:
        assert manager.apply(update).alarm is None
    before = account(manager), manager.working.tobytes(), manager.order("A").status  # type: ignore[union-attr]
    applied = manager.apply(reports[-1])
    assert applied.alarm is not None
    assert (applied.alarm.reason, applied.alarm.message) == (reason, reports[-1])
    assert manager.quarantined == [applied.alarm]
    assert (account(manager), manager.working.tobytes(), manager.order("A").status) == before  # type: ignore[union-attr]


def test_commands_are_taken_once_and_ids_are_never_shared(manager: OrderManager) -> None:
    assert manager.sent(new()) is None
    assert manager.sent(cancel()) is None
    assert manager.sent(cancel()) is None
    for wrong in (new(qty=3), new("C"), cancel("A", "A"), msgspec.structs.replace(new("B"), instrument="X")):
        alarm = manager.sent(wrong)
        assert alarm is not None
        assert alarm.reason in (Alarm.CONTRADICTION, Alarm.MISMATCH)
    assert manager.sent(cancel("D", "nobody")).reason is Alarm.UNKNOWN_ORDER  # type: ignore[union-attr]
    assert len(manager.open_orders()) == 1


def test_a_clock_that_is_set_right_begins_no_day() -> None:
    """It was a day ahead: the days' loss is forgotten once, at the step forward, and not again."""
    a = np.zeros(1, ACCOUNT)
    apply_fill(a[0], 1, 10, 100, 0.0)
    lost = []
    for mid, day in ((100, 5), (90, 5), (90, 6), (80, 6), (80, 5), (70, 5), (60, 6), (60, 7), (50, 7)):
        mark(a[0], 2 * mid, day)
        lost.append(int(a[0]["pnl"] - a[0]["day_start"]))
    assert lost == [0, -100, 0, -100, -100, -200, -300, 0, -100]
    assert a[0]["day"] == 7
    assert a[0]["overnight"] == 0.0


def test_a_market_of_day_zero_and_of_before_has_days_too() -> None:
    for first in (0, -3):
        a = np.zeros(1, ACCOUNT)
        apply_fill(a[0], 1, 10, 100, 0.0)
        for mid in (100, 90, 80):
            mark(a[0], 2 * mid, first)
        assert a[0]["pnl"] - a[0]["day_start"] == -200


def test_an_account_is_marked_to_the_mid_after_fees_and_days_begin_at_their_first_mark() -> None:
    a = np.zeros(1, ACCOUNT)
    apply_fill(a[0], 1, 10, 100, 2.5)
    mark(a[0], 2 * 101, 7)
    assert (a[0]["pnl"], a[0]["peak"], a[0]["day"], a[0]["day_start"]) == (7.5, 7.5, 7, 0.0)
    apply_fill(a[0], -1, 4, 99, -0.5)
    mark(a[0], 2 * 98 + 1, 7)
    expected = 10 * -100 + 4 * 99 + 6 * 98.5 - 2.0
    assert (a[0]["pnl"], a[0]["peak"], a[0]["day_start"]) == (expected, 7.5, 0.0)
    mark(a[0], 2 * 90, 8)
    assert (a[0]["day"], a[0]["day_start"], a[0]["position"], a[0]["traded"], a[0]["fills"]) == (
        8,
        expected - 6 * 8.5,
        6,
        14,
        2,
    )
