"""Carry perception over a recording, by the kernel that trades, and keep what it saw of every event."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import MARKET_STATE, Array
from emp.core.sessions import session_table
from emp.perception.depth import ENCODER, encode
from emp.perception.features import BookFeatures, perceive_book
from emp.perception.normalise import CORE, INPUTS
from emp.perception.state import CELLS, new_perception

ROW = np.dtype(
    [
        ("bid", "i8"),  # ticks
        ("ask", "i8"),
        ("sigma_ticks", "f8"),  # EWMA of |mid move|, this event's included
        ("events", "i8"),  # visible events so far
        ("since_reset", "i8"),  # the same since the last reset
        ("day", "i8"),  # trading day
    ],
    align=True,
)
"""What labels and splits need beside the MarketState."""


class FeatureTable(NamedTuple):
    """What perception saw of n visible events."""

    states: Array  # MARKET_STATE[n]
    x: Array  # float32[n, INPUTS]: the model's input
    rows: Array  # ROW[n]
    cells: Array  # float32[m, 2, CELLS + 2]: the depth grid before the encoder, of the m rows with depth only


def zero_encoder() -> Any:
    """An encoder whose depth features are all zero."""
    return np.zeros(1, ENCODER)[0]


def random_encoder(rng: np.random.Generator) -> Any:
    """An encoder before training."""
    encoder = np.zeros(1, ENCODER)
    encoder["value"] = rng.normal(0.0, 0.7, encoder["value"].shape)
    encoder["gate"] = rng.normal(0.0, 0.7, encoder["gate"].shape)
    return encoder[0]


@kernel
def extract_batch(
    p: Any,
    events: Array,
    sessions: Array,
    features: Any,
    venue_id: int,
    states: Array,
    x: Array,
    rows: Array,
    cells: Array,
) -> tuple[int, int]:
    """Perceive a batch into the outputs of `FeatureTable`, which have at least as many rows as there are events.

    Returns:
        How many rows of `states`, `x` and `rows` are used, and how many of `cells`.
    """
    n = m = 0
    for i in range(events.size):
        if perceive_book(features, p, events[i], sessions, venue_id, states[n], x[n]) == 0:
            row = rows[n]
            row.bid, row.ask = p.bid, p.ask
            row.sigma_ticks = p.sigma_ticks
            row.events, row.since_reset = p.events, p.since_reset
            row.day = p.day
            if states[n].has_depth:
                cells[m] = p.grid
                m += 1
            n += 1
    return n, m


@kernel
def encode_cells(cells: Array, has_depth: Array, encoder: Any, out: Array) -> None:
    """Depth features of stored grids: out float32[n, DEPTH_FEATURES], zero where there is no depth."""
    m = 0
    for i in range(out.shape[0]):
        out[i] = 0.0
        if has_depth[i]:
            encode(cells[m], encoder, out[i])
            m += 1


def with_encoder(seen: FeatureTable, encoder: Any) -> FeatureTable:
    """The same features as another depth encoder would have seen it."""
    states, x = seen.states.copy(), seen.x.copy()
    depth = np.zeros((len(states), states["depth_feat"].shape[1]), np.float32)
    encode_cells(seen.cells, states["has_depth"], encoder, depth)
    states["depth_feat"] = depth
    x[:, CORE : CORE + depth.shape[1]] = depth
    return seen._replace(states=states, x=x)


def extract_features(
    batches: Iterable[Array],
    instrument: Instrument,
    encoder: Any,
    p: Array | None = None,
) -> FeatureTable:
    """Process batches of EVENT rows of one instrument.

    Args:
        batches: arrays of EVENT in order.
        encoder: ENCODER record.
        p: PERCEPTION[1] to start from and to carry forward; a fresh one where None.
    """
    p = new_perception() if p is None else p
    parts: list[FeatureTable] = []
    for events in batches:
        if len(events) == 0:
            continue
        features = _features(encoder)
        sessions = session_table(instrument, int(events["ts"].min()), int(events["ts"].max()))
        p["session_row"] = np.minimum(p["session_row"], 0)  # another table: search it from its start
        out = room(len(events), len(events))
        n, m = extract_batch(p[0], events, sessions, features, int(instrument.venue), *out)
        used = (n, n, n, m)
        parts.append(FeatureTable(*(a[:k].copy() for a, k in zip(out, used, strict=True))))
    return FeatureTable(*(np.concatenate(a) for a in zip(room(0, 0), *parts, strict=True)))


def _features(encoder: Any) -> BookFeatures:
    weights = np.zeros(1, ENCODER)
    weights[0] = encoder
    return BookFeatures(weights)


def room(n: int, m: int) -> FeatureTable:
    """An empty table of n events, m of them with depth."""
    return FeatureTable(
        np.zeros(n, MARKET_STATE),
        np.zeros((n, INPUTS), np.float32),
        np.zeros(n, ROW),
        np.zeros((m, 2, CELLS + 2), np.float32),
    )
