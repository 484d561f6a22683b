"""Kernels inside kernels: no wrapper and no machine code of their own, the same results, also from the cache."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core import event

from emp.core.numba.hold import hold
from emp.core.numba.inner import TRIED
from emp.core.numba.jit import kernel

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not TRIED, reason="this numba compiles kernels inside kernels its own way")


class Compiled(event.Listener):
    """Libraries that numba made, by the name of their function."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, event: Any) -> None:
        pass

    def on_end(self, event: Any) -> None:
        self.names.append(event.data["dispatcher"].py_func.__name__)


@contextmanager
def compiled() -> Iterator[list[str]]:
    """Names of the functions that are compiled meanwhile."""
    listener = Compiled()
    with event.install_listener("numba:compile", listener):  # type: ignore[no-untyped-call]
        yield listener.names


@kernel
def halve(x: Any) -> Any:
    return x / 2.0


@kernel
def quarter(x: Any) -> Any:
    return halve(halve(x))


@kernel
def fall(n: int) -> int:
    if n <= 0:
        return 0
    return 1 + fall(n - 1)


@kernel
def checked(x: Any, at: int) -> Any:
    if at >= x.size:
        raise IndexError("only", x.size, "here, not", at)
    return x[at]


@kernel
def first_two(x: Any) -> Any:
    return checked(x, 0) + checked(x, 1)


def test_what_a_kernel_calls_is_no_code_of_its_own() -> None:
    assert quarter(8.0) == 2.0
    (whole,) = quarter.overloads.values()  # type: ignore[attr-defined]
    assert type(whole.library).__name__ == "JITCodeLibrary"
    assert not halve.overloads  # type: ignore[attr-defined]


def test_a_kernel_serves_python_and_kernels_side_by_side() -> None:
    assert (halve(3.0), quarter(3.0), halve(5)) == (1.5, 0.75, 2.5)
    assert njit(lambda x: halve(x) + quarter(x))(4.0) == 3.0


def test_a_kernel_may_call_itself() -> None:
    assert fall(5) == 5

    @kernel
    def twice(n: int) -> int:
        return fall(n) + fall(n)

    assert twice(7) == 14


def test_an_error_inside_says_what_it_says_alone() -> None:
    """Its message is made of Python objects, whose place compiled code has to know."""
    assert first_two(np.array([1.0, 2.0])) == 3.0
    for call in (lambda: first_two(np.array([1.0])), lambda: checked(np.array([1.0]), 1)):
        with pytest.raises(IndexError) as told:
            call()
        assert told.value.args == ("only", 1, "here, not", 1)


PROGRAM = """
import numpy as np
from tests.core.test_inner import Compiled, compiled, first_two
with compiled() as names:
    try:
        first_two(np.array([1.0]))
    except IndexError as error:
        print(sorted(set(names)), *error.args)
"""

OTHER = """
import numpy as np
from emp.core.numba.jit import kernel
from tests.core.test_inner import compiled, first_two

@kernel
def third(x):
    return 3.0 * first_two(x)

with compiled() as names:
    try:
        third(np.array([1.0]))
    except IndexError as error:
        print(sorted(set(names)), *error.args)
"""


def test_the_cache_keeps_what_kernels_call(tmp_path: Path) -> None:
    """What one process has compiled inside a kernel, another links into a kernel of its own."""

    def said(program: str) -> str:
        path = tmp_path / f"{abs(hash(program))}.py"
        path.write_text(program)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "EMP_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, path], stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        return done.stdout.strip()

    assert said(PROGRAM) == "['checked', 'first_two'] only 1 here, not 1"
    assert said(PROGRAM) == "[] only 1 here, not 1"
    assert said(OTHER) == "['first_two', 'third'] only 1 here, not 1"


def test_to_hold_compiles_nothing() -> None:
    value = (np.zeros(3), (1, 2.5, True, np.int8(3)), (np.ones(2), np.ones(4)), np.zeros((2, 3), np.int16))
    with compiled() as names:
        hold(value)
    assert names == []


def test_with_another_numba_kernels_are_compiled_as_it_does(tmp_path: Path) -> None:
    """Nothing of its insides is touched: not even what stands beside this module is imported."""
    asked = (
        "import numba, sys; numba.__version__ = '9.9.9'\n"
        "from emp.core.numba.jit import kernel\n"
        "@kernel\ndef one(x): return x + 1\n"
        "@kernel\ndef two(x): return one(one(x))\n"
        "print(two(1), 'emp.core.numba.linked' in sys.modules)\n"
    )
    (tmp_path / "asked.py").write_text(asked)
    told = {**os.environ, "PYTHONPATH": str(ROOT), "EMP_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "asked.py"],
        cwd=tmp_path,
        env=told,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["3", "False"]
