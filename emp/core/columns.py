"""NumPy records as Arrow columns and back, bit by bit; both derived from the dtype.

A vector field becomes a fixed-size list. What a file's columns mean stands in its metadata, under a key of its own.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from emp.core.records import Array

SLICE_ROWS = 1 << 11
"""Rows worked on at a time: they stay in the second-level cache."""

Column = tuple[str, np.dtype[Any], tuple[int, ...], int]
"""Name, base dtype, shape of one value, offset in the row."""


def columns_of(dtype: np.dtype[Any], skip: frozenset[str] = frozenset()) -> list[Column]:
    """The columns of a structured dtype, in order, without those in `skip`."""
    fields = {name: entry[:2] for name, entry in (dtype.fields or {}).items() if name not in skip}
    return [(name, kind.base, kind.shape, offset) for name, (kind, offset) in fields.items()]


def arrow_fields(dtype: np.dtype[Any]) -> list[pa.Field]:
    """One Arrow field per column, none of them nullable."""
    return [pa.field(name, _arrow_type(base, shape), False) for name, base, shape, _ in columns_of(dtype)]


def _arrow_type(base: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    kind = pa.from_numpy_dtype(base)
    return pa.list_(kind, int(np.prod(shape))) if shape else kind


def readable(found: pa.Schema, dtype: np.dtype[Any], needed: frozenset[str]) -> bool:
    """Whether a release has written rows of `dtype` so: columns we know are of our kind, and `needed` are there."""
    ours = {field.name: field.type for field in arrow_fields(dtype)}
    same = all(field.type == ours[field.name] for field in found if field.name in ours)
    return same and needed <= set(found.names)


def to_arrays(rows: Array) -> list[pa.Array]:
    """Structured rows [n] as arrays of `arrow_fields(rows.dtype)`; memory is read once, a slice at a time."""
    columns = columns_of(rows.dtype)
    parts = {name: np.empty((len(rows), *shape), base) for name, base, shape, _ in columns}
    for start in range(0, len(rows), SLICE_ROWS):
        part = rows[start : start + SLICE_ROWS]
        for name, column in parts.items():
            column[start : start + SLICE_ROWS] = part[name]
    arrays = []
    for name, _, shape, _ in columns:
        flat = pa.array(parts[name].reshape(-1))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape))) if shape else flat)
    return arrays


def values_of(column: pa.ChunkedArray) -> Array:
    """Values [n] of a column of numbers without nulls.

    Arrow's own way to NumPy imports pandas, if it is there, which takes longer than to read a day of a few columns.
    """
    chunks = [np.from_dlpack(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def from_table(table: pa.Table, dtype: np.dtype[Any]) -> Array:
    """Inverse of `to_arrays`: the rows [n] of a table with columns of `dtype`, and maybe others; what it lacks is 0."""
    rows: Array = np.zeros(table.num_rows, dtype)
    for name, _, shape, _ in columns_of(dtype):
        if name not in table.column_names:
            continue
        column = table.column(name).combine_chunks()
        values = column.flatten() if shape else column
        rows[name] = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    return rows
