"""The heads of new markets on a frozen body: where each begins, and what it learns before anything below it moves.

A new head begins as the head for all, or as a linear model of the new market alone; both are learned, and the one that
loses less on the calibration part is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from emp.core.records import Array
from emp.train.data.chunks import Stream
from emp.train.data.data import Dataset
from emp.train.fit.arms import AdaptSettings
from emp.train.fit.fit import pooled_sample
from emp.train.fit.linear import fit_head
from emp.train.fit.losses import Scales, Weights
from emp.train.fit.probe import learn_heads
from emp.train.fit.sequence import calibration_loss, write_linear
from emp.train.net.adapters import leave_out, merged, train_heads, with_heads
from emp.train.net.network import Network

Start = Callable[[Network], None]
"""Writes into a network, in place, where its new heads begin."""


class Market(NamedTuple):
    """What is adapted to."""

    seen: Sequence[Dataset]  # through the base's depth encoder
    streams: Sequence[Stream]
    edges: Array  # float64[heads, HORIZONS], of all heads, the new ones included
    scales: Scales
    heads: Sequence[int]  # that are trained
    names: Sequence[str]  # of those that the base does not have


class Began(NamedTuple):
    """How the heads were learned."""

    losses: dict[str, float]  # on the calibration part, by where they began
    steps: int


def learn_new_heads(
    network: Network, market: Market, affine: bool, settings: AdaptSettings, weights: Weights
) -> tuple[Network, Began]:
    """A copy of a network with heads for new markets, learned on its frozen body.

    Args:
        network: the base.
        market: what is adapted to.
        affine: learn a scale and an offset of the head for all, and no head.
        settings: how much.
        weights: of the losses.
    """
    found: dict[str, tuple[float, Network]] = {}
    losses: list[float] = []
    for name, begin in _starts(network, market, affine):
        wider = with_heads(network, market.names)
        begin(wider)
        _leave_out_constants(wider, market)
        train_heads(wider.requires_grad_(False), market.heads, affine)
        losses = learn_heads(wider, market.streams, market.scales, settings, weights)
        found[name] = calibration_loss(merged(wider), market.seen, market.edges), wider
    best = min(found, key=lambda name: found[name][0])
    return found[best][1], Began({name: loss for name, (loss, _) in found.items()}, len(losses))


def _starts(network: Network, market: Market, affine: bool) -> Iterator[tuple[str, Start]]:
    """Where new heads may begin, by name."""
    yield "base", lambda wider: None
    if market.names and not affine and not network.heads.shared:
        yield "linear", lambda wider: _write_linear(wider, market)


def _write_linear(wider: Network, market: Market) -> None:
    """Have every new head say what a linear model says that was fitted to its market's training part."""
    for name in market.names:
        at = wider.domains.index(name)
        mine = [data for data, stream in zip(market.seen, market.streams, strict=True) if stream.domain == at]
        train, calibrate = (pooled_sample(mine, part, market.edges[at]) for part in ("train", "calibrate"))
        fitted = fit_head(train, calibrate, lambda: None)
        weight, bias = fitted.weight.astype(np.float32)[None], fitted.bias.astype(np.float32)[None]
        middle = train.x.mean(axis=0, dtype=np.float64).astype(np.float32) @ weight[0] + bias
        write_linear(wider.heads, slice(at, at + 1), *(torch.from_numpy(a) for a in (weight, bias, middle)))


def _leave_out_constants(wider: Network, market: Market) -> None:
    """Take out of each new head the inputs that are the same at all usable rows of its market."""
    if wider.heads.shared:
        return
    for name in market.names:
        at = wider.domains.index(name)
        x = np.concatenate([one.x[one.use] for one in market.streams if one.domain == at])
        constant = (x == x[0]).all(axis=0)
        leave_out(wider.heads, at, torch.from_numpy(x[0]), torch.from_numpy(constant))
