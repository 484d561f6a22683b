"""From a trained network to an artifact that the runtime can trust: what it computes is compared before it is kept."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emp.core.errors import ArtifactError, ConfigError
from emp.core.records import Array
from emp.model.artifact import Artifact, Manifest, save
from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.calibration import ISOTONIC, QUARTILES
from emp.model.ssm_config import config_from
from emp.model.ssm_heads import BIG_MOVES_AT
from emp.train.fit.calibration import apply_table
from emp.train.fit.rollout import rollout
from emp.train.net.network import Network, read_outputs

PARITY_LIMIT = 1e-4
"""Largest difference between the step and the network, relative to a value or to its output's usual size."""

PARITY_EVENTS = 4096
"""Events over which they are compared, for every domain."""


@torch.no_grad()
def torch_forecast(
    network: Network, calibration: dict[str, Array], x: Array, domain: int
) -> dict[str, Array]:
    """What the network says of x [n, inputs] from the start, in double precision, by field of FORECAST.

    `calibration` holds the tensors TEMPERATURE and, where there are any, ISOTONIC and QUARTILES.
    """
    exact = Network(network.config, network.inputs, network.domains).double().eval()
    exact.load_state_dict({name: t.double().cpu() for name, t in network.state_dict().items()})
    carried = exact(torch.from_numpy(x.astype(np.float64))[None], None, torch.tensor([domain]))
    outputs = read_outputs(carried.raw[0])
    share = torch.from_numpy(calibration[TEMPERATURE][domain].astype(np.float64))[:, None]
    p, q = (outputs.logits / share).softmax(-1).numpy(), outputs.quantiles.numpy()
    if ISOTONIC in calibration:
        for h, table in enumerate(calibration[ISOTONIC][domain]):
            if table.any():
                p[:, h] = apply_table(table, p[:, h])
    if QUARTILES in calibration:
        follow, rest = calibration[QUARTILES][domain].astype(np.float64).T
        q = follow[:, None] * q + rest[:, None] * np.array([-1.0, 0.0, 1.0])
    return {
        "p": p,
        "q": q,
        "mean": outputs.mean.numpy(),
        "big": outputs.big.numpy(),
    }


def step_forecast(network: Network, tensors: dict[str, Array], x: Array, domain: int) -> dict[str, Array]:
    """The same from the compiled step."""
    built = pack(network.config, tensors, network.inputs, len(network.domains), "export")
    out, raw = rollout(built.params, built.state_size, domain, x)
    return {"p": out["p"], "q": out["q"], "mean": out["mean"], "big": raw[:, BIG_MOVES_AT:]}


def difference(got: Array, want: Array, over: tuple[int, ...] = (0,)) -> float:
    """Largest |got - want| / (|want| + standard deviation of the output); infinite where a value is no number.

    Args:
        got, want: [n, ...].
        over: axes of the standard deviation: rows, and what shares their scale.
    """
    if not (np.isfinite(got).all() and np.isfinite(want).all()):
        return float("inf")
    scale = np.abs(want) + want.std(axis=over, keepdims=True) + np.finfo(np.float32).tiny
    # an output that never moves and is nought has no size to be relative to
    return float((np.abs(got - want) / np.maximum(scale, 1e-6)).max(initial=0.0))


def parity(network: Network, tensors: dict[str, Array], x: Sequence[Array]) -> dict[str, float]:
    """Largest difference of each field over all domains, for real events of each: float32[n, inputs]."""
    worst = dict.fromkeys(("p", "q", "mean", "big"), 0.0)
    for domain, events in enumerate(x):
        want = torch_forecast(network, tensors, events[:PARITY_EVENTS], domain)
        got = step_forecast(network, tensors, events[:PARITY_EVENTS], domain)
        for name in worst:
            # the quantiles of a horizon have one scale, their distance: a median is near nought, and small beside it
            over = (0, 2) if name == "q" else (0,)
            worst[name] = max(worst[name], difference(got[name], want[name], over))
    return worst


def export(
    folder: Path,
    network: Network,
    manifest: Manifest,
    calibration: dict[str, Array],
    extra: dict[str, Array],
    x: Sequence[Array],
) -> Artifact:
    """Write the artifact of a network after comparing the compiled step with it.

    Args:
        folder: where to write.
        network: trained; its tensors are stored by name.
        manifest: `kind`, `domains` and sizes are set here from the network.
        calibration: tensors of `emp.train.fit.sequence.Calibration`.
        extra: further tensors (the depth encoder's).
        x: for each domain float32[n, inputs], real events to compare on.

    Raises:
        ArtifactError: step and network differ by more than PARITY_LIMIT; nothing is written.
    """
    tensors = network.tensors() | calibration
    assert len(x) == len(network.domains)
    worst = parity(network, tensors, x)
    name = max(worst, key=lambda field: worst[field])
    if not worst[name] <= PARITY_LIMIT:
        raise ArtifactError(
            f"{folder}: not exported: the compiled step differs from the network by {worst[name]:.1e} in "
            f"{name}, the limit is {PARITY_LIMIT:.0e}"
        )
    manifest.kind = network.config.impl
    manifest.domains = list(network.domains)
    sizes = {field: getattr(network.config, field) for field in network.config.__struct_fields__}
    manifest.config = manifest.config | {"model": sizes}
    compared = {"events": min(*map(len, x), PARITY_EVENTS), "limit": PARITY_LIMIT, **worst}
    manifest.metrics = manifest.metrics | {"parity": compared}
    return save(folder, manifest, tensors | extra)


def load_network(artifact: Artifact, inputs: int) -> tuple[Network, dict[str, Array]]:
    """The trainable network of an artifact and the tensors of its calibration.

    Raises:
        ArtifactError: the artifact holds another kind of model, or its tensors do not fit its sizes.
    """
    manifest = artifact.manifest
    if manifest.kind == "linear":
        raise ArtifactError(f"artifact {artifact.hash[:12]}: a linear model has no network")
    try:
        network = Network(config_from(manifest.config.get("model", {})), inputs, manifest.domains)
        own = set(network.state_dict())
        network.load_state_dict(
            {name: torch.from_numpy(t.copy()) for name, t in artifact.tensors.items() if name in own}
        )
    except (ConfigError, RuntimeError) as error:
        line = str(error).splitlines()[-1].strip()
        raise ArtifactError(f"artifact {artifact.hash[:12]}: tensors do not fit: {line}") from error
    calibration = (TEMPERATURE, ISOTONIC, QUARTILES)
    return network, {name: t for name, t in artifact.tensors.items() if name in calibration}


class _Step(nn.Module):
    """One event of a network for a fixed domain, as a graph of x and state."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [1, 1, inputs] and state [1, state_size] to raw outputs and the state after."""
        carried = self.network(x, state, torch.zeros(1, dtype=torch.int64))
        return carried.raw, carried.state


def onnx_step(network: Network) -> bytes:
    """The step of domain 0 as an ONNX model with inputs `x`, `state` and outputs `raw`, `after`."""
    file: Any = io.BytesIO()
    example = (torch.zeros(1, 1, network.inputs), network.backbone.start(1))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns that T = 1 is fixed, as it is meant to be
        torch.onnx.export(
            _Step(network).eval(),
            example,
            file,
            input_names=["x", "state"],
            output_names=["raw", "after"],
            opset_version=18,
            dynamo=False,
        )
    return file.getvalue()
