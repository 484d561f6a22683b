"""What a function computes with is part of its name, however it comes by it; the name is the same in every process."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from emp.engine.code_hash import source_hash, values_hash

FILE = """
import functools
import numpy as np
import theirs

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
"""

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
]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "theirs.py").write_text("import numpy as np\nV = np.array([1.0, 2.0])\n")
    (tmp_path / "held_by.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("theirs", "held_by"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import held_by  # type: ignore[import-not-found]

    found: ModuleType = held_by
    return found


@pytest.mark.parametrize("name", HELD)
def test_a_number_that_a_function_reaches_is_part_of_its_hash(mine: Any, name: str) -> None:
    function = getattr(mine, name)
    before = values_hash(function)
    assert values_hash(function) == before
    mine.W[1] += 1.0
    mine.theirs.V[1] += 1.0
    assert values_hash(function) != before


def test_the_hash_is_the_same_in_another_process(mine: Any, tmp_path: Path) -> None:
    code = (
        "import sys, held_by; from emp.engine.code_hash import values_hash\n"
        "print(*[values_hash(getattr(held_by, one)) for one in sys.argv[1:]])"
    )
    done = subprocess.run([sys.executable, "-c", code, *HELD], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [values_hash(getattr(mine, one)) for one in HELD], done.stderr


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
