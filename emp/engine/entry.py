"""Functions of the user's own at addresses that compiled code calls, and what to say where one fails.

A plain function goes on in Python (some microseconds a call), one of `numba.njit` stays compiled (some nanoseconds).
"""

import ctypes
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.misspelt import misspelt_field, place_compiled

LAZY = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
"""Functions that do nothing when they are called."""

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_COMPILED_ENTRY = types.int32(types.intp, types.intp, types.intp)

carray: Any = numba.carray  # type: ignore[attr-defined]


def _as_pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), code


pointer: Any = intrinsic(_as_pointer)


def compile_entry(whose: str, entry: Callable[[int, int, int], int]) -> Any:
    """A compiled entry point of three words; UsageError in one line where the function cannot be compiled.

    Args:
        whose: as errors call it, "rule mine".
    """
    try:
        return numba.cfunc(_COMPILED_ENTRY)(entry)
    except Exception as error:  # numba raises errors of its own insides too
        wrong = misspelt_field(error)
        if wrong:
            place = place_compiled(error)
            raise UsageError(f"{whose}: {wrong}{place and f' ({place})'}") from None
        raise UsageError(
            f"{whose} cannot be compiled: {_first_cause(error)}; without numba.njit it runs in Python"
        ) from None


def address_of(entry: Any) -> int:
    """Where an entry point lies, compiled or not."""
    return int(getattr(entry, "address", 0) or ctypes.cast(entry, ctypes.c_void_p).value or 0)


def record_at(address: int, dtype: Any) -> Any:
    """The record at an address, its fields as attributes."""
    return _room(address, dtype.itemsize, dtype).view(np.recarray)[0]


def numbers_at(address: int, n: int) -> Array:
    """float64[n] at an address."""
    return _room(address, 8 * n, np.float64)


def _room(address: int, size: int, dtype: Any) -> Array:
    room: Any = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(room, dtype)


def arguments(function: Any, whose: str, *shapes: str) -> int:
    """How many arguments a function takes.

    Args:
        whose: as errors call it, "rule mine".
        shapes: what it may take, "(seen, request)".

    Raises:
        UsageError: it is no function, would never be run, or takes what it is not given.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise UsageError(f"{whose}: is no function") from None
    call = function if inspect.isroutine(function) else type(function).__call__
    if any(lazy(call) for lazy in LAZY):
        raise UsageError(
            f"{whose}: is a generator or async, and would never be run: leave yield and async out"
        )
    takes = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if takes not in [one.count(",") + 1 for one in shapes]:
        raise UsageError(f"{whose}: takes {takes} arguments, not {' or '.join(shapes)}")
    return takes


def why(error: BaseException | None) -> str:
    """What a function raised, and at which line of its own file; None: in compiled code, which does not say."""
    if error is None:
        return "it raised an error; without numba.njit the error can be seen"
    here, *frames = traceback.extract_tb(error.__traceback__)
    frames = frames or [here]  # it could not even be called
    # the innermost line of the function's own file: what it called knows nothing of it
    last = next((f for f in reversed(frames) if f.filename == frames[0].filename), frames[-1])
    said = [misspelt_field(error) or line for line in str(error).splitlines()]
    text = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
    return f"{text} ({Path(last.filename).name}, line {last.lineno})"


def _first_cause(error: Exception) -> str:
    """The lines of numba's message that a reader can act on, as one."""
    if not isinstance(error, NumbaError):
        return f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next(
        (line for line in lines if not line.startswith(("Failed in", "No implementation of"))), lines[0]
    )
    where = [line.split("File ", 1)[1].rstrip(":") for line in lines if line.startswith("File ")]
    theirs = [place for place in where if "emp/engine/own" not in place]
    place = place_compiled(error) if not theirs else theirs[-1]
    return f"{said} ({place})" if place else said
