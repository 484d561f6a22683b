"""NumPy records as PostgreSQL's binary COPY, without a loop over rows.

A row of fixed-size columns is itself a NumPy record: 2 bytes with the number of columns, then for each column 4 bytes
with its length and the value, all big-endian; an array value has a head of its own and a length before every element.
Format: PostgreSQL manual, COPY, "Binary Format", and `array_send` of its sources.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.columns import columns_of
from emp.core.records import Array

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: where PostgreSQL's times begin."""


class SqlType(NamedTuple):
    """A scalar type as SQL names it, its OID, and the NumPy type of its wire form."""

    name: str
    oid: int
    wire: str


_INT8, _TIME = SqlType("bigint", 20, ">i8"), SqlType("timestamptz", 1184, ">i8")
TYPES = {
    "b1": SqlType("boolean", 16, "u1"),
    "u1": SqlType("smallint", 21, ">i2"),
    "i1": SqlType("smallint", 21, ">i2"),
    "i4": SqlType("integer", 23, ">i4"),
    "u4": _INT8,
    "i8": _INT8,
    "f4": SqlType("real", 700, ">f4"),
    "f8": SqlType("double precision", 701, ">f8"),
}
"""By kind and size of a NumPy type; an unsigned type takes the next larger one."""


class Column(NamedTuple):
    """A column of a table: where its values come from in a record."""

    name: str
    type: SqlType
    shape: tuple[int, ...]

    @property
    def sql(self) -> str:
        """As CREATE TABLE has it."""
        return f'"{self.name}" {self.type.name}{"[]" * len(self.shape)} NOT NULL'


def table_columns(dtype: np.dtype[Any], skip: frozenset[str] = frozenset()) -> list[Column]:
    """The columns of a table for rows of a dtype, in order."""
    return [
        Column(name, TYPES[f"{base.kind}{base.itemsize}"], shape)
        for name, base, shape, _ in columns_of(dtype, skip)
    ]


def pack_rows(columns: Sequence[Column], values: Sequence[Array], texts: Sequence[str] = ()) -> bytes:
    """Rows [n] as binary COPY has them, without signature and trailer.

    Args:
        columns: of the rows, those of `texts` left out; `values[k]` is [n] or [n, *shape] of column k.
        texts: columns of text before all others, each the same in every row.

    Returns:
        n times the same number of bytes.
    """
    constant = b"".join(len(data).to_bytes(4, "big") + data for data in (one.encode() for one in texts))
    fields: list[tuple[Any, ...]] = [("head", f"S{2 + len(constant)}")]
    for k, column in enumerate(columns):
        fields += [(f"l{k}", ">i4"), (f"v{k}", *_wire(column))]
    packed = np.zeros(len(values[0]), np.dtype(fields))
    heads = packed.view(np.uint8).reshape(len(packed), packed.itemsize)
    head = (len(columns) + len(texts)).to_bytes(2, "big") + constant
    heads[:, : len(head)] = np.frombuffer(head, np.uint8)
    for k, (column, value) in enumerate(zip(columns, values, strict=True)):
        packed[f"l{k}"] = packed.dtype[f"v{k}"].itemsize
        _fill(packed[f"v{k}"], column, value)
    return packed.tobytes()


def _wire(column: Column) -> tuple[Any, ...]:
    if not column.shape:
        return (column.type.wire,)
    size = int(np.prod(column.shape))
    element = np.dtype([("l", ">i4"), ("v", column.type.wire)])
    head = [("ndim", ">i4"), ("nulls", ">i4"), ("oid", ">i4"), ("dims", ">i4", (len(column.shape), 2))]
    return (np.dtype([*head, ("e", element, (size,))]),)


def _fill(field: Array, column: Column, value: Array) -> None:
    if not column.shape:
        field[...] = value
        return
    field["ndim"], field["oid"] = len(column.shape), column.type.oid
    field["dims"] = [(size, 1) for size in column.shape]
    field["e"]["l"] = np.dtype(column.type.wire).itemsize
    field["e"]["v"] = value.reshape(len(value), -1)


def micros(ts_ns: Array) -> Array:
    """Times in ns since 1970 as PostgreSQL sends them: microseconds since 2000, rounded down."""
    return ts_ns // 1000 - EPOCH_US


def pack_objects(rows: Iterable[Sequence[bytes]], width: int) -> bytes:
    """Rows whose values are wire forms already, `width` of them each."""
    parts = []
    for row in rows:
        parts.append(width.to_bytes(2, "big"))
        for value in row:
            parts += [len(value).to_bytes(4, "big"), value]
    return b"".join(parts)


def int8(value: int) -> bytes:
    """A bigint on the wire."""
    return value.to_bytes(8, "big", signed=True)


def timestamptz(ts_ns: int) -> bytes:
    """A time on the wire."""
    return int8(ts_ns // 1000 - EPOCH_US)


TIME = Column("time", _TIME, ())
NUMBER = Column("n", _INT8, ())
