"""What to say where a user's function asks for a field that a record does not have: what was meant, what there is."""

import difflib
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import types
from numba.core import ir

from emp.decision.own import OBSERVATION, REQUEST
from emp.model.own import SAID
from emp.perception.own import SEEN

_CALLED = {
    tuple(dtype.names or ()): name
    for name, dtype in {"seen": OBSERVATION, "request": REQUEST, "forecast": SAID}.items()
} | {tuple(SEEN.names or ()): "seen"}
_WORD = re.compile(
    r"(?:record|void)' object has no attribute '(\w+)'|no field of name (\w+)|Field '(\w+)' was not found"
)
_LISTED = re.compile(r"in record with fields \(([^)]*)\)")


def misspelt_field(error: BaseException) -> str:
    """One line about a field that there is not; "" where an error is about something else.

    NumPy and numba raise what says the field alone; which record was asked stands in the innermost frame that has one.
    """
    word = _word(error)
    if not word:
        return ""
    listed = _LISTED.search(str(error))
    told = [tuple(re.findall(r"\w+", listed[1]))] if listed else _records(error)
    for fields in told:
        if word not in fields:
            return f"{_CALLED.get(fields, 'the record')} has no field {word!r}{meant(word, fields)}"
    return ""


def meant(word: str, names: tuple[str, ...]) -> str:
    """What may follow a word that is none of some names: the nearest of them, and all."""
    near = difflib.get_close_matches(word, names, 1)
    return f"{f': did you mean {near[0]!r}?' if near else ';'} there are {' '.join(names)}"


def place_compiled(error: BaseException) -> str:
    """The line of code that numba was at when it failed; "" where it does not say."""
    for values in _locals(error):
        line = getattr(values.get("self"), "loc", None)
        if isinstance(line, ir.Loc):
            return f"{Path(line.filename).name}, line {line.line}"
    return ""


def _word(error: BaseException) -> str:
    """The field that was asked for; "" where an error is about something else."""
    if isinstance(
        error, KeyError
    ):  # says no more than a key: of a record only where numba's own type of it raised
        frames = _locals(error)
        return str(error.args[0]) if frames and isinstance(frames[0].get("self"), types.Record) else ""
    found = _WORD.search(str(error))
    return next(group for group in found.groups() if group) if found else ""


def _records(error: BaseException) -> Iterator[tuple[str, ...]]:
    """Names of the fields of every record in the frames of a traceback, innermost first."""
    return (fields for values in _locals(error) for fields in map(_fields, values.values()) if fields)


def _locals(error: BaseException) -> list[dict[str, Any]]:
    """What each frame of a traceback knows by name, innermost first."""
    return [dict(frame.f_locals) for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]


def _fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, types.Record):
        return tuple(value.fields)
    if isinstance(value, np.void | np.ndarray):
        return tuple(value.dtype.names or ())
    return ()
