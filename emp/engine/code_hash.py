"""What a function of the user's own is named by: its source as it was when it was loaded, and whose a module is."""

import contextlib
import dis
import functools
import hashlib
import importlib.util
import inspect
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from emp.core.errors import UsageError

_FOREIGN = tuple(
    str(Path(one).resolve()) + os.sep
    for one in {sysconfig.get_path(of) for of in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {*site.getsitepackages(), str(Path(__file__).parents[1])}
)
"""Where code lies that is nobody's own: what it computes is named by releases, not by this hash."""


_LOADED: dict[tuple[int, Path], tuple[Any, bytes]] = {}
"""Files as they were when something of them was first named, by what they were loaded as, which is kept."""

_BY_NAME = frozenset(("import_module", "__import__"))
"""What imports a module whose name it is given."""

IMPORTED_INSIDE: dict[str, bytes] = {}
"""Modules that were imported for a function that imports them when it is called, and what stood in their files."""

_ROOMS: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()
"""Of classes of modules that are imported no more, what those said of their files."""


def source_hash(function: Any, memory: Any = None) -> str:
    """Of the file that it or its class stands in, as other functions of it may be called; else of its compiled code.

    Raises:
        UsageError: the file is another than the one that was loaded.
    """
    digest = hashlib.sha256(getattr(function, "__qualname__", repr(type(function))).encode())
    try:
        digest.update(_as_loaded(function))
    except (KeyError, OSError, TypeError):
        code = getattr(function, "__code__", None)
        digest.update(b"".join(_code_words(code)) if code else _file_behind(function))
    if isinstance(memory, np.ndarray):
        digest.update(memory.tobytes())
    return digest.hexdigest()


def _as_loaded(function: Any) -> bytes:
    """The file of a function or class as it was when it was loaded; KeyError, OSError or TypeError: there is none."""
    path, room = _written_in(function)
    origin = room.get("__spec__") or room  # a module that is loaded again has another spec
    _, before = _LOADED.get((id(origin), path), (None, b""))
    now = path.read_bytes()
    code = getattr(function, "__code__", None)
    # what changes code as it imports it cannot be held against a file
    if code is None or type(room.get("__loader__")) is not SourceFileLoader:
        found = before or now
    else:
        found = next((one for one in (before, now) if one and _holds(one, code)), b"")
        if not found:
            forget_compiled(path)  # else the next process may load the same again
            raise UsageError(
                f"{path.name} was edited since it was loaded: {code.co_name} is another there; start a new process"
            )
    _LOADED[id(origin), path] = origin, found
    return found


def module_source(module: ModuleType) -> bytes:
    """The file of a module of the user's own as it was when it was first named; nothing of any other."""
    if not is_own_module(module):
        return b""
    path = Path(module.__file__ or "")
    _, before = _LOADED.get((id(module.__spec__ or module), path), (None, b""))
    found = before or content_of(module)
    _LOADED[id(module.__spec__ or module), path] = module.__spec__ or module, found
    return found


def forget_compiled(path: Path) -> None:
    """Remove the compiled copy of a file: of that Python compares size and second alone."""
    with contextlib.suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(str(path))).unlink()


def _file_behind(value: Any) -> bytes:
    """Of what is called like a function the file of its class, or of the function that it passes arguments to."""
    with contextlib.suppress(KeyError, OSError, TypeError):
        return _as_loaded(value.func if isinstance(value, functools.partial) else type(value))
    return b""


def content_of(module: ModuleType) -> bytes:
    """What stands in a module's file; nothing where it is gone, or there is none."""
    try:
        return Path(module.__file__ or "").read_bytes()
    except (OSError, AttributeError):
        return b""


def _written_in(function: Any) -> tuple[Path, Mapping[str, Any]]:
    """The file of a function or class, and the names of its module."""
    if inspect.isclass(function):
        room = room_of(function)
        return Path(room["__file__"]), room
    return Path(inspect.getsourcefile(function) or ""), function.__globals__


def room_of(kind: type) -> Mapping[str, Any]:
    """The names of the module that a class was written in, imported still or not; none where nobody knows."""
    for one in vars(kind).values():
        plain = getattr(one, "fget", None) or getattr(one, "__func__", None) or getattr(one, "py_func", one)
        if inspect.isfunction(plain):
            room = getattr(
                inspect.unwrap(plain), "__globals__", {}
            )  # none where what it wraps is written in C
            if room.get("__name__") == kind.__module__:
                return room
    return _ROOMS.get(kind) or vars(sys.modules.get(kind.__module__, ModuleType("")))


def keep_room(module: ModuleType) -> None:
    """Note where the classes of a module lie, which is about to be imported no more."""
    said = {name: vars(module).get(name) for name in ("__name__", "__file__", "__spec__", "__loader__")}
    waiting = [one for one in vars(module).values() if inspect.isclass(one)]
    while waiting:
        kind = waiting.pop()
        if kind.__module__ == module.__name__ and kind not in _ROOMS:
            _ROOMS[kind] = said
            waiting += [one for one in vars(kind).values() if inspect.isclass(one)]


def _holds(content: bytes, code: CodeType) -> bool:
    return _words_of(code) in _words_in(content, code.co_qualname)


def _words_of(code: CodeType) -> bytes:
    return b"\n".join(_code_words(code))


@functools.lru_cache(maxsize=256)
def _words_in(content: bytes, name: str) -> frozenset[bytes]:
    """The code of each function of a name in a file."""
    try:
        held = [compile(content, "", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return frozenset()
    found = set()
    while held:
        code = held.pop()
        held += [one for one in code.co_consts if isinstance(one, CodeType)]
        if code.co_qualname == name:
            found.add(_words_of(code))
    return frozenset(found)


def _code_words(code: CodeType) -> Iterator[bytes]:
    """What compiled code is, with the functions within it: the same in every process, as no address is in it."""
    yield code.co_code
    yield repr((code.co_names, code.co_freevars, code.co_varnames)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_words(constant)
        elif isinstance(constant, frozenset):  # in another order in every process
            yield repr(sorted(map(repr, constant))).encode()
        else:
            yield repr(constant).encode()


def imported_inside(function: Any) -> Iterator[ModuleType]:
    """Modules of the user's own that the code of a function imports when it is called.

    Raises:
        UsageError: one of them cannot be imported.
    """
    package = function.__globals__.get("__package__") or ""
    for level, names, name in _imports(function.__code__):
        first = (package if level else name).partition(".")[0]
        if not _lies_own(first):
            continue
        known = set(sys.modules)
        try:
            yield __import__(name, {"__package__": package}, None, names or (), level)
        except Exception as error:  # whatever the user's own code raises
            where = f"{Path(function.__code__.co_filename).name}, {function.__code__.co_name}"
            said = (str(error).splitlines() or ["no reason given"])[0]
            raise UsageError(
                f"{where}: imports {name or 'of its package'}, which fails: {type(error).__name__}: {said}"
            ) from error
        finally:
            new = set(sys.modules) - known
            IMPORTED_INSIDE.update((one, content_of(sys.modules[one])) for one in new)


def named_modules(function: Any, given: Sequence[Any]) -> Iterator[tuple[str, bytes]]:
    """Modules of the user's own that a function may import by name, with what stands in their files.

    Where it can import so at all, any word that it holds, or is `given` by what it refers to, may be such a name.
    Nothing is imported for that.
    """
    words = set(_constants(function.__code__)) | {one for one in given if isinstance(one, str)}
    known = {*function.__code__.co_names, *words}
    if _BY_NAME.isdisjoint(known) and not any(one is importlib.import_module for one in given):
        return
    package = str(function.__globals__.get("__package__") or "")
    for word in sorted(words):
        name = package + word if word.startswith(".") and package else word
        content = _content_by_name(name)
        if content:
            yield name, content


def _constants(code: CodeType) -> Iterator[str]:
    """Words in code, and in functions within it."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _constants(constant)


def _content_by_name(name: str) -> bytes:
    """What stands in the file of a module of the user's own, imported or not; nothing where the name is of none."""
    first, *rest = name.split(".")
    if not all(part.isidentifier() for part in (first, *rest)) or not _lies_own(first):
        return b""
    if name in sys.modules:
        return module_source(sys.modules[name])
    spec = importlib.util.find_spec(first)
    if spec is None:
        return b""
    if not rest:
        files = [Path(spec.origin)] if spec.has_location and spec.origin else []
    else:
        below = [Path(where).joinpath(*rest) for where in spec.submodule_search_locations or ()]
        files = [one for where in below for one in (where / "__init__.py", where.with_suffix(".py"))]
    return next((one.read_bytes() for one in files if one.is_file()), b"")


def _imports(code: CodeType) -> Iterator[tuple[int, tuple[str, ...] | None, str]]:
    """What code imports, and functions within it: level, names of `from`, module."""
    steps = [one for one in dis.get_instructions(code) if one.opname not in ("EXTENDED_ARG", "CACHE", "NOP")]
    for level, names, one in zip(steps, steps[1:], steps[2:], strict=False):
        if one.opname == "IMPORT_NAME":
            yield level.argval, names.argval, one.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports(constant)


def _lies_own(name: str) -> bool:
    """Whether a name is that of a module or package of the user's own, imported or not."""
    if name in sys.modules:
        return is_own_module(sys.modules[name])
    spec = importlib.util.find_spec(name) if name else None
    if spec is None:
        return False
    return is_own(
        spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)
    )


def is_own_module(module: ModuleType | None) -> bool:
    """Whether a module lies neither in this package nor where Python and what is installed lie."""
    where = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return is_own(where)


def is_own(where: str | None) -> bool:
    """The same of a file."""
    return where is not None and not str(Path(where).resolve()).startswith(_FOREIGN)
