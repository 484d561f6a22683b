"""Inventory and turnover within their bounds whatever the market or the venue does: one-sided flow, gaps, halts, a
venue that stops filling one side.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.approval import command_of
from emp.core.codes import Action, EventFlag, OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, Replace
from emp.core.records import Array
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, engine
from tests.live.world import Venue

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000
N = 16_000
LIMITS = msgspec.structs.replace(
    LOOSE,
    max_position_lots=6,
    max_order_lots=3,
    orders_per_minute=60.0,
    turnover_per_minute=30.0,
    turnover_per_hour=400.0,
)


def one_sided(events: Array) -> Array:
    """Everybody sells, and the market falls by half a tick an event."""
    fall = (np.arange(len(events)) // 2)[:, None]
    traded = events["flags"] & EventFlag.TRADE != 0
    for side in ("bid", "ask"):
        there = events[f"{side}_px"] > 0
        events[f"{side}_px"] -= np.where(there, fall, 0)
    events["trade_qty"] = -abs(events["trade_qty"])
    events["trade_px"] = np.where(traded, events["bid_px"][:, 0], 0)
    return events


def gaps(events: Array) -> Array:
    """Every three hundred events a pause of two minutes, behind which the market stands 300 ticks elsewhere."""
    rng = np.random.default_rng(8)
    jumps = np.zeros(len(events), np.int64)
    jumps[300::300] = 300 * rng.choice([-1, 1], len(jumps[300::300]))
    for side in ("bid", "ask"):
        there = events[f"{side}_px"] > 0
        events[f"{side}_px"] += np.where(there, np.cumsum(jumps)[:, None], 0)
    events["trade_px"] += np.where(events["trade_px"] > 0, np.cumsum(jumps), 0)
    events["ts"] += 120 * S * (jumps != 0).cumsum()
    events["ts_recv"] = events["ts"]
    return events


def halts(events: Array, every: int = 500, of: int = 50) -> Array:
    """The market is halted again and again, with a book that goes on."""
    k = np.arange(len(events))
    events["flags"] |= np.where(k % every == every - of, EventFlag.HALT, 0).astype(np.uint32)
    events["flags"] |= np.where((k % every == 0) & (k > 0), EventFlag.RESUME, 0).astype(np.uint32)
    return events


class Unlearned(Events):
    """Events to an engine that is made to believe again and again that everything it sees is worth what it says, in the
    largest size: what bounds it is risk alone.
    """

    def __init__(self, events: Array, e: Engine) -> None:
        super().__init__(events, e.instruments[0], 20)
        self._standing = e.desk.standing

    def batches(self) -> Iterator[Array]:
        for events in super().batches():
            for name, value in {
                "level": 0.0,
                "slope": 1.0,
                "error": 0.0,
                "lots": LIMITS.max_order_lots,
            }.items():
                self._standing[name] = value
            yield events


@pytest.mark.parametrize("stress", [one_sided, gaps, halts])
def test_no_market_carries_inventory_or_turnover_past_its_bound(
    tmp_path: Path, stress: Callable[[Array], Array]
) -> None:
    e = engine(tmp_path, LIMITS)
    events = stress(random_events(N, 21))
    held, fills, filled = 0, [], dict[str, int]()
    worst = 0

    def heard(update: OrderUpdate) -> None:
        nonlocal held, worst
        lots = update.filled - filled.get(update.clOrdID, 0)
        if lots > 0:
            filled[update.clOrdID] = update.filled
            held += update.side * lots
            fills.append((update.ts, lots))
        worst = max(worst, abs(held))
        assert abs(held) <= LIMITS.max_position_lots

    source = Unlearned(events, e)
    summary = Backtest(source, e, PaperVenue(e.instruments[0], entry_ns=50_000_000), heard=heard).run()
    assert summary["fills"] > 50, "nothing was traded: the test shows nothing"
    assert worst >= 3, "the bound was not near"
    assert summary["final_position"] == held
    ts, lots = (np.array(column) for column in zip(*fills, strict=True))
    for span, cap in ((60 * S, LIMITS.turnover_per_minute), (3_600 * S, LIMITS.turnover_per_hour)):
        total = np.concatenate([[0], np.cumsum(lots)])
        since = np.searchsorted(ts, ts - span, side="right")
        # what rested when the span began was charged before it
        assert (total[1:] - total[since]).max() <= cap + LIMITS.max_order_lots, span


def test_a_halted_market_sees_nothing_of_ours(tmp_path: Path) -> None:
    e = engine(tmp_path, LIMITS)
    events = halts(random_events(N, 22), 100, 20)
    venue, withdrawn = Silent(), 0
    driver = Driver(e, venue.send)
    for k in range(len(events)):
        output = driver.events(events[k : k + 1])
        for update in venue.take():
            driver.report(update)
        if k % 100 >= 80:
            assert not venue.resting, "it rests in a halted market"
            assert set(output.rows["action"].tolist()) <= {Action.HOLD, Action.CANCEL}
            assert set(output.rows["reason_code"].tolist()) <= {Reason.SESSION, Reason.CANCEL_EDGE_GONE}
            withdrawn += int((output.rows["action"] == Action.CANCEL).sum())
    assert withdrawn > 0, "nothing ever rested when a halt came: the test shows little"


class Silent(Venue):
    """A venue whose reports wait until they are taken, and that fills one side alone, or both (0)."""

    def __init__(self, fills: int = 0) -> None:
        super().__init__()
        self.fills = fills
        self.told: list[OrderUpdate] = []
        self._report = self.told.append
        self.worst = 0

    def send(self, cleared: Any) -> None:
        command = command_of(cleared)
        if isinstance(command, NewOrder) and command.immediate and not self._willing(command.side):
            self.report(command, OrderStatus.CANCELED, 0)
        elif isinstance(command, NewOrder | CancelOrder | Replace):
            super().send(cleared)
        self._count()

    def take(self) -> list[OrderUpdate]:
        """What was reported since the last call."""
        told, self.told = self.told, []
        self._report = self.told.append
        return told

    def trade(self) -> None:
        """Whatever rests on a side that is filled is."""
        for name, order in list(self.resting.items()):
            if self._willing(order.side):
                del self.resting[name]
                self.position += order.side * order.qty
                self.report(order, OrderStatus.FILLED, order.qty)
        self._count()

    def _willing(self, side: int) -> bool:
        return self.fills in (0, side)

    def _count(self) -> None:
        """The position, and what it may become, should everything that rests on one side fill."""
        for side in (1, -1):
            resting = sum(one.qty for one in self.resting.values() if one.side == side)
            self.worst = max(self.worst, side * self.position + resting)


@pytest.mark.parametrize("side", [1, -1])
def test_a_venue_that_stops_filling_one_side_leaves_no_more_than_the_bound_and_it_is_worked_off(
    tmp_path: Path, side: int
) -> None:
    e = engine(tmp_path, LIMITS)
    e.desk.standing["lots"] = LIMITS.max_order_lots
    venue = Silent(fills=side)
    driver = Driver(e, venue.send)
    events, at = random_events(N, 23), 0
    stuck: list[int] = []
    freed: list[int] = []
    while at < len(events):
        output = driver.events(events[at : at + 1])
        at += output.consumed
        for update in venue.take():
            driver.report(update)
        if at % 5 == 0:
            venue.trade()
            for update in venue.take():
                driver.report(update)
        if at == N // 2:
            venue.fills = 0
        (stuck if at < N // 2 else freed).append(side * venue.position)
    assert int(e.desk.account["position"][0]) == venue.position
    assert venue.worst <= LIMITS.max_position_lots
    assert max(stuck) >= 3, "it never held much: the test shows nothing"
    assert min(stuck) == 0, "the other side was filled"
    assert min(freed) <= 0, "what was stuck was never worked off"
    assert np.mean(np.abs(freed)) < np.mean(stuck[len(stuck) // 2 :])
