"""`emp surrogate train`: rounds of playing in the simulator and fitting, from drawn conduct to what looks best so far.

The first round's leaps are of policies with drawn weights. In each further round agents are drawn around those that
earn most in the surrogate of the round before: where a surrogate is wrong in a policy's favour, that is where its
next leaps come from (DAgger's order: Ross, Gordon and Bagnell, AISTATS 2011). All leaps are kept.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp.app.surrogate.worlds import FEES, MarketPlace, learned, market_place
from emp.core.ids import generator
from emp.core.records import Array
from emp.league.leaps import gather, market_scale
from emp.league.seats import LEARNED, WEIGHTS, first_weights, seat
from emp.league.yardsticks import EXPLORED, LIMIT, SIZE, explorer
from emp.sim.surrogate.artifact import Learned, SurrogateManifest, save_surrogate
from emp.sim.surrogate.equivalence import markouts

CANDIDATES, TRIALS = 24, 128
"""Agents that are tried in a surrogate to find out what it favours, and episodes of each."""


class TrainSettings(NamedTuple):
    """Of a training."""

    model: str
    kind: str
    rounds: int
    episodes: int  # of the simulator in each round
    epochs: int
    seed: int


class TrainedSurrogate(NamedTuple):
    """What a training came to."""

    learned: Learned
    leaps: list[int]  # by round, all so far
    losses: list[list[float]]  # by round and epoch, of the part held back


def train_surrogate(
    settings: TrainSettings, out: Path, progress: Callable[[str, float], None]
) -> TrainedSurrogate:
    """Train a surrogate and write it; it is not judged."""
    import torch

    from emp.train.fit.surrogate import fit_surrogate

    torch.set_num_threads(1)
    progress("states of the market", 0.0)
    place = market_place(settings.model, settings.seed)
    scale = market_scale(place.states, place.every)
    parts: list[Array] = []
    counts: list[int] = []
    losses: list[list[float]] = []
    around: Array | None = None
    found: Learned | None = None
    for k in range(settings.rounds):

        def tell(text: str, first: float, part: float, share: float, k: int = k) -> None:
            progress(f"round {k + 1}: {text}", (k + first + part * share) / settings.rounds)

        if found is not None:
            around = favoured(place, found, settings.seed + k)
        parts.append(_played(place, scale, settings, k, around, partial(tell, "simulator", 0.0, 0.4)))
        leaps = np.concatenate(parts)
        fitted = fit_surrogate(
            leaps,
            settings.kind,
            seed=settings.seed,
            epochs=settings.epochs,
            progress=partial(tell, "fit", 0.4, 0.6),
        )
        counts.append(len(leaps))
        losses.append(fitted.loss)
        tensors = {**fitted.net.weights(), **{name: getattr(fitted, name) for name in _TABLES}}
        found = save_surrogate(out, _manifest(place, scale, settings, counts), tensors)
    assert found is not None
    return TrainedSurrogate(found, counts, losses)


_TABLES = ("centre", "spread", "moves", "residuals")


def _played(
    place: MarketPlace,
    scale: Array,
    settings: TrainSettings,
    round_: int,
    around: Array | None,
    progress: Callable[[float], None],
) -> Array:
    return gather(
        place.states,
        lambda k, rng: explorer(k, rng, around),
        scale,
        episodes=settings.episodes,
        decisions=place.decisions,
        every=place.every,
        latency=place.latency,
        fees=FEES,
        seed=settings.seed + 1_000 * round_,
        progress=progress,
    )


def favoured(place: MarketPlace, surrogate: Learned, seed: int) -> Array:
    """Weights (WEIGHTS,) of the drawn agent that earns most per lot in a surrogate."""
    rng = generator(seed, "favoured")
    play = learned(place, surrogate)
    best, weights = -np.inf, first_weights()
    for k in range(CANDIDATES):
        drawn = first_weights() + rng.normal(0.0, 2.0 * EXPLORED, WEIGHTS)
        money, lots = markouts(play(seat(LEARNED, weights=drawn, size=SIZE, limit=LIMIT), TRIALS, seed + k))
        earned = float(money.sum() / max(float(SIZE * TRIALS), float(lots.sum())))
        if earned > best:
            best, weights = earned, drawn
    return weights


def _manifest(
    place: MarketPlace, scale: Array, settings: TrainSettings, counts: list[int]
) -> SurrogateManifest:
    provenance: dict[str, Any] = settings._asdict() | {"leaps": list(counts)}
    return SurrogateManifest(
        kind=settings.kind,
        market=place.name,
        params=place.hash,
        every=place.every,
        scale=[float(x) for x in scale[0]],
        provenance=provenance,
    )
