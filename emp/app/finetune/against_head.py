"""The adapter beside a head alone, small enough for every run of CI (I.1): `emp ablate --adapt`.

Both ways adapt one model to one market that it was not trained on. The adapter changes the body; so on the new market
it must not be worse than the head, and of the old ones it must not lose what the model knew, by more than the caps of
retention, at the confidence of the gates.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.app.finetune.verdicts import KEPT, Retention, retentions
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.load import LoadedModel
from emp.governance.gates import Gates
from emp.model.artifact import Artifact, trained_on
from emp.perception.normalise import INPUTS
from emp.train.data.data import Dataset
from emp.train.fit.adapt import Adapted, adapt_model
from emp.train.fit.arms import ARMS, DEFAULT, AdaptSettings
from emp.train.fit.export import load_network
from emp.train.fit.sequence import head_of
from emp.train.judge.adapted import compare, forecasts_of
from emp.train.judge.blocks import blocks_of
from emp.train.judge.evaluate import refuse_overlap
from emp.train.judge.leave_out import recent

HEAD, ADAPTER = "head", DEFAULT
"""The way that leaves the body as it is, and the one that `emp finetune` takes."""

EVENTS, JUDGED = 60_000, 20_000
"""Rows of each series to adapt by, the last before its test part, and of that part."""

SETTINGS = AdaptSettings(epochs=4, head_epochs=4)


class AgainstHead(NamedTuple):
    """What the adapter is worse by: on the new market than the head alone, on the old ones than the model as it was."""

    new: list[Retention]
    old: list[Retention]
    adapted: bool  # whether the body has changed: sequences that make nothing better are not kept

    @property
    def holds(self) -> bool:
        """Whether there is an adapter, and it exceeds no cap, beyond doubt."""
        return self.adapted and all(one.verdict == KEPT for one in (*self.new, *self.old))

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""
        new, old = ([one._asdict() for one in found] for found in (self.new, self.old))
        return {"holds": self.holds, "adapted": self.adapted, "against_head": new, "retention": old}

    def lines(self) -> list[str]:
        """In words."""
        if not self.adapted:
            return [f"{ADAPTER}: nothing was adapted: the head alone was the best on the calibration part"]
        return [
            *(f"{ADAPTER} beside the head alone: {one.line()}" for one in self.new),
            *(f"{ADAPTER} beside the model as it was: {one.line()}" for one in self.old),
        ]


def adapt_by(way: str, base: Artifact, new: Dataset, old: Sequence[Dataset], seed: int) -> Adapted:
    """Adapt a model to a market, little; of the old series those count that it has a head for.

    Raises:
        UsageError: the model was trained on that market, it is too short, or there is no old series.
    """
    if new.instrument.name in trained_on(base.manifest):
        raise UsageError(f"--adapt {new.series}: the model was trained on {new.instrument.name}")
    if not len(new.part("test")):
        raise UsageError(f"--adapt {new.series}: too short to be judged")
    settings = msgspec.structs.replace(SETTINGS, seed=seed)
    return adapt_model(base, [_cut(new)], _known(base, old), ARMS[way], settings)


def against_head(
    base: LoadedModel,
    head: LoadedModel,
    adapter: LoadedModel,
    new: Dataset,
    old: Sequence[Dataset],
    gates: Gates,
) -> AgainstHead:
    """Judge what both ways have made of a model.

    Raises:
        UsageError: a test part overlaps what the model was trained on.
    """
    edges = np.array(head.artifact.manifest.thresholds[-1])  # of the new head, which is the last of both
    lost: list[Retention] = []
    for data in _known(base.artifact, old):
        refuse_overlap(base, data)
        manifest = base.artifact.manifest
        before = np.array(manifest.thresholds[head_of(data, manifest.domains)])
        lost += _worse_by(base, adapter, data, before, gates)
    return AgainstHead(_worse_by(head, adapter, _cut(new), edges, gates), lost, _differ(head, adapter))


def _worse_by(
    base: LoadedModel, mine: LoadedModel, data: Dataset, edges: Array, gates: Gates
) -> list[Retention]:
    said = [forecasts_of(model, data, edges) for model in (base, mine)]
    return retentions(data.series, compare(said[0], said[1], data, edges, blocks_of(data)), gates)


def _differ(head: LoadedModel, adapter: LoadedModel) -> bool:
    one, other = _body(head), _body(adapter)
    return any(not np.array_equal(one[name], other[name]) for name in one)


def _body(model: LoadedModel) -> dict[str, Array]:
    network, _ = load_network(model.artifact, INPUTS)
    return {name: tensor for name, tensor in network.tensors().items() if not name.startswith("heads.")}


def _cut(data: Dataset) -> Dataset:
    return replace(recent(data, EVENTS, JUDGED), series=data.series)


def _known(base: Artifact, datasets: Sequence[Dataset]) -> list[Dataset]:
    domains = base.manifest.domains
    found = [_cut(data) for data in datasets if head_of(data, domains) > 0]
    if not found:
        raise UsageError("--adapt needs a series of --data that the model has a head for")
    return found
