"""What LOB-Bench looks at: twenty-one samples of numbers taken from sequences of messages and ten-level books.

Nagy, Frey, Kapl, Sarkar, Zohren and Foerster, "LOB-Bench: Benchmarking Generative AI for Finance" (arXiv 2502.09172),
as its public package computes them, which differs from the text in places: new orders and cancels are measured from the
mid *after* the event, cancelled levels in the book *before* it, and the rule for the first second of `vol_per_min` is
the package's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from emp.core.records import Array
from emp.sim.book.book import BUY
from emp.sim.flow.state import ADD, DELETE, REDUCE, TRADE
from emp.sim.tape.recording import Recording

UNIT = 100
"""Price units per tick. LOB-Bench counts 1/10,000 USD where a tick is a cent; its scores do not depend on it."""

ABSENT_PX = -1
"""Price of a level that does not exist, as LOB-Bench has it for simulated books; its size is 0."""

WINDOW = 100
"""Increments in a value of order-flow imbalance."""

LEAST_GAP = 1e-9
"""Stands for a gap of nothing before its logarithm is taken, in the unit of the score."""


class Stretch(NamedTuple):
    """Consecutive messages and the book after each; scores never look beyond a stretch."""

    ts: Array  # int64[n], ns since any midnight
    kind: Array  # int[n], as LOBSTER numbers them
    order: Array  # int64[n]
    qty: Array  # int64[n]
    px: Array  # int64[n], price units
    direction: Array  # int[n], +1 for a resting bid, -1 for an ask
    book: Array  # int64[n, 40]: ask px, ask size, bid px, bid size per level

    @property
    def mid(self) -> Array:
        """Half the sum of the best prices, price units, float64[n]."""
        return (self.book[:, 0] + self.book[:, 2]) / 2


def stretch(made: Recording, first: int, rows: int) -> Stretch:
    """Rows of a recording with a ten-level book as a stretch."""
    part = slice(first, first + rows)
    msgs = made.msgs[part]
    assert made.book is not None
    book = np.array(made.book[part, :40], np.int64)
    px = book[:, 0::2]
    absent = px == 0
    px *= UNIT
    px[absent] = ABSENT_PX
    direction = np.where(msgs["side"] == BUY, 1, -1)
    return Stretch(msgs["ts"], msgs["kind"], msgs["handle"], msgs["qty"], msgs["px"] * UNIT, direction, book)


def _spread(s: Stretch) -> Array:
    return (s.book[:, 0] - s.book[:, 2]).astype(float)


def _imbalance(s: Stretch) -> Array:
    ask, bid = s.book[:, 1], s.book[:, 3]
    with np.errstate(invalid="ignore"):
        out: Array = (bid - ask) / (bid + ask)
    return out


def _log(gaps: Array) -> Array:
    return np.log(np.where(gaps == 0, LEAST_GAP, gaps))


def _inter_arrival(s: Stretch) -> Array:
    return _log(np.diff(s.ts) / 1e6)


def _time_to_cancel(s: Stretch) -> Array:
    """From an order's first message to its second, executions aside, by ascending order id."""
    kept = np.flatnonzero(np.isin(s.kind, (ADD, REDUCE, DELETE)))
    kept = kept[np.isin(s.order[kept], s.order[s.kind == ADD])]
    kept = kept[np.argsort(s.order[kept], kind="stable")]
    order = s.order[kept]
    first = np.flatnonzero(np.append(True, order[1:] != order[:-1]))[: len(order)]
    first = first[first + 1 < len(order)]
    first = first[order[first] == order[first + 1]]
    return _log((s.ts[kept[first + 1]] - s.ts[kept[first]]) / 1e9)


def _depth(kinds: tuple[int, ...], sign: int) -> Callable[[Stretch], Array]:
    def values(s: Stretch) -> Array:
        rows = np.isin(s.kind, kinds)
        away = sign * (s.px[rows] - s.mid[rows])
        return away[away > 0]

    return values


def _levels(kinds: tuple[int, ...], column: int, before: int) -> Callable[[Stretch], Array]:
    """Ranks of the levels whose price is the message's, in the book `before` rows earlier."""

    def values(s: Stretch) -> Array:
        rows = np.flatnonzero(np.isin(s.kind, kinds))
        rows = rows[rows >= before]
        same = s.book[rows - before, column::4] == s.px[rows, None]
        return (np.nonzero(same)[1] + 1).astype(float)

    return values


_SECOND, _US = 10**9, 1000


def _volume_per_minute(s: Stretch) -> Array:
    """Volume of each second with a trade, a minute's worth; the seconds at both ends are scaled up or dropped."""
    rows = s.kind == TRADE
    ts = s.ts[rows]
    if len(ts) == 0:
        return np.zeros(0)
    _, second = np.unique(ts // _SECOND, return_inverse=True)
    volume = np.bincount(second, s.qty[rows])
    begin, end = (int(t) % _SECOND // _US for t in (ts[0], ts[-1]))
    keep = np.ones(len(volume), bool)
    if len(volume) == 1:
        span = end - begin
        if ts[0] != ts[-1]:
            keep[0] = span >= 100_000
            if keep[0]:
                volume[0] *= 1e6 / span
    else:
        keep[0], keep[-1] = begin >= 900_000, end >= 100_000
        if keep[0]:
            volume[0] /= 1 - begin / 1e6
        if keep[-1]:
            volume[-1] *= 1e6 / end
    return 60 * volume[keep]


def _flow_imbalance(s: Stretch) -> Array:
    """Means of WINDOW increments (Cont, Kukanov and Stoikov 2014), one for each full window."""
    ask, ask_sz, bid, bid_sz = (s.book[:, k] for k in range(4))
    e = (
        (bid[1:] >= bid[:-1]) * bid_sz[1:]
        - (bid[1:] <= bid[:-1]) * bid_sz[:-1]
        - (ask[1:] <= ask[:-1]) * ask_sz[1:]
        + (ask[1:] >= ask[:-1]) * ask_sz[:-1]
    )
    total = np.append(0, np.cumsum(e))
    return (total[WINDOW:] - total[:-WINDOW]) / WINDOW


def _flow_before(sign: int) -> Callable[[Stretch], Array]:
    """Order-flow imbalance of the window that ends before the mid moves that way."""

    def values(s: Stretch) -> Array:
        move = np.sign(np.diff(s.mid)[WINDOW:])
        return _flow_imbalance(s)[:-1][move == sign]

    return values


class Score(NamedTuple):
    """A sample that two sets of sequences are compared by."""

    name: str
    values: Callable[[Stretch], Array]  # float64[any]
    discrete: bool = False  # one group per distinct value


SCORES = (
    Score("spread", _spread, True),
    Score("orderbook_imbalance", _imbalance),
    Score("log_inter_arrival_time", _inter_arrival),
    Score("log_time_to_cancel", _time_to_cancel),
    Score("ask_volume_touch", lambda s: s.book[:, 1].astype(float)),
    Score("bid_volume_touch", lambda s: s.book[:, 3].astype(float)),
    Score("ask_volume", lambda s: s.book[:, 1::4].sum(1).astype(float)),
    Score("bid_volume", lambda s: s.book[:, 3::4].sum(1).astype(float)),
    Score("limit_ask_order_depth", _depth((ADD,), 1)),
    Score("limit_bid_order_depth", _depth((ADD,), -1)),
    Score("ask_cancellation_depth", _depth((REDUCE, DELETE), 1)),
    Score("bid_cancellation_depth", _depth((REDUCE, DELETE), -1)),
    Score("limit_ask_order_levels", _levels((ADD,), 0, 0), True),
    Score("limit_bid_order_levels", _levels((ADD,), 2, 0), True),
    Score("ask_cancellation_levels", _levels((REDUCE, DELETE), 0, 1), True),
    Score("bid_cancellation_levels", _levels((REDUCE, DELETE), 2, 1), True),
    Score("vol_per_min", _volume_per_minute),
    Score("ofi", _flow_imbalance),
    Score("ofi_up", _flow_before(1)),
    Score("ofi_stay", _flow_before(0)),
    Score("ofi_down", _flow_before(-1)),
)
"""LOB-Bench's unconditional scores, in its order."""


def sample(score: Score, sequences: Sequence[Stretch]) -> Array:
    """The values of all sequences, one after another."""
    return np.concatenate([score.values(s) for s in sequences]) if sequences else np.zeros(0)
