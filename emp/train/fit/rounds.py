"""The rounds of a planner's training, and its export: from choices that were drawn to choices of its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from emp.core.errors import ArtifactError
from emp.core.ids import generator
from emp.core.records import Array
from emp.plan.artifact import PlannerArtifact, PlannerManifest, content_hash
from emp.plan.essentials import ACTIONS, ESSENTIALS
from emp.plan.imagine import imagine
from emp.train.data.choices import Choices, follow_up, join
from emp.train.data.exploring import Manner
from emp.train.fit.planner import EPOCHS, Fitted, fit, standardised

PARITY = 2e-3
"""Units by which the compiled model may differ from the network, at values of some units."""

PARITY_ROWS = 2_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a planner is trained."""

    step: int = 20  # visible events between two choices
    depth: int = 3  # of the search
    outcomes: int = 3
    hidden: int = 32
    rounds: int = 3
    passes: int = 8  # over each source, in each round
    epochs: int = EPOCHS
    explore: float = 0.3  # share of choices that are drawn from the second round on
    seed: int = 0


class Origin(NamedTuple):
    """Where choices come from: a recording, or a simulated market."""

    name: str
    choose: Callable[[Manner, int], Array]  # POINT rows of one pass, by manner and seed
    until_ns: int  # what is chosen from here on is not learned from; 0: everything is


class Trained(NamedTuple):
    """A planner, and how its training went."""

    artifact: PlannerArtifact
    losses: list[list[float]]  # by round and epoch
    choices: dict[str, int]  # by origin


def choices_of(origin: Origin, manner: Manner, seeds: Sequence[int]) -> Choices:
    """Choices of some passes, those alone whose trip was over before the part that is not learned from."""
    parts = []
    for seed in seeds:
        points = origin.choose(manner, seed)
        if origin.until_ns:
            points = points[points["ts"] < origin.until_ns]
        parts.append(follow_up(points))
    return join(parts)


def train_rounds(
    origins: Sequence[Origin],
    model: str,
    settings: Settings,
    provenance: dict[str, Any],
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> Trained:
    """Train a planner.

    Args:
        origins: where choices come from.
        model: hash of the artifact that forecasts.
        settings: of the training.
        provenance: what is written into the manifest.
        progress: told what is done, and the share of all that is.

    Raises:
        DataError: there are too few choices.
        ArtifactError: the compiled model is not the network.
    """
    torch.set_num_threads(1)
    learned: list[Choices] = []
    rounds: list[int] = []
    counts = dict.fromkeys((o.name for o in origins), 0)
    losses: list[list[float]] = []
    made: PlannerArtifact | None = None
    parts = settings.rounds * (len(origins) + 1)
    for k in range(settings.rounds):
        manner = Manner(settings.step, 1.0 if k == 0 else settings.explore, made, settings.depth)
        for n, origin in enumerate(origins):
            progress(f"round {k + 1}: {origin.name}", (k * (len(origins) + 1) + n) / parts)
            seeds = [settings.seed + 1_000 * k + j for j in range(settings.passes)]
            found = choices_of(origin, manner, seeds)
            if len(found.kind):
                learned.append(found)
                rounds.append(k)
                counts[origin.name] += len(found.kind)
        before = (k * (len(origins) + 1) + len(origins)) / parts

        def tell(share: float, k: int = k, before: float = before) -> None:
            progress(f"round {k + 1}: fit", before + share / parts)

        fitted = fit(
            learned,
            [r == k for r in rounds],
            outcomes=settings.outcomes,
            hidden=settings.hidden,
            seed=settings.seed,
            epochs=settings.epochs,
            progress=tell,
        )
        losses.append(fitted.loss)
        made = export(fitted, model, settings, provenance, join(learned))
    assert made is not None
    return Trained(made, losses, counts)


def export(
    fitted: Fitted, model: str, settings: Settings, provenance: dict[str, Any], choices: Choices
) -> PlannerArtifact:
    """The network as an artifact, once it imagines the same of real states.

    Raises:
        ArtifactError: it does not.
    """
    tensors = fitted.net.weights() | {"centre": fitted.centre, "spread": fitted.spread}
    tensors = {name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}
    manifest = PlannerManifest(
        model=model,
        essentials=list(ESSENTIALS),
        step=settings.step,
        depth=settings.depth,
        outcomes=settings.outcomes,
        hidden=settings.hidden,
        value_bias=fitted.net.value_bias,
        provenance={
            **provenance,
            "settings": msgspec.to_builtins(settings),
            "flat_band": fitted.band,
            "merged": fitted.merged.tolist(),
        },
    )
    manifest = msgspec.structs.replace(manifest, hash=content_hash(manifest, tensors))
    artifact = PlannerArtifact(manifest, tensors)
    away = parity(fitted, artifact, choices)
    if not away <= PARITY:
        raise ArtifactError(f"the compiled planner differs from the network by {away:.2g} units")
    return artifact


def parity(fitted: Fitted, artifact: PlannerArtifact, choices: Choices) -> float:
    """The largest difference of what network and compiled model imagine of real states, over 1 and their size."""
    z = choices.points["z"]
    rows = generator(0, "parity").integers(0, len(z), min(PARITY_ROWS, len(z)))
    states = standardised(z[rows], fitted.centre, fitted.spread)
    compiled = imagine(artifact.transition(), states, 1)
    with torch.no_grad():
        seen = torch.from_numpy(states)
        said = [
            fitted.net.imagined(seen, torch.full((len(seen),), a, dtype=torch.int64))[1].numpy()
            for a in range(ACTIONS)
        ]
    network = np.stack(said, axis=1)
    return float((np.abs(compiled - network) / (1.0 + np.abs(network))).max())
