"""From a torch module to an ONNX file that serves as a model (`emp.engine.onnx_model`), held against the module first.

class Net(nn.Module):
    def forward(self, x):                    # float32[1, n]
        return {"mean": self.head(x)}        # [1, HORIZONS]; also q and p

    def forward(self, x, state):             # float32[1, n], and what it remembers
        return {"mean": …}, after            # after as state
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emp.core.config.config import DEFAULT_IMPL
from emp.core.disk import disk, write_new
from emp.core.errors import ArtifactError, UsageError
from emp.core.extras import missing_extra
from emp.core.records import Array
from emp.engine.onnx_model import OUTPUTS, SAYS, Network, told_of
from emp.engine.own_model import WARMUP_EVENTS, Features, Settings, checked_settings, spans_of
from emp.train.fit.export import difference

OPSET = 18
PARITY_LIMIT = 1e-4
"""Largest difference between file and module, relative to a value or to its output's usual size."""

PARITY_EVENTS = 256


class _Named(nn.Module):
    """A module's outputs in the order of their names, its state last."""

    def __init__(self, module: nn.Module, names: list[str], *, remembers: bool) -> None:
        super().__init__()
        self.module, self.names, self.remembers = module, names, remembers

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        said = self.module(*given)
        said, after = said if self.remembers else (said, None)
        return (*(said[name] for name in self.names), *([] if after is None else [after]))


def export(
    module: nn.Module,
    path: str | Path,
    *,
    state: Any = None,
    warmup_events: int = WARMUP_EVENTS,
    features: Features | None = None,
    base: str = DEFAULT_IMPL,
    trained_on: Any = None,
    catalogue: str | Path | None = None,
) -> Path:
    """Write a module as an ONNX file that `--model`, `emp.backtest(model=)` and `model.artifact` take.

    Args:
        module: as in the head of this file; it is brought to the CPU, and taken in `eval` mode.
        state: a tensor of the shape of what it remembers, which is zero after every reset; None: nothing.
        warmup_events, base, trained_on: as for `emp.Model`; the file says them of itself.
        catalogue: as for `emp.Model`.
        features: inputs of one's own that it is shown; name them where it serves: `emp.Model.onnx(path, features=…)`.

    Raises:
        UsageError: it is no such module; torch cannot export it.
        ArtifactError: file and module differ by more than PARITY_LIMIT; nothing is written.
    """
    place = Path(path)
    spans = spans_of(trained_on, place.name, catalogue)
    said = Settings(place.name, 0, warmup_events, features, str(base), spans)
    checked_settings(said)
    if not isinstance(module, nn.Module):
        raise UsageError(f"export: a torch.nn.Module is wanted, not {type(module).__name__}")
    given = [torch.zeros(1, len(said.inputs))]
    if state is not None:
        given.append(torch.zeros(tuple(state.shape)))
    was_training, devices = module.training, {one.device for one in module.parameters()}
    module.eval().cpu()
    try:
        content = _checked(module, given, said)
    finally:
        module.train(was_training)
        if len(devices) == 1:
            module.to(devices.pop())
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        write_new(temporary, content)
        disk().replace(temporary, place)
    except OSError as error:
        raise ArtifactError(f"{place}: cannot write: {error.strerror}") from error
    return place


def _checked(module: nn.Module, given: list[Tensor], said: Settings) -> bytes:
    """The file's content, once it is known to say what the module does."""
    names = _outputs(module, given, said.name)
    content = _with_metadata(
        _written(_Named(module, names, remembers=len(given) > 1), given, names, said), said
    )
    worst, name = _parity(module, names, given, Network(content, said))
    if not worst <= PARITY_LIMIT:
        raise ArtifactError(
            f"{said.name}: not exported: the file differs from the module by {worst:.1e} in {name}, the limit is"
            f" {PARITY_LIMIT:.0e}"
        )
    return content


@torch.no_grad()
def _outputs(module: nn.Module, given: list[Tensor], whose: str) -> list[str]:
    """Names of what a module says, in the order of OUTPUTS."""
    try:
        said = module(*given)
    except Exception as error:  # whatever the user's own code raises
        shapes = ", ".join(str(list(one.shape)) for one in given)
        raise UsageError(
            f"export: {whose}: given {shapes}: {type(error).__name__}: {_line(error)}"
        ) from error
    if len(given) > 1:
        if not isinstance(said, tuple) or len(said) != 2 or not isinstance(said[1], Tensor):
            raise UsageError(
                f"export: {whose}: with a state it returns two: what it says, and the state after"
            )
        if said[1].shape != given[1].shape:
            raise UsageError(
                f"export: {whose}: the state after is {list(said[1].shape)}, the state {list(given[1].shape)}"
            )
        said = said[0]
    if not isinstance(said, Mapping) or not said or set(said) - set(OUTPUTS):
        raise UsageError(f"export: {whose}: it returns a dict of {', '.join(OUTPUTS)}, or of some of them")
    return [name for name in OUTPUTS if name in said]


def _written(module: nn.Module, given: list[Tensor], names: list[str], said: Settings) -> bytes:
    remembers = len(given) > 1
    file: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer warns that sizes are fixed, as they are meant to be
            torch.onnx.export(
                module.eval(),
                tuple(given),
                file,
                input_names=["x", "state"] if remembers else ["x"],
                output_names=[*names, "after"] if remembers else names,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises kinds of its own
        raise UsageError(f"export: {said.name}: torch cannot export it: {_line(error)}") from error
    content: bytes = file.getvalue()
    return content


def _with_metadata(content: bytes, said: Settings) -> bytes:
    """The file, which says of itself what it was trained on, which inputs it is shown, and when it may be traded."""
    try:
        import onnx
    except ImportError:
        raise UsageError(f"export: {said.name}: {missing_extra('onnx')}") from None
    model = onnx.load_model_from_string(content)
    entry = model.metadata_props.add()
    entry.key = SAYS
    entry.value = told_of(said).decode()
    written: bytes = model.SerializeToString(deterministic=True)
    return written


@torch.no_grad()
def _parity(module: nn.Module, names: list[str], given: list[Tensor], network: Network) -> tuple[float, str]:
    """The largest difference between a module and its file, and in what, over inputs drawn at random; each carries a
    state of its own.
    """
    rng = np.random.default_rng(0)
    remembers = len(given) > 1
    mine, theirs = (np.zeros(tuple(given[-1].shape), np.float32) for _ in range(2))
    rows: dict[str, list[tuple[Array, Array]]] = {name: [] for name in names}
    for _ in range(PARITY_EVENTS):
        x = rng.normal(size=(1, given[0].shape[1])).astype(np.float32)
        want = module(torch.from_numpy(x), *([torch.from_numpy(mine)] if remembers else []))
        want, after = want if remembers else (want, None)
        got = network.say(x, theirs if remembers else None)
        if after is not None:
            mine, theirs = after.numpy().copy(), got["after"]
        for name in names:
            rows[name].append((got[name], want[name].numpy().reshape(OUTPUTS[name])))
    worst = {}
    for name, pairs in rows.items():
        said, wanted = (np.stack([pair[k] for pair in pairs]) for k in (0, 1))
        worst[name] = difference(said, wanted)
    name = max(worst, key=lambda one: worst[one])
    return worst[name], name


def _line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
