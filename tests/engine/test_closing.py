"""Getting flat at a venue that refuses, is deaf or has no book: no storm, no invented price, no lot forgotten.

Time is the test's own: ticks of 20 ms, as the live loop makes them.
"""

from collections.abc import Callable

import numpy as np
import pytest

from emp.core.approval import Cleared, command_of
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import (
    CancelOrder,
    Command,
    Control,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    RiskBreach,
)
from emp.engine.engine import TRADE_LINK, Engine
from emp.engine.limits import EngineLimits
from emp.execution.pace import PER_MINUTE
from tests.kit.orders import cleared, new_order
from tests.live.world import BTC, book, buyer

TICK_NS = 20_000_000
SECOND_NS = 1_000_000_000
Answer = Callable[[Command], list[OrderUpdate]]


class Bench:
    """An engine that holds lots, and a venue of one function."""

    def __init__(self, lots: int = 5, *, shown: bool = True) -> None:
        self.engine = Engine([BTC], buyer(), EngineLimits(), "RUN")
        self.sent: list[Command] = []
        self.now = SECOND_NS * 1_000_000
        self.told = 0
        self.answer: Answer = lambda _: []
        if shown:
            self.engine.process(book(1, self.now))
        self.engine.desk.account["position"] = lots
        self.engine.desk.risk["degraded"] = False

    @property
    def position(self) -> int:
        return int(self.engine.desk.account["position"][0])

    def kill(self) -> None:
        self.deliver(self.engine.control(Control(action="kill", ts=self.now)).commands)

    def deliver(self, commands: list[Cleared]) -> None:
        """Send; what the venue answers comes back at once, as from a session that is down."""
        queue = list(commands)
        while queue:
            cleared = queue.pop(0)
            command = command_of(cleared)
            self.sent.append(command)
            self.engine.sent(cleared)
            for update in self.answer(command):
                queue += self.engine.on_report(update).commands
            assert len(self.sent) < 5_000, "an order storm"

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * SECOND_NS) // TICK_NS):
            self.now += TICK_NS
            self.deliver(self.engine.on_timer(self.now).commands)

    def told_of(self, command: NewOrder, status: OrderStatus, filled: int = 0) -> OrderUpdate:
        self.told += 1
        return OrderUpdate(
            clOrdID=command.cl_ord_id,
            execID=str(self.told),
            status=status,
            filled=filled,
            price=command.px,
            ts=self.now,
            instrument=BTC.name,
        )

    def refuses(self, command: Command) -> list[OrderUpdate]:
        self.told += 1
        refusal = OrderUpdate(
            clOrdID=command.cl_ord_id,
            execID=str(self.told),
            status=OrderStatus.REJECTED,
            filled=0,
            price=0,
            ts=self.now,
            instrument=BTC.name,
        )
        return [] if isinstance(command, QueryOrder) else [refusal]

    def unfilled(self, command: Command) -> list[OrderUpdate]:
        return [self.told_of(command, OrderStatus.CANCELED)] if isinstance(command, NewOrder) else []

    def fills(self, command: Command) -> list[OrderUpdate]:
        if not isinstance(command, NewOrder):
            return []
        return [self.told_of(command, OrderStatus.FILLED, command.qty)]

    def fills_one(self, command: Command) -> list[OrderUpdate]:
        return [self.told_of(command, OrderStatus.CANCELED, 1)] if isinstance(command, NewOrder) else []


@pytest.mark.parametrize("how", ["refuses", "unfilled"])
def test_a_venue_that_closes_nothing_is_asked_less_and_less_often(how: str) -> None:
    bench = Bench()
    bench.answer = getattr(bench, how)
    bench.kill()
    bench.run(30.0)
    assert 8 <= len(bench.sent) <= 20
    assert "nothing was closed by the last" in bench.engine.closing.why_not_flat(0)
    before = len(bench.sent)
    bench.answer = bench.fills
    bench.run(5.1)
    assert bench.position == 0
    assert len(bench.sent) == before + 1
    assert bench.engine.closing.why_not_flat(0) == ""


def test_one_refusal_costs_one_tick() -> None:
    bench = Bench()
    bench.answer = bench.refuses
    bench.kill()
    bench.answer = bench.fills
    bench.run(0.02)
    assert bench.position == 0


def test_a_refused_cancel_is_not_repeated_in_a_storm() -> None:
    bench = Bench(lots=0)
    resting = new_order("RUN-9", 1, 2, 99_000, instrument=BTC.name, ts=bench.now)
    bench.engine.sent(cleared(resting))
    bench.engine.on_report(bench.told_of(resting, OrderStatus.NEW))
    bench.answer = bench.refuses
    bench.kill()
    bench.run(30.0)
    cancels = [c for c in bench.sent if isinstance(c, CancelOrder)]
    assert 8 <= len(cancels) <= 20


def test_a_cancel_refused_on_a_silent_feed_is_not_repeated_in_a_storm() -> None:
    bench = Bench(lots=0)
    resting = new_order("RUN-9", 1, 2, 99_000, instrument=BTC.name, ts=bench.now)
    bench.engine.sent(cleared(resting))
    bench.engine.on_report(bench.told_of(resting, OrderStatus.NEW))
    bench.answer = bench.refuses
    bench.run(35.0)
    assert 8 <= len(bench.sent) <= 20


def test_a_cap_holds_even_where_each_order_closes_a_little() -> None:
    bench = Bench(lots=500)
    bench.answer = bench.fills_one
    bench.kill()
    bench.run(30.0)
    assert len(bench.sent) == PER_MINUTE
    bench.run(31.0)
    assert len(bench.sent) == 2 * PER_MINUTE


def link(bench: Bench, *, up: bool) -> None:
    control = Control(action="degraded", ts=bench.now, reason=TRADE_LINK, value=float(not up))
    bench.deliver(bench.engine.control(control).commands)


def test_nothing_is_sent_while_the_session_is_down_and_at_once_when_it_is_back() -> None:
    bench = Bench()
    bench.answer = bench.refuses
    link(bench, up=False)
    bench.kill()
    bench.run(30.0)
    assert bench.sent == []
    assert bench.engine.closing.why_not_flat(0) == "the trade link is down"
    bench.answer = bench.fills
    link(bench, up=True)
    bench.run(0.02)
    assert bench.position == 0


def test_a_session_that_is_back_is_not_waited_for_as_long_as_it_refused() -> None:
    bench = Bench()
    bench.answer = bench.refuses
    bench.kill()
    bench.run(20.0)
    link(bench, up=False)
    bench.run(1.0)
    bench.answer = bench.fills
    link(bench, up=True)
    bench.run(0.02)
    assert bench.position == 0


@pytest.mark.parametrize("side", [5, -5])
@pytest.mark.parametrize(("bid", "ask"), [(0, 0), (10, 0), (10, 10), (11, 10)])
def test_there_is_no_closing_price_without_a_book(side: int, bid: int, ask: int) -> None:
    bench = Bench(lots=side)
    seen = bench.engine.desk.perception
    seen["bid"], seen["ask"] = bid, ask
    bench.kill()
    bench.run(1.0)
    assert bench.sent == []
    assert "no book" in bench.engine.closing.why_not_flat(0)
    bench.answer = bench.fills
    bench.engine.process(book(2, bench.now))
    bench.run(0.02)
    assert bench.position == 0


@pytest.mark.parametrize("side", [5, -5])
@pytest.mark.parametrize("empty", ["bid", "ask"])
def test_a_book_that_has_lost_a_side_holds_no_close_up(side: int, empty: str) -> None:
    bench = Bench(lots=side)
    bench.answer = bench.unfilled
    last = bench.engine.closing._touch(0)
    bare = book(2, bench.now)
    bare[f"n_{empty}"] = 0
    bare[f"{empty}_px"], bare[f"{empty}_sz"] = 0, 0
    bench.engine.process(bare)
    bench.kill()
    closing = [c for c in bench.sent if isinstance(c, NewOrder)]
    assert len(closing) == 1
    assert closing[0].immediate
    reach = 10 * (last.ask - last.bid)
    assert closing[0].px == (last.bid - reach if side > 0 else last.ask + reach)
    bench.answer = bench.fills
    bench.run(1.0)
    assert bench.position == 0


def test_a_kill_before_any_book_closes_with_the_first_one() -> None:
    bench = Bench(shown=False)
    bench.kill()
    bench.run(1.0)
    assert bench.sent == []
    bench.answer = bench.fills
    bench.engine.process(book(1, bench.now))
    bench.run(0.02)
    assert bench.position == 0


def test_a_fill_that_is_told_after_flat_is_closed_too() -> None:
    bench = Bench(lots=2)
    late = new_order("RUN-9", 1, 3, 99_000, instrument=BTC.name, ts=bench.now)
    bench.engine.sent(cleared(late))
    bench.engine.on_report(bench.told_of(late, OrderStatus.NEW))

    def cancels_then_fills(command: Command) -> list[OrderUpdate]:
        if isinstance(command, CancelOrder):
            return [bench.told_of(late, OrderStatus.CANCELED)]
        return bench.fills(command)

    bench.answer = cancels_then_fills
    bench.kill()
    bench.run(0.1)
    assert bench.position == 0
    assert not bench.engine.flattening
    output = bench.engine.on_report(bench.told_of(late, OrderStatus.FILLED, 3))
    assert bench.position == 3
    bench.deliver(output.commands)
    bench.run(0.1)
    assert bench.position == 0
    assert not bench.engine.flattening


@pytest.mark.parametrize("limit", ["daily_loss", "drawdown"])
def test_a_loss_limit_closes_what_the_owner_holds_halted(limit: str) -> None:
    bench = Bench(lots=2)
    bench.answer = bench.fills
    bench.deliver(bench.engine.control(Control(action="halt", ts=bench.now)).commands)
    account = bench.engine.desk.account[0]
    for name in ("daily_loss", "drawdown"):
        bench.engine.desk.limits[f"max_{name}"] = 1e6 if name == limit else 1e12
    output = bench.engine.process(book(2, bench.now + TICK_NS))
    assert bench.position == 2, "closed before the limit"
    account["cash"] -= 1e7
    output = bench.engine.process(book(3, bench.now + 2 * TICK_NS))
    assert [m.reason for m in output.messages if isinstance(m, RiskBreach)] == [limit]
    bench.deliver(output.commands)
    assert bench.position == 0
    halted = bench.engine.desk.risk[0]
    assert (halted["halted"], halted["halt_reason"]) == (True, Reason[limit.upper()])
    # the owner halts again: nothing of the limit is forgotten, and it is told once
    bench.deliver(bench.engine.control(Control(action="halt", ts=bench.now)).commands)
    assert halted["halt_reason"] == Reason[limit.upper()]
    output = bench.engine.process(book(4, bench.now + 3 * TICK_NS))
    assert output.messages == []
    assert output.commands == []


def test_a_position_that_is_merely_halted_stays() -> None:
    bench = Bench(lots=2)
    bench.deliver(bench.engine.control(Control(action="halt", ts=bench.now)).commands)
    bench.run(1.0)
    assert bench.sent == []
    assert bench.position == 2


def test_a_report_that_cannot_be_true_again_and_again_is_asked_about_at_a_pace() -> None:
    bench = Bench(lots=0)
    order = new_order("RUN-9", 1, 2, 99_000, instrument=BTC.name, ts=bench.now)
    bench.engine.sent(cleared(order))

    def overfilled(command: Command) -> list[OrderUpdate]:
        return [bench.told_of(order, OrderStatus.PARTIALLY_FILLED, 99)]

    bench.answer = overfilled
    bench.deliver(bench.engine.on_report(bench.told_of(order, OrderStatus.FILLED, 77)).commands)
    bench.run(10.0)
    assert len(bench.sent) <= 25


# --- lots that came without a report ------------------------------------------------------------------------


def test_an_adjustment_is_worth_the_first_believable_mid_and_lifts_no_limit() -> None:
    engine = Engine([BTC], buyer(), EngineLimits(max_daily_loss=100.0), "RUN")
    engine.orders.adjust(BTC.name, 3)
    engine.positions.unvalued.add(0, 3)
    crossed = book(1, SECOND_NS)
    crossed["bid_px"][:, 0] = crossed["ask_px"][:, 0] + 5
    hidden = book(2, 2 * SECOND_NS)
    hidden["flags"] = 0
    good = book(3, 3 * SECOND_NS)
    output = engine.process(np.concatenate([crossed, hidden, good]))
    (one,) = output.valuations
    assert (one.qty, one.px) == (3, 0.5 * (int(good["bid_px"][0, 0]) + int(good["ask_px"][0, 0])))
    account = engine.desk.account[0]
    assert account["position"] == 3
    assert account["pnl"] == account["peak"] == account["day_start"] == 0.0
    assert not engine.positions.unvalued


def test_without_a_believable_book_an_adjustment_waits() -> None:
    engine = Engine([BTC], buyer(), EngineLimits(), "RUN")
    engine.orders.adjust(BTC.name, -3)
    engine.positions.unvalued.add(0, -3)
    one_sided = book(1, SECOND_NS)
    one_sided["n_ask"] = 0
    assert engine.process(one_sided).valuations == []
    assert engine.positions.unvalued
    assert engine.desk.account["pnl"][0] == 0.0


def test_a_closing_reason_survives_in_the_halt() -> None:
    bench = Bench(lots=1, shown=False)
    bench.kill()
    assert bench.engine.desk.risk["halt_reason"][0] == Reason.KILL_SWITCH
