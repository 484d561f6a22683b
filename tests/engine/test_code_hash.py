"""What a function computes with is part of its name, however it comes by it; the name is the same in every process."""

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import emp
from emp.engine.code_hash import source_hash
from emp.engine.named import load_own
from emp.engine.values_hash import values_hash

FILE = """
import functools
import numba
import numpy as np
import theirs
import package.deep.module
import os, pathlib, random, sys
from os import environ
from random import random as drawn

W = np.array([1.0, 2.0])


def direct(x): return W @ x
def comprehended(x): return sum(W[i] * x[i] for i in range(2))
def in_a_lambda(x): return (lambda y: y * W[0])(x)
def within(x):
    def inner(y): return W[1] * y
    return inner(x)
def by_keyword(x, *, w=W): return w @ x
def of_a_module(x): return theirs.V @ x
def helped(x): return direct(x)


class Called:
    def __call__(self, x): return W @ x


class OfItsClass:
    weights = W
    def __call__(self, x): return self.weights @ x


class Slotted:
    __slots__ = ("w",)
    def __init__(self, w): self.w = w
    def say(self, x): return self.w @ x


class Told:
    def __init__(self, w): self._held, self.name = (lambda: w), "told"
    def __getstate__(self): return {"w": self._held()}
    def __call__(self, x): return self._held() @ x


called, of_its_class, slotted, told = Called(), OfItsClass(), Slotted(W).say, Told(W)
partial = functools.partial(by_keyword, w=W)
objects = np.array([Slotted(np.zeros(1)), Slotted(np.zeros(1)), Slotted(W)], object)
def of_objects(x): return objects[2].w @ x
@numba.vectorize
def each(x): return x * W[1]
def by_each(x): return each(x)
@functools.cache
def weights(): return W[1]
def by_what_is_kept(x): return weights() * x


class OfAProperty:
    @property
    def w(self): return W
    def __call__(self, x): return self.w @ x


of_a_property = OfAProperty()


class Indexed:
    def __getitem__(self, k): return W[k]


indexed = Indexed()
def by_index(x): return indexed[0] * x


def by_package(x): return package.deep.module.V @ x
def imported_in_it(x):
    from beside import V
    return V @ x
def imported_by_another(x):
    def inner(y):
        import package.later as other
        return other.V @ y
    return inner(x)


class Plain:
    def __init__(self, v): self.v = v


several = {Plain(1.0), Plain(2.0), Plain(3.0)}
by_object = {Plain(1.0): W, Plain(2.0): W}
here = pathlib.Path(__file__).parent / "w.npy"
word = str(here)
def of_the_process(x):
    print(os.environ.get("HOME"), environ.get("HOME"), sys.argv, file=sys.stderr)
    return W @ x * drawn() * random.random()
def of_a_set(x): return [one.v for one in several] @ W
def of_keys(x): return by_object
def of_a_path(x): return np.load(here) @ W
def of_a_word(x): return np.load(word) @ W
"""

CHAIN = "\n".join(f"def c{k}(x): return c{k + 1}(x)" for k in range(40)) + "\ndef c40(x): return W @ x\n"
"""Functions of which each calls the next one."""

HELD = [
    "direct",
    "comprehended",
    "in_a_lambda",
    "within",
    "by_keyword",
    "of_a_module",
    "helped",
    "called",
    "of_its_class",
    "slotted",
    "told",
    "partial",
    "of_objects",
    "by_each",
    "by_what_is_kept",
    "of_a_property",
    "by_index",
    "by_package",
    "imported_in_it",
    "imported_by_another",
    "of_the_process",
    "of_a_set",
    "of_keys",
    "of_a_path",
    "of_a_word",
    "c0",
]

MODULES = ("theirs", "beside", "package.deep.module", "package.later")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    lay_out(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("held_by", "package", "package.deep", *MODULES):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import held_by  # type: ignore[import-not-found]

    found: ModuleType = held_by
    return found


def lay_out(folder: Path) -> None:
    """Write the functions' file, and the modules that they use."""
    (folder / "package" / "deep").mkdir(parents=True)
    (folder / "package" / "__init__.py").touch()
    for name in MODULES:
        (folder / f"{name.replace('.', '/')}.py").write_text("import numpy as np\nV = np.array([1.0, 2.0])\n")
    (folder / "held_by.py").write_text(FILE + CHAIN)


@pytest.mark.parametrize("name", HELD)
def test_a_number_that_a_function_reaches_is_part_of_its_hash(mine: Any, name: str) -> None:
    function = getattr(mine, name)
    before = values_hash(function)
    assert values_hash(function) == before
    mine.W[1] += 1.0
    for one in MODULES:
        if one in sys.modules:
            sys.modules[one].V[1] += 1.0
    assert values_hash(function) != before


def test_the_hash_is_the_same_in_another_process(mine: Any, tmp_path: Path) -> None:
    code = (
        "import sys, held_by\n"
        "from emp.engine.code_hash import source_hash\n"
        "from emp.engine.values_hash import values_hash\n"
        "print(*[one(getattr(held_by, name)) for one in (source_hash, values_hash) for name in sys.argv[1:]])"
    )
    lay_out(another := tmp_path / "another" / "folder")
    said = [one(getattr(mine, name)) for one in (source_hash, values_hash) for name in HELD]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, *HELD],
            cwd=another,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "HOME": seed},
        )
        assert done.stdout.split() == said, done.stderr


def test_a_module_that_is_imported_when_it_is_called_is_read_again_where_it_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inside.py").write_text(
        "def f(x, forecast):\n    from aside import side\n    forecast.mean[:] = side()\n"
    )
    hashes = []
    for side in (1.0, 2.0):
        Path("aside.py").write_text(f"def side(): return {side}\n")
        hashes.append(load_own("inside.py:f").load().artifact.hash)
    assert hashes[0] != hashes[1]


BY_NAME = """
import importlib
from importlib import import_module as load
NAME = "aside"
def literal(x, forecast):
    print("setup", "no.such.thing", "beside it")
    forecast.mean[:] = importlib.import_module("aside").side()
def by_global(x, forecast): forecast.mean[:] = importlib.import_module(NAME).side()
def by_default(x, forecast, *, name="aside"): forecast.mean[:] = load(name).side()
def asked_for(x, forecast): forecast.mean[:] = getattr(importlib, "import_module")("aside").side()
def below(x, forecast): forecast.mean[:] = __import__("under.aside", fromlist=[""]).side()
"""


@pytest.mark.parametrize("name", ["literal", "by_global", "by_default", "asked_for", "below"])
def test_a_module_that_is_imported_by_its_name_is_another_where_it_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And nothing is imported to find that out: what lies there may be no part of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("under").mkdir()
    Path("setup.py").write_text("raise SystemExit('it ran')\n")
    Path("by_name.py").write_text(BY_NAME)
    hashes = []
    for side in (1.0, 2.0, 1.0):
        for module in ("aside.py", "under/__init__.py", "under/aside.py"):
            Path(module).write_text(f"def side(): return {side}\n")
        hashes.append(load_own(f"by_name.py:{name}").load().artifact.hash)
    assert hashes[0] == hashes[2] != hashes[1]


HOLDS = """
import aside
class Holds:
    def __init__(self): self.tools = {"aside": aside}
    def __call__(self, x, forecast): forecast.mean[:] = getattr(self.tools["aside"], "side")()
model = Holds()
"""


def test_a_module_that_an_object_holds_is_another_where_it_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("holds.py").write_text(HOLDS)
    hashes = []
    for side in (1.0, 2.0, 1.0):
        Path("aside.py").write_text(f"def side(): return {side}\n")
        hashes.append(load_own("holds.py:model").load().artifact.hash)
    assert hashes[0] == hashes[2] != hashes[1]


def test_an_import_within_a_function_that_fails_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fails.py").write_text("def f(x, forecast):\n    import torn\n    forecast.mean[:] = torn.side()\n")
    Path("torn.py").write_text("1 / 0\n")
    with pytest.raises(emp.UsageError, match=r"fails.py, f: imports torn, which fails: ZeroDivisionError"):
        load_own("fails.py:f").load()


def test_a_class_whose_methods_are_written_in_c_is_named() -> None:
    class Wrapping:
        @functools.wraps(math.sin)
        def sine(self) -> None: ...

    assert values_hash(Wrapping().sine)
    assert values_hash(Wrapping)


def test_which_of_two_is_there_twice_is_part_of_the_hash() -> None:
    a, b = [1.0], [2.0]
    assert len({values_hash(functools.partial(len, one)) for one in ([a, b, a], [a, b, b], [a, a, b])}) == 3


def test_without_a_file_a_function_is_named_by_its_code() -> None:
    def made(text: str) -> Callable[..., Any]:
        room: dict[str, Any] = {"np": np}
        exec(f"def f(x):\n    return [np.{text}(y) for y in x]", room)
        return room["f"]  # type: ignore[no-any-return]

    assert source_hash(made("sin")) == source_hash(made("sin"))
    assert source_hash(made("sin")) != source_hash(made("cos"))


SHAPES = """
class Numbers:
    w = 0.5


class Shape:
    def __init__(self, w): self.w = w
    def __call__(self, x, forecast): forecast.mean[:] = self.w


model, numbers = Shape(1.0), Numbers()


def by_numbers(x, forecast): forecast.mean[:] = numbers.w
"""


@pytest.mark.parametrize("name", ["model", "by_numbers"])
def test_a_hash_stays_when_another_file_was_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shapes.py").write_text(SHAPES)
    Path("of_shapes.py").write_text(f"from shapes import {name} as model\n")
    held = load_own("of_shapes.py:model")
    before = held.load().artifact.hash
    Path("beside_it.py").write_text("def f(x, forecast): forecast.mean[:] = 1.0\n")
    load_own("beside_it.py:f")
    Path("beside_it.py").write_text("def f(x, forecast): forecast.mean[:] = 2.0\n")
    load_own("beside_it.py:f")
    assert held.load().artifact.hash == before
    Path("shapes.py").write_text(SHAPES.replace("w = 0.5", "w = 0.7").replace("Shape(1.0)", "Shape(2.0)"))
    changed = load_own("of_shapes.py:model")
    after = changed.load().artifact.hash
    Path("beside_it.py").write_text("def f(x, forecast): forecast.mean[:] = 3.0\n")
    load_own("beside_it.py:f")
    assert [held.load().artifact.hash, changed.load().artifact.hash] == [before, after]
    assert before != after


KEPT = """
import numba


@numba.njit(cache=True)
def kept(x): return x
@numba.njit
def calling(x, other): kept(1.0)
@numba.vectorize(["f8(f8)"], cache=True)
def of_each(x): return x
@numba.guvectorize(["(f8[:], f8[:])"], "(n)->(n)", cache=True)
def of_all(x, out): out[:] = x
def by_each(x, other): of_each(1.0)
def by_all(x, other): of_all(x)
def through(x, other): calling(x, other)


class Held:
    def __init__(self): self.function = kept
    def __call__(self, x, other): self.function(1.0)


held = Held()


@numba.njit(cache=True)
def itself(x, other): pass
"""


@pytest.mark.parametrize("name", ["calling", "by_each", "by_all", "through", "held"])
def test_what_numba_keeps_is_refused_wherever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Numba would run what it kept, with other numbers than the hash says."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kept_by", raising=False)
    (tmp_path / "kept_by.py").write_text(KEPT)
    import kept_by  # type: ignore[import-not-found]

    function = getattr(kept_by, name)
    why = r"is compiled with cache=True, .*: leave cache=True out \(kept_by.py, line \d+\)"
    with pytest.raises(emp.UsageError, match=why):
        emp.Model(function).load()
    with pytest.raises(emp.UsageError, match=why):
        emp.Rule(function)
    with pytest.raises(emp.UsageError, match=why):
        emp.Model(_says_nothing, features=emp.Features(function, ["one"])).load()
    with pytest.raises(emp.UsageError, match=why):
        emp.Rule(kept_by.itself)
    emp.Model(kept_by.itself).load()  # compiled anew with a look at every index


def _says_nothing(x: Any, forecast: Any) -> None:
    """Say what a forecast is at first."""
