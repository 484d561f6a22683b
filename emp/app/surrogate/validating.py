"""`emp surrogate validate`: rollouts of the same policies in the simulator and in a surrogate, held to each other."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from emp.app.surrogate.worlds import (
    SIMULATOR,
    MarketPlace,
    Play,
    as_folder,
    is_folder,
    learned,
    market_place,
    simulator,
    tau,
    tau_events,
)
from emp.core.errors import ArtifactError, UsageError
from emp.core.records import Array
from emp.league.yardsticks import SIZE, yardsticks
from emp.sim.flow.shipped import DEFAULT
from emp.sim.surrogate.artifact import load_surrogate, write_manifest
from emp.sim.surrogate.equivalence import NEIGHBOURS, Equivalence, equivalence, markouts

HELD_OUT = "held out"
"""Names the states of the market in which a surrogate is judged: no training began there, whatever its seed."""
OTHER_LUCK = 500_009
"""Added to a seed for the surrogate's draws."""


class Judged(msgspec.Struct, frozen=True):
    """What `emp surrogate validate` found."""

    target: str
    model: str
    hash: str  # of a learned surrogate
    found: Equivalence
    paired: dict[str, float]  # by policy: correlation of both worlds' episodes that begin in one state


def _subject(target: str, model: str | None, seed: int) -> tuple[MarketPlace, Play, str]:
    """(the market, what plays in the target there, its hash).

    Raises:
        UsageError: no market is named, or the target is of another one.
        ArtifactError: the target is no surrogate.
    """
    known = load_surrogate(as_folder(target)).manifest.market if is_folder(target) else DEFAULT
    place = market_place(model or known, seed, HELD_OUT)
    return place, *play_of(target, place)


def play_of(target: str, place: MarketPlace) -> tuple[Play, str]:
    """(what plays in the target in a market, its hash)."""
    if is_folder(target):
        surrogate = load_surrogate(as_folder(target))
        return learned(place, surrogate), surrogate.manifest.hash
    events = tau_events(target)
    return (simulator(place) if events is None else tau(place, events)), ""


def validate(
    target: str,
    model: str | None,
    episodes: int,
    seed: int,
    progress: Callable[[str, float], None],
    *,
    write: bool = True,
) -> Judged:
    """Judge a target and, where it is a learned surrogate, write the verdict beside it.

    Args:
        target: a folder, tau, tau:EVENTS, or simulator, which is held to itself with other luck.
        model: the flow; None: the one it was trained on, or goog.
        episodes: of each policy in each world.
        seed: of states and luck.
        progress: told what is done, and the share of all that is.
        write: whether the verdict is kept.
    """
    if episodes < 2 * NEIGHBOURS:
        raise UsageError(f"{episodes} episodes have no interval: {2 * NEIGHBOURS} are the least")
    progress("states of the market", 0.0)
    place, play, digest = _subject(target, model, seed)
    truth = simulator(place)
    truths: dict[str, Array] = {}
    others: dict[str, Array] = {}
    policies = yardsticks()
    for k, (name, me) in enumerate(policies.items()):
        progress(f"{name}: simulator", (k + 0.0) / len(policies))
        truths[name] = truth(me, episodes, seed)
        progress(f"{name}: {target}", (k + 0.7) / len(policies))
        others[name] = play(me, episodes, seed + OTHER_LUCK)
    found = equivalence(truths, others, dict.fromkeys(policies, float(SIZE)), seed, len(place.states))
    judged = Judged(target, place.name, digest, found, {n: _paired(truths[n], others[n]) for n in policies})
    if write and is_folder(target):
        _write(target, judged, seed)
    return judged


def _paired(truth: Array, other: Array) -> float:
    """Correlation of the money of episodes that begin in the same state: what a control variate would live on."""
    ours, theirs = markouts(truth)[0], markouts(other)[0]
    if ours.std() == 0.0 or theirs.std() == 0.0:
        return 0.0
    return float(np.corrcoef(ours, theirs)[0, 1])


def _write(target: str, judged: Judged, seed: int) -> None:
    """Keep the verdict beside the weights that were judged; ArtifactError where they are others by now."""
    surrogate = load_surrogate(as_folder(target))
    if surrogate.manifest.hash != judged.hash:
        raise ArtifactError(f"{target}: was trained anew while it was judged: judge it again")
    verdict: dict[str, Any] = {
        "passed": judged.found.passed,
        "answers": judged.found.verdict,
        "episodes": judged.found.episodes,
        "seed": seed,
        "surrogate": judged.hash,
    }
    write_manifest(as_folder(target), msgspec.structs.replace(surrogate.manifest, verdict=verdict))


__all__ = ["SIMULATOR", "Judged", "play_of", "validate"]
