"""Compiled kernels: one decorator, one cache that cannot serve stale code.

Numba's own cache looks only at the file a function stands in, so a kernel would go on running the old body
of a kernel it calls from another file, and globals are frozen. Here each function's cache directory is named
by the hash of its module and of every `emp` module that module imports, directly or not.
"""

import ast
import hashlib
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types

from emp.core.numba.cache import mark_used, prune

CONFIG: Any = numba.config

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = Path(__file__).resolve().parents[2]

UNUSED_DAYS = 7.0
"""Compiled code that no process has used for so long is removed: that of older sources would pile up."""


def cache_root() -> Path:
    """Where compiled code is kept: `EMP_CACHE`, else `.cache` of the checkout, else the user's cache."""
    named = os.environ.get("EMP_CACHE")
    if named:
        return Path(named)
    if (PACKAGE.parent / "pyproject.toml").exists():
        return PACKAGE.parent / ".cache"
    return Path.home() / ".cache" / "emp"


def _module_file(name: str) -> Path | None:
    base = PACKAGE.parent.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


@cache
def _source(path: Path) -> bytes:
    """The file as it was when it was first looked at, which is when it was imported: a file that is edited while
    this process runs must not give its new name to code compiled from the old.
    """
    return path.read_bytes()


@cache
def _imports(path: Path) -> frozenset[Path]:
    """Files of the `emp` modules that the file imports by name, and for a port those that may stand behind it.

    A port (`emp.model.port`) dispatches with `overload` to kernels that register themselves: its callers carry
    their code although nothing that they import names them. They live in the port's own folder.
    """
    found: set[Path] = set()
    if b"@overload(" in _source(path) and path != Path(__file__).resolve():
        found.update(path.parent.glob("*.py"))
    for node in ast.walk(ast.parse(_source(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("emp"):
                file = _module_file(name)
                if file is not None:
                    found.add(file)
    return frozenset(found)


@cache
def closure_hash(path: Path) -> str:
    """Hash of a module's source and of all `emp` sources it can reach by imports."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        here = todo.pop()
        if here not in seen:
            seen.add(here)
            todo.extend(_imports(here))
    digest = hashlib.sha256(f"{numba.__version__} {sys.version_info}".encode())
    for file in sorted(seen):
        digest.update(_source(file))
    return digest.hexdigest()[:16]


@cache
def _usable(folder: Path) -> bool:
    """Whether code can be kept in a folder; the folder is marked as used, and unused ones beside it go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    mark_used(folder)
    _prune_once(folder.parent)
    return os.access(folder, os.W_OK)


@cache
def _prune_once(parent: Path) -> None:
    prune(parent, UNUSED_DAYS)


def kernel(function: F) -> F:
    """Compile a function on first call, without the GIL, in the arithmetic that is written: no fast-math.

    A kernel is compiled into every kernel that calls it, and which of these copies runs depends on what came out
    of the cache and in which order. Where the compiler may contract or reorder, the copies differ in the last
    bit, and so would the first run on a machine and the second.
    """
    path = Path(function.__code__.co_filename).resolve()
    folder = cache_root() / "numba" / closure_hash(path)
    before = CONFIG.CACHE_DIR
    usable = _usable(folder)
    CONFIG.CACHE_DIR = str(folder)
    try:
        compiled = numba.njit(cache=usable, nogil=True, error_model="numpy")(function)
    finally:
        CONFIG.CACHE_DIR = before
    return cast(F, compiled)


_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))
_CLOCK_MONOTONIC = 1


@kernel
def monotonic_ns(scratch: Any) -> int:
    """CLOCK_MONOTONIC in ns, callable inside kernels; `scratch` is an int64[2] that the caller owns."""
    _clock_gettime(_CLOCK_MONOTONIC, scratch.ctypes.data)
    return scratch[0] * 1_000_000_000 + scratch[1]
