"""Databento's DBN encoding, versions 1 to 3, its older form DBZ, and fragments without metadata: records and symbols.

A file is "DBN", a version byte, the length of the metadata (u32), the metadata, then records; every record begins
with its length in 4-byte words and its type. A DBZ file keeps its metadata in a skippable zstd frame, so that what
unpacks are records. Sources: the DBN specification (databento.com/docs/standards-and-conventions) and its reference
implementation's test files.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import zstandard

from emp.access.recordings.container import Item
from emp.access.recordings.packing import Progress, Stream
from emp.access.recordings.reader import BATCH
from emp.access.recordings.whose import is_of, not_of
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import Array

_HEADER = [
    ("length", "u1"),
    ("rtype", "u1"),
    ("publisher_id", "<u2"),
    ("instrument_id", "<u4"),
    ("ts_event", "<i8"),
]

MBO = np.dtype(
    [
        *_HEADER,
        ("order_id", "<i8"),
        ("price", "<i8"),  # 1e-9 of the quote currency
        ("size", "<u4"),
        ("flags", "u1"),
        ("channel_id", "u1"),
        ("action", "u1"),
        ("side", "u1"),
        ("ts_recv", "<i8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
    ]
)

_LEVEL = np.dtype(
    [
        ("bid_px", "<i8"),
        ("ask_px", "<i8"),
        ("bid_sz", "<u4"),
        ("ask_sz", "<u4"),
        ("bid_ct", "<u4"),
        ("ask_ct", "<u4"),
    ]
)

MBP = np.dtype(
    [
        *_HEADER,
        ("price", "<i8"),
        ("size", "<u4"),
        ("action", "u1"),
        ("side", "u1"),
        ("flags", "u1"),
        ("depth", "u1"),
        ("ts_recv", "<i8"),
        ("ts_in_delta", "<i4"),
        ("sequence", "<u4"),
        ("levels", _LEVEL, (10,)),
    ]
)
"""Records of trades, mbp-1, tbbo, bbo and mbp-10: they differ in how many levels are there."""

PRICE_UNIT = 1e-9
NO_PRICE = (1 << 63) - 1
RTYPE_MBO = 160
RTYPE_TRADE = 0
RTYPE_MBP = (1, 10)
RTYPE_BBO = (0xC3, 0xC4)
_BARS = (32, 33, 34, 35, 36, 17)
_BOOKS = (*RTYPE_MBP, *RTYPE_BBO)

_PREFIX = 8  # "DBN", version, length of the metadata
_DBZ_AT = 8


class DbnFile:
    """A file's records of one instrument, and what its metadata says whose they are."""

    def __init__(self, item: Item, instrument: Instrument) -> None:
        self.item = item
        self._instrument = instrument
        self._ids: set[int] | None = None  # of our instrument; None where no symbol is told
        self._symbols = self._read_symbols()
        first = next(self._batches(lambda _: None), None)
        if first is None:
            raise DataError(f"{item.label}: the file holds no records")
        data, starts = first
        self.rtypes = set(np.frombuffer(data, np.uint8)[starts + 1].tolist())
        known = {RTYPE_MBO, RTYPE_TRADE, *_BOOKS}
        if not self.rtypes & known:
            if self.rtypes & set(_BARS):
                raise DataError(
                    f"{item.label}: Databento bars (ohlcv) hold no book; fetch mbp-1, mbp-10, tbbo or mbo instead"
                )
            raise DataError(
                f"{item.label}: begins with {len(starts)} records none of which is MBO, MBP, BBO or a trade; "
                "fetch mbp-1, mbp-10, tbbo or mbo"
            )
        if not self.rtypes & {RTYPE_MBO, *_BOOKS}:
            raise DataError(
                f"{item.label}: Databento trades hold no book; fetch tbbo, mbp-1, mbp-10 or mbo of that time"
            )
        dtype = MBO if RTYPE_MBO in self.rtypes else MBP
        records = gather(data, starts, dtype)
        ours = records[self._ours(records)]
        ours = ours[np.isin(ours["rtype"], tuple(known))]
        self.first_ts_ns = int((ours if len(ours) else records)["ts_recv"][0])

    @property
    def mbo(self) -> bool:
        """Whether it tells order by order."""
        return RTYPE_MBO in self.rtypes

    def records(self, dtype: Any, progress: Progress) -> Iterator[tuple[Array, Array]]:
        """Yield at most BATCH records at a time, and which of them are of the instrument."""
        for data, starts in self._batches(progress):
            records = gather(data, starts, dtype)
            yield records, self._ours(records)

    def _ours(self, records: Array) -> Array:
        market = np.isin(records["rtype"], (RTYPE_MBO, RTYPE_TRADE, *_BOOKS))
        ids = records["instrument_id"]
        if self._ids is None:
            found = set(np.unique(ids[market]).tolist())
            unknown = [one for one in found if one not in self._symbols]
            if self._symbols and not unknown:
                mine = {one for one in found if is_of(self._symbols[one], self._instrument)}
                if not mine:
                    raise DataError(
                        not_of(sorted(set(self._symbols.values())), self._instrument, self.item.label)
                    )
                self._ids = {one for one, name in self._symbols.items() if is_of(name, self._instrument)}
                self._one_contract()
            else:
                if len(found) > 1:
                    raise DataError(f"{self.item.label}: holds several instruments; split it by instrument")
                self._ids = found or None
        mine = self._ids or set()
        if not self._symbols and len(set(np.unique(ids[market]).tolist()) - mine) > 0:
            raise DataError(f"{self.item.label}: holds several instruments; split it by instrument")
        return np.isin(ids, sorted(mine))

    def _one_contract(self) -> None:
        names = {self._symbols[one] for one in self._ids or ()}
        if len(names) > 1:
            raise DataError(
                f"{self.item.label}: holds {', '.join(sorted(names)[:5])}, which are several contracts of "
                f"{self._instrument.name}; list one of them under 'symbols' of an instrument of its own"
            )

    def _batches(self, progress: Progress) -> Iterator[tuple[bytes, Array]]:
        """Yield bytes and the places of whole records in them, at most BATCH at a time."""
        with self.item.open(progress) as stream:
            data = _body(stream, self.item.label)
            while True:
                starts, used = find_records(np.frombuffer(data, np.uint8), BATCH)
                if len(starts):
                    yield data, starts
                data = data[used:]
                if len(starts) < BATCH:
                    more = stream.read()
                    if not more:
                        break
                    data += more
        if data:
            raise DataError(f"{self.item.label}: the file is cut off in the middle of a record")

    def _read_symbols(self) -> dict[int, str]:
        """Symbol by instrument id, as far as the metadata tells."""
        stored = self.item.stored_head(1 << 20)
        try:
            if stored[_DBZ_AT : _DBZ_AT + 3] == b"DBZ":
                return _dbz_symbols(stored)
            head = self.item.head(1 << 20)
            return dbn_symbols(head) if head.startswith(b"DBN") else {}
        except (IndexError, ValueError, UnicodeDecodeError, zstandard.ZstdError):
            return {}


def _body(stream: Stream, label: str) -> bytes:
    """Skip the metadata; return what has been read of the records."""
    data = b""
    while True:
        if len(data) >= _PREFIX:
            if not data.startswith(b"DBN"):
                return data
            begin = _PREFIX + int.from_bytes(data[4:8], "little")
            if len(data) >= begin:
                return data[begin:]
        more = stream.read()
        if not more:
            if data and not data.startswith(b"DBN"):
                return data
            raise DataError(f"{label}: the file is cut off in its metadata")
        data += more


def dbn_symbols(head: bytes) -> dict[int, str]:
    """Symbol by instrument id of a DBN file's metadata; empty where ids are not what symbols were mapped to."""
    version = head[3]
    at = _PREFIX + 16 + 2 + 8 + 8 + 8 + (8 if version == 1 else 0)
    stype_out = head[at + 1]
    at += 3
    width = 22
    if version >= 2:
        width = int.from_bytes(head[at : at + 2], "little")
        at += 2
    at = _PREFIX + 92 + 8  # the fixed part is padded to 100 bytes
    definition = int.from_bytes(head[at : at + 4], "little")
    return _mappings(head, at + 4 + definition, width) if stype_out == 0 else {}


def _dbz_symbols(stored: bytes) -> dict[int, str]:
    """The same of a DBZ file: its tables are a zstd frame of their own after 96 fixed bytes."""
    length = int.from_bytes(stored[4:8], "little")
    tables = zstandard.ZstdDecompressor().decompressobj().decompress(stored[8 + 96 : 8 + length])
    definition = int.from_bytes(tables[:4], "little")
    return _mappings(tables, 4 + definition, 22)


def _mappings(data: bytes, at: int, width: int) -> dict[int, str]:
    def number() -> int:
        nonlocal at
        at += 4
        if at > len(data):
            raise IndexError
        return int.from_bytes(data[at - 4 : at], "little")

    def text() -> str:
        nonlocal at
        at += width
        return data[at - width : at].split(b"\0", 1)[0].decode()

    for _ in range(3):  # symbols asked for, found in part, not found
        for _ in range(number()):
            text()
    found: dict[int, str] = {}
    for _ in range(number()):
        name = text()
        for _ in range(number()):
            number(), number()
            number_of = text()
            if number_of.isdigit():
                found[int(number_of)] = name
    return found


@kernel
def find_records(data: Any, most: int) -> Any:
    """Offsets of up to `most` whole records, and the number of bytes they take."""
    starts = np.empty(most, np.int64)
    n = 0
    at: Any = 0
    while n < most and at < len(data):
        length = max(np.int64(data[at]) * 4, 4)
        if at + length > len(data):
            break
        starts[n] = at
        n += 1
        at += length
    return starts[:n], at


def gather(data: bytes, starts: Array, dtype: Any = MBO) -> Array:
    """Records at the offsets, as `dtype`; other record types are padded or cut to its length."""
    size = dtype.itemsize
    raw = np.frombuffer(data + b"\0" * size, np.uint8)
    return raw[starts[:, None] + np.arange(size)].view(dtype).reshape(len(starts)).copy()
