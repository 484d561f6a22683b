"""The table between parsing and books: int64[n, SLOTS], one slot a meaning, whatever the format.

A csv, JSON lines, Parquet or a packed record is brought into these slots; `assemble` makes EVENT rows of them.
Prices are ticks, sizes lots, times ns; words are hashed (`scan.hashed`), sides packed (`scan.word`).
"""

from typing import NamedTuple

import numpy as np

from emp.core.records import LEVELS, Array

TS, CLOCK, RECV, SYMBOL, KIND, SIDE, PX, SZ, ID = range(9)
FIRST, LAST, PREVIOUS, SNAPSHOT, WHEN, GROUP, VENUE, BUYER, SELLER = range(9, 18)
BIDS, ASKS, CHANGES = range(18, 21)  # cells: place and length in the buffer
BID_PX = 21
BID_SZ = BID_PX + LEVELS
ASK_PX = BID_SZ + LEVELS
ASK_SZ = ASK_PX + LEVELS
SLOTS = ASK_SZ + LEVELS

# what a row does, where a file has rows of one kind
BOOK, PRINTS, LEVEL, KINDS = range(4)

# how the aggressor of a trade is told
BY_WORD, BY_MAKER, BY_ORDERS, BY_PRICE = range(4)

F_LAST = 128
"""Bit of GROUP: the event ends with this row."""


class Layout(NamedTuple):
    """What the slots of one file mean; words are arrays of hashes or packed sides."""

    rows: int  # BOOK, PRINTS, LEVEL or KINDS
    bids: int  # levels in slots of their own
    asks: int
    cells: bool  # levels in cells
    ticks: float  # ticks per unit of a cell's prices
    lots: float
    carry: bool
    venues: bool
    trades: bool  # rows hold trades too
    volume: bool  # the trade's size is the volume since the row before
    side: int  # BY_WORD, …
    has_ids: bool
    grouped: bool  # GROUP tells where an event ends
    ids: int  # update ids: 0 none, 1 the last, 2 first and last, 3 previous and last
    received: bool  # the file is in order of RECV
    symbols: Array  # hashes that mean our instrument; none where the file names none
    book_words: Array
    snapshot_words: Array
    update_words: Array
    trade_words: Array
    whole_words: Array  # of SNAPSHOT: the row belongs to a whole book
    when_words: Array
    buys: Array
    sells: Array
    no_sides: Array


STATE = np.dtype(
    [
        ("synced", "i8"),  # the ladder is a whole book
        ("gap", "i8"),  # the next book comes after a break
        ("gaps", "i8"),  # breaks so far
        ("last", "i8"),  # id of the last update applied
        ("loading", "i8"),  # a whole book is being told level by level
        ("mid2", "i8"),  # bid + ask of the book before; 0 where unknown
        ("sign", "i8"),  # of the last trade
        ("qty", "i8"),  # of the event that is not over: signed total, worst price, quantity there
        ("px", "i8"),
        ("px_qty", "i8"),
        ("ts", "i8"),  # of the row before
        ("recv", "i8"),
        ("carried", "i8", (4,)),  # bid, its size, ask, its size
        ("n_venues", "i8"),
    ],
    align=True,
)
"""What is carried from row to row."""

MAX_VENUES = 64
VENUE_QUOTE = np.dtype([("name", "i8"), ("quote", "i8", (4,))], align=True)

SEEN = 1 << 16
"""Trades that are remembered to find a repeated one."""
