"""What a public feed says of a replay: levels (L2) or orders by id (L3), one message of the book after another."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import NUMBERED, ORDER_WORDS, QTY, clear_trade, level_qty, new_fills
from emp.sim.flow.state import ADD, CROSS, TRADE
from emp.sim.tape.replay import SEED, Plan, replay_message

FEED = np.dtype(
    [
        ("ts", "i8"),
        ("side", "i8"),  # of the resting order: BUY or SELL
        ("px", "i8"),  # ticks
        ("level", "i8"),  # lots at that price after the message
        ("traded", "i8"),  # lots executed
        ("order", "i8"),  # id of the order, never used twice; 0 where the message names none
        ("left", "i8"),  # lots of that order after the message
        ("new", "?"),  # the order came with this message
    ],
    align=True,
)
"""One message of a replay as feeds tell it."""


@kernel
def _follow(b: Any, fills: Any, msgs: Any, ids: Any, out: Any) -> None:
    orders = 0
    for i in range(len(msgs)):
        m, row = msgs[i], out[i]
        clear_trade(b)
        replay_message(b, fills, m)
        row.ts = m.ts
        row.side = m.side
        row.px = m.px
        row.level = level_qty(b, m.side, m.px)
        row.traded = m.qty if m.kind in (TRADE, CROSS) else 0
        if m.handle >= 0:
            row.new = m.kind in (ADD, SEED)
            if row.new:
                orders += 1
                ids[m.handle] = orders
            row.order = ids[m.handle]
            row.left = b[b[NUMBERED] + ORDER_WORDS * m.handle + QTY]


def feed_of(stream: Plan) -> Array:
    """Return FEED rows, one per message of the stream, in its order."""
    out = np.zeros(len(stream.msgs), FEED)
    _follow(stream.new_book(), new_fills(8), stream.msgs, np.zeros(stream.records, np.int64), out)
    return out
