"""What own features make of a recording, row for row with `extract_features`, by the very kernel that serves."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import MARKET_STATE, Array
from emp.core.sessions import session_table
from emp.engine.own_model import Features
from emp.perception.normalise import INPUTS
from emp.perception.own import row_width
from emp.perception.port import perceive
from emp.perception.state import new_perception


@kernel
def extract_own(
    p: Any,
    events: Array,
    sessions: Array,
    features: Any,
    venue_id: int,
    state: Any,
    row: Array,
    own: Array,
) -> int:
    """Perceive a batch and keep the own inputs of every visible event.

    Args:
        row: float32[width], which carries what is remembered from event to event.
        own: float32[>= events, own inputs], filled from 0.

    Returns:
        How many rows are filled.
    """
    n = 0
    for i in range(events.size):
        if perceive(features, p, events[i], sessions, venue_id, state, row) == 0:
            for k in range(own.shape[1]):
                own[n, k] = row[INPUTS + k]
            n += 1
    return n


def own_columns(batches: Iterable[Array], instrument: Instrument, encoder: Any, features: Features) -> Array:
    """The own inputs of every visible event: float32[n, own inputs].

    Args:
        batches: arrays of EVENT in order.
        encoder: ENCODER record.

    Raises:
        UsageError: the function fails, in one line.
    """
    serving = features.serving()
    perceives = features.load(encoder, serving)
    p, state = new_perception(), np.zeros(1, MARKET_STATE)
    inputs = len(features.names)
    row = np.zeros(row_width(inputs, features.part.memory), np.float32)
    parts: list[Array] = [np.zeros((0, inputs), np.float32)]
    for events in batches:
        if len(events) == 0:
            continue
        sessions = session_table(instrument, int(events["ts"].min()), int(events["ts"].max()))
        p["session_row"] = np.minimum(p["session_row"], 0)  # another table: search it from its start
        own = np.zeros((len(events), inputs), np.float32)
        n = extract_own(p[0], events, sessions, perceives, int(instrument.venue), state[0], row, own)
        serving.check()
        parts.append(own[:n])
    return np.concatenate(parts)
