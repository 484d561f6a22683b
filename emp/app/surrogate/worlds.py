"""What can be rolled out: the simulator, tau-leaping, or a learned surrogate of a folder, in one market."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.records import Array
from emp.league.batches import learned_rollouts
from emp.league.match import Table, states
from emp.league.rollouts import rollouts, simulated
from emp.sim.flow.params import params_hash
from emp.sim.flow.shipped import named_flow
from emp.sim.surrogate.artifact import Learned
from emp.sim.surrogate.tau import EVENTS, tau_leaping
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market

EVERY = 256
"""Market events between two decisions."""
DECISIONS = 40
"""Of an episode."""
STATES = 300
"""Of the market, in which episodes begin."""
FEES = (0.0, 0.0)

SIMULATOR, TAU = "simulator", "tau"


class MarketPlace(NamedTuple):
    """A market and the states in which episodes begin there."""

    name: str
    params: Array  # FLOW, shape (1,)
    states: list[Market]
    latency: Array  # LATENCY, shape (1,)
    every: int
    decisions: int

    @property
    def hash(self) -> str:
        """Of the flow's parameters."""
        return params_hash(self.params)


Play = Callable[[Array, int, int], Array]
"""Given a SEAT, episodes and a seed: PATH (episodes, decisions + 1)."""


def market_place(
    name: str, seed: int, use: str = "training", every: int = EVERY, decisions: int = DECISIONS
) -> MarketPlace:
    """A market, undisturbed before each episode; the seed is that of its states, which no other `use` has."""
    params = named_flow(name)
    found = states(Table(params), int(generator(seed, "states", use).integers(1 << 62)), STATES)
    return MarketPlace(name, params, found, latency_record(LatencyConfig()), every, decisions)


def simulator(place: MarketPlace) -> Play:
    """The market itself."""

    def play(me: Array, episodes: int, seed: int) -> Array:
        return rollouts(place.states, me, simulated, every=place.every, **_terms(place, episodes, seed))

    return play


def tau(place: MarketPlace, events: int = EVENTS) -> Play:
    """The market by leaps of `events` events."""
    if place.every % events:
        raise UsageError(f"leaps of {events} events do not end at decisions {place.every} events apart")
    tau_leaping(simulated(place.states[0], place.states[0].flow.rng), events)  # refuses another kind of flow

    def start(state: Market, luck: Array) -> Any:
        return tau_leaping(simulated(state, luck), events)

    def play(me: Array, episodes: int, seed: int) -> Array:
        every = place.every // events
        return rollouts(place.states, me, start, every=every, **_terms(place, episodes, seed))

    return play


def learned(place: MarketPlace, surrogate: Learned) -> Play:
    """A learned surrogate of that market.

    Raises:
        UsageError: it was trained for another market, or for decisions at other times.
    """
    manifest = surrogate.manifest
    if manifest.params != place.hash:
        raise UsageError(
            f"the surrogate was trained on {manifest.market}: this is another market, {place.name}"
        )
    if manifest.every != place.every:
        raise UsageError(f"the surrogate leaps {manifest.every} events, decisions are {place.every} apart")
    params = place.states[0].flow.params

    def play(me: Array, episodes: int, seed: int) -> Array:
        return learned_rollouts(surrogate, params, place.states, me, **_terms(place, episodes, seed))

    return play


def _terms(place: MarketPlace, episodes: int, seed: int) -> dict[str, Any]:
    return {
        "episodes": episodes,
        "decisions": place.decisions,
        "latency": place.latency,
        "fees": FEES,
        "seed": seed,
    }


def tau_events(target: str) -> int | None:
    """Events of a leap where `target` is tau or tau:EVENTS, None where it is something else.

    Raises:
        UsageError: what stands behind the colon is no number above 0.
    """
    if target == TAU:
        return EVENTS
    if not target.startswith(f"{TAU}:"):
        return None
    text = target.removeprefix(f"{TAU}:")
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"{target}: the events of a leap must be a whole number above 0")
    return int(text)


def is_folder(target: str) -> bool:
    """Whether a target names the folder of a learned surrogate."""
    return target != SIMULATOR and tau_events(target) is None


def as_folder(target: str) -> Path:
    """The folder that a target names."""
    return Path(target)
