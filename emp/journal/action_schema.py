"""DECISION rows as Parquet columns and as canonical bytes; both derived from the dtype."""

import json
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa

from emp.core.codes import Action, Reason
from emp.core.records import DECISION, UNHASHED, Array

FORMAT = 1
SLICE_ROWS = 1 << 11
"""Rows worked on at a time: they stay in the second-level cache."""

HEADER_KEY = b"emp.actions"

_CODES: dict[str, type[IntEnum]] = {"action": Action, "reason_code": Reason}


def _columns(skip: frozenset[str] = frozenset()) -> list[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """(name, base dtype, shape of one value, offset in the row) of each column of DECISION."""
    fields = {name: entry[:2] for name, entry in (DECISION.fields or {}).items() if name not in skip}
    return [(name, dtype.base, dtype.shape, offset) for name, (dtype, offset) in fields.items()]


def _spans() -> list[tuple[int, int]]:
    """Byte ranges of a row that are hashed: neighbours joined, padding and UNHASHED columns left out."""
    spans: list[tuple[int, int]] = []
    for _, base, shape, offset in _columns(UNHASHED):
        end = offset + base.itemsize * int(np.prod(shape, dtype=int))
        if spans and spans[-1][1] == offset:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((offset, end))
    return spans


SPANS = _spans()


def canonical_bytes(rows: Array) -> Array:
    """Rows of uint8 to hash, shape (n, hashed bytes per row): row after row, little-endian, no padding."""
    raw = np.ascontiguousarray(rows, DECISION).view(np.uint8).reshape(len(rows), DECISION.itemsize)
    return np.concatenate([raw[:, a:b] for a, b in SPANS], axis=1)


def header(instruments: Sequence[str], model_hashes: Sequence[str]) -> bytes:
    """What the codes in the rows mean; the hash of a log begins with it."""
    columns = [[name, base.str, list(shape)] for name, base, shape, _ in _columns(UNHASHED)]
    facts = {
        "format": FORMAT,
        "columns": columns,
        "instruments": list(instruments),
        "model_hashes": list(model_hashes),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def continues(head: bytes, before: bytes) -> bool:
    """Whether rows under `head` may follow rows under `before`: the same but for models that came later."""
    now, then = json.loads(head), json.loads(before)
    models, known = now.pop("model_hashes"), then.pop("model_hashes")
    return bool(now == then and models[: len(known)] == known)


def models_of(head: bytes) -> list[str]:
    """Hashes of the models that `model_id` indexes."""
    return list(json.loads(head)["model_hashes"])


def schema(head: bytes) -> pa.Schema:
    """Parquet schema: the columns of DECISION, then the names behind its codes."""
    fields = [pa.field(name, _arrow_type(base, shape), False) for name, base, shape, _ in _columns()]
    names = pa.dictionary(pa.int32(), pa.string())
    fields += [pa.field(n, names, True) for n in ("instrument_name", "action_name", "reason", "model_hash")]
    return pa.schema(fields, {HEADER_KEY: head})


def _arrow_type(base: np.dtype[Any], shape: tuple[int, ...]) -> pa.DataType:
    kind = pa.from_numpy_dtype(base)
    return pa.list_(kind, int(np.prod(shape))) if shape else kind


def to_table(rows: Array, head: bytes) -> pa.Table:
    """DECISION rows as a table of `schema(head)`; vectors are fixed-size lists, horizon by horizon."""
    facts = json.loads(head)
    columns = _transposed(rows)
    arrays = []
    for name, _, shape, _ in _columns():
        flat = pa.array(columns[name].reshape(-1))
        arrays.append(pa.FixedSizeListArray.from_arrays(flat, int(np.prod(shape))) if shape else flat)
    arrays.append(_named(columns["instrument"], facts["instruments"]))
    arrays += [_named(columns[column], _code_names(codes)) for column, codes in _CODES.items()]
    arrays.append(_named(columns["model_id"], facts["model_hashes"]))
    return pa.Table.from_arrays(arrays, schema=schema(head))


def _transposed(rows: Array) -> dict[str, Array]:
    """Each column on its own, a slice of rows at a time: memory is read once, not once per column."""
    columns = {name: np.empty((len(rows), *shape), base) for name, base, shape, _ in _columns()}
    for start in range(0, len(rows), SLICE_ROWS):
        part = rows[start : start + SLICE_ROWS]
        for name, column in columns.items():
            column[start : start + SLICE_ROWS] = part[name]
    return columns


def _code_names(codes: type[IntEnum]) -> list[str]:
    return [codes(n).name.lower() if n in codes._value2member_map_ else "" for n in range(max(codes) + 1)]


def _named(codes: Array, names: Sequence[str]) -> pa.Array:
    known = (codes >= 0) & (codes < len(names))
    indices = pa.array(np.where(known, codes, 0).astype(np.int32), mask=~known)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(names), pa.string()))


def from_table(table: pa.Table) -> Array:
    """Inverse of `to_table`, bit by bit."""
    rows = np.zeros(table.num_rows, DECISION)
    for name, _, shape, _ in _columns():
        column = table.column(name).combine_chunks()
        values = column.flatten() if shape else column
        rows[name] = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    return rows
