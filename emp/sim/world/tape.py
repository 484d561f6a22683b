"""Recorded messages as the flow of a world: our orders stand in the recorded queue, and nobody reacts to them."""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from emp.core.numba.inner import INNER
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.core.numba.simd import aligned
from emp.core.records import Array
from emp.sim.book.book import (
    NUMBERED,
    ORDER_WORDS,
    OWN_LIVE,
    QTY,
    clear_trade,
    new_book,
    new_fills,
    reduce,
    u,
)
from emp.sim.flow.params import FLOW
from emp.sim.flow.state import TRADE, FlowWorld, new_state, pass_time
from emp.sim.flow.tables import tabulate
from emp.sim.tape.replay import Plan, replay_message
from emp.sim.world.market import flow_event

OWN_ORDERS: Final = 64
"""Records for orders of ours."""

NEVER: Final = 2**63 - 1
"""When the event after the last is due."""


class FlowTape(NamedTuple):
    """`FlowWorld` with the messages of a plan in place of a model."""

    book: Array
    fills: Array
    state: Array
    params: Array
    rng: Array
    msgs: Array  # MSG
    at: Array  # int64 (1,): index of the message that is due


@kernel
def _replay(b: Any, fills: Any, m: Any) -> None:
    """Apply a message; a recorded order leaves as recorded also where one of ours took the trade before it.

    Otherwise what we took would stand in the book for ever: its owner's next message is about what the trade left.
    """
    if m.kind != TRADE or b[u(OWN_LIVE)] == 0 or m.handle < 0:
        replay_message(b, fills, m)
        return
    h = int(b[u(NUMBERED)]) + ORDER_WORDS * m.handle
    left = max(0, b[u(h + QTY)] - m.qty)
    replay_message(b, fills, m)
    if b[u(h + QTY)] > left:
        reduce(b, h, b[u(h + QTY)] - left)


@kernel
def tape_event(flow: Any) -> None:
    """Apply the message that is due; its successor's time is that of the next event."""
    b, s, msgs = flow.book, flow.state[0], flow.msgs
    i = flow.at[0]
    s.now = s.next
    s.seq += 1
    clear_trade(b)
    _replay(b, flow.fills, msgs[i])
    i += 1
    flow.at[0] = i
    if i < len(msgs):
        pass_time(s, max(0, msgs[i].ts - s.now))
    else:
        s.next = NEVER


_FLOWS: dict[type, Any] = {FlowWorld: flow_event, FlowTape: tape_event}
"""What applies the event that is due, by the type of flow."""


def register(kind: type, apply: Any) -> None:
    """Let worlds run over a further type of flow: a NamedTuple that begins with the fields of `FlowWorld`."""
    _FLOWS[kind] = apply


def next_event(flow: Any) -> None:
    """Apply the event that is due, of a model, of a tape, or of a registered flow. For kernels."""
    raise NotImplementedError("compiled code only")


@overload(next_event, jit_options=INNER)
def _next_event(flow: Any) -> Any:
    if not isinstance(flow, types.NamedTuple | types.NamedUniTuple):
        return None
    apply = _FLOWS.get(flow.instance_class)
    if apply is None:
        return None

    def run(flow: Any) -> None:
        apply(flow)

    return run


class TapeMarket:
    """A market that replays a plan, once, to whoever drives its `flow`."""

    def __init__(self, plan: Plan) -> None:
        # the window never has to slide: it is twice as wide as the prices, which lie in its middle
        lo = plan.lo - plan.ticks // 2
        book = new_book(lo, 2 * plan.ticks, OWN_ORDERS, numbered=plan.records)
        start = int(plan.msgs["ts"][0])
        state = new_state(start, lo + plan.ticks, 0)
        params = tabulate(np.zeros(1, FLOW))
        self.flow = FlowTape(
            aligned(book), new_fills(), state, params, seeded(0, "tape"), plan.msgs, np.zeros(1, np.int64)
        )
