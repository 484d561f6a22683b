"""A simulated market: a book and the flow that moves it, driven up to a time or a number of events."""

from typing import Any, Self

import numpy as np

from emp.core.errors import UsageError
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.core.numba.simd import aligned
from emp.core.records import EVENT, Array
from emp.sim.book.book import N_FILLS, ORDERS, clear_trade, new_book, new_fills, u
from emp.sim.book.view import mark_visible, write_event
from emp.sim.flow.hawkes import hawkes_apply, hawkes_gap
from emp.sim.flow.params import HAWKES, QUEUE_REACTIVE
from emp.sim.flow.qr import expect, qr_apply, qr_gap
from emp.sim.flow.state import MSG, FlowWorld, new_state, recentre, seed_ladder
from emp.sim.flow.tables import tabulate
from emp.sim.flow.zi import zi_apply, zi_gap, zi_params

NO_MSGS = np.zeros(0, MSG)
NO_ROWS = np.zeros(0, EVENT)


@kernel
def flow_event(flow: Any) -> None:
    """Apply the event that is due and draw the time of the one after it."""
    b, s, p = flow.book, flow.state[0], flow.params[0]
    s.now = s.next
    s.seq += 1
    clear_trade(b)
    if p.model == QUEUE_REACTIVE:
        qr_apply(flow)
        recentre(b, s)
        qr_gap(flow)
    elif p.model == HAWKES:
        hawkes_apply(flow)
        recentre(b, s)
        hawkes_gap(flow)
    else:
        zi_apply(flow)
        recentre(b, s)
        zi_gap(flow)


@kernel
def write_msg(row: Any, s: Any) -> None:
    """Copy the last message out of the state."""
    row.ts = s.now
    row.kind = s.kind
    row.side = s.side
    row.px = s.px
    row.qty = s.qty
    row.handle = s.handle


@kernel
def advance(flow: Any, until_ns: int, n_max: int, msgs: Any, rows: Any, last: Any) -> int:
    """Let events happen while they are due at `until_ns`, at most `n_max`; return how many did.

    `msgs` (MSG) and `rows` (EVENT) receive one row per event where they are long enough; pass empty arrays
    for speed. A row is VISIBLE where it differs from the row before it; `last` (EVENT, shape (1,)) is the row
    before the first. It stops early behind an event that filled one of our orders.
    """
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    n = 0
    while n < n_max and s.next <= until_ns:
        flow_event(flow)
        if n < len(msgs):
            write_msg(msgs[n], s)
        if n < len(rows):
            write_event(b, rows[n], s.now, s.seq, 0)
            mark_visible(rows[n], rows[n - 1] if n > 0 else last[0])
        n += 1
        if b[u(N_FILLS)] != 0:
            break
    if 0 < n <= len(rows):
        last[0] = rows[n - 1]
    return n


@kernel
def show_book(b: Any, s: Any, row: Any, at_ns: int, last: Any) -> None:
    """Write the book as an EVENT row of its own, after something other than the flow changed it."""
    s.now = max(s.now, at_ns)
    s.seq += 1
    write_event(b, row, s.now, s.seq, 0)
    mark_visible(row, last[0])


class Market:
    """A book with its flow, seeded; everything it is lies in `flow`."""

    def __init__(
        self,
        params: Array,
        seed: int,
        start_px: int,
        start_ns: int = 0,
        ticks: int = 8192,
        orders: int = 16384,
    ) -> None:
        if start_px < 1000:
            raise UsageError(f"a simulated market must start at 1000 ticks or more, was {start_px}")
        law = tabulate(params)
        book = new_book(start_px - ticks // 2, ticks, orders)
        state = new_state(start_ns, start_px, int(book[ORDERS]))
        state["mid"] = start_px
        state["keep"], state["gain"] = params["decay"][0], 1.0 - params["decay"][0]
        state["pace"] = params["pace_start"][0]
        expect(state[0], law[0])
        state["rate_due"] = start_ns
        state["speed"] = 1.0
        self.flow = FlowWorld(book, new_fills(), state, law, seeded(seed, "market"))
        self.last = np.zeros(1, EVENT)
        seed_ladder(self.flow, 10, int(params["start_qty"][0]), 2, max(2, int(params["start_spread"][0])))

    @property
    def book(self) -> Array:
        """The book's words."""
        return self.flow.book

    @property
    def state(self) -> Array:
        """The flow's STATE record, shape (1,)."""
        return self.flow.state

    def run(self, until_ns: int, n_max: int, msgs: Array = NO_MSGS, rows: Array = NO_ROWS) -> int:
        """Advance the market; see `advance`."""
        return int(advance(self.flow, until_ns, n_max, msgs, rows, self.last))

    def show(self, rows: Array, i: int, at_ns: int) -> None:
        """Write the book into `rows[i]`, after an order of ours changed it."""
        show_book(self.book, self.state[0], rows[i], at_ns, self.last)
        self.last[0] = rows[i]

    @property
    def public(self) -> bool:
        """Whether a change of the book is shown at once; orders that gather for an auction are not."""
        return True

    @property
    def now_ns(self) -> int:
        """Time of the last event."""
        return int(self.state["now"][0])

    def clone(self) -> Self:
        """An independent market in the same state: it will do the same until one of them is disturbed."""
        own = self.flow
        flow = FlowWorld(own.book.copy(), own.fills.copy(), aligned(own.state), own.params, own.rng.copy())
        return type(self).around(flow, self.last.copy())

    @classmethod
    def around(cls, flow: FlowWorld, last: Array) -> Self:
        """The market of a flow that stands as it is; `last` is EVENT[1], the book shown last."""
        market: Self = object.__new__(cls)
        market.flow, market.last = flow, last
        return market


def zero_intelligence(seed: int, start_px: int = 100_000, start_ns: int = 0) -> Market:
    """Return a market of zero-intelligence flow with default rates."""
    return Market(zi_params(), seed, start_px, start_ns)
