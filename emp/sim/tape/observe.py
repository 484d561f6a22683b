"""The event stream of a recording: OBS rows, the terms in which real and simulated flow are compared."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import clear_trade, new_fills
from emp.sim.flow.observe import HIT, KINDS, OBS, classify, look, rank_of
from emp.sim.flow.state import ADD, DELETE, REDUCE, TRADE
from emp.sim.tape.replay import SEED, Plan, replay_message


@kernel
def observe_messages(b: Any, fills: Any, msgs: Any, out: Any, born: Any, born_ns: Any) -> int:
    """Replay planned messages and write one OBS row per event; return the rows. `born` is per record."""
    n = 0
    for i in range(len(msgs)):
        m = msgs[i]
        clear_trade(b)
        event = m.kind in (ADD, REDUCE, DELETE, TRADE)
        if event and look(b, out[n]):
            o = out[n]
            o.ts = m.ts
            same = n > 0 and out[n - 1].type == HIT + KINDS * m.side and out[n - 1].ts == m.ts
            if m.kind == TRADE and same:
                out[n - 1].qty += m.qty
            else:
                classify(o, m.kind, m.side, m.px, m.qty)
                o.rank = rank_of(b, m.side, m.px)
                if m.kind in (REDUCE, DELETE) and born[m.handle] >= 0:
                    o.age = n - born[m.handle]
                    o.age_ns = m.ts - born_ns[m.handle]
                n += 1
        if m.kind == ADD:
            born[m.handle] = n - 1
            born_ns[m.handle] = m.ts
        elif m.kind == SEED:
            born[m.handle] = -1
        replay_message(b, fills, m)
    return n


def observe_replay(plan: Plan) -> Array:
    """OBS rows of a recording."""
    out = np.zeros(len(plan.msgs) + 1, OBS)
    born = np.full(plan.records, -1, np.int64)
    n = observe_messages(plan.new_book(), new_fills(64), plan.msgs, out, born, born.copy())
    return out[:n]
