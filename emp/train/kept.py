"""Results that take minutes, kept under the hash of everything they were made from."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emp.core.jit import cache_root
from emp.core.records import Array


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


def kept(kind: str, key: str, make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """The arrays kept under a key, made now where there are none.

    Where the cache cannot be written the work is only done again the next time.
    """
    path = cache_root() / kind / f"{key}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}
    made = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            written = Path(scratch) / "made.npz"
            np.savez(written, **made)  # type: ignore[arg-type]
            written.rename(path)
    except OSError:
        return made
    return made
