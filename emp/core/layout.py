"""Layouts of records in words, so that bytes of one release can be read by another.

A field is known by its name. Rows of another layout are brought to ours field by field: what they lack is zero, what
we no longer have is left out.
"""

from typing import Any

import numpy as np

from emp.core.columns import columns_of
from emp.core.records import Array


def describe(dtype: np.dtype[Any]) -> dict[str, Any]:
    """A structured dtype as plain values: bytes of a row, and name, kind, shape and offset of each field."""
    fields = [[name, base.str, list(shape), offset] for name, base, shape, offset in columns_of(dtype)]
    return {"bytes": dtype.itemsize, "fields": fields}


def described(words: dict[str, Any]) -> np.dtype[Any]:
    """The dtype of such a description; raises ValueError where it is none."""
    try:
        names, kinds, shapes, offsets = zip(*words["fields"], strict=True)
        formats = [(kind, tuple(shape)) for kind, shape in zip(kinds, shapes, strict=True)]
        fields = {"names": names, "formats": formats, "offsets": offsets, "itemsize": words["bytes"]}
        return np.dtype(fields)  # type: ignore[call-overload]  # the stubs know no dict of lists
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a description of a record: {error}") from error


def without(dtype: np.dtype[Any], names: frozenset[str]) -> np.dtype[Any]:
    """An aligned layout as it was before some fields came."""
    return np.dtype([(name, dtype[name]) for name in dtype.names or () if name not in names], align=True)


def brought_to(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Rows [n] of any layout in ours; raises ValueError where a field of the same name has another shape."""
    if rows.dtype == dtype:
        return rows
    found: Array = np.zeros(len(rows), dtype)
    for name in dtype.names or ():
        if name in (rows.dtype.names or ()):
            if rows.dtype[name].shape != dtype[name].shape:
                raise ValueError(f"{name} had the shape {rows.dtype[name].shape}")
            found[name] = rows[name]
    return found
