"""Hold a replay of an order-by-order feed against what the feed says of every order, event by event.

Such a feed names every order, so its own cancels and modifies, taken alone, say what each order must be at the
end of every event of the exchange. The replay reaches the same book by executions; they must agree. An order
is compared whenever the feed names it, so equality there is equality of whole books.
"""

from typing import Any

import msgspec
import numpy as np

from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.sim.book.book import (
    BEST,
    LIVE,
    LO,
    MASK,
    NUMBERED,
    ORDER_WORDS,
    PX,
    QTY,
    clear_trade,
    new_book,
    new_fills,
)
from emp.sim.tape.mbo import MISFITS
from emp.sim.tape.recording import Recording
from emp.sim.tape.replay import Fit, plan, replay_message


class OrderReport(msgspec.Struct):
    """Outcome of a verification order by order."""

    name: str
    records: int  # rows of the file
    meaning: dict[str, int]  # every row, by `mbo.Meaning`
    events: int  # of the exchange
    messages: int  # of the book
    fits: dict[str, int]  # every message, by `replay.Fit`
    compared: int  # orders named, per event
    matched: int
    crossed_events: int  # after which the best bid was at the best ask or above: before an opening
    live_orders: int  # at the end

    @property
    def misfits(self) -> int:
        """Rows that fit no order as the feed itself left it, and messages that did not fit the replayed book."""
        rows = sum(self.meaning.get(m.name.lower(), 0) for m in MISFITS)
        return rows + self.messages - self.fits.get(Fit.FITS.name.lower(), 0)


@kernel
def check_orders(b: Any, fills: Any, msgs: Any, after: Any, order: Any, fits: Any) -> tuple[int, int, int]:
    """Replay; return orders that agree, events, and events that left the book crossed. `fits` counts `Fit`s."""
    matched, events, crossed, i, j = 0, 0, 0, 0, 0
    while j < len(after):
        at = after[j].at
        while i < at:
            clear_trade(b)
            fits[replay_message(b, fills, msgs[i])] += 1
            i += 1
        while j < len(after) and after[j].at == at:
            h = int(b[NUMBERED]) + ORDER_WORDS * order[j]
            same = b[h + QTY] == after[j].qty and (b[h + QTY] == 0 or b[h + PX] == after[j].px)
            matched += same
            j += 1
        events += 1
        bid, ask = b[BEST], b[BEST + 1]
        crossed += bid != b[LO] and ask != b[LO] + b[MASK] and bid >= ask
    return matched, events, crossed


def verify_orders(recording: Recording) -> OrderReport:
    """Compare every order at the end of every event that names it."""
    if recording.after is None:
        raise DataError(f"{recording.name}: the recording does not say what its orders are after each event")
    made = plan(recording)
    msgs, after = made.msgs.copy(), recording.after
    ids = np.unique(np.concatenate([recording.msgs["handle"], after["order"]]))
    msgs["handle"] = np.searchsorted(ids, recording.msgs["handle"])  # a record each: none is used again
    order = np.searchsorted(ids, after["order"])
    b = new_book(made.lo, made.ticks, 64, numbered=len(ids))
    fits = np.zeros(len(Fit), np.int64)
    matched, events, crossed = check_orders(b, new_fills(64), msgs, after, order, fits)
    return OrderReport(
        recording.name,
        recording.ignored.total(),
        dict(recording.ignored),
        int(events),
        len(msgs),
        {f.name.lower(): int(fits[f]) for f in Fit if fits[f]},
        len(after),
        int(matched),
        int(crossed),
        int(b[LIVE]),
    )
