"""The paper venue beside real orders: a recording of single orders says when they really filled."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from emp.access.paper.fills import STATUS_NEW, venue_step
from emp.access.paper.venue import PaperVenue
from emp.access.recordings import open_recording
from emp.core.instrument import find
from emp.core.numba.jit import kernel
from emp.core.records import Array
from tests.paper.worlds import order

ADD, CANCEL, DELETE, EXECUTE = 1, 2, 3, 4
MINUTE_NS = 60_000_000_000
MIDNIGHT_NS = int(np.datetime64("2012-06-21T04:00", "ns").astype(np.int64))  # in New York


@kernel
def first_fill(venue: Any, orders: Any, reports: Any, events: Any, start: int, stop: int) -> int:
    """Index of the event that fills our one order first; -1 if none does, -2 if the venue refuses it."""
    for i in range(start + 1, stop):
        n = venue_step(venue[0], orders, events[i - 1], events[i], reports)
        for k in range(n):
            if reports[k].status != STATUS_NEW:
                return i if reports[k].filled > 0 else -2
    return -1


def messages(folder: Path) -> Array:
    """Rows of the GOOG message file: time in ns after midnight, type, id, size, price, direction."""
    packed = (folder / "lobster" / "GOOG_2012-06-21_34200000_57600000_message_10.csv.zst").read_bytes()
    text = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read().decode()
    rows = [line.split(",") for line in text.splitlines()]
    table = np.zeros((len(rows), 6), np.int64)
    for column in range(1, 6):
        table[:, column] = [int(row[column]) for row in rows]
    for i, row in enumerate(rows):
        seconds, _, fraction = row[0].partition(".")
        table[i, 0] = int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])
    return table


def filled_orders(table: Array, n: int, seed: int) -> list[tuple[int, int, int, int, int]]:
    """(added, filled, size, ticks, side) of `n` real orders that executed completely, never reduced by hand."""
    added: dict[int, int] = {}
    left: dict[int, int] = {}
    spoilt: set[int] = set()
    found = []
    for i, (ts, kind, name, size, price, side) in enumerate(table.tolist()):
        if kind == ADD:
            added[name], left[name] = i, size
        elif kind in (CANCEL, DELETE):
            spoilt.add(name)
        elif kind == EXECUTE and name in left:
            left[name] -= size
            if left[name] == 0 and name not in spoilt:
                start = table[added[name]]
                found.append((int(start[0]), ts, int(start[3]), price // 100, side))
    chosen = np.random.default_rng(seed).choice(len(found), n, replace=False)
    return [found[i] for i in chosen]


@pytest.mark.real_data
def test_an_order_right_behind_a_real_one_never_fills_before_it(data_dir: Path) -> None:
    goog = find("GOOG")
    path = data_dir / "lobster" / "GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"
    events = np.concatenate(list(open_recording([path], goog).batches()))
    table = messages(data_dir)
    lags = []
    for added, done, size, px, side in filled_orders(table, 400, seed=1):
        start = int(np.searchsorted(events["ts"], MIDNIGHT_NS + added, "right")) - 1
        stop = int(np.searchsorted(events["ts"], MIDNIGHT_NS + done + MINUTE_NS, "right"))
        paper = PaperVenue(goog, entry_ns=0)
        paper.send(order("A", side, size, px, int(events["ts"][start])))
        at = first_fill(paper.venue, paper.orders, paper.reports, events, start, stop)
        if at >= 0:
            lags.append(int(events["ts"][at]) - (MIDNIGHT_NS + done))
    assert min(lags) >= 0
    assert len(lags) > 360  # nine in ten fill within a minute of the order ahead of them
    assert np.median(lags) < 10_000_000
