"""The order of compiled loops takes reports as the order manager does."""

from typing import Any

import numpy as np
import pytest

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace
from emp.core.ids import cl_ord_id, generator
from emp.core.messages import CANCEL, MESSAGE, NEW, REPLACE, REPORT, STATUSES, command_of
from emp.core.records import ACCOUNT, WORKING
from emp.execution.order import apply, no_order, note_sent
from emp.execution.orders import OrderManager

RUN, NAME = "RUN00000", "GOOG"


class Both:
    """One life of orders, told to the record and to the manager; and a venue that answers late."""

    def __init__(self, seed: int) -> None:
        self.draw = generator(seed, "orders")
        self.order = no_order(0)
        self.account, self.working = np.zeros(1, ACCOUNT), np.zeros(1, WORKING)
        self.manager = OrderManager([NAME])
        self.now = 0
        self.reports = 0
        self.under_way: list[tuple[int, Any]] = []  # commands that the venue has not seen: number, MESSAGE
        self.venue: dict[str, int] = {}  # the order as the venue has it; empty: none
        self.outcomes: set[str] = set()

    def message(self, **fields: Any) -> Any:
        """A MESSAGE[1]."""
        row = np.zeros(1, MESSAGE)
        self.now += int(self.draw.integers(1, 10))
        row["ts"], row["ahead"] = self.now, -1
        for name, value in fields.items():
            row[name] = value
        return row

    def give(self, **fields: Any) -> None:
        """Send a command, to both."""
        self.order["sequence"] += 1
        row = self.message(id=int(self.order["sequence"][0]), reason=Reason.POST_EDGE, **fields)
        note_sent(self.order[0], row[0], self.working[0])
        command: Command = command_of(row[0].tolist(), RUN, NAME)
        assert isinstance(command, NewOrder | CancelOrder | Replace)
        assert self.manager.sent(command) is None
        self.under_way.append((command_kind(row), row))
        self.agree()

    def tell(self, status: OrderStatus, **fields: Any) -> None:
        """A report, to both."""
        self.reports += 1
        row = self.message(kind=REPORT, status=STATUSES.index(status), seq=self.reports, **fields)
        assert apply(self.order[0], row[0], self.account[0], self.working[0])
        told = row[0]
        applied = self.manager.apply(
            OrderUpdate(
                clOrdID=cl_ord_id(RUN, int(told["id"])),
                execID=str(self.reports),
                status=status,
                filled=int(told["qty"]),
                price=int(told["px"]),
                ts=int(told["ts"]),
                instrument=NAME,
                side=int(told["side"]),
                leaves=int(told["leaves"]),
                fee=float(told["fee"]),
                maker=bool(told["maker"]),
                queue_ahead=int(told["ahead"]),
                replacement=cl_ord_id(RUN, int(told["orig"])) if told["orig"] else "",
            )
        )
        assert applied.alarm is None
        self.outcomes.add(
            f"{status}{' replaced' if told['orig'] else ''}{' cancel' if not told['side'] else ''}"
        )
        self.agree()

    def agree(self) -> None:
        """The decision and the account see the same."""
        assert self.working.tobytes() == self.manager.working.tobytes()
        assert self.account.tobytes() == self.manager.accounts.tobytes()

    # --- the venue

    def stand(self, status: OrderStatus | None = None, **fields: Any) -> None:
        """Report the venue's order as it stands."""
        v = self.venue
        plain = OrderStatus.PARTIALLY_FILLED if v["filled"] else OrderStatus.NEW
        known = {"id": v["id"], "side": v["side"], "qty": v["filled"], "px": v["px"]}
        self.tell(status or plain, **{**known, "leaves": v["qty"] - v["filled"], **fields})

    def fill(self) -> None:
        """Some of it trades."""
        v = self.venue
        qty = int(self.draw.integers(1, v["qty"] - v["filled"] + 1))
        v["filled"] += qty
        maker = bool(self.draw.random() < 0.7)
        done = v["filled"] == v["qty"]
        status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        self.stand(status, fee=0.25 * qty, maker=maker, ahead=int(self.draw.integers(-1, 5)))
        if done:
            self.venue = {}

    def arrive(self) -> None:
        """The oldest command reaches the venue."""
        kind, row = self.under_way.pop(0)
        c = row[0]
        if kind == NEW and self.draw.random() < 0.2:
            self.tell(OrderStatus.REJECTED, id=c["id"], side=c["side"], px=c["px"])
        elif kind == NEW:
            self.venue = {
                "id": int(c["id"]),
                "side": int(c["side"]),
                "qty": int(c["qty"]),
                "px": int(c["px"]),
                "filled": 0,
            }
            self.stand(ahead=int(self.draw.integers(-1, 9)))
        elif (
            not self.venue
            or (kind == REPLACE and c["qty"] <= self.venue["filled"])
            or self.draw.random() < 0.2
        ):
            self.tell(OrderStatus.REJECTED, id=c["id"])
        elif kind == CANCEL:
            self.stand(OrderStatus.CANCELED, leaves=0)
            self.venue = {}
        else:
            self.venue |= {"id": int(c["id"]), "qty": int(c["qty"]), "px": int(c["px"])}
            self.stand(orig=int(c["id"]), ahead=int(self.draw.integers(-1, 9)))

    def go_on(self) -> None:
        """One thing happens: we ask for something, a command arrives, or the order trades."""
        o = self.order[0]
        what = self.draw.integers(4)
        if what == 0 and self.under_way:
            self.arrive()
        elif what == 1 and self.venue:
            self.fill()
        elif what == 2 and not o["open"]:
            side = 1 if self.draw.random() < 0.5 else -1
            self.give(
                kind=NEW, side=side, qty=int(self.draw.integers(1, 9)), px=int(self.draw.integers(90, 110))
            )
        elif what == 2 and o["cancel"] == 0 and o["replacement"] == 0:
            more = int(self.draw.integers(1, 6))
            px = int(self.draw.choice([o["px"], 101]))
            self.give(
                kind=REPLACE, side=int(o["side"]), orig=int(o["id"]), qty=int(o["filled"]) + more, px=px
            )
        elif what == 3 and o["open"] and o["cancel"] == 0 and self.draw.random() < 0.5:
            self.give(kind=CANCEL, orig=int(o["id"]))


def command_kind(row: Any) -> int:
    """NEW, CANCEL or REPLACE."""
    return int(row["kind"][0])


@pytest.mark.parametrize("seed", range(6))
def test_takes_reports_as_the_manager_does(seed: int) -> None:
    both = Both(seed)
    for _ in range(1_500):
        both.go_on()
    assert both.account["fills"][0] > 100
    assert {
        "new",
        "new replaced",
        "partially_filled",
        "partially_filled replaced",
        "filled",
        "canceled",
        "rejected",
        "rejected cancel",
    } <= both.outcomes


def test_what_cannot_be_of_the_order_is_left_to_python() -> None:
    both = Both(1)
    both.give(kind=NEW, side=1, qty=5, px=100)
    before = both.order.tobytes(), both.account.tobytes(), both.working.tobytes()
    filled, accepted = STATUSES.index(OrderStatus.FILLED), STATUSES.index(OrderStatus.NEW)
    for wrong in (
        {"status": filled, "id": 1, "side": 1, "qty": 6},
        {"status": filled, "id": 1, "side": 1, "qty": 4},
        {"status": filled, "id": 1, "side": -1, "qty": 5},
        {"status": filled, "id": 7, "side": 1, "qty": 5},
        {"status": accepted, "id": 1, "side": 1, "qty": 1},
        {"status": STATUSES.index(OrderStatus.CANCELED), "id": 1, "side": 1, "qty": 5},
    ):
        assert not apply(
            both.order[0], both.message(kind=REPORT, **wrong)[0], both.account[0], both.working[0]
        )
        assert before == (both.order.tobytes(), both.account.tobytes(), both.working.tobytes())
