"""Results that take minutes, kept under the hash of everything they were made from."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emp.core.numba.cache import UNUSED_DAYS, cache_root, mark_used, prune
from emp.core.records import Array

ARRAYS = "arrays.npz"


def content_key(*parts: Any) -> str:
    """Hash of arrays, source files (`Path`) and plain values, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, Path):
            digest.update(part.read_bytes())
        else:
            digest.update(json.dumps(part, sort_keys=True).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def cached(kind: str, key: str, make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """The arrays kept under a key, made now where there are none.

    What nobody used for UNUSED_DAYS is removed. Where the cache cannot be read or written the work is only done again.
    """
    parent = cache_root() / kind
    folder = parent / key
    if found := _read(folder):
        return found
    made = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as scratch:
            written = Path(scratch) / ARRAYS
            np.savez(written, **made)  # type: ignore[arg-type]
            written.rename(folder / ARRAYS)
        prune(parent, UNUSED_DAYS)
    except OSError:
        return made
    return made


def _read(folder: Path) -> dict[str, Array]:
    """The arrays of a folder, which is marked as used; nothing where there are none or they are damaged."""
    try:
        with np.load(folder / ARRAYS) as stored:
            found = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return {}
    mark_used(folder)
    return found
