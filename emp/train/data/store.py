"""What perception saw of a recording, kept as Parquet: `rows.parquet` of visible events, `cells.parquet` of depth
grids; columns are those of the record dtypes.

    features/RECORDING/KEY/    RECORDING: content of the files; KEY: everything else that a table depends on

Files are written whole or not at all, and their pages carry checksums: what cannot be read as it was written is
seen again. Of one recording the newest table is kept; what nobody has asked for in a month is removed.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.core.numba.cache import mark_used, prune
from emp.core.records import Array
from emp.perception.normalise import INPUT_NAMES
from emp.train.data.table import FeatureTable, room

ROWS, CELLS = "rows.parquet", "cells.parquet"

GROUP = 1 << 16
"""Rows read or written at a time: what is in memory beside the table itself."""

UNUSED_DAYS = 30.0

_INPUT = np.dtype([(name, "f4") for name in INPUT_NAMES])


def load_or_compute(root: Path, recording: str, key: str, make: Callable[[], FeatureTable]) -> FeatureTable:
    """The features of a recording from the cache, or made and put there.

    Args:
        root: folder of all feature tables.
        recording: hash of the recording's content.
        key: hash of all else that the table depends on.
        make: sees the recording.
    """
    folder = root / recording / key
    if folder.is_dir():
        try:
            seen = read_walk(folder)
        except (OSError, pa.ArrowException, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"{folder}: cannot be used, the recording is seen again: {reason}", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
        else:
            mark_used(folder.parent)
            return seen
    seen = make()
    _keep(folder, seen)
    prune(root, UNUSED_DAYS)
    return seen


def write_walk(folder: Path, seen: FeatureTable) -> None:
    """Write a table's two files into a folder."""
    for name, columns in zip((ROWS, CELLS), _views(seen), strict=True):
        n = len(next(iter(columns.values())))
        schema = pa.schema([pa.field(c, pa.from_numpy_dtype(v.dtype), False) for c, v in columns.items()])
        encoding = {
            c: "BYTE_STREAM_SPLIT" if v.dtype.kind == "f" else "DELTA_BINARY_PACKED"
            for c, v in columns.items()
            if v.dtype.kind != "b"
        }
        with (
            (folder / name).open("wb") as raw,
            pq.ParquetWriter(
                raw,
                schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
                column_encoding=encoding,
                write_statistics=False,
                write_page_checksum=True,
            ) as writer,
        ):
            for at in range(0, n, GROUP):
                arrays = [np.ascontiguousarray(v[at : at + GROUP]) for v in columns.values()]
                writer.write_table(pa.table(arrays, schema=schema), row_group_size=GROUP)


def read_walk(folder: Path) -> FeatureTable:
    """Read a table, a group of rows at a time, into the arrays that are returned.

    Raises:
        OSError, pa.ArrowException, ValueError: the files are not what `write_walk` wrote.
    """
    with ExitStack() as opened:
        raw = [opened.enter_context((folder / name).open("rb")) for name in (ROWS, CELLS)]
        return _read([pq.ParquetFile(file, page_checksum_verification=True) for file in raw])


def _read(files: list[pq.ParquetFile]) -> FeatureTable:
    seen = room(*(file.metadata.num_rows for file in files))
    for file, columns in zip(files, _views(seen), strict=True):
        if file.schema_arrow.names != list(columns):
            raise ValueError("other columns than this version writes")
        at = 0
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            for column, view in columns.items():
                view[at : at + len(table)] = table[column].to_numpy()
            at += len(table)
    if int(seen.states["has_depth"].sum()) != len(seen.cells):
        raise ValueError("rows and depth grids do not belong together")
    return seen


def _keep(folder: Path, seen: FeatureTable) -> None:
    """Put a table into the cache in place of older ones; where that fails the work is only done again."""
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        write_walk(scratch, seen)
        scratch.rename(folder)
        for other in folder.parent.iterdir():
            if other != folder and not other.name.startswith("."):
                shutil.rmtree(other, ignore_errors=True)
    except OSError:
        return
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _views(seen: FeatureTable) -> tuple[dict[str, Array], dict[str, Array]]:
    """Columns of the two files as views into a table's arrays, by name."""
    inputs = seen.x.view(_INPUT)[:, 0]
    parts = (("state", seen.states), ("x", inputs), ("row", seen.rows))
    rows = {name: view for prefix, array in parts for name, view in _flat(prefix, array)}
    return rows, dict(_flat("cell", seen.cells))


def _flat(name: str, array: Array) -> Iterator[tuple[str, Array]]:
    """Every scalar of an array's rows as a column: fields by name, elements by number."""
    if array.dtype.names:
        for field in array.dtype.names:
            yield from _flat(f"{name}.{field}", array[field])
    elif array.ndim == 1:
        yield name, array
    else:
        for i in range(array.shape[1]):
            yield from _flat(f"{name}.{i}", array[:, i])
