"""Market data on Kafka: the topic `market_data_update`, its records, and where a key's records lie.

A mirror writes it (`emp.journal.mirror`), and an engine may have its market from it (`emp.access.kafka`). Each record
is one EVENT row, a whole book: `docs/mirrors.md` has the schema.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np

from emp.core.contracts import MarketDataUpdate
from emp.core.errors import DataError
from emp.core.records import LEVELS, Array

MARKET: Final = MarketDataUpdate.topic
"""Market data, keyed by instrument."""

CURSORS: Final = "mirror_cursors"
"""Compacted: by run, the positions up to which everything is committed, its instruments' grid, and its origin."""

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Level = tuple[_Int64, _Int64, _Int64, _Int64]

SIDES: Final = ("bid_px", "bid_sz", "ask_px", "ask_sz")
"""Columns of EVENT in the order of a level of `depth`."""


class MarketRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The value of one record; prices in ticks, sizes in lots of the run's instrument, times in ns UTC."""

    run: Annotated[str, msgspec.Meta(min_length=1)]
    n: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]  # number among all events of the run
    instrument: str
    bid: _Int64
    ask: _Int64
    bid_sz: _Int64
    ask_sz: _Int64
    depth: Annotated[list[_Level], msgspec.Meta(max_length=LEVELS)]  # best first
    ts: _Time
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    ts_recv: _Time  # when the machine of the run received it
    flags: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    trade_px: _Int64
    trade_qty: _Int64
    trade_qty_last: _Int64


class Grid(NamedTuple):
    """What the numbers of an instrument count."""

    tick: float
    lot: float


class Origin(NamedTuple):
    """How a run has come to its market data, as its configuration says: empty where nobody has told."""

    mode: str = ""
    protocol: str = ""  # access.connection_protocol
    host: str = ""  # access.host

    @property
    def recorder(self) -> bool:
        """Whether it has received a venue's market data itself, and traded nothing on them."""
        return self.mode == "observe" and self.protocol not in _NOT_A_VENUE


_NOT_A_VENUE: Final = ("", "kafka", "recording", "mock")

_Step = Annotated[float, msgspec.Meta(gt=0)]


class Counted(msgspec.Struct, frozen=True):
    """An instrument of a run, and what its numbers count."""

    name: str
    tick: _Step
    lot: _Step


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a record of CURSORS; a cursor of an earlier release has no origin."""

    run: str
    positions: dict[str, Annotated[int, msgspec.Meta(ge=0)]]
    instruments: list[Counted]
    mode: str = ""
    protocol: str = ""
    host: str = ""

    @property
    def origin(self) -> Origin:
        """How the run has come to its market data."""
        return Origin(self.mode, self.protocol, self.host)

    @property
    def grids(self) -> Mapping[str, Grid]:
        """What the numbers of the run's instruments count, all of them."""
        return {one.name: Grid(one.tick, one.lot) for one in self.instruments}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(MarketRecord).decode
_decode_cursor = msgspec.json.Decoder(Cursor).decode
_SCALARS = ("ts", "seq", "ts_recv", "instrument", "flags", "trade_px", "trade_qty", "trade_qty_last")


def encode_market(
    run: str, instruments: Sequence[str], numbers: Iterable[int], rows: Array
) -> Iterator[tuple[str, bytes]]:
    """Yield key and value of EVENT rows [n], `numbers` of which are `n`: equal rows give equal bytes."""
    used = np.maximum(rows["n_bid"], rows["n_ask"]).tolist()
    ladders = np.stack([rows[name] for name in SIDES], axis=2).tolist()
    columns = zip(*(rows[name].tolist() for name in _SCALARS), strict=True)
    for n, deep, ladder, row in zip(numbers, used, ladders, columns, strict=True):
        ts, seq, received, which, flags, px, qty, last = row
        best = ladder[0]
        value = {
            "run": run,
            "n": n,
            "instrument": instruments[which],
            "bid": best[0],
            "ask": best[2],
            "bid_sz": best[1],
            "ask_sz": best[3],
            "depth": ladder[:deep],
            "ts": ts,
            "seq": seq,
            "ts_recv": received,
            "flags": flags,
            "trade_px": px,
            "trade_qty": qty,
            "trade_qty_last": last,
        }
        yield instruments[which], _encode(value)


def decode_market(value: bytes) -> MarketRecord:
    """A record of a value; DataError with one line that says what is wrong with it.

    A field that is not known is left out: a later release may add some.
    """
    try:
        record = _decode(value)
    except _UNREADABLE as error:
        raise DataError(_words(error)) from None
    if not record.depth:
        raise DataError("no level of the book")
    if (record.bid, record.bid_sz, record.ask, record.ask_sz) != record.depth[0]:
        raise DataError("its best prices are not those of its depth")
    return record


def encode_cursor(cursor: Cursor) -> bytes:
    """The value of a cursor."""
    return _encode(cursor)


def decode_cursor(value: bytes) -> Cursor:
    """A cursor of a value; DataError with one line that says what is wrong with it."""
    try:
        return _decode_cursor(value)
    except _UNREADABLE as error:
        raise DataError(_words(error)) from None


_UNREADABLE: Final = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
)  # a ValidationError is a DecodeError


def _words(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def put_book(record: MarketRecord, row: Array) -> None:
    """Write a record's book into a zeroed EVENT record.

    How many levels a side has is told by what stands there: behind the last no side has a price or a size. The best of
    each side is always there, since a book without it is no event.
    """
    n_bid = n_ask = 1
    for k, (bid, bid_sz, ask, ask_sz) in enumerate(record.depth):
        row["bid_px"][k], row["bid_sz"][k] = bid, bid_sz
        row["ask_px"][k], row["ask_sz"][k] = ask, ask_sz
        if bid or bid_sz:
            n_bid = k + 1
        if ask or ask_sz:
            n_ask = k + 1
    row["n_bid"], row["n_ask"] = n_bid, n_ask


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among so many, by murmur2 as Java's clients have it."""
    return (_murmur2(key) & 0x7FFF_FFFF) % partitions


_M, _SEED, _MASK = 0x5BD1_E995, 0x9747_B28C, 0xFFFF_FFFF


def _murmur2(data: bytes) -> int:
    """MurmurHash2, 32 bits, of A. Appleby, with the seed of Kafka's clients."""
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if len(data) > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15
