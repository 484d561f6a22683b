"""The inputs that a model sees, perceived a second time off the hot path, and the reference they are held against."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emp.core.errors import ArtifactError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import MARKET_STATE, SESSION, Array
from emp.core.sessions import DAY_NS, session_table
from emp.engine.limits import CALENDAR_DAYS
from emp.model.artifact import Artifact
from emp.observe.drift import Reference
from emp.observe.psi import BINS
from emp.perception.depth import ENCODER
from emp.perception.features import BookFeatures, perceive_book
from emp.perception.normalise import CORE, INPUTS, LIQUIDITY_AT
from emp.perception.state import CORE_INPUTS, new_perception

PREFIX = "drift."
"""How the names of a reference's tensors in an artifact begin."""

NONE = -1.0
"""What stands in the tensors for a head without a reference."""

IMBALANCE = CORE_INPUTS.index("qimbalance")
DEPTH = np.array([j for j, name in enumerate(CORE_INPUTS) if name.startswith(("slope", "curve"))])

SHAPES: dict[str, tuple[int, ...]] = {"edges": (BINS - 1,), "shares": (BINS,), "alike": (), "size": ()}
"""Of the tensors, behind [heads, CORE]; in the order of `Reference`."""


def reference_tensors(references: Sequence[Reference | None]) -> dict[str, Array]:
    """What an artifact holds of the references of its heads, by name; nothing where no head has one.

    float64: `drift.edges` [heads, CORE, BINS - 1], `drift.shares` [heads, CORE, BINS], `drift.alike` and `drift.size`
    [heads, CORE]; of a head without a reference all are NONE.
    """
    found = [one for one in references if one is not None]
    if not found:
        return {}
    missing = Reference(*(np.full((CORE, *shape), NONE) for shape in SHAPES.values()))
    heads = [missing if one is None else one for one in references]
    return {PREFIX + name: np.array([getattr(one, name) for one in heads]) for name in SHAPES}


def reference_of(artifact: Artifact, head: int) -> Reference | None:
    """The reference of a head; None where the artifact holds none for it.

    Raises:
        ArtifactError: it holds a part of one, or one of another shape.
    """
    held = {name.removeprefix(PREFIX): t for name, t in artifact.tensors.items() if name.startswith(PREFIX)}
    if not held:
        return None
    heads = len(artifact.manifest.domains)
    for name, shape in SHAPES.items():
        if name not in held or held[name].shape != (heads, CORE, *shape):
            raise ArtifactError(
                f"model {artifact.hash[:12]}: the tensor {PREFIX}{name} is missing or of another shape: write the"
                " artifact again with emp train --reference"
            )
    one = Reference(*(held[name][head] for name in Reference._fields))
    return None if float(one.size[0]) == NONE else one


@kernel
def hide_untold(row: Any, has_size: bool, has_depth: bool) -> None:
    """NaN for core inputs float[CORE] that a feed without sizes, or without depth, does not tell."""
    if not has_size:
        row[IMBALANCE] = np.nan
    if not has_depth:
        for j in range(DEPTH.size):
            row[DEPTH[j]] = np.nan


@kernel
def _hide_all(rows: Any, x: Any) -> None:
    for k in range(rows.shape[0]):
        hide_untold(rows[k], x[k, LIQUIDITY_AT + 2] != 0.0, x[k, LIQUIDITY_AT + 1] != 0.0)


def told_inputs(x: Array) -> Array:
    """Core inputs float64[n, CORE] of model inputs float[n, INPUTS], NaN where the feed does not tell them."""
    rows = x[:, :CORE].astype(float)
    _hide_all(rows, x)
    return rows


@kernel
def perceive_rows(
    p: Any, events: Any, sessions: Any, features: Any, venue_id: int, state: Any, x: Any, rows: Any, ages: Any
) -> int:
    """Perceive EVENT[n]; write core inputs float32[n, CORE] and, int64[n, 3], the number of the event in the batch,
    visible events since the reset and trading day of each visible one; return how many there are.
    """
    n = 0
    for i in range(events.size):
        if perceive_book(features, p, events[i], sessions, venue_id, state, x) == 0:
            for j in range(CORE):
                rows[n, j] = x[j]
            hide_untold(rows[n], p.has_size, state.has_depth)
            ages[n, 0], ages[n, 1], ages[n, 2] = i, p.since_reset, p.day
            n += 1
    return n


class InputStream:
    """The core inputs of one instrument, event by event."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._p = new_perception()
        self._features = BookFeatures(np.zeros(1, ENCODER))  # core inputs do not depend on the depth encoder
        self._state = np.zeros(1, MARKET_STATE)
        self._x = np.zeros(INPUTS, np.float32)
        self.scale = np.ones(CORE, np.float32)  # other than 1 where a drill breaks an input
        self._sessions = np.zeros(0, SESSION)
        self._begins_ns = self._ends_ns = 0

    def take(self, events: Array) -> tuple[Array, Array]:
        """Of EVENT rows of the instrument: core inputs float32[m, CORE] of the visible ones, and `ages` int64[m, 3] as
        `perceive_rows` writes them.
        """
        rows, ages = np.zeros((len(events), CORE), np.float32), np.zeros((len(events), 3), np.int64)
        if not len(events):
            return rows, ages
        self._lay_out(int(events["ts"].min()), int(events["ts"].max()))
        n = perceive_rows(
            self._p[0],
            events,
            self._sessions,
            self._features,
            int(self._instrument.venue),
            self._state[0],
            self._x,
            rows,
            ages,
        )
        return rows[:n] * self.scale, ages[:n]

    def _lay_out(self, first_ns: int, last_ns: int) -> None:
        """Lay out the trading calendar so that it covers the events to come."""
        if self._begins_ns <= first_ns and last_ns < self._ends_ns:
            return
        self._begins_ns, self._ends_ns = first_ns - DAY_NS, last_ns + CALENDAR_DAYS * DAY_NS
        self._sessions = session_table(self._instrument, self._begins_ns, self._ends_ns)
        self._p["session_row"] = np.minimum(
            self._p["session_row"], 0
        )  # another table: search it from its start
