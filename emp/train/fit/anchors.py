"""What holds a network near where it was: L2-SP and EWC, as penalties of the trainer.

L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483) weighs all changes alike; EWC (Kirkpatrick et al. 2017,
arXiv 1612.00796) weighs them by the Fisher information of what the network knew before. The change of a map with an
adapter is that of the merged weight. The penalty is in units of the mean loss of a row and horizon.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from emp.core.ids import generator
from emp.core.records import HORIZONS
from emp.train.data.chunks import Sequence as Stretch
from emp.train.data.chunks import Stream, burn_in, plan_epoch, window_batch
from emp.train.fit.learner import Penalty
from emp.train.net.adapters import adapters
from emp.train.net.network import Network, read_outputs

HEADS = "heads."


class Change(NamedTuple):
    """How far a weight is from where it was."""

    name: str
    by: Tensor


def start_of(network: Network) -> dict[str, Tensor]:
    """The trained weights as they are now, by name: where penalties hold them."""
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}


def changes(network: Network, start: Mapping[str, Tensor]) -> Iterable[Change]:
    """Changes of all trained weights; of a map with an adapter that of the map."""
    inside: set[str] = set()
    for name, adapter in adapters(network):
        inside |= {f"{name}.a", f"{name}.b"}
        yield Change(f"{name}.weight", adapter.change)
    for name, p in network.named_parameters():
        if p.requires_grad and name not in inside:
            yield Change(name, p - start[name])


def l2_sp(start: Mapping[str, Tensor], alpha: float, beta: float) -> Penalty:
    """alpha/2 |w - w0|^2 of the body plus beta/2 of the heads, whose start is the head for all."""

    def penalty(network: Network) -> Tensor:
        terms = [
            0.5 * (beta if name.startswith(HEADS) else alpha) * by.square().sum()
            for name, by in changes(network, start)
        ]
        return torch.stack(terms).sum()

    return penalty


def ewc(start: Mapping[str, Tensor], fisher: Mapping[str, Tensor], ratio: float) -> Penalty:
    """ratio / (2 HORIZONS) sum F (w - w0)^2 over the weights of which the Fisher information is known.

    With F of one row and `ratio` rows of the past for each new one it is the Gaussian approximation of what the rows of
    the past would add to the loss: nothing to be tuned.
    """

    def penalty(network: Network) -> Tensor:
        terms = [(fisher[name] * by.square()).sum() for name, by in changes(network, start) if name in fisher]
        return torch.stack(terms).sum() * (ratio / (2.0 * HORIZONS))

    return penalty


def fisher_diagonal(
    module: nn.Module, batches: Iterable[Callable[[], tuple[Tensor, Tensor]]], seed: int
) -> dict[str, Tensor]:
    """Mean over rows of E[(d log p(y | x) / d w)^2], y drawn from the module itself: the true Fisher, not of labels.

    Rows are scored together: the scores of labels that are drawn independently given the inputs have mean nought and
    are uncorrelated, so the square of their summed gradient estimates the sum of their squares without bias, at one
    backward pass for a batch.

    Args:
        module: whose trained parameters are looked at.
        batches: each called for log probabilities [..., classes] and a mask [...] of the rows that count.
        seed: draws the labels.
    """
    torch_rng = torch.Generator().manual_seed(int(generator(seed, "fisher").integers(2**62)))
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    found = {name: torch.zeros_like(p) for name, p in named}
    rows = 0.0
    for batch in batches:
        log_p, counts = batch()
        flat = log_p.reshape(-1, log_p.shape[-1])
        with torch.no_grad():
            drawn = torch.multinomial(flat.exp(), 1, generator=torch_rng)
        score = (flat.gather(-1, drawn)[:, 0] * counts.reshape(-1)).sum()
        gradients = torch.autograd.grad(score, [p for _, p in named], allow_unused=True)
        for (name, _), gradient in zip(named, gradients, strict=True):
            if gradient is not None:
                found[name] += gradient.square()
        rows += float(counts.sum())
    return {name: total / max(rows, 1.0) for name, total in found.items()}


def fisher_of(
    network: Network, streams: Sequence[Stream], length: int, rows: int, seed: int
) -> dict[str, Tensor]:
    """The Fisher information of one row of some series, all horizons of it together, on sequences drawn at random.

    Args:
        network: plain; every parameter of it is looked at.
        streams: series that it was trained on, each through its own head.
        length: of the windows that are scored together.
        rows: of each series.
        seed: draws sequences and labels.
    """
    network = network.requires_grad_(True)
    plan = plan_epoch(streams, length, 1, seed, 0, rows)

    def batch(group: Sequence[Stretch]) -> tuple[Tensor, Tensor]:
        x, burn = burn_in(streams, group)
        one = window_batch(streams, group, 0)
        with torch.no_grad():
            state = None
            if burn[0]:
                before = torch.from_numpy(x[:, x.shape[1] - int(burn[0]) :])
                state = network.backbone(network.embed(before)[0], None)[1]
        carried = network(torch.from_numpy(one.x), state, torch.from_numpy(one.domain))
        log_p = read_outputs(carried.raw).logits.log_softmax(-1)
        used = torch.from_numpy(one.weight > 0)[..., None].expand(*log_p.shape[:-1])
        return log_p, used.to(log_p.dtype)

    found = fisher_diagonal(network, [partial(batch, group) for group in plan], seed)
    return {name: HORIZONS * one for name, one in found.items()}  # of a row: all its horizons
