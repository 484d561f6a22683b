"""Compiled kernels: one decorator, one cache that cannot serve stale code.

Numba's own cache looks only at the file a function stands in, so a kernel would go on running the old body
of a kernel it calls from another file, and globals are frozen. Here each function's cache directory is named
by the hash of its module and of every `emp` module that module imports, directly or not.
"""

import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core.caching import FunctionCache

from emp.core.numba.cache import PACKAGE, UNUSED_DAYS, cache_root, last_use_ns, mark_used, prune, unusable
from emp.core.numba.inner import TRIED, InnerCache, inner
from emp.core.platform import CLOCK_MONOTONIC, say, wait_for_lock

CONFIG: Any = numba.config

_ONE_AT_A_TIME = threading.Lock()

INSIDE = "inner"
"""Within the folder of a module: what other kernels link of its kernels."""

_GAP = r"(?:[ \t]|\\\n)"
_REST = r"(?:[^\n\\]|\\\n)*"
_IMPORT = re.compile(
    rf"(?:^|[:;])[ \t]*(?:from{_GAP}+(emp(?:\.\w+)*){_GAP}+import{_GAP}*(\((?:[^)#]|#[^\n]*)*\)|{_REST})"
    rf"|import{_GAP}+({_REST}\bemp\b{_REST}))",
    re.MULTILINE,
)
_NAME = re.compile(r"\w+(?:\.\w+)*")
_COMMENT = re.compile(r"#[^\n]*")

F = TypeVar("F", bound=Callable[..., Any])


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
    their code although nothing that they import names them.
    """
    found: set[Path] = set()
    if b"@overload(" in _source(path) and path != Path(__file__).resolve():
        found.update(_registered(path))
    found.update(file for name in imported_names(_source(path)) if (file := _module_file(name)))
    return frozenset(found)


def imported_names(source: bytes) -> set[str]:
    """Names that a source imports from `emp`, of modules and of what stands in them, some of which are modules.

    Found by their words: to parse the hundred and fifty files of the engine takes half as long again as its start.
    A docstring with an import in it adds a name, which only makes a hash of more than is needed.
    """
    found: set[str] = set()
    for match in _IMPORT.finditer(source.decode()):
        module, names, plain = match.groups()
        if plain:
            found.update(name for name in _NAME.findall(plain) if name.startswith("emp"))
        else:
            found.add(module)
            found.update(f"{module}.{name}" for name in _NAME.findall(_COMMENT.sub("", names)))
    return found


def _registered(port: Path) -> Iterator[Path]:
    """Files that import a port's `register`, wherever they stand."""
    line = b"from " + ".".join(port.relative_to(PACKAGE.parent).with_suffix("").parts).encode() + b" import "
    wanted = re.compile(rb"^" + re.escape(line) + rb"[^\n(]*(\([^)]*)?\bregister\b", re.MULTILINE)
    for file in sorted(PACKAGE.rglob("*.py")):
        source = _source(file)
        if line in source and wanted.search(source):
            yield file


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


def _prepared(folder: Path) -> bool:
    """Whether code can be kept in a folder; it is marked as used, and unused ones beside it go."""
    parent = folder.parent
    last_use = _last_use_ns(parent)  # before this process marks anything
    if why_not := _unusable(parent.parent):  # root may write another user's folder, and must not run his code
        _cannot_be_kept(parent, why_not)
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _cannot_be_kept(parent, _why(error))
        return False
    mark_used(folder)
    _prune_once(parent, last_use)
    return True


_last_use_ns = cache(last_use_ns)
_unusable = cache(unusable)


@cache
def _prune_once(parent: Path, last_use: int) -> None:
    prune(parent, UNUSED_DAYS, last_use)


@cache
def _say_once(line: str) -> None:
    say(line)


def _why(error: Exception) -> str:
    strerror = error.strerror if isinstance(error, OSError) else ""
    return (strerror or str(error) or type(error).__name__).lower()


def _cannot_be_kept(folder: Path, why: str) -> None:
    _say_once(
        f"emp: compiled code cannot be kept in {folder} ({why}): every start compiles for about a minute;"
        " free the disk, or set EMP_CACHE to another folder"
    )


class _Kept:
    """Numba's cache of one function. Where it fails, that costs a compilation and a line, never the call.

    The folder is named by the content of the sources, so their times say nothing: those of a checkout, an image or
    a wheel differ where the sources are the same. Numba keeps code of several CPUs beside each other.
    """

    def __init__(self, numbas: Any, folder: Path) -> None:
        self._numbas = numbas
        self._folder = folder
        numbas._cache_file._source_stamp = folder.name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numbas, name)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function, None where there is none that can be read; a damaged index is emptied."""
        try:
            return self._numbas.load_overload(signature, target)
        except Exception:  # whatever the remains of a full disk or a crash make pickle raise
            with suppress(OSError):  # then the save says so
                self._numbas.flush()
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function, or say that it cannot be kept.

        Numba reads the index of a function, names a file after the number of its entries, and writes both: of two
        processes that do so at once, one would give its index the other's code.
        """
        try:
            with self._alone():
                self._numbas.save_overload(signature, compiled)
        except OSError as error:
            _cannot_be_kept(self._folder.parent, _why(error))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other process writes to the folder, where its disk knows locks; one that has gone is made again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with suppress(OSError):
                wait_for_lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def is_kept(self) -> bool:
        """Whether the function was compiled for some arguments, on some CPU."""
        return Path(self._numbas._cache_file._index_path).exists()


def kernel(function: F) -> F:
    """Compile a function on first call, without the GIL, in the arithmetic that is written: no fast-math.

    A kernel is compiled into every kernel that calls it, and which of these copies runs depends on what came out
    of the cache and in which order. Where the compiler may contract or reorder, the copies differ in the last
    bit, and so would the first run on a machine and the second.
    """
    return _compiled(function, False)


def is_kept(function: Any) -> bool:
    """Whether code of a kernel is in the cache, for whatever arguments and CPU."""
    return can_be_kept(function) and function._cache.is_kept()


def can_be_kept(function: Any) -> bool:
    """Whether there is a cache for a kernel."""
    return isinstance(function._cache, _Kept)


def inlined(function: F) -> F:
    """A `kernel` whose body is copied into its callers, whatever the compiler thinks of its size.

    A call between kernels saves registers, passes a status and goes through a pointer, some 10 cycles; a loop over
    millions of messages with three calls for each loses a quarter to them. For small functions of few callers:
    every copy is compiled again.
    """
    return _compiled(function, True)


def _compiled(function: F, inline: bool) -> F:
    """A kernel that Python may call, which hands those that call it in compiled code to one of their own."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": inline}
    compiled: Any = numba.njit(**options)(function)
    folder = cache_root() / "numba" / closure_hash(Path(function.__code__.co_filename).resolve())
    _keep(compiled, FunctionCache, folder, folder)
    if not TRIED:
        return cast(F, compiled)

    @cache
    def of_kernels() -> Any:
        inside = inner(function, **options)
        _keep(inside, InnerCache, folder, folder / INSIDE)
        inside._compiling_counter = compiled._compiling_counter  # numba asks it whether a call is recursive
        return inside

    compiled.get_call_template = lambda args, kws: of_kernels().get_call_template(args, kws)
    compiled.get_overload = lambda signature: of_kernels().get_overload(signature)
    return cast(F, compiled)


def _keep(compiled: Any, kind: Any, folder: Path, at: Path) -> None:
    """Let a folder keep what is compiled of a function, in numba's cache or ours, at a place within it."""
    if not _prepared(folder):
        return
    try:
        numbas = _cache_at(kind, compiled.py_func, at)
        if not Path(numbas.cache_path).is_relative_to(folder):  # numba took another for lack of this
            raise OSError(f"{folder} cannot be written")
        compiled._cache = _Kept(numbas, folder)
    except (OSError, RuntimeError) as error:
        _cannot_be_kept(folder.parent, _why(error))


def _cache_at(kind: Any, function: Any, at: Path) -> Any:
    """Numba's cache of a function in a folder. It looks for the folder in a variable of the process, and threads
    import and compile beside one another.
    """
    with _ONE_AT_A_TIME:
        before = CONFIG.CACHE_DIR
        CONFIG.CACHE_DIR = str(at)
        try:
            return kind(function)
        finally:
            CONFIG.CACHE_DIR = before


_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))


@kernel
def monotonic_ns(scratch: Any) -> int:
    """CLOCK_MONOTONIC in ns, callable inside kernels; `scratch` is an int64[2] that the caller owns."""
    _clock_gettime(CLOCK_MONOTONIC, scratch.ctypes.data)
    return scratch[0] * 1_000_000_000 + scratch[1]
