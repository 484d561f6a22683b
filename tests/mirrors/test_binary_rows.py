"""Binary COPY is what PostgreSQL's manual says, read back by a reader of its own."""

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emp.core.records import DECISION, EVENT
from emp.journal.mirror.binary_copy import micros, pack_objects, pack_rows, table_columns, timestamptz

FORMATS = {16: "B", 21: "h", 23: "i", 20: "q", 1184: "q", 700: "f", 701: "d"}


def read_rows(data: bytes) -> list[list[bytes]]:
    """Values of every row, as bytes, column by column."""
    rows, at = [], 0
    while at < len(data):
        (width,) = struct.unpack_from(">h", data, at)
        at, row = at + 2, []
        for _ in range(width):
            (size,) = struct.unpack_from(">i", data, at)
            row.append(data[at + 4 : at + 4 + size])
            assert len(row[-1]) == size
            at += 4 + size
        rows.append(row)
    return rows


def read_array(data: bytes) -> tuple[list[int], int, list]:
    """Shape, OID and elements of an array value."""
    ndim, nulls, oid = struct.unpack_from(">iii", data)
    assert nulls == 0
    shape = [struct.unpack_from(">ii", data, 12 + 8 * k) for k in range(ndim)]
    assert all(bound == 1 for _, bound in shape)
    at, values = 12 + 8 * ndim, []
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        values += struct.unpack_from(f">{FORMATS[oid]}", data, at + 4)
        assert size == struct.calcsize(f">{FORMATS[oid]}")
        at += 4 + size
    return [size for size, _ in shape], oid, values


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_every_column_of_every_record_comes_back(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    for dtype in (EVENT, DECISION):
        rows = np.frombuffer(rng.bytes(n * dtype.itemsize), dtype).copy()
        for name in dtype.names or ():
            if rows[name].dtype == bool:
                rows[name] = rng.integers(0, 2, rows[name].shape)
        columns = table_columns(dtype)
        assert [column.name for column in columns] == list(dtype.names or ())
        found = read_rows(pack_rows(columns, [rows[one.name] for one in columns], ["ä", ""]))
        assert len(found) == n
        for row, (first, second, *values) in zip(rows, found, strict=True):
            assert (first, second) == ("ä".encode(), b"")
            for column, value in zip(columns, values, strict=True):
                ours = row[column.name]
                if column.shape:
                    shape, oid, elements = read_array(value)
                    assert (tuple(shape), oid) == (column.shape, column.type.oid)
                    there = np.array(elements, ours.dtype).reshape(shape)
                    assert there.tobytes() == ours.tobytes() or np.array_equal(there, ours, equal_nan=True)
                else:
                    (there,) = struct.unpack(f">{FORMATS[column.type.oid]}", value)
                    assert there == ours or (there != there and ours != ours)


def test_times_count_microseconds_from_2000() -> None:
    ns = 946_684_800_000_000_000
    assert micros(np.array([ns, ns + 1999, ns - 1])).tolist() == [0, 1, -1]
    assert timestamptz(ns + 5_000) == (5).to_bytes(8, "big")
    assert read_rows(pack_objects([[timestamptz(ns - 1), b"x"]], 2)) == [[b"\xff" * 8, b"x"]]
