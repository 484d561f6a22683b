"""Hold a replayed book against the book that the recording shows, at every event, and say why they differ.

A recording of the best levels is silent beyond them: orders may come, go and change out of view. Where a
price comes into view, the difference between the recorded quantity and the orders known to be there is such
an order that nobody saw; it is counted as a mismatch at that event, and then accounted for by an order
without a name. Where a price leaves the view, orders that the rest of the recording never mentions again
are forgotten. Nothing is ever corrected at a price that stays in view.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    HEAD,
    LO,
    MASK,
    NEXT,
    NUMBERED,
    ORDER_WORDS,
    QTY,
    clear_trade,
    level_of,
    level_qty,
    new_book,
    new_fills,
    next_level,
    rest_at,
    shrink,
    take_out,
)
from emp.sim.flow.state import ADD, MSG, write_message
from emp.sim.tape.recording import Recording
from emp.sim.tape.replay import FORGET, SEED, Fit, Plan, plan, replay_message


class Cause(IntEnum):
    """Why a level of the replayed book differs from the recorded one."""

    NONE = 0
    ARRIVED_UNSEEN = 1  # the price came into view with more than the messages ever put there
    LEFT_UNSEEN = 2  # the price came into view with less: orders were withdrawn out of view
    SHIFTED = 3  # the level itself is right, but stands at another rank because of one that is not
    MESSAGE = 4  # a message in view did something else than the recorded book shows
    CARRIED = 5  # an earlier difference at this price that no message has touched


class Report(msgspec.Struct):
    """Outcome of a verification; arrays are per level, best first, bid and ask together."""

    name: str
    events: int
    compared: list[int]
    matched: list[int]
    matched_without_accounting: list[int]
    causes: dict[str, list[int]]
    unseen_orders: int  # orders implied by later messages, placed at their latest possible arrival
    nameless_orders: int  # orders added where a price came into view
    forgotten_orders: int
    misfits: int  # messages that named no live order, or more lots than it had

    def rates(self) -> list[float]:
        """Share of matching levels per rank."""
        return [m / c if c else 1.0 for m, c in zip(self.matched, self.compared, strict=True)]


@kernel
def _worst(row: Any, side: int, levels: int, end: int) -> int:
    """Price of the deepest recorded level, or `end` where the recorded side is not full (all is in view)."""
    px = row[4 * (levels - 1) + 2 * (1 - side)]
    return px if px != 0 else end


@kernel
def _compare(b: Any, row: Any, m: Any, side: int, levels: int, before: int, stats: Any) -> None:
    """Count matches and causes of one side. `before` is the deepest price in view before this event."""
    sign = 1 - 2 * side
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    px = int(b[BEST + side])
    for k in range(levels):
        want_px = row[4 * k + 2 * (1 - side)]
        want = row[4 * k + 2 * (1 - side) + 1]
        have_px = px if px != end else 0
        have = level_qty(b, side, px) if px != end else 0
        stats[0, k] += 1
        if want_px == have_px and want == have:
            stats[1, k] += 1
        else:
            at = want_px if want_px != 0 else have_px
            here = level_qty(b, side, at) if want_px != 0 else 0
            if want_px != 0 and here == want:
                cause = 3
            elif (at - before) * sign < 0:
                cause = 1 if want_px != 0 and here < want else 2
            elif m.px == at and m.side == side:
                cause = 4
            else:
                cause = 5
            stats[1 + cause, k] += 1
        if px != end:
            px = next_level(b, side, px)


class Accounting(NamedTuple):
    """What a replay is brought into line with its recording in: for the kernels of this module."""

    book: Array  # int32 words
    life: Array  # int64 by record: index of the last message of its order, -1 for a nameless one
    pool: Array  # int64 (1,): the next record for a nameless order
    out: Array  # MSG: the messages, with those that the accounting adds


@kernel
def _forget(accounting: Any, side: int, px: int, i: int, surplus: int, ts: int, n: int) -> int:
    """Withdraw orders of a price that are never mentioned again, up to `surplus` lots."""
    b, life, out = accounting.book, accounting.life, accounting.out
    h = int(b[level_of(b, side, px) + HEAD])
    while h != 0 and surplus > 0:
        after = int(b[h + NEXT])
        record = (h - int(b[NUMBERED])) // ORDER_WORDS
        if life[record] <= i:
            qty = int(b[h + QTY])
            if qty <= surplus:
                take_out(b, h)
                n = write_message(out, n, ts, FORGET, side, px, qty, record)
            else:
                shrink(b, h, surplus, False)
                n = write_message(out, n, ts, FORGET, side, px, surplus, record)
            surplus -= qty
        h = after
    return n


@kernel
def _account(accounting: Any, row: Any, side: int, levels: int, before: int, i: int, ts: int, n: int) -> int:
    """Bring prices that came into view into line, forget what left it; return the messages written so far."""
    b, life, pool, out = accounting.book, accounting.life, accounting.pool, accounting.out
    sign = 1 - 2 * side
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    now = _worst(row, side, levels, end)
    for k in range(levels):
        px = row[4 * k + 2 * (1 - side)]
        if px == 0 or (px - before) * sign >= 0:
            continue
        short = row[4 * k + 2 * (1 - side) + 1] - level_qty(b, side, px)
        if short > 0:
            record = pool[0]
            pool[0] += 1
            life[record] = -1
            rest_at(b, int(b[NUMBERED]) + ORDER_WORDS * record, side, px, short, 0, 0)
            n = write_message(out, n, ts, SEED, side, px, short, record)
        elif short < 0:
            n = _forget(accounting, side, px, i, -short, ts, n)
    px = int(b[BEST + side])
    k = 0
    while px != end:
        deeper = next_level(b, side, px)
        shown = k < levels and px == row[4 * k + 2 * (1 - side)]
        if shown:
            k += 1
        elif (px - now) * sign < 0 <= (px - before) * sign or (px - before) * sign < 0 < (px - now) * sign:
            n = _forget(accounting, side, px, i, level_qty(b, side, px), ts, n)
        px = deeper
    return n


@kernel
def verify_all(
    accounting: Any, fills: Any, msgs: Any, source: Any, until: Any, shown: Any, fix: bool
) -> tuple[int, int, Any]:
    """Replay, compare with the recorded book `shown` and (with `fix`) account.

    Returns the messages written to `accounting.out`, misfits, and the counts.
    """
    b, life, out = accounting.book, accounting.life, accounting.out
    levels = shown.shape[1] // 4
    stats = np.zeros((8, levels), np.int64)
    lo, hi = int(b[LO]), int(b[LO]) + int(b[MASK])
    before = np.array([hi, lo])  # nothing is in view yet
    n, misfits = 0, 0
    for i in range(len(msgs)):
        m = msgs[i]
        clear_trade(b)
        misfits += replay_message(b, fills, m) != Fit.FITS
        if m.kind == ADD or m.kind == SEED:
            life[m.handle] = until[i]
        out[n] = m
        n += 1
        if source[i] < 0:
            continue
        row = shown[source[i]]
        for side in range(2):
            if source[i] > 0:
                _compare(b, row, m, side, levels, before[side], stats)
            if fix or source[i] == 0:
                n = _account(accounting, row, side, levels, before[side], i, m.ts, n)
            before[side] = _worst(row, side, levels, lo if side == BUY else hi)
    return n, misfits, stats


def _run(made: Plan, book: Array, fix: bool) -> tuple[Array, int, Array, int]:
    room = made.records + 4 * len(made.msgs)
    accounting = Accounting(
        new_book(made.lo, made.ticks, 64, numbered=room),
        np.full(room, -1, np.int64),
        np.array([made.records], np.int64),
        np.zeros(8 * len(made.msgs) + 1000, MSG),
    )
    n, misfits, stats = verify_all(accounting, new_fills(64), made.msgs, made.source, made.until, book, fix)
    return accounting.out[:n], int(misfits), stats, int(accounting.pool[0])


def verify(recording: Recording) -> tuple[Report, Plan]:
    """Compare at every event; return the report, and the plan with everything unseen accounted for."""
    if recording.book is None or recording.levels == 0:
        raise DataError(f"{recording.name}: the recording has no book to verify against")
    made = plan(recording)
    _, _, bare, _ = _run(made, recording.book, False)
    msgs, misfits, stats, records = _run(made, recording.book, True)
    nameless = records - made.records
    forgotten = len(msgs) - len(made.msgs) - nameless
    report = Report(
        recording.name,
        len(recording.msgs),
        stats[0].tolist(),
        stats[1].tolist(),
        bare[1].tolist(),
        {c.name.lower(): stats[1 + c].tolist() for c in Cause if c is not Cause.NONE},
        made.unseen,
        nameless,
        forgotten,
        misfits,
    )
    whole = Plan(
        msgs,
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        records,
        made.lo,
        made.ticks,
        made.unseen + nameless,
    )
    return report, whole
