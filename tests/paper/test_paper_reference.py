"""The compiled paper venue against the slow one, over random markets and random orders."""

from typing import Any

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.codes import EventFlag
from emp.core.contracts import Command, NewOrder, OrderUpdate, Replace
from emp.core.records import Array
from tests.paper.reference import SlowVenue, sides
from tests.paper.worlds import GOOG, cancel, event, order, query, replace


def market(rng: np.random.Generator, n: int, levels: int, flags: int) -> list[Array]:
    """A book that walks, with trades at, through and short of the touch."""
    mid, now, rows = 1000, 0, []
    for _ in range(n):
        now += int(rng.choice([0, 1, 3, 20, 200]))
        mid += int(rng.choice([-3, -1, 0, 0, 0, 0, 1, 3]))
        half = int(rng.integers(1, 3))
        bids = [
            (mid - half - i - int(i > 1 and rng.random() < 0.3), int(rng.integers(1, 12)))
            for i in range(levels)
        ]
        asks = [(mid + half + i, int(rng.integers(1, 12))) for i in range(levels)]
        bids = sorted(dict(bids).items(), reverse=True)
        trade = None
        if rng.random() < 0.5:
            sign = int(rng.choice([-1, 1]))
            last = int(rng.integers(1, 15))
            trade = (mid + int(rng.integers(-4, 5)), sign * (last + int(rng.integers(0, 9))), last)
        extra = int(EventFlag.AUCTION) if rng.random() < 0.05 else 0
        extra |= int(rng.choice([0, EventFlag.HALT, EventFlag.RESUME], p=[0.94, 0.02, 0.04]))
        rows.append(event(now, bids, asks, trade, flags | extra))
    return rows


def run(seed: int, levels: int = 4, flags: int = 0, n: int = 400) -> tuple[list[Any], int]:
    rng = np.random.default_rng(seed)
    entry, delay = int(rng.integers(0, 60)), int(rng.choice([0, 5, 150]))
    fast, slow = PaperVenue(GOOG, entry_ns=entry, report_ns=delay), SlowVenue(GOOG, entry, delay)
    rows = market(rng, n, levels, flags)
    names: list[str] = []
    placed: dict[str, tuple[int, int]] = {}
    told: list[OrderUpdate] = []
    for i in range(1, n):
        told_fast, told_slow = fast.step(rows[i - 1], rows[i]), slow.step(rows[i - 1], rows[i])
        assert told_fast == told_slow, f"seed {seed} event {i}"
        told += told_fast
        if rng.random() < 0.3:
            command = random_command(rng, rows[i], names, placed, i)
            fast.send(command)
            slow.send(command)
            if isinstance(command, NewOrder | Replace):
                names.append(command.cl_ord_id)
    position = sum(m.order.side * m.filled for m in slow.orders.values())
    assert fast.position().qty == position
    return told, position


def random_command(
    rng: np.random.Generator, now: Array, names: list[str], placed: dict[str, tuple[int, int]], i: int
) -> Command:
    ts = int(now["ts"])
    kind = rng.random()
    if names and kind < 0.25:
        return cancel(f"C{i}", str(rng.choice(names[-6:])), ts)
    if names and kind < 0.35:
        return query(names[-1], ts)
    if names and kind < 0.6:
        name = str(rng.choice(names[-4:]))
        side, px = placed[name]
        px += int(rng.choice([0, 0, 0, 1, -1, 4]))
        placed[f"R{i}"] = side, px
        return replace(f"R{i}", name, side, int(rng.integers(1, 25)), px, ts)
    side = int(rng.choice([-1, 1]))
    px = sides(now)[side][0][0] + int(rng.integers(-5, 4)) * side
    placed[f"O{i}"] = side, px
    return order(
        f"O{i}",
        side,
        int(rng.integers(1, 25)),
        px,
        ts,
        immediate=bool(rng.random() < 0.3),
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_same_reports_on_a_deep_book(seed: int) -> None:
    told, _ = run(seed)
    assert len({u.status for u in told}) == 5
    assert any(u.replacement for u in told)


@pytest.mark.parametrize("seed", range(100, 108))
def test_the_same_reports_on_one_level(seed: int) -> None:
    assert run(seed, levels=1)[0]


@pytest.mark.parametrize("seed", range(200, 208))
def test_the_same_reports_without_sizes(seed: int) -> None:
    assert run(seed, levels=1, flags=int(EventFlag.NO_SIZE))[0]


def test_runs_repeat_exactly() -> None:
    assert run(3) == run(3)
