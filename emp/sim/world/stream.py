"""A long stream of book messages from zero-intelligence flow, for measuring replay speed."""

from collections import Counter
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.sim.flow.state import ADD, DELETE, MSG, TRADE
from emp.sim.tape.orders import book_messages
from emp.sim.tape.recording import Recording
from emp.sim.tape.replay import Plan, plan
from emp.sim.world.market import Market


@kernel
def _own_ids(msgs: Any, ids: Any) -> int:
    """Give every order an id of its own (records are used again); drop cancels of orders never announced."""
    n = 0
    for i in range(len(msgs)):
        m = msgs[i]
        if m.kind == ADD:
            if m.handle != 0:
                ids[m.handle] = i + 1
            m.handle = i + 1
        elif m.kind == DELETE:
            if ids[m.handle] == 0:
                continue
            m.handle = ids[m.handle]
        else:
            m.side = 1 - m.side  # the aggressor's
            m.handle = i + 1
        msgs[n] = m
        n += 1
    return n


def message_stream(market: Market, n: int) -> Plan:
    """Replayable book messages of about `n` market events, from an empty book."""
    msgs = np.zeros(n, MSG)
    market.run(2**62, n, msgs=msgs)
    sent = msgs[np.isin(msgs["kind"], (ADD, DELETE, TRADE)) & (msgs["qty"] > 0)]
    kept = int(_own_ids(sent, np.zeros(len(market.book) + 1, np.int64)))
    return plan(Recording("stream", 1.0, book_messages(sent[:kept]), None, Counter()))
