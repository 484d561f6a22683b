"""Databento market-by-order (MBO) files as messages of the book, each order held against what the feed says.

In that feed a trade is told three times. `T` sums it up, an `F` per order says what it gave or took, and then
a `C` or `M` takes the lots out of the book (Databento, "MBO schema": trades and fills do not change the book).
A replay with orders of our own needs executions as executions, so here an `F` of a resting order executes it,
and of the `C` or `M` that follows in the same event only what it says beyond that is left. Further:

- an `F` on the side of its `T` is the aggressor's: an order whose price was changed into the market. Its own
  `C` or `M` takes its lots away, or an order sent to trade never rested at all;
- an `F` without a side is an auction's: both orders are executed, neither took the other (kind CROSS);
- a fill of more than is shown is an iceberg's: the excess is a hidden execution, the `M` that follows refills;
- self-match prevention adds the new order before it withdraws the old one on the other side: within an event
  what leaves comes first, so that the book is not crossed in between;
- an `M` that keeps price and shrinks keeps its place, any other is a cancel and a new order of the same id.
"""

from collections import Counter
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.databento import F_LAST, F_SNAPSHOT
from emp.access.recordings.dbn import MBO, RTYPE_MBO, find_records, gather
from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import BUY, SELL
from emp.sim.flow.state import ADD, CLEAR, CROSS, DELETE, HIDDEN, MSG, REDUCE, TRADE, write_message

_ADD, _CANCEL, _MODIFY, _CLEAR, _TRADE, _FILL = (ord(c) for c in "ACMRTF")
_BID, _ASK = ord("B"), ord("A")
_PREFIX = 8  # "DBN", version, length of the metadata


class Meaning(IntEnum):
    """What one record of the file did to the book. Every record has exactly one."""

    OTHER = 0  # no action on a book
    BOOK = 1  # an order came, changed or left
    EXECUTION = 2  # a resting order traded
    ICEBERG = 3  # a resting order traded more than it showed
    AUCTION = 4  # an order traded in an auction
    REPEATED = 5  # a cancel or modify that only says what the fills before it said
    REFILLED = 6  # a modify that says what fills said and puts lots back: an iceberg's next slice
    TRADE_SUM = 7  # the trade as a whole, whose fills follow
    AGGRESSOR = 8  # a fill of the side that took
    NEVER_RESTED = 9  # a fill of an order that is not in the book, in an auction
    CLEARED = 10  # the book was emptied
    UNKNOWN_ORDER = 11  # cancel, modify or fill of an order that the file never put into the book
    TWICE = 12  # an order added while it was there: it replaces itself
    UNBOOKED = 13  # a fill that no cancel or modify of its event confirmed: put back
    MALFORMED = 14  # no side, or no lots


MISFITS = (Meaning.UNKNOWN_ORDER, Meaning.TWICE, Meaning.UNBOOKED, Meaning.MALFORMED)
"""Meanings of a record that fits no order as it stands."""

AFTER = np.dtype([("at", "i8"), ("order", "i8"), ("px", "i8"), ("qty", "i8")], align=True)
"""What the feed says of an order at the end of an exchange event: `at` messages have been made by then."""

LIVE = np.dtype(
    [("px", "i8"), ("qty", "i8"), ("taken", "i8"), ("filled_by", "i8"), ("side", "i8"), ("touched", "i8")],
    align=True,
)
"""An order by cancels and modifies alone, with the lots that fills of the current event took already."""


class OrderMessages(msgspec.Struct):
    """Messages of the book, what each order must be after each event, and what every record meant."""

    msgs: Array  # MSG
    after: Array  # AFTER
    meaning: Counter[str]
    tick: float


def read_mbo(item: Item, data: bytes) -> OrderMessages:
    """Messages of a DBN file of one instrument's MBO."""
    records = _records(item, data)
    prices = records["price"].astype(np.int64)
    quoted = prices[np.isin(records["action"], (_ADD, _MODIFY))]
    quoted = quoted[(quoted != 0) & (quoted != np.iinfo(np.int64).max)]
    if not len(quoted):
        raise DataError(f"{item.label}: holds no order with a price")
    step = int(np.gcd.reduce(np.abs(quoted)))
    ids, dense = np.unique(records["order_id"], return_inverse=True)
    out, after = np.zeros(2 * len(records) + len(ids) + 8, MSG), np.zeros(len(records), AFTER)
    meaning = np.zeros(len(records), np.int64)
    live = np.zeros(len(ids), LIVE)
    n, n_after = reconcile(records, dense, step, live, np.zeros(len(ids), np.int64), out, after, meaning)
    msgs: Array = out[:n]
    notes: Array = after[:n_after]
    for rows, name in ((msgs, "handle"), (notes, "order")):
        named = rows[name] >= 0
        rows[name] = np.where(named, ids[rows[name]], 0)
    count = Counter({Meaning(k).name.lower(): int(v) for k, v in enumerate(np.bincount(meaning)) if v})
    return OrderMessages(msgs, notes, count, step / 1e9)


def _records(item: Item, data: bytes) -> Array:
    begin = _PREFIX + int.from_bytes(data[4:8], "little")
    body = data[begin:]
    starts, _ = find_records(np.frombuffer(body, np.uint8), len(body) // 4)
    records = gather(body, starts)
    records = records[records["rtype"] == RTYPE_MBO]
    if not len(records):
        raise DataError(f"{item.label}: holds no market-by-order messages")
    for name in ("instrument_id", "publisher_id"):
        if len(np.unique(records[name])) > 1:
            raise DataError(f"{item.label}: holds several books ({name} differs); split it")
    assert records.dtype == MBO
    return records


@kernel
def _shrink_to(o: Any, qty: int, out: Any, n: int, ts: int, k: int) -> int:
    """Bring an order, as executed so far, down to `qty` at its price; return the messages made so far."""
    ours = o.qty - o.taken
    if qty == ours:
        return n
    if qty > 0:
        return write_message(out, n, ts, REDUCE, o.side, o.px, ours - qty, k)
    return write_message(out, n, ts, DELETE, o.side, o.px, ours, k)


@kernel
def _cancelled(o: Any, by: int, out: Any, n: int, ts: int, k: int) -> tuple[int, int]:
    """A cancel by `by` lots; return the messages made so far and its meaning."""
    left = max(0, o.qty - by)
    ours = o.qty - o.taken
    told = Meaning.REPEATED if left == ours else Meaning.BOOK
    if left > ours:  # fewer lots left than were filled
        if ours > 0:
            n = write_message(out, n, ts, DELETE, o.side, o.px, ours, k)
        n = write_message(out, n, ts, ADD, o.side, o.px, left, k)
        told = Meaning.UNBOOKED
    else:
        n = _shrink_to(o, left, out, n, ts, k)
    o.qty = left
    o.taken = 0
    return n, told


@kernel
def _modified(o: Any, side: int, px: int, qty: int, out: Any, n: int, ts: int, k: int) -> tuple[int, int]:
    """An order's new price and size; return the messages made so far and its meaning."""
    ours = o.qty - o.taken
    if o.qty == 0:
        told = Meaning.UNKNOWN_ORDER
    elif o.taken > 0 and px == o.px:
        told = Meaning.REPEATED if qty == ours else (Meaning.REFILLED if qty > ours else Meaning.BOOK)
    else:
        told = Meaning.BOOK
    if o.qty > 0 and side == o.side and px == o.px and 0 < qty <= ours:
        n = _shrink_to(o, qty, out, n, ts, k)
    else:
        if ours > 0:
            n = write_message(out, n, ts, DELETE, o.side, o.px, ours, k)
        n = write_message(out, n, ts, ADD, side, px, qty, k)
    o.side = side
    o.px = px
    o.qty = qty
    o.taken = 0
    return n, told


@kernel
def _filled(
    o: Any, resting: bool, auction: bool, qty: int, px: int, out: Any, n: int, ts: int, k: int
) -> tuple[int, int]:
    """A fill; return the messages made so far and its meaning."""
    if not resting:
        return n, Meaning.AGGRESSOR
    if o.qty == 0:
        return n, Meaning.NEVER_RESTED if auction else Meaning.UNKNOWN_ORDER
    take = min(qty, o.qty - o.taken)
    if take > 0:
        kind = CROSS if auction else TRADE
        n = write_message(out, n, ts, kind, o.side, px if auction else o.px, take, k)
        o.taken += take
    if qty > take:
        n = write_message(out, n, ts, HIDDEN, o.side, px, qty - take, -1)
        return n, Meaning.ICEBERG
    return n, Meaning.AUCTION if auction else Meaning.EXECUTION


@kernel
def _end_event(
    live: Any, touched: Any, n_touched: int, ts: int, out: Any, n: int, after: Any, m: int, meaning: Any
) -> tuple[int, int]:
    """Put back fills that nothing confirmed, and note every touched order; return messages and notes so far."""
    for j in range(n_touched):
        k = touched[j]
        o = live[k]
        if o.taken > 0:
            meaning[o.filled_by] = Meaning.UNBOOKED
            n, _ = _cancelled(o, 0, out, n, ts, k)
        o.touched = 0
    for j in range(n_touched):
        row = after[m]
        row.at = n
        row.order = touched[j]
        row.px = live[touched[j]].px
        row.qty = live[touched[j]].qty
        m += 1
    return n, m


@kernel
def _leave_first(out: Any, start: int, n: int, spare: Any) -> None:
    """Put an event's additions last, in their order, unless an order that is added changes again in it."""
    adds = 0
    for i in range(start, n):
        if out[i].kind == ADD:
            spare[adds] = out[i]
            adds += 1
            continue
        for j in range(adds):
            if spare[j].handle == out[i].handle:
                return
    at = start
    for i in range(start, n):
        if out[i].kind != ADD:
            out[at] = out[i]
            at += 1
    for j in range(adds):
        out[at + j] = spare[j]


@kernel
def _one(rec: Any, o: Any, k: int, ts: int, step: int, taker: int, out: Any, n: int) -> tuple[int, int]:
    """What one record about order `o` does; return the messages made so far and its meaning."""
    action, code = rec.action, rec.side
    sided = code in (_BID, _ASK)
    side = BUY if code == _BID else SELL
    qty: Any = np.int64(rec.size)  # unsigned and signed together would be a float
    px = rec.price // step
    if action == _TRADE:
        return n, Meaning.TRADE_SUM
    if action == _FILL:
        return _filled(o, not sided or code != taker, not sided, qty, px, out, n, ts, k)
    if action not in (_ADD, _CANCEL, _MODIFY):
        return n, Meaning.OTHER
    if not sided or (qty == 0 and action != _CANCEL):
        return n, Meaning.MALFORMED
    if action == _CANCEL:
        if o.qty == 0:
            return n, Meaning.UNKNOWN_ORDER
        return _cancelled(o, qty, out, n, ts, k)
    if action == _MODIFY:
        return _modified(o, side, px, qty, out, n, ts, k)
    told = Meaning.TWICE if o.qty > 0 else Meaning.BOOK
    n, _ = _modified(o, side, px, qty, out, n, ts, k)
    return n, told


@kernel
def reconcile(
    records: Any, dense: Any, step: int, live: Any, touched: Any, out: Any, after: Any, meaning: Any
) -> tuple[int, int]:
    """Turn MBO records into messages; return how many messages and AFTER rows were written.

    Args:
        records: MBO[n], one instrument.
        dense: int64 (n,), number of each record's order, from 0.
        step: the tick, in the file's price unit.
        live: LIVE[orders], zeros.
        touched: int64[orders], scratch.
        out: MSG[2 n + orders]; `handle` is the order's number, -1 for none.
        after: AFTER[n].
        meaning: int64 (n,), a Meaning per record.
    """
    n, m, n_touched, taker, start = 0, 0, 0, 0, 0
    spare = np.zeros(len(out), MSG)
    for i in range(len(records)):
        rec = records[i]
        k = dense[i]
        o = live[k]
        ts = rec.ts_recv if rec.flags & F_SNAPSHOT != 0 else rec.ts_event
        if rec.action == _TRADE:
            taker = rec.side
        if rec.action == _CLEAR:
            n = write_message(out, n, ts, CLEAR, 0, 0, 0, -1)
            for j in range(len(live)):
                live[j].qty = 0
                live[j].taken = 0
            meaning[i] = Meaning.CLEARED
        else:
            n, meaning[i] = _one(rec, o, k, ts, step, taker, out, n)
        if rec.action == _FILL:
            o.filled_by = i
        if o.touched == 0 and rec.action in (_ADD, _CANCEL, _MODIFY, _FILL):
            o.touched = 1
            touched[n_touched] = k
            n_touched += 1
        if rec.flags & F_LAST != 0 or i == len(records) - 1:
            n, m = _end_event(live, touched, n_touched, ts, out, n, after, m, meaning)
            _leave_first(out, start, n, spare)
            n_touched, taker, start = 0, 0, n
    return n, m
