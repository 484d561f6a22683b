"""Binance raw websocket lines: a local ns stamp, a space, the message as it came; REST snapshots in between.

Depth messages are differences and only mean something on top of a snapshot, without a gap (Binance, "How to
manage a local order book correctly"): spot messages follow each other by U == u + 1, futures messages by
pu == u. Until a snapshot fits, rows are quarantined as UNKNOWN_ORDER. bookTicker messages carry update ids of
the same count, so the newer of the two tells the best prices. `ts` is the local stamp, which all streams share:
spot bookTickers carry no exchange time.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.container import Item, Progress, Stream
from emp.access.recordings.orders import ASK, BID, OrderBook, set_level, show, sweep_away
from emp.access.recordings.reader import BATCH, Raw, blank
from emp.access.recordings.scan import LOT_DUST, OFF_GRID, parse_number, power_of_ten
from emp.core.book import MAX_LOTS
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel

_MALFORMED = int(Quarantine.MALFORMED)
_UNKNOWN = int(Quarantine.UNKNOWN_ORDER)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)
_QUOTE = ord('"')

MAX_WAITING = 10_000
"""Depth messages kept for a snapshot that is still to come."""


class _Line(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    lastUpdateId: int = 0  # noqa: N815  Binance's name
    bids: msgspec.Raw = msgspec.Raw(b"[]")
    asks: msgspec.Raw = msgspec.Raw(b"[]")


class _Depth(msgspec.Struct):
    U: int
    u: int
    b: msgspec.Raw
    a: msgspec.Raw
    pu: int = -1


class _Ticker(msgspec.Struct):
    u: int
    b: str
    B: str
    a: str
    A: str


class _Trade(msgspec.Struct):
    T: int
    p: str
    q: str
    m: bool  # the buyer was the maker


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_depth = msgspec.json.Decoder(_Depth).decode
_decode_ticker = msgspec.json.Decoder(_Ticker).decode
_decode_trade = msgspec.json.Decoder(_Trade).decode


@kernel
def apply_levels(buf: Any, side: int, ticks: float, lots: float, levels: Any, book: Any) -> Any:
    """Set the levels of a JSON array of ["price","size"]; return 0 or the reason why it cannot be read."""
    p: Any = 0
    px: Any = -1
    while True:
        while p < len(buf) and buf[p] != _QUOTE:
            p += 1
        if p >= len(buf):
            return 0 if px < 0 else _MALFORMED
        p, mantissa, exponent, digits = parse_number(buf, p + 1)
        if digits == 0 or buf[p] != _QUOTE:
            return _MALFORMED
        p += 1
        steps = mantissa * power_of_ten(exponent) * (ticks if px < 0 else lots)
        value = np.int64(np.floor(steps + (0.5 if px < 0 else LOT_DUST)))
        if value < 0 or value > MAX_LOTS or (px < 0 and abs(steps - value) > OFF_GRID):
            return _ABSURD_PRICE if px < 0 else _ABSURD_SIZE
        if px < 0:
            px = value
        else:
            set_level(levels, book, side, px, value)  # what holds less than one lot is no level
            px = -1


@kernel
def set_top(bid: int, bid_sz: int, ask: int, ask_sz: int, levels: Any, book: Any) -> None:
    """Make these the best prices: what is better is gone."""
    sweep_away(levels, book, BID, bid, False)
    set_level(levels, book, BID, bid, bid_sz)
    sweep_away(levels, book, ASK, ask, False)
    set_level(levels, book, ASK, ask, ask_sz)


class _Feed:
    """One symbol's book and how far it is in the count of updates."""

    def __init__(self, instrument: Instrument) -> None:
        self._ticks, self._lots = 1 / instrument.tick, 1 / instrument.lot
        self._orders = OrderBook()
        self._waiting: list[_Depth] = []
        self._synced = False
        self._last = 0  # u of the last depth message applied
        self._top = (0, 0, 0, 0, 0)  # u of the last bookTicker, bid, its size, ask, its size
        self._trade = (0, 0, 0)  # exchange time, sign and stamp of the trade that was the line before

    def take(self, stamp: int, message: bytes, row: Any) -> tuple[int, int]:
        """Apply a message and fill its EVENT row; return (kind, status)."""
        row["ts"] = row["ts_recv"] = stamp
        trade, self._trade = self._trade, (0, 0, 0)
        try:
            line = _decode_line(message)
            if line.lastUpdateId:
                result = self._snapshot(line)
            elif "@depth" in line.stream:
                result = self._depth(_decode_depth(line.data))
            elif line.stream.endswith("@bookTicker"):
                result = self._ticker(_decode_ticker(line.data))
            elif line.stream.endswith(("@trade", "@aggTrade")):
                result = self._print(_decode_trade(line.data), row, trade)
            else:
                result = fold.NOTE, _MALFORMED
        except (msgspec.MsgspecError, ValueError):
            result = fold.NOTE, _MALFORMED
        show(self._orders.levels, self._orders.book[0], row)
        return result

    def _snapshot(self, line: _Line) -> tuple[int, int]:
        if self._synced:
            return fold.PART, 0
        self._orders.book["n"] = 0
        bad = self._levels(line.bids, BID) or self._levels(line.asks, ASK)
        if bad:
            return fold.NOTE, bad
        self._synced = True
        self._last = line.lastUpdateId
        first = True
        for depth in self._waiting:
            if depth.u <= line.lastUpdateId:
                continue
            if not self._follows(depth, first=first):
                self._synced = False
                return fold.NOTE, _UNKNOWN
            self._apply(depth)
            first = False
        self._waiting.clear()
        return fold.GAP, 0

    def _follows(self, depth: _Depth, *, first: bool) -> bool:
        """Whether no update is missing before this message; the first one may begin inside the snapshot."""
        if first and depth.U <= self._last + 1 <= depth.u + 1:
            return True
        return depth.pu == self._last if depth.pu >= 0 else self._last + 1 == depth.U

    def _depth(self, depth: _Depth) -> tuple[int, int]:
        if self._synced and depth.u <= self._last:
            return fold.PART, 0  # the snapshot has it
        if self._synced and not self._follows(depth, first=self._last >= depth.U):
            self._synced = False
            self._waiting.clear()
        if not self._synced:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(depth)
            return fold.NOTE, _UNKNOWN
        return fold.CHANGE, self._apply(depth)

    def _apply(self, depth: _Depth) -> int:
        bad = self._levels(depth.b, BID) or self._levels(depth.a, ASK)
        if bad:
            self._synced = False  # what it changed is not known
        self._last = depth.u
        if self._top[0] > depth.u:
            set_top(*self._top[1:], self._orders.levels, self._orders.book[0])
        return bad

    def _levels(self, raw: msgspec.Raw, side: int) -> int:
        buf = np.frombuffer(raw, np.uint8)
        self._orders.reserve(len(buf) // 8)
        found = apply_levels(buf, side, self._ticks, self._lots, self._orders.levels, self._orders.book[0])
        return int(found)

    def _ticker(self, t: _Ticker) -> tuple[int, int]:
        if not self._synced:
            return fold.NOTE, _UNKNOWN
        if t.u <= max(self._last, self._top[0]):
            return fold.PART, 0  # the book is past it
        bid, bid_sz = _grid(t.b, self._ticks), _whole(t.B, self._lots)
        ask, ask_sz = _grid(t.a, self._ticks), _whole(t.A, self._lots)
        if min(bid, ask) <= 0:
            return fold.NOTE, _ABSURD_PRICE
        if min(bid_sz, ask_sz) < 0:
            return fold.NOTE, _ABSURD_SIZE
        self._top = (t.u, bid, bid_sz, ask, ask_sz)
        self._orders.reserve(2)
        set_top(*self._top[1:], self._orders.levels, self._orders.book[0])
        return fold.CHANGE, 0

    def _print(self, t: _Trade, row: Any, before: tuple[int, int, int]) -> tuple[int, int]:
        px, qty = _grid(t.p, self._ticks), _grid(t.q, self._lots)
        if px <= 0:
            return fold.NOTE, _ABSURD_PRICE
        if qty <= 0:
            return fold.NOTE, _ABSURD_SIZE
        sign = -1 if t.m else 1
        row["trade_px"], row["trade_qty"] = px, sign * qty
        if before[:2] == (t.T, sign):  # the same sweep: one instant at the exchange
            row["ts"] = before[2]
        self._trade = (t.T, sign, int(row["ts"]))
        return fold.PRINT, 0


def _grid(text: str, multiplier: float) -> int:
    """A decimal in grid steps; -1 where it is off the grid."""
    steps = float(text) * multiplier
    if not abs(steps) < MAX_LOTS:
        return -1
    value = round(steps)
    return value if abs(steps - value) <= OFF_GRID else -1


def _whole(text: str, multiplier: float) -> int:
    """A level's size in lots, rounded down; -1 where it cannot be one."""
    lots = float(text) * multiplier
    return math.floor(lots + LOT_DUST) if 0 <= lots <= MAX_LOTS else -1


class BinanceReader:
    """A file of raw lines of one symbol."""

    flags = 0

    def __init__(self, item: Item, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self._item = item
        self._instrument = instrument
        self.first_ts_ns = int(item.head()[:19])

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the messages, each with the book after it."""
        feed = _Feed(self._instrument)
        with self._item.open(progress) as stream:
            for lines in _batches_of_lines(stream, self.label):
                rows, kind, status = blank(len(lines))
                for i, line in enumerate(lines):
                    stamp, _, message = line.partition(b" ")
                    if len(stamp) == 19 and stamp.isdigit():
                        kind[i], status[i] = feed.take(int(stamp), message, rows[i])
                    else:
                        status[i] = _MALFORMED
                yield Raw(rows, kind, status, lambda i, ls=lines: ls[i][:200].decode("utf-8", "replace"))  # type: ignore[misc]


def _batches_of_lines(stream: Stream, label: str) -> Iterator[list[bytes]]:
    rest = b""
    lines: list[bytes] = []
    while data := stream.read():
        parts = (rest + data).split(b"\n")
        rest = parts.pop()
        lines += (part for part in parts if part.strip())
        while len(lines) >= BATCH:
            yield lines[:BATCH]
            lines = lines[BATCH:]
        if len(rest) > 1 << 26:
            raise DataError(f"{label}: a line is longer than 64 MiB; not a recording of raw lines")
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines
