"""Putting a model behind a desk: everything on it that depends on which model serves.

A model that is to take over between two events is made ready beforehand: its state table allocated, its kernels
compiled and run over a synthetic market. What is left for the moment between the events is an exchange of references.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.core.codes import EventFlag
from emp.core.instrument import Instrument
from emp.core.numba.hold import hold
from emp.core.records import DECISION, MARKET_STATE, Array, empty_events
from emp.decision.rule import ValueRule
from emp.engine.desk import END_OF_TIME, Desk
from emp.engine.load import LoadedModel
from emp.engine.policy import Policy
from emp.engine.step import ASKED, run_batch
from emp.model.artifact import learns_from_outcomes, trained_on
from emp.model.recalibrate import begin
from emp.model.table import StateTable
from emp.perception.depth import ENCODER
from emp.perception.features import BookFeatures

WARM_UP = 256
"""Synthetic events that a model processes before it serves: its code, weights and states are then in the caches."""


class Ready(NamedTuple):
    """A model with its own state table."""

    model: LoadedModel
    table: StateTable


def allocate(model: LoadedModel, instruments: int) -> Ready:
    """A model with states for so many instruments."""
    return Ready(model, StateTable(instruments, model.state_size, model.artifact.hash))


def attach_model(
    desk: Desk, instruments: Sequence[Instrument], ready: Ready, least_warmup: int, model_id: int
) -> Desk:
    """The desk with another model behind it; its states begin at zero, and so does what outcomes teach of it.

    Args:
        least_warmup: the owner's burn-in; the model may ask for more.
        model_id: what the action log's rows will call the model.
    """
    artifact = ready.model.artifact
    ready.table.reset()
    desk.stream["events"] = 0
    desk.facts["model_id"] = model_id
    desk.facts["domain"] = [
        artifact.domain(i.asset_class.name.lower(), i.venue.name.lower(), i.name) for i in instruments
    ]
    desk.limits["warmup_events"] = max(least_warmup, artifact.manifest.warmup_events)
    desk.costs["k_sigma"] = artifact.manifest.k_sigma
    threshold = np.array(artifact.manifest.thresholds)[desk.facts["domain"]]
    known = trained_on(artifact.manifest)
    begin(
        desk.recalibration,
        threshold,
        artifact.manifest.k_sigma,
        np.array([i.name in known for i in instruments]),
        learns_from_outcomes(artifact.manifest),
    )
    inputs = np.zeros((len(instruments), ready.model.width), np.float32)
    return desk._replace(memory=ready.table.rows, inputs=inputs)


def warm_up(desk: Desk, ready: Ready) -> None:
    """Compile (or load) every kernel for a model and run it over synthetic events on a spare desk.

    A model of the user's own is compiled, and not run: what it is shown is of real events alone.
    """
    events = synthetic_events(WARM_UP if ready.model.owner is None else 0)
    rows, laps = np.zeros(len(events), DECISION), np.zeros((len(events), 3), np.int32)
    desk.facts["calendar_end_ns"] = END_OF_TIME
    held, states = (
        hold((desk, policy_of(desk, ready.model), np.zeros(ASKED, np.int64))),
        np.zeros(len(events), MARKET_STATE),
    )
    at = run_batch(held, events, 0, rows, laps, states)[0]
    while at < len(events):
        at = run_batch(held, events, at, rows, laps, states)[0]


def policy_of(desk: Desk, model: LoadedModel) -> Policy:
    """The built-in rule around a model, and the features that it came with, or the built-in ones."""
    if model.features is not None:
        return Policy(model.features, model.params, ValueRule(desk.costs))
    encoder: Array = np.zeros(1, ENCODER)
    encoder[0] = model.encoder
    return Policy(BookFeatures(encoder), model.params, ValueRule(desk.costs))


def synthetic_events(n: int) -> Array:
    """EVENT rows of a book that flickers by a tick, a millisecond apart."""
    events = empty_events(n)
    events["seq"] = np.arange(1, n + 1)
    events["ts"] = events["ts_recv"] = events["seq"] * 1_000_000
    events["flags"] = EventFlag.VISIBLE
    events["n_bid"] = events["n_ask"] = 1
    events["bid_px"][:, 0] = 1_000 + events["seq"] % 2
    events["ask_px"][:, 0] = events["bid_px"][:, 0] + 2
    events["bid_sz"][:, 0] = events["ask_sz"][:, 0] = 10
    return events
