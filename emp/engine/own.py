"""Bring a function of the user's into the compiled path as its rule (`emp.decision.own`).

    rule = make_rule(function)                 # goes on in Python at every event: some microseconds
    rule = make_rule(numba.njit(function))     # compiled: some nanoseconds
    rule.attach(engine)

A function that fails stops the run: `check` raises what it failed with, in one line.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numba.core.dispatcher import Dispatcher

from emp.core.book import MAX_TICKS
from emp.core.codes import Action
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.decision import requests as _requests  # noqa: F401  numba must know them before it compiles a rule
from emp.decision.own import ANSWERED, OBSERVATION, RAISED, REQUEST, OwnRule, own_rule
from emp.engine.code_hash import source_hash
from emp.engine.engine import Engine
from emp.engine.entry import (
    ENTRY,
    address_of,
    arguments,
    carray,
    compile_entry,
    pointer,
    record_at,
    why,
)
from emp.engine.values_hash import values_hash


class Rule:
    """A function as a rule: `function(seen, request)`, or `function(seen, request, mine)` with memory of its own.

    Attributes:
        name: as it is called in pages and records.
        hash: of its source; a function that is changed is another rule.
        values: hash of what its source only names: numbers, arrays, functions of other files, and its memory at first.
        compiled: whether it stays in compiled code.
        memory: what is passed as `mine`: for a compiled rule an array, kept in checkpoints; None where it takes none.
    """

    def __init__(self, function: Callable[..., Any], memory: Any = None, name: str | None = None) -> None:
        plain = function.py_func if isinstance(function, Dispatcher) else function
        self._function, self._first_memory = function, copy.deepcopy(memory)
        self.name = name or str(getattr(plain, "__name__", type(plain).__name__))
        self.compiled = isinstance(function, Dispatcher)
        self.memory = memory
        self.hash, self.values = source_hash(plain, memory), values_hash((function, memory))
        self._raised: BaseException | None = None
        self._params: OwnRule | None = None
        takes = arguments(plain, f"rule {self.name}", "(seen, request)", "(seen, request, mine)")
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
        memory = self.memory.ctypes.data if self.compiled and self.memory is not None else 0
        self._params = own_rule(address_of(self._entry), memory, engine.desk.costs, engine.desk.state)
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
            raise UsageError(f"{where}: {why(self._raised)}") from self._raised
        px = failed["px"] if -MAX_TICKS <= failed["px"] <= MAX_TICKS else "no whole tick"
        asked = Action(int(failed["action"])).name if failed["action"] in list(Action) else failed["action"]
        raise UsageError(
            f"{where}: asked for {asked}, side {failed['side']}, {failed['qty']} lots at {px}:"
            " POST and CROSS want a side of 1 or -1 and at least a lot, POST and REPLACE a price; in whole"
            " lots and ticks"
        )

    def _wrap(self, function: Callable[..., Any], takes: int) -> Any:
        """An entry point that goes on in Python."""
        seen: Any = None
        request: Any = None
        mine = self.memory

        def entry(observed: int, asked: int, _: int) -> int:
            nonlocal seen, request
            if seen is None:
                seen, request = record_at(observed, OBSERVATION), record_at(asked, REQUEST)
            try:
                function(*(seen, request, mine)[:takes])
            except BaseException as error:  # nothing may be raised through compiled code: `check` raises it
                self._raised = error
                return 0
            return ANSWERED

        return ENTRY(entry)

    def _compile(self, function: Any, takes: int) -> Any:
        """An entry point that stays in compiled code."""
        shape, kind = (self.memory.shape, self.memory.dtype) if takes == 3 else ((1,), OBSERVATION)

        def entry(observed: int, asked: int, _: int) -> int:
            function(
                carray(pointer(observed), (1,), OBSERVATION)[0], carray(pointer(asked), (1,), REQUEST)[0]
            )
            return ANSWERED

        def entry_with_memory(observed: int, asked: int, memory: int) -> int:
            function(
                carray(pointer(observed), (1,), OBSERVATION)[0],
                carray(pointer(asked), (1,), REQUEST)[0],
                carray(pointer(memory), shape, kind),
            )
            return ANSWERED

        return compile_entry(f"rule {self.name}", entry if takes == 2 else entry_with_memory)


class Makes(Protocol):
    """Anything that a rule can be made of."""

    def __call__(self, *args: Any) -> Any:
        """Decide on one event."""


def make_rule(function: "Makes | Rule", memory: Any = None, name: str | None = None) -> Rule:
    """A rule from a function, plain or compiled by `numba.njit`; a rule is returned as it is."""
    return function if isinstance(function, Rule) else Rule(function, memory, name)
