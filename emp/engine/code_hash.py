"""What a function of the user's own is named by: its source, and all numbers that it reaches."""

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
from collections.abc import Iterator, Mapping
from importlib.machinery import SourceFileLoader
from io import IOBase
from logging import Handler, Logger, LoggerAdapter
from operator import itemgetter
from pathlib import Path, PurePath
from types import CodeType, ModuleType, NoneType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from emp.core.errors import UsageError
from emp.core.records import Array

_FOREIGN = tuple(
    str(Path(one).resolve()) + os.sep
    for one in {sysconfig.get_path(of) for of in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {*site.getsitepackages(), str(Path(__file__).parents[1])}
)
"""Where code lies that is nobody's own: what it computes is named by releases, not by this hash."""


_PLAIN = (str, bytes, int, float, complex, bool, np.generic, NoneType)
"""What is named by what it is."""

_LOADED: dict[tuple[int, Path], tuple[Any, bytes]] = {}
"""Files as they were when something of them was first named, by what they were loaded as, which is kept."""

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
        room = _room(function)
        return Path(room["__file__"]), room
    return Path(inspect.getsourcefile(function) or ""), function.__globals__


def _room(kind: type) -> Mapping[str, Any]:
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


def _names(code: CodeType) -> Iterator[str]:
    """Names that code uses of what lies outside it, and that comprehensions, lambdas and functions within it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _referred(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function of Python refers to, by name."""
    used = sorted(set(_names(function.__code__)))
    followed: set[int] = set()
    for name, value in _given(function, used):
        yield name, value
        if isinstance(value, ModuleType):
            yield from _of_module(value, used, followed)
    if _is_own(function.__code__.co_filename):
        for module in imported_inside(function):
            yield from _of_module(module, used, followed)


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
    return _is_own(
        spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None)
    )


def is_own_module(module: ModuleType | None) -> bool:
    """Whether a module lies neither in this package nor where Python and what is installed lie."""
    where = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return _is_own(where)


def _is_own(where: str | None) -> bool:
    return where is not None and not str(Path(where).resolve()).startswith(_FOREIGN)


def _refuse_kept(value: Any) -> None:
    """UsageError where numba keeps a function of the user's own: of all that it is compiled with, numbers and what it
    calls in other files, it looks at its own file alone.
    """
    made_by = getattr(value, "_dispatcher", None)
    caches = (getattr(value, "_cache", None), getattr(made_by, "cache", None))
    kept = any(getattr(one, "cache_path", None) for one in caches)
    code = getattr(inspect.unwrap(value), "__code__", None) if kept else None
    if code is not None and _is_own(code.co_filename):
        raise UsageError(
            f"{code.co_name} is compiled with cache=True, and may run as it was before something that it uses was"
            f" edited: leave cache=True out ({Path(code.co_filename).name}, line {code.co_firstlineno})"
        )


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
            where = code.co_filename if isinstance(code, CodeType) else _room(type(value)).get("__file__")
            self.home = Path(where).resolve().parent if where and _is_own(where) else None

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
    return isinstance(value, ModuleType | Logger | LoggerAdapter | Handler | IOBase)


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
        if _is_own(_room(value).get("__file__")):
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
