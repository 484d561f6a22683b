"""All numbers that a function of the user's own reaches: it is another one where any of them is another."""

import contextlib
import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from io import IOBase
from logging import Handler, Logger, LoggerAdapter
from operator import itemgetter
from pathlib import Path, PurePath
from types import CodeType, ModuleType, NoneType
from typing import Any

import numpy as np

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.code_hash import (
    imported_inside,
    is_own,
    is_own_module,
    module_source,
    named_modules,
    room_of,
    source_hash,
)

_PLAIN = (str, bytes, int, float, complex, bool, np.generic, NoneType)
"""What is named by what it is."""


def values_hash(function: Any) -> str:
    """Of the numbers, words and arrays that a function refers to, directly or as parts of something, and of the files
    of functions among them: weights may have been read from a file that its source only names.

    Raises:
        UsageError: a file is another than the one that was loaded, or numba keeps what it compiles of a function.
    """
    return _digest(function, _Walk())


def _digest(value: Any, walk: "_Walk") -> str:
    digest = hashlib.sha256()
    for word in _words(value, walk):
        digest.update(word)
    return digest.hexdigest()


class _Walk:
    """Where a walk through what a function reaches is.

    Attributes:
        known: what was there before by its id, with its number; it is kept, so that no id comes again.
        home: the folder of the first file of the user's own that it came to: what lies below it is named from there.
        process: what belongs to the process, by its id: it is another in each.
    """

    def __init__(self, known: Mapping[int, tuple[int, Any]] | None = None, home: Path | None = None) -> None:
        self.known = dict(known or {})
        self.home = home
        self.process = {id(one) for one in (os.environ, *vars(sys).values(), *_unseeded())}

    def note(self, value: Any) -> None:
        """Count a value that has not been there."""
        self.known[id(value)] = len(self.known), value
        if self.home is None:
            code = getattr(value, "__code__", None)
            where = code.co_filename if isinstance(code, CodeType) else room_of(type(value)).get("__file__")
            self.home = Path(where).resolve().parent if where and is_own(where) else None

    def order(self, value: Any) -> str:
        """What a key of a mapping or a member of a set is sorted by: no address, nor anything of the process."""
        if isinstance(value, _PLAIN):
            return str(value)
        return _digest(value, _Walk(self.known, self.home))

    def placed(self, path: PurePath) -> str:
        """A path as it is called wherever the user's files lie."""
        if not path.is_absolute():
            return path.as_posix()
        below = self.home is not None and path.is_relative_to(self.home)
        return path.relative_to(self.home or "").as_posix() if below else path.name


def _words(value: Any, walk: _Walk) -> Iterator[bytes]:
    """What is plain in a value, in an order that is the same in every process."""
    waiting = [iter([("", value)])]
    while waiting:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            continue
        name, one = following
        yield name.encode()
        array = _array(one)
        if array is not None:
            yield f"{array.dtype.str} {array.shape}".encode()
            yield np.ascontiguousarray(array).tobytes()
        elif isinstance(one, _PLAIN):
            yield f"{type(one).__name__} {_unplaced(one, walk)!r}".encode()
        elif id(one) in walk.known:
            yield f"again {walk.known[id(one)][0]}".encode()
        elif isinstance(one, ModuleType):
            yield module_source(one)
        elif not _is_heard(one) and id(one) not in walk.process:
            walk.note(one)
            waiting.append(_inside(one, walk))


def _unplaced(value: Any, walk: _Walk) -> Any:
    """The same; a word that is the path of a file beside the user's own, from there."""
    if isinstance(value, str) and walk.home is not None and value.startswith(str(walk.home)):
        return walk.placed(PurePath(value))
    return value


def _unseeded() -> Iterator[Any]:
    """What a process draws from where nobody gave it a seed."""
    yield getattr(sys.modules.get("random"), "_inst", None)
    yield getattr(np.random.random, "__self__", None)


def _is_heard(value: Any) -> bool:
    """Whether a value is nothing by itself, or belongs to who listens to a log or reads a file: it computes nothing."""
    return isinstance(value, Logger | LoggerAdapter | Handler | IOBase)


def _array(value: Any) -> Array | None:
    """A value as an array of numbers, where it is one of NumPy, torch or the like."""
    if inspect.isclass(value) or not hasattr(value, "__array__") or isinstance(value, np.generic):
        return None
    with contextlib.suppress(Exception):  # whatever somebody else's array cannot do
        found = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        return None if found.dtype.hasobject else found
    return None


def _inside(value: Any, walk: _Walk) -> Iterator[tuple[str, Any]]:
    """What a value consists of, by name."""
    if callable(value):
        _refuse_kept(value)
    if isinstance(value, PurePath):
        yield "path", walk.placed(value)
    elif isinstance(value, Mapping):
        yield from (
            (name, value[key]) for name, key in sorted(((walk.order(k), k) for k in value), key=itemgetter(0))
        )
    elif isinstance(value, list | tuple):
        yield from ((str(k), one) for k, one in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from (("", one) for one in sorted(value, key=walk.order))
    elif isinstance(value, np.ndarray):  # of objects
        yield "shape", str(value.shape)
        yield from ((str(k), one) for k, one in enumerate(value.flat))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif inspect.isclass(value):
        if is_own(room_of(value).get("__file__")):
            yield "source", source_hash(value)
            yield from _of_class(value)
    elif inspect.isroutine(value) or _by_numba(value):
        plain = value.__wrapped__ if _by_numba(value) else value
        yield "self", getattr(plain, "__self__", None)
        plain = getattr(plain, "__func__", plain)
        if hasattr(plain, "__code__"):
            yield "source", source_hash(plain)
            yield from _referred(plain)
        elif hasattr(plain, "__wrapped__"):  # by `functools.cache`, which is written in C
            yield "wrapped", plain.__wrapped__
    elif isinstance(value, property):
        yield from (("get", value.fget), ("set", value.fset), ("delete", value.fdel))
    else:
        yield from _of_object(value)


def _by_numba(value: Any) -> bool:
    """Whether a value is a function that numba compiles, of whatever kind."""
    return type(value).__module__.startswith("numba.") and inspect.isfunction(
        getattr(value, "__wrapped__", None)
    )


def _refuse_kept(value: Any) -> None:
    """UsageError where numba keeps a function of the user's own: of all that it is compiled with, numbers and what it
    calls in other files, it looks at its own file alone.
    """
    made_by = getattr(value, "_dispatcher", None)
    caches = (getattr(value, "_cache", None), getattr(made_by, "cache", None))
    kept = any(getattr(one, "cache_path", None) for one in caches)
    code = getattr(inspect.unwrap(value), "__code__", None) if kept else None
    if code is not None and is_own(code.co_filename):
        raise UsageError(
            f"{code.co_name} is compiled with cache=True, and may run as it was before something that it uses was"
            f" edited: leave cache=True out ({Path(code.co_filename).name}, line {code.co_firstlineno})"
        )


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds: its own, its class's, and, of what is written in C, what it tells pickle alone."""
    said = getattr(value, "__dict__", {})
    own = said if isinstance(said, Mapping) else {}
    yield from sorted(own.items())
    yield "class", type(value)
    tells = getattr(type(value), "__getstate__", None)
    if not own or tells is not getattr(object, "__getstate__", None):
        with contextlib.suppress(Exception):
            yield "state", value.__getstate__()


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class of the user's own gives its objects, with what it inherits of others of his own."""
    for name, one in sorted(vars(kind).items()):
        if not name.startswith("__") or inspect.isfunction(one):
            yield name, one
    yield from ((f"base {k}", base) for k, base in enumerate(kind.__bases__))


def _referred(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function of Python refers to, by name."""
    used = sorted(set(_names(function.__code__)))
    followed: set[int] = set()
    given = list(_given(function, used))
    for name, value in given:
        yield name, value
        if isinstance(value, ModuleType):
            yield from _of_module(value, used, followed)
    if is_own(function.__code__.co_filename):
        yield from named_modules(function, [value for _, value in given])
        for module in imported_inside(function):
            yield from _of_module(module, used, followed)


def _names(code: CodeType) -> Iterator[str]:
    """Names that code uses of what lies outside it, and that comprehensions, lambdas and functions within it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _given(function: Any, used: list[str]) -> Iterator[tuple[str, Any]]:
    """What names of a function stand for that it does not make itself."""
    yield from ((name, function.__globals__[name]) for name in used if name in function.__globals__)
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        with contextlib.suppress(ValueError):  # not yet given
            yield name, cell.cell_contents
    yield from ((f"default {k}", one) for k, one in enumerate(function.__defaults__ or ()))
    yield from sorted((function.__kwdefaults__ or {}).items())
    yield "self", getattr(function, "__self__", None)


def _of_module(module: ModuleType, used: list[str], followed: set[int]) -> Iterator[tuple[str, Any]]:
    """What may be meant by `module.NAME`, and by `package.module.NAME`: all of a module of the user's own, of another
    what is data.

    Args:
        followed: modules by their id that are done.
    """
    own = is_own_module(module)
    if id(module) in followed or (not own and _of_python(module)):
        return
    followed.add(id(module))
    for name in used:
        value = getattr(module, name, None)
        if own and isinstance(value, ModuleType):
            yield from _of_module(value, used, followed)
        elif value is not None and (own or not (callable(value) or isinstance(value, ModuleType))):
            yield f"{module.__name__}.{name}", value


def _of_python(module: ModuleType) -> bool:
    """Whether a module is Python's: what it holds is the release's or the process's."""
    return module.__name__.partition(".")[0] in sys.stdlib_module_names
