"""Random operations on the engine and on an independent reference book must agree, order by order.

The reference keeps whole-list scans, so it is slow; the engine runs its share in one kernel. The books are
held to a few hundred orders so that two million operations fit into a test.
"""

from typing import Any

import numpy as np
import pytest
from fast_reference import FastReference
from reference_book import ReferenceBook

from emp.core.numba.jit import kernel
from emp.sim.book import book as eb
from emp.sim.book.auction import begin_auction, halt, uncross
from emp.sim.book.check import check_book, fault
from emp.sim.book.matching import replace, submit

SUBMIT, CANCEL, REDUCE, REPLACE, AUCTION, HALT, UNCROSS = range(7)
OP = np.dtype(
    [
        ("op", "i8"),
        ("side", "i8"),
        ("px", "i8"),
        ("qty", "i8"),
        ("kind", "i8"),
        ("owner", "i8"),
        ("tag", "i8"),
    ]
)
RESULT = np.dtype([("status", "i8"), ("filled", "i8"), ("bid", "i8"), ("ask", "i8"), ("fills", "i8")])
LO, TICKS = 1000, 64


@kernel
def run_ops(b: Any, fills: Any, ops: Any, handles: Any, results: Any, every: int, seen: Any) -> int:
    """Apply operations; return the 1-based index of the first one after which an invariant fails, or 0."""
    for i in range(len(ops)):
        o = ops[i]
        h = handles[o.tag]
        if not (eb.alive(b, h) and b[h + eb.TAG] == o.tag):
            h = 0
        b[eb.STATUS] = -1
        b[eb.FILLED] = 0
        if o.op == SUBMIT:
            handles[o.tag] = submit(b, fills, o.side, o.px, o.qty, o.kind, o.owner, o.tag)
        elif o.op == CANCEL:
            eb.cancel(b, h)
        elif o.op == REDUCE:
            eb.reduce(b, h, o.qty)
        elif o.op == REPLACE:
            handles[o.tag] = replace(b, fills, h, o.px, o.qty)
        elif o.op == AUCTION:
            begin_auction(b)
        elif o.op == HALT:
            halt(b)
        else:
            px, volume = uncross(b, fills, o.px)
            b[eb.STATUS] = px
            b[eb.FILLED] = volume
        results[i].status = b[eb.STATUS]
        results[i].filled = b[eb.FILLED]
        results[i].bid = b[eb.BEST]
        results[i].ask = b[eb.BEST + 1]
        results[i].fills = b[eb.N_FILLS]
        if i % every == 0 and fault(b, seen) != 0:
            return i + 1
    return 0


def random_ops(rng: np.random.Generator, n: int, owners: int, phases: bool) -> np.ndarray:
    ops = np.zeros(n, OP)
    ops["op"] = rng.choice(4, n, p=[0.45, 0.38, 0.07, 0.1])
    ops["side"] = rng.integers(0, 2, n)
    centre = LO + 32 + np.round(12 * np.sin(np.arange(n) / 700)).astype(np.int64)
    ops["px"] = centre + rng.integers(-9, 10, n) + np.where(ops["side"] == eb.BUY, -3, 3)
    ops["qty"] = rng.integers(1, 20, n)
    ops["kind"] = rng.choice(5, n, p=[0.68, 0.1, 0.08, 0.06, 0.08])
    ops["owner"] = rng.integers(0, owners + 1, n)
    ops["tag"] = np.arange(n)
    old = ops["op"] != SUBMIT
    ops["tag"][old] = np.maximum(0, np.arange(n)[old] - rng.geometric(1 / 60, int(old.sum())))
    stale = old & (rng.random(n) < 0.2)  # so that no order is forgotten for ever
    ops["tag"][stale] = np.maximum(0, np.arange(n)[stale] - rng.integers(0, 4000, int(stale.sum())))
    bad = rng.random(n) < 0.004
    ops["qty"][bad] = rng.integers(-2, 1, int(bad.sum()))
    ops["px"][rng.random(n) < 0.002] = LO - 1
    if phases:
        for start in range(200, n - 300, 1000):
            ops["op"][start] = AUCTION if start % 2000 < 1000 else HALT
            ops["op"][start + 100] = AUCTION
            ops["op"][start + 250] = UNCROSS
            ops["px"][start + 250] = LO + 32
    return ops


def play(ref: Any, ops: np.ndarray) -> list[tuple[int, int, int, int, int]]:
    out = []
    columns = zip(*(ops[n].tolist() for n in OP.names or ()), strict=True)
    for op, side, px, qty, kind, owner, tag in columns:
        status, filled = -1, 0
        if op == SUBMIT:
            status, filled = ref.submit(side, px, qty, kind, owner, tag)
        elif op == CANCEL:
            status, filled = ref.cancel(tag)
        elif op == REDUCE:
            status, filled = ref.reduce(tag, qty)
        elif op == REPLACE:
            status, filled = ref.replace(tag, px, qty)
        elif op == AUCTION:
            ref.phase = eb.AUCTION
        elif op == HALT:
            ref.phase = eb.HALTED
        else:
            status, filled = ref.uncross(px)
        out.append((status, filled, ref.best(eb.BUY), ref.best(eb.SELL), len(ref.fills)))
    return out


def engine_levels(b: np.ndarray, side: int) -> list[tuple[int, int]]:
    out, px = [], int(b[eb.BEST + side])
    end = int(b[eb.LO]) + (0 if side == eb.BUY else int(b[eb.MASK]))
    while px != end:
        out.append((px, int(eb.level_qty(b, side, px))))
        px = int(eb.next_level(b, side, px))
    return out


def agree(ref: Any, n: int, seed: int, stp: int, rule: int, owners: int, phases: bool, every: int) -> None:
    rng = np.random.default_rng(seed)
    ops = random_ops(rng, n, owners, phases)
    b = eb.new_book(LO, TICKS, n, stp, rule)
    fills = eb.new_fills(4 * n)
    handles = np.zeros(n, np.int64)
    results = np.zeros(n, RESULT)
    broken = run_ops(b, fills, ops, handles, results, every, np.zeros(3, np.int64))
    assert broken == 0, f"invariant broken after operation {broken - 1}: {ops[broken - 1]}"
    expected = play(ref, ops)
    got = list(zip(*(results[c].tolist() for c in RESULT.names or ()), strict=True))
    if got != expected:
        i = next(i for i in range(n) if got[i] != expected[i])
        pytest.fail(f"operation {i} {ops[i]}: engine {got[i]}, reference {expected[i]}")
    names = [c for c in eb.FILL.names or () if c != "handle"]
    rows = fills[: b[eb.N_FILLS]]
    assert list(zip(*(rows[c].tolist() for c in names), strict=True)) == ref.fills
    for side in (eb.BUY, eb.SELL):
        assert engine_levels(b, side) == ref.levels(side)
    check_book(b)


RULES = [
    (stp, rule)
    for stp in (eb.STP_NONE, eb.STP_CANCEL_NEW, eb.STP_CANCEL_OLD, eb.STP_DECREMENT)
    for rule in (eb.REPLACE_KEEPS, eb.REPLACE_LOSES)
]


@pytest.mark.parametrize(("stp", "rule"), RULES)
def test_agrees_with_the_scanning_reference(stp: int, rule: int) -> None:
    """Invariants after every operation; auctions and halts included."""
    ref = ReferenceBook(LO, LO + TICKS - 1, stp, rule)
    agree(ref, 6_000, 11 + 2 * stp + rule, stp, rule, 3, True, 1)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_over_two_million_operations(seed: int) -> None:
    """Against a quicker reference, itself held to the scanning one below."""
    stp, rule = RULES[2 * seed + 1]
    ref = FastReference(LO, LO + TICKS - 1, stp, rule)
    agree(ref, 500_000, 100 + seed, stp, rule, 2, False, 5000)


def test_the_quick_reference_agrees_with_the_scanning_one() -> None:
    ops = random_ops(np.random.default_rng(5), 5_000, 3, False)
    slow = ReferenceBook(LO, LO + TICKS - 1, eb.STP_DECREMENT, eb.REPLACE_KEEPS)
    fast = FastReference(LO, LO + TICKS - 1, eb.STP_DECREMENT, eb.REPLACE_KEEPS)
    assert play(slow, ops) == play(fast, ops)
    assert slow.fills == fast.fills
