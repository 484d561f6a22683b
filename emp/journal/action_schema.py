"""DECISION rows as Parquet columns and as canonical bytes; both derived from the dtype."""

import json
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import pyarrow as pa

from emp.core.codes import Action, Reason
from emp.core.columns import arrow_fields, columns_of, readable, to_arrays
from emp.core.columns import from_table as rows_of
from emp.core.records import DECISION, UNHASHED, Array

FORMAT = 1
ALWAYS = frozenset(
    (
        "ts",
        "seq",
        "instrument",
        "action",
        "reason_code",
        "edge_ticks",
        "cost_to_take",
        "inventory",
        "model_id",
    )
)
"""Columns without which rows are no action log."""

HEADER_KEY = b"emp.actions"

_CODES: dict[str, type[IntEnum]] = {"action": Action, "reason_code": Reason}


def _spans() -> list[tuple[int, int]]:
    """Byte ranges of a row that are hashed: neighbours joined, padding and UNHASHED columns left out."""
    spans: list[tuple[int, int]] = []
    for _, base, shape, offset in columns_of(DECISION, UNHASHED):
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
    columns = [[name, base.str, list(shape)] for name, base, shape, _ in columns_of(DECISION, UNHASHED)]
    facts = {
        "format": FORMAT,
        "columns": columns,
        "instruments": list(instruments),
        "model_hashes": list(model_hashes),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def continues(head: bytes, before: bytes) -> bool:
    """Whether rows under `head` may follow rows under `before`: of the same instruments, and of the same models but for
    those that came later. Another release may have logged other columns.
    """
    now, then = json.loads(head), json.loads(before)
    models, known = now["model_hashes"], then["model_hashes"]
    return bool(now["instruments"] == then["instruments"] and models[: len(known)] == known)


def is_action_log(found: pa.Schema) -> bool:
    """Whether a file's columns are an action log's, of this release or of an earlier one."""
    try:
        facts = json.loads((found.metadata or {})[HEADER_KEY])
    except (KeyError, ValueError):
        return False
    return facts.get("format") == FORMAT and readable(found, DECISION, ALWAYS)


def models_of(head: bytes) -> list[str]:
    """Hashes of the models that `model_id` indexes."""
    return list(json.loads(head)["model_hashes"])


def schema(head: bytes) -> pa.Schema:
    """Parquet schema: the columns of DECISION, then the names behind its codes."""
    fields = arrow_fields(DECISION)
    names = pa.dictionary(pa.int32(), pa.string())
    fields += [pa.field(n, names, True) for n in ("instrument_name", "action_name", "reason", "model_hash")]
    return pa.schema(fields, {HEADER_KEY: head})


def to_table(rows: Array, head: bytes) -> pa.Table:
    """DECISION rows as a table of `schema(head)`; vectors are fixed-size lists, horizon by horizon."""
    facts = json.loads(head)
    arrays = to_arrays(rows)
    arrays.append(_named(rows["instrument"], facts["instruments"]))
    arrays += [_named(rows[column], _code_names(codes)) for column, codes in _CODES.items()]
    arrays.append(_named(rows["model_id"], facts["model_hashes"]))
    return pa.Table.from_arrays(arrays, schema=schema(head))


def _code_names(codes: type[IntEnum]) -> list[str]:
    return [codes(n).name.lower() if n in codes._value2member_map_ else "" for n in range(max(codes) + 1)]


def _named(codes: Array, names: Sequence[str]) -> pa.Array:
    known = (codes >= 0) & (codes < len(names))
    indices = pa.array(np.where(known, codes, 0).astype(np.int32), mask=~known)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(names), pa.string()))


def from_table(table: pa.Table) -> Array:
    """Inverse of `to_table`, bit by bit; what an earlier release did not log yet is zero."""
    return rows_of(table, DECISION)
