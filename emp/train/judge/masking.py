"""Future masking of one artifact: whatever a recording holds after `ts` is replaced by noise, and everything that was
known up to `ts` must come out the same, bit for bit.

Looked at is what training, evaluation and trading see through: features, label scales, labels that are known by then,
forecasts, and the rows of the action log that the engine writes against the paper venue.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.core.codes import EventFlag
from emp.core.ids import generator
from emp.core.instrument import Instrument
from emp.core.records import DECISION, FORECAST, LEVELS, UNHASHED, Array
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest
from emp.engine.reversion import bind_perception
from emp.perception.targets import classes, segments, targets, unit_ticks
from emp.train.data.data import WARMUP_EVENTS
from emp.train.data.table import extract_features
from emp.train.judge.forecasts import forecast_table, serving_head
from emp.train.judge.stretch import Stretch

CUTS = 8
"""Times after which the future is replaced, in each recording."""

PARTS = ("features", "scales", "labels", "forecasts", "decisions")
"""What is compared."""

NOISE_WAITS_NS = (1, 10**6, 10**9, 10**11)
"""Times between events that mean nothing: they leave no clock and no session as it was."""


class Look(NamedTuple):
    """What was seen of a stretch of events: columns by part, a row for every visible event, and the action log."""

    columns: dict[str, dict[str, Array]]
    known: Array  # int64[n, HORIZONS]: row whose event made a label known; n or more where none has
    decisions: Array  # DECISION[m]


Looking = Callable[[LoadedModel, Instrument, Array, EngineLimits], Look]


class Masked(NamedTuple):
    """What came of one cut."""

    event: int  # events before it
    ts: int  # ns, of the last of them
    rows: int  # compared: of visible events, and of the action log
    actions: int  # rows of the action log among them that asked for something
    changed: dict[str, int]  # values that were not the same, by part


def look(model: LoadedModel, instrument: Instrument, events: Array, limits: EngineLimits) -> Look:
    """Everything that a model and the engine make of EVENT rows, from a fresh start."""
    seen = extract_features([events], instrument, model.encoder)
    manifest = model.artifact.manifest
    unit = unit_ticks(seen.states["spread_ticks"], seen.rows["sigma_ticks"], manifest.k_sigma)
    ts = np.ascontiguousarray(seen.states["ts"])
    found = targets(seen.rows["bid"] + seen.rows["ask"], ts, unit, segments(seen.rows["since_reset"]))
    head = serving_head(model, instrument)
    named = classes(found.delta_hat, np.array(manifest.thresholds[head]))
    said = forecast_table(model, instrument.name, head, seen)
    columns = {
        "features": {**_fields(seen.states), **_fields(seen.rows), "x": seen.x},
        "scales": {"unit_ticks": unit},
        "labels": {"delta_hat": found.delta_hat, "known_ns": found.known_ns, "class": named},
        "forecasts": {name: said[name] for name in FORECAST.names or ()},
    }
    never = found.known_ns == 0
    known = np.where(never, len(ts), np.searchsorted(ts, found.known_ns, side="right") - 1)
    return Look(columns, known, decide(model, instrument, events, limits))


def decide(model: LoadedModel, instrument: Instrument, events: Array, limits: EngineLimits) -> Array:
    """The rows of the action log over EVENT rows, against the paper venue: DECISION[m]."""
    engine = Engine([instrument], model, limits, "MASKING0")
    bind_perception(engine)
    parts: list[Array] = [np.zeros(0, DECISION)]
    venue = PaperVenue(instrument)
    Backtest(Stretch(instrument, events), engine, venue, wrote=lambda rows: parts.append(rows.copy())).run()
    return np.concatenate(parts)


def masked(
    model: LoadedModel,
    instrument: Instrument,
    events: Array,
    limits: EngineLimits,
    seed: int,
    looking: Looking = look,
    progress: Callable[[str, float], object] = lambda _, __: None,
) -> list[Masked]:
    """Replace the future of a stretch after each of CUTS places by noise, and count what changed before it.

    Args:
        events: EVENT[n] in order.
        seed: of places and noise.
    """
    rng = generator(seed, "masking")
    whole = looking(model, instrument, events, limits)
    found = []
    for k, cut in enumerate(places(events, rng)):
        noised = looking(model, instrument, noise_after(events, cut, rng), limits)
        visible = len(extract_features([events[:cut]], instrument, model.encoder).rows)
        found.append(compare(whole, noised, visible, events, cut))
        progress(f"the future masked {k + 1} times", (k + 1) / CUTS)
    return found


def places(events: Array, rng: Any) -> list[int]:
    """Numbers of events before a cut: one drawn in each of CUTS pieces behind the burn-in, each where time goes on."""
    moves = np.flatnonzero(np.diff(events["ts"]) > 0) + 1
    moves = moves[moves > min(WARMUP_EVENTS, len(events) // 2)]
    return [int(rng.choice(piece)) for piece in np.array_split(moves, CUTS) if len(piece)]


def noise_after(events: Array, cut: int, rng: Any) -> Array:
    """The same EVENT rows up to `cut`; from there on, at later times, books, trades and flags that mean nothing: all is
    drawn but their order and instrument.
    """
    noised = events.copy()
    n = len(events) - cut
    future = noised[cut:]
    future["ts"] = events["ts"][max(0, cut - 1)] + np.cumsum(rng.choice(NOISE_WAITS_NS, n))
    future["ts_recv"] = future["ts"]
    future["flags"] = rng.integers(0, 256, n) | (rng.random(n) < 0.8) * int(EventFlag.VISIBLE)
    future["n_bid"], future["n_ask"] = rng.integers(0, LEVELS + 1, n), rng.integers(0, LEVELS + 1, n)
    mid = rng.integers(1, 10**6, n)[:, None]
    steps = np.cumsum(rng.integers(0, 5, (n, LEVELS)), axis=1)
    future["bid_px"], future["ask_px"] = mid - steps, mid + rng.integers(-1, 9, n)[:, None] + steps
    future["bid_sz"], future["ask_sz"] = rng.integers(0, 10**6, (2, n, LEVELS))
    future["trade_px"], future["trade_qty_last"] = rng.integers(1, 10**6, n), rng.integers(0, 10**6, n)
    future["trade_qty"] = rng.integers(-(10**6), 10**6, n)
    return noised


def compare(before: Look, after: Look, visible: int, events: Array, cut: int) -> Masked:
    """Count values that differ in the first `visible` rows, in labels known by then, and in decisions up to the cut."""
    changed = dict.fromkeys(PARTS, 0)
    known, also = before.known[:visible] < visible, after.known[:visible] < visible
    for part, columns in before.columns.items():
        for name, values in columns.items():
            mine, other = values[:visible], after.columns[part][name][:visible]
            if part == "labels":
                mine, other = mine[known & also], other[known & also]
            changed[part] += differing(mine, other)
    changed["labels"] += int((known != also).sum())
    ts, seq = int(events["ts"][cut - 1]), int(events["seq"][cut - 1])
    mine, other = (one.decisions[_up_to(one.decisions, ts, seq)] for one in (before, after))
    n = min(len(mine), len(other))
    changed["decisions"] += abs(len(mine) - len(other))
    changed["decisions"] += sum(
        differing(mine[name][:n], other[name][:n]) for name in DECISION.names or () if name not in UNHASHED
    )
    return Masked(cut, ts, visible + n, int(np.count_nonzero(mine["action"])), changed)


def differing(a: Array, b: Array) -> int:
    """How many elements of two arrays of one type differ in any bit; all where the shapes differ."""
    if a.shape != b.shape:
        return max(a.size, b.size, 1)
    if not a.size:
        return 0
    bits = [np.ascontiguousarray(one).view(np.uint8).reshape(a.size, a.itemsize) for one in (a, b)]
    return int((bits[0] != bits[1]).any(axis=1).sum())


def total(found: Sequence[Masked]) -> dict[str, int]:
    """Values that changed over all cuts, by part."""
    return {part: sum(one.changed[part] for one in found) for part in PARTS}


def _up_to(rows: Array, ts: int, seq: int) -> Array:
    """Which DECISION rows were written by an event no later than this one."""
    return np.asarray((rows["ts"] <= ts) & (rows["seq"] <= seq))


def _fields(table: Array) -> dict[str, Array]:
    return {name: table[name] for name in table.dtype.names or ()}
