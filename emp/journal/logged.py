"""Some columns of everything that a run has logged: of its parts, and of the tail that no part holds yet."""

from collections.abc import Sequence

import numpy as np

from emp.core.records import Array
from emp.journal.actionlog import read_columns
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL, read_tail


def logged_columns(folder: RunFolder, names: Sequence[str]) -> Array:
    """Columns of every DECISION row of a run, in order: a structured array [n] of the fields `names`.

    The tail is read first: what moves from it into a part meanwhile is then found twice, and counted once.
    """
    units = read_tail(folder.path / TAIL)
    parts = read_columns(folder.actions, names)
    if not units:
        return parts
    rest = np.concatenate([unit.rows for unit in units])
    tail: Array = np.zeros(len(rest), parts.dtype)
    for name in names:
        tail[name] = rest[name]
    return np.concatenate([parts[: units[0].first_row], tail])
