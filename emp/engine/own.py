"""Bring a function of the user's into the compiled path as its rule (`emp.decision.own`).

    rule = make_rule(function)                 # goes on in Python at every event: some microseconds
    rule = make_rule(numba.njit(function))     # compiled: some nanoseconds
    rule.attach(engine)

A function that fails stops the run: `check` raises what it failed with, in one line.
"""

import copy
import ctypes
import hashlib
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from emp.core.book import MAX_TICKS
from emp.core.codes import Action
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.decision import requests as _requests  # noqa: F401  numba must know them before it compiles a rule
from emp.decision.own import ANSWERED, OBSERVATION, RAISED, REQUEST, OwnRule, own_rule
from emp.engine.engine import Engine
from emp.engine.misspelt import misspelt_field, place_compiled

LAZY = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
"""Functions that do nothing when they are called."""

_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_COMPILED_ENTRY = types.int32(types.intp, types.intp, types.intp)


class Rule:
    """A function as a rule: `function(seen, request)`, or `function(seen, request, mine)` with memory of its own.

    Attributes:
        name: as it is called in pages and records.
        hash: of its source; a function that is changed is another rule.
        compiled: whether it stays in compiled code.
        memory: what is passed as `mine`: for a compiled rule an array, kept in checkpoints; None where it takes none.
    """

    def __init__(self, function: Callable[..., Any], memory: Any = None, name: str | None = None) -> None:
        plain = function.py_func if isinstance(function, Dispatcher) else function
        self._function, self._first_memory = function, copy.deepcopy(memory)
        self.name = name or str(getattr(plain, "__name__", type(plain).__name__))
        self.compiled = isinstance(function, Dispatcher)
        self.memory = memory
        self.hash = _source_hash(plain, memory)
        self._raised: BaseException | None = None
        self._params: OwnRule | None = None
        takes = _arguments(plain, self.name)
        if takes == 3 and memory is None:
            raise UsageError(f"rule {self.name}: takes memory of its own, and none is given (memory=)")
        if takes == 2 and memory is not None:
            raise UsageError(f"rule {self.name}: memory is given, and it takes (seen, request) only")
        if self.compiled and memory is not None and not isinstance(memory, np.ndarray):
            raise UsageError(f"rule {self.name}: the memory of a compiled rule is a NumPy array")
        # kept alive as long as the rule: compiled code holds their addresses alone
        self._entry = self._compile(function, takes) if self.compiled else self._wrap(function, takes)

    def fresh(self) -> "Rule":
        """The same rule with its memory as it was at first."""
        return Rule(self._function, copy.deepcopy(self._first_memory), self.name)

    @property
    def failed(self) -> bool:
        """Whether it has failed since it was attached; it is not asked again."""
        return self._params is not None and bool(self._params.failure["kind"][0])

    @property
    def resumable(self) -> bool:
        """Whether a checkpoint holds all that the rule remembers."""
        return self.compiled

    def attach(self, engine: Engine) -> None:
        """Let the rule decide for an engine, from the next event on."""
        entry = self._entry.address if self.compiled else ctypes.cast(self._entry, ctypes.c_void_p).value or 0
        memory = self.memory.ctypes.data if self.compiled and self.memory is not None else 0
        self._params = own_rule(entry, memory, engine.desk.costs, engine.desk.state)
        engine.attach_rule(self._params, self)

    def serves(self, model: str) -> None:
        """The model of a hash serves from the next event on."""

    def heard(self, *, on: bool) -> None:
        """Whether what it asks for counts from the next event on; a rule of the user's own always does."""

    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps of it."""
        return {"rule": self.memory} if self.compiled and self.memory is not None else {}

    def check(self) -> None:
        """Raise what the rule failed with since it was attached: UsageError in one line; an interrupt as itself."""
        if self._params is None or not self.failed:
            return
        failed = self._params.failure[0]
        where = f"rule {self.name}, at event {failed['seq']}"
        if self._raised is not None and not isinstance(self._raised, Exception):
            raise self._raised
        if failed["kind"] == RAISED:
            raise UsageError(f"{where}: {self._why()}") from self._raised
        px = failed["px"] if abs(failed["px"]) <= MAX_TICKS else "no whole tick"
        asked = Action(int(failed["action"])).name if failed["action"] in list(Action) else failed["action"]
        raise UsageError(
            f"{where}: asked for {asked}, side {failed['side']}, {failed['qty']} lots at {px}:"
            " POST and CROSS want a side of 1 or -1 and at least a lot, POST and REPLACE a price; in whole"
            " lots and ticks"
        )

    def _why(self) -> str:
        if self._raised is None:
            return "it raised an error; without numba.njit the error can be seen"
        here, *frames = traceback.extract_tb(self._raised.__traceback__)
        frames = frames or [here]  # it could not even be called
        # the innermost line of the rule's own file: what it called knows nothing of it
        last = next((f for f in reversed(frames) if f.filename == frames[0].filename), frames[-1])
        said = [misspelt_field(self._raised) or line for line in str(self._raised).splitlines()]
        why = f"{type(self._raised).__name__}: {said[0]}" if said else type(self._raised).__name__
        return f"{why} ({Path(last.filename).name}, line {last.lineno})"

    def _wrap(self, function: Callable[..., Any], takes: int) -> Any:
        """An entry point that goes on in Python."""
        seen: Any = None
        request: Any = None
        mine = self.memory

        def entry(observed: int, asked: int, _: int) -> int:
            nonlocal seen, request
            if seen is None:
                seen, request = _record(observed, OBSERVATION), _record(asked, REQUEST)
            try:
                function(*(seen, request, mine)[:takes])
            except BaseException as error:  # nothing may be raised through compiled code: `check` raises it
                self._raised = error
                return 0
            return ANSWERED

        return _ENTRY(entry)

    def _compile(self, function: Any, takes: int) -> Any:
        """An entry point that stays in compiled code."""
        shape, kind = (self.memory.shape, self.memory.dtype) if takes == 3 else ((1,), OBSERVATION)

        def entry(observed: int, asked: int, _: int) -> int:
            function(
                _carray(_pointer(observed), (1,), OBSERVATION)[0], _carray(_pointer(asked), (1,), REQUEST)[0]
            )
            return ANSWERED

        def entry_with_memory(observed: int, asked: int, memory: int) -> int:
            function(
                _carray(_pointer(observed), (1,), OBSERVATION)[0],
                _carray(_pointer(asked), (1,), REQUEST)[0],
                _carray(_pointer(memory), shape, kind),
            )
            return ANSWERED

        try:
            return numba.cfunc(_COMPILED_ENTRY)(entry if takes == 2 else entry_with_memory)
        except Exception as error:  # numba raises errors of its own insides too
            wrong = misspelt_field(error)
            if wrong:
                place = place_compiled(error)
                raise UsageError(f"rule {self.name}: {wrong}{place and f' ({place})'}") from None
            raise UsageError(
                f"rule {self.name} cannot be compiled: {_first_cause(error)}; without numba.njit it runs in Python"
            ) from None


_carray: Any = numba.carray  # type: ignore[attr-defined]


def _as_pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.intp), code


_pointer: Any = intrinsic(_as_pointer)


class Makes(Protocol):
    """Anything that a rule can be made of."""

    def __call__(self, *args: Any) -> Any:
        """Decide on one event."""


def make_rule(function: "Makes | Rule", memory: Any = None, name: str | None = None) -> Rule:
    """A rule from a function, plain or compiled by `numba.njit`; a rule is returned as it is."""
    return function if isinstance(function, Rule) else Rule(function, memory, name)


def _record(address: int, dtype: Any) -> Any:
    """The record at an address, its fields as attributes."""
    room = (ctypes.c_uint8 * dtype.itemsize).from_address(address)
    return np.frombuffer(room, dtype).view(np.recarray)[0]


def _arguments(function: Any, name: str) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise UsageError(f"rule {name}: is no function") from None
    call = function if inspect.isroutine(function) else type(function).__call__
    if any(lazy(call) for lazy in LAZY):
        raise UsageError(
            f"rule {name}: is a generator or async, and would never be run: leave yield and async out"
        )
    takes = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if takes not in (2, 3):
        raise UsageError(
            f"rule {name}: takes {takes} arguments, not (seen, request) or (seen, request, mine)"
        )
    return takes


def _source_hash(function: Any, memory: Any) -> str:
    """Of the file that it stands in, as other functions of it may be called; else of its compiled code."""
    digest = hashlib.sha256(getattr(function, "__qualname__", repr(type(function))).encode())
    try:
        digest.update(Path(inspect.getsourcefile(function) or "").read_bytes())
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        digest.update(code.co_code + repr(code.co_consts).encode() if code else repr(function).encode())
    if isinstance(memory, np.ndarray):
        digest.update(memory.tobytes())
    return digest.hexdigest()


def _first_cause(error: Exception) -> str:
    """The lines of numba's message that a reader can act on, as one."""
    if not isinstance(error, NumbaError):
        return f"{type(error).__name__}: {error}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next(
        (line for line in lines if not line.startswith(("Failed in", "No implementation of"))), lines[0]
    )
    where = [line.split("File ", 1)[1].rstrip(":") for line in lines if line.startswith("File ")]
    theirs = [place for place in where if "emp/engine/own.py" not in place]
    place = place_compiled(error) if not theirs else theirs[-1]
    return f"{said} ({place})" if place else said
