"""From the words of `emp evaluate --artifact` to the models it judges."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emp.core.errors import UsageError
from emp.engine.choose import IMPLS, load_model
from emp.engine.load import LoadedModel
from emp.model.artifact import MANIFEST, title

if TYPE_CHECKING:
    from emp.train.data.data import Dataset
    from emp.train.judge.evaluate import Contender


def parse_contenders(texts: Sequence[str]) -> "list[Contender]":
    """Read `[NAME=]PATH`: an artifact, or a folder of artifacts that are seeds of one model.

    Artifacts of one name are seeds of one contender; where no name is given it is the kind of the model. A model of
    one's own is named as for `emp replay --model`.

    Raises:
        UsageError: one artifact is given twice, or seeds of one name are of several kinds.
    """
    from emp.train.judge.evaluate import Contender

    groups: dict[str, list[LoadedModel]] = {}
    for text in texts:
        left, equals, right = text.partition("=")
        for folder in _artifacts(right if equals else text):
            model = load_model(folder, own=True)
            groups.setdefault(left if equals else title(model.artifact.manifest), []).append(model)
    for name, models in groups.items():
        twice = [h for h, n in Counter(model.artifact.hash for model in models).items() if n > 1]
        if twice:
            raise UsageError(f"--artifact: {twice[0][:12]} is given twice as {name}")
        if len({model.artifact.manifest.kind for model in models}) > 1:
            raise UsageError(f"--artifact: {name} names models of different kinds")
    return [Contender(name, tuple(models)) for name, models in groups.items()]


def _artifacts(name: str) -> list[str]:
    """The artifact itself, or those in the folder."""
    if name in IMPLS or (Path(name) / MANIFEST).exists():
        return [name]
    inside = sorted(str(found.parent) for found in Path(name).glob(f"*/{MANIFEST}"))
    return inside or [name]


def with_reference(
    contenders: "list[Contender]", against: str | None, datasets: "Sequence[Dataset]"
) -> "list[Contender]":
    """Put the linear model that the others are compared with beside them, unless one is among them.

    Without `against` it is the shipped one, if it means the same by its classes on every series; else the
    contenders are judged without a comparison.
    """
    from emp.train.judge.evaluate import LINEAR, Contender, same_labels

    linear = next((c for c in contenders if c.name == LINEAR), None)
    if against is None and linear is not None:
        return contenders
    model = load_model(against or LINEAR)
    if linear is not None:
        raise UsageError("--against: a linear model is among the artifacts: the others are compared with it")
    first = contenders[0].seeds[0]
    alike = all(same_labels(first, model, data) for data in datasets)
    if against is None and not alike:
        return contenders
    return [*contenders, Contender(LINEAR, (model,))]
