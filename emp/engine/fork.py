"""A recorded run stopped before one of its decisions: everything the engine was just then, to go on from.

    fork = fork_at(rerun, number, index, history)     # before event `number` of the run
    engine, order = fork.engine(), fork.order

The run is replayed up to there, so what is returned is what the engine was, not what a row remembers of it.
"""

from typing import NamedTuple

import numpy as np

from emp.core.codes import OrderStatus, WorkingState
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument
from emp.core.messages import CANCEL, MESSAGE, NEW, REPLACE, STATUSES
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.rerun import Rerun
from emp.execution.order import ORDER, no_order
from emp.execution.transitions import Order


class Fork(NamedTuple):
    """An engine of one instrument as it was before an event."""

    instrument: Instrument
    limits: EngineLimits
    model: LoadedModel
    run: str
    state: dict[str, Array]  # what a checkpoint holds, of that instrument alone: first axis 1
    round_trip_ns: int
    order: Array  # ORDER[1], the one at work
    on_its_way: Array  # MESSAGE[n]: commands that the venue has not answered, in their order
    event: Array  # EVENT[1], the one to decide on; its instrument is 0
    history: Array  # EVENT[n], those of the instrument before it; their instrument is 0

    @property
    def working(self) -> WorkingState:
        """What the decision sees of the order at work."""
        return WorkingState(int(self.state["working"]["state"][0]))

    @property
    def position(self) -> int:
        """Lots held, signed."""
        return int(self.state["account"]["position"][0])

    def engine(self, model: LoadedModel | None = None, limits: EngineLimits | None = None) -> Engine:
        """An engine of this instrument as it was; with another model, one whose state has seen the same events."""
        engine = Engine([self.instrument], model or self.model, limits or self.limits, self.run)
        engine.desk.facts["round_trip_ns"] = self.round_trip_ns
        own: tuple[str, ...] = ()
        if model is not None:
            _see(engine, self.history)
            own = ("inputs", "memory", "stream", "forecast", "recalibration")
        restore(engine, {name: rows for name, rows in self.state.items() if name not in own})
        row = engine.desk.perception["session_row"]  # of another layout of the calendar
        np.minimum(row, 0, out=row)
        now = int(self.event["ts"][0])
        engine.extend_calendar(now, now)
        return engine


def restore(engine: Engine, state: dict[str, Array]) -> None:
    """Fill an engine's arrays with those of a checkpoint."""
    for name, rows in state.items():
        np.copyto(getattr(engine.desk, name), rows)


def _see(engine: Engine, events: Array) -> None:
    """Let a model's state take in events, as if nothing had been sent."""
    done = 0
    while done < len(events):
        done += engine.process(events[done:]).consumed


def fork_at(rerun: Rerun, number: int, index: int, history: Array) -> Fork:
    """Replay a run up to its event `number` (from 0), which is one of instrument `index`.

    `history` are the run's events of that instrument up to and with this one.

    Raises:
        JournalError: the replay does not come so far, or parts from the run.
        UsageError: no single order of the rule was at work: the engine was closing a position, or in doubt.
    """
    for _ in rerun.rows(lambda _: None, until=number):
        pass
    engine = rerun.engine
    if engine is None or rerun.events != number:
        raise JournalError(
            f"the run's journal ends after event {rerun.events}, before the decision asked for"
        )
    facts = engine.instruments[index]
    events = history.copy()
    events["instrument"] = 0
    if index in engine.flattening:
        raise UsageError(
            "the engine was closing its position there: that is no decision to be taken otherwise"
        )
    orders = engine.orders.open_orders(facts.name)
    if len(orders) > 1 or any(o.status is OrderStatus.UNKNOWN for o in orders):
        raise UsageError("what became of an order was not known there: choose another seq")
    order, on_its_way = no_order(engine.sequence), np.zeros(0, MESSAGE)
    if orders:
        order, on_its_way = _record(orders[0], engine.sequence), _unanswered(orders[0])
    return Fork(
        instrument=facts,
        limits=engine.limits,
        model=engine.model,
        run=engine.run,
        state={name: rows[index : index + 1].copy() for name, rows in engine.checkpoint().items()},
        round_trip_ns=int(engine.desk.facts["round_trip_ns"][index]),
        order=order,
        on_its_way=on_its_way,
        event=events[-1:],
        history=events[:-1],
    )


def _number(name: str) -> int:
    """The number of a client order id; see `emp.core.ids.cl_ord_id`."""
    return int(name.rpartition("-")[2])


def _record(order: Order, sequence: int) -> Array:
    """ORDER[1] of an order that `OrderManager` knows."""
    record = no_order(sequence)
    o, now, pending = record[0], order.command, order.replacement
    o["open"], o["immediate"], o["status"] = True, now.immediate, STATUSES.index(order.status)
    o["id"], o["first"] = _number(now.cl_ord_id), _number(order.original.cl_ord_id)
    o["side"], o["qty"], o["px"], o["ts"] = now.side, now.qty, now.px, now.ts
    o["filled"], o["ahead"] = order.filled, order.queue_ahead
    o["cancel"] = _number(order.cancel.cl_ord_id) if order.cancel else 0
    if pending is not None:
        o["replacement"] = _number(pending.cl_ord_id)
        o["new_qty"], o["new_px"], o["new_ts"] = pending.qty, pending.px, pending.ts
    assert record.dtype == ORDER
    return record


def _unanswered(order: Order) -> Array:
    """The commands about an order that are on their way: the order itself, its replacement, its cancel."""
    found = []
    new = order.command
    if order.status is OrderStatus.PENDING_NEW:
        found.append((NEW, new.cl_ord_id, "", new.side, new.qty, new.px, new.immediate, new.ts))
    if order.replacement is not None:
        r = order.replacement
        found.append((REPLACE, r.cl_ord_id, r.orig, r.side, r.qty, r.px, False, r.ts))
    if order.cancel is not None:
        c = order.cancel
        found.append((CANCEL, c.cl_ord_id, c.orig, 0, 0, 0, False, c.ts))
    messages = np.zeros(len(found), MESSAGE)
    for message, (kind, name, orig, side, qty, px, immediate, ts) in zip(messages, found, strict=True):
        message["kind"], message["id"], message["orig"] = kind, _number(name), _number(orig) if orig else 0
        message["side"], message["qty"], message["px"] = side, qty, px
        message["immediate"], message["ts"] = immediate, ts
    return messages
