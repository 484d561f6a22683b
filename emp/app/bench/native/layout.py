"""Stream files in the layout that native peers read, all little endian.

`NAME.msgs.bin` holds MSG rows; `NAME.l2.bin` and `NAME.l3.bin` hftbacktest's 64-byte events; `goog.quotes.bin`
five int64 a quote; `w10.fix` the snapshot of `emp bench fix`; `FIX44.xml` QuickFIX's dictionary.
"""

from pathlib import Path
from typing import Any

import numpy as np

from emp.core.records import Array
from emp.sim.book.book import BUY
from emp.sim.tape.feed import feed_of
from emp.sim.tape.replay import Plan

FEED_NS = 100_000
"""Delay of the feed, and of orders each way, in the peers' worlds."""

DEPTH, TRADE, ADD, CANCEL, MODIFY, FILL = 1, 2, 10, 11, 12, 13
_BOTH = 1 << 31 | 1 << 30  # seen by the exchange and by us
_BUY, _SELL = 1 << 29, 1 << 28

ROW = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ]
)
"""An event of hftbacktest (its documented data format); prices in ticks, quantities in lots."""


def level_rows(feed: Array) -> Array:
    """FEED rows as L2: the level after every message, and a trade row before it where there was one."""
    rows, at, before = _spread(feed, feed["traded"] > 0)
    _fill(rows, at, DEPTH, feed, feed["level"])
    traded = feed["traded"] > 0
    trades = feed[traded]
    _fill(rows, before, TRADE, trades, trades["traded"])
    taker = np.where(trades["side"] == BUY, _SELL, _BUY)
    rows["ev"][before] = _BOTH | TRADE | taker
    return rows


def order_rows(feed: Array) -> Array:
    """FEED rows as L3: orders come, change and go by id, and a fill stands before what a trade left of one."""
    feed = feed[feed["order"] > 0]
    filled = feed["traded"] > 0
    rows, at, before = _spread(feed, filled)
    kind = np.where(feed["new"], ADD, np.where(feed["left"] > 0, MODIFY, CANCEL))
    _fill(rows, at, kind, feed, feed["left"])
    _fill(rows, before, FILL, feed[filled], feed["traded"][filled])
    return rows


def _spread(feed: Array, doubled: Array) -> tuple[Array, Array, Array]:
    """Rows for all messages, one more where `doubled`: (rows, where messages stand, where what is before them)."""
    rows = np.zeros(len(feed) + int(doubled.sum()), ROW)
    at = np.arange(len(feed)) + np.cumsum(doubled)
    return rows, at, at[doubled] - 1


def _fill(rows: Array, at: Array, kind: Any, feed: Array, qty: Array) -> None:
    rows["ev"][at] = _BOTH | kind | np.where(feed["side"] == BUY, _BUY, _SELL)
    rows["exch_ts"][at] = feed["ts"]
    rows["local_ts"][at] = feed["ts"] + FEED_NS
    rows["px"][at] = feed["px"]
    rows["qty"][at] = qty
    rows["order_id"][at] = feed["order"]


def quote_rows(events: Array) -> Array:
    """EVENT rows as quotes: int64 (n, 5) of ts, bid, ask (ticks), bid lots, ask lots."""
    best = (events[name][:, 0] for name in ("bid_px", "ask_px", "bid_sz", "ask_sz"))
    return np.stack([events["ts"], *best], axis=1).astype("<i8")


def write_stream(folder: Path, name: str, stream: Plan) -> None:
    """Write a stream's messages, levels and orders as `NAME.msgs.bin`, `NAME.l2.bin` and `NAME.l3.bin`."""
    feed = feed_of(stream)
    stream.msgs.tofile(folder / f"{name}.msgs.bin")
    level_rows(feed).tofile(folder / f"{name}.l2.bin")
    order_rows(feed).tofile(folder / f"{name}.l3.bin")


def write_quotes(folder: Path, events: Array) -> None:
    """Write the quotes of EVENT rows as `goog.quotes.bin`, the name under which the peers look for quotes."""
    quote_rows(events).tofile(folder / "goog.quotes.bin")
