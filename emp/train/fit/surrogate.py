"""Fitting a surrogate to leaps of the simulator.

Everything that it says is a distribution: log-odds by cross-entropy, real numbers by the likelihood of a normal law
whose residuals are then kept as they came (quantiles of the standardised residuals), so their tails are the
simulator's. Inputs are disturbed in training: in use they are the surrogate's own output, and what it never saw near
the data it cannot correct (Sanchez-Gonzalez et al., ICML 2020).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from emp.core.errors import DataError
from emp.core.records import Array
from emp.train.data.leaps import (
    AT_LOCATION,
    AT_MOVE,
    AT_SCALE,
    FULL,
    MOVES,
    NONE,
    PART,
    PARTS,
    REALS,
)
from emp.train.net.surrogate import SurrogateNet

EPOCHS = 12
BATCH = 1024
RATE = 3e-3
NOISE = 0.05
"""Deviation of what is added to standardised inputs."""
BOUND = 5.0
"""No standardised input passes this."""
FARTHEST = 4.0
"""Move of the mid, in usual spreads, beyond which real numbers follow it no farther."""
LEAST, MOST = -4.0, 2.0
"""Of log scales."""
LEAST_LEAPS = 2_000
HELD_BACK = 0.1
"""Last part of the leaps, which is not fitted to."""


class FittedSurrogate(NamedTuple):
    """A network and the tables that turn its output into draws."""

    net: SurrogateNet
    centre: Array  # float32[INPUTS]
    spread: Array  # float32[INPUTS]
    edges: Array  # float32[MOVES - 1]
    moves: Array  # float32[MOVES, PARTS]: quantiles of the moves of a class
    residuals: Array  # float32[REALS, 4 PARTS]: quantiles of the standardised residuals
    shares: Array  # float32[PARTS]: quantiles of the share of an order that is filled in part
    loss: list[float]  # by epoch, of the part held back


def standardised(x: Array, centre: Array, spread: Array) -> Array:
    """Inputs as a network has them."""
    return np.clip((x - centre) / spread, -BOUND, BOUND).astype(np.float32)


def _quantiles(x: Array, n: int) -> Array:
    return np.quantile(x, (np.arange(n) + 0.5) / n).astype(np.float32)


def move_classes(move: Array) -> tuple[Array, Array]:
    """Edges of the classes of moves, and quantiles of each; a class in which nothing falls has its edge's value."""
    edges = np.quantile(move, np.arange(1, MOVES) / MOVES).astype(np.float32)
    found = np.searchsorted(edges, move, side="right")
    table = np.zeros((MOVES, PARTS), np.float32)
    for k in range(MOVES):
        inside = move[found == k]
        table[k] = _quantiles(inside, PARTS) if len(inside) else edges[min(k, MOVES - 2)]
    return edges, table


class _Sample(NamedTuple):
    x: Tensor
    fill: Tensor  # int64[n, 2], -1 where none
    move: Tensor  # int64[n]
    size: Tensor  # float32[n], the move itself, bounded
    real: Tensor  # float32[n, REALS], 0 where it is not defined
    known: Tensor  # bool[n, REALS]


def _sample(leaps: Array, centre: Array, spread: Array, edges: Array) -> _Sample:
    real = np.asarray(leaps["real"])
    known = np.isfinite(real)
    return _Sample(
        torch.from_numpy(standardised(leaps["x"], centre, spread)),
        torch.from_numpy(np.ascontiguousarray(leaps["fill"])),
        torch.from_numpy(np.searchsorted(edges, leaps["move"], side="right").astype(np.int64)),
        torch.from_numpy(np.clip(leaps["move"], -FARTHEST, FARTHEST)),
        torch.from_numpy(np.where(known, real, 0.0).astype(np.float32)),
        torch.from_numpy(known),
    )


def fill_odds(y: Tensor, bid: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds [n, 3] of the fates of our bid and our ask, by what became of the bid."""
    none = torch.zeros_like(y[:, :1])
    extra = y[:, 4:5] * (bid == FULL).float()[:, None]
    return torch.cat([none, y[:, 0:2]], dim=1), torch.cat([none, y[:, 2:3] + extra, y[:, 3:4]], dim=1)


def move_odds(y: Tensor, fill: Tensor) -> Tensor:
    """Log-odds [n, MOVES] of the move of the mid, by what was filled."""
    odds = y[:, AT_MOVE : AT_MOVE + MOVES]
    for side in range(2):
        at = AT_MOVE + MOVES * (1 + side)
        odds = odds + y[:, at : at + MOVES] * (fill[:, side] > NONE).float()[:, None]
    return odds


def located(net: SurrogateNet, y: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Locations and log scales [n, REALS] of the real numbers, by the move of the mid."""
    at = y[:, AT_LOCATION : AT_LOCATION + REALS]
    at = at + net.follow[0] * size[:, None] + net.follow[1] * size.abs()[:, None]
    return at, y[:, AT_SCALE : AT_SCALE + REALS].clamp(LEAST, MOST)


def _loss(net: SurrogateNet, s: _Sample, noise: float) -> Tensor:
    x = s.x + noise * torch.randn_like(s.x) if noise else s.x
    y = net(x)
    bid, ask = fill_odds(y, s.fill[:, 0])
    total = cross_entropy(move_odds(y, s.fill), s.move)
    for side, odds in enumerate((bid, ask)):
        rested = s.fill[:, side] >= NONE
        if bool(rested.any()):
            total = total + rested.float().mean() * cross_entropy(odds[rested], s.fill[rested, side])
    at, scale = located(net, y, s.size)
    away = 0.5 * ((s.real - at) * torch.exp(-scale)) ** 2 + scale
    return total + 0.1 * (away * s.known.float()).sum() / len(s.x)


def fit_surrogate(
    leaps: Array,
    kind: str,
    *,
    seed: int,
    epochs: int = EPOCHS,
    noise: float = NOISE,
    net: SurrogateNet | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> FittedSurrogate:
    """Fit a network to LEAP rows; with `net`, go on from that one.

    Raises:
        DataError: there are too few leaps.
    """
    if len(leaps) < LEAST_LEAPS:
        raise DataError(f"{len(leaps)} leaps are too few to fit a surrogate to: at least {LEAST_LEAPS}")
    torch.manual_seed(seed)
    net = net or SurrogateNet(kind)
    centre = leaps["x"].mean(axis=0).astype(np.float32)
    spread = leaps["x"].std(axis=0).astype(np.float32)
    spread[spread < 1e-4] = 1.0
    edges, moves = move_classes(leaps["move"])
    order = np.random.default_rng(seed)
    leaps = leaps[order.permutation(len(leaps))]
    whole = _sample(leaps, centre, spread, edges)
    cut = int(len(leaps) * (1.0 - HELD_BACK))
    held = _Sample(*(field[cut:] for field in whole))
    losses = _epochs(net, _Sample(*(field[:cut] for field in whole)), held, epochs, noise, order, progress)
    return FittedSurrogate(net, centre, spread, edges, moves, _residuals(net, held), _parts(), losses)


def _epochs(
    net: SurrogateNet,
    sample: _Sample,
    held: _Sample,
    epochs: int,
    noise: float,
    order: np.random.Generator,
    progress: Callable[[float], None],
) -> list[float]:
    batches = -(-len(sample.x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    losses = []
    for epoch in range(epochs):
        for rows in np.array_split(order.permutation(len(sample.x)), batches):
            some = torch.from_numpy(rows)
            loss = _loss(net, _Sample(*(field[some] for field in sample)), noise)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            losses.append(float(_loss(net, held, 0.0)))
        progress((epoch + 1) / epochs)
    return losses


def _residuals(net: SurrogateNet, held: _Sample) -> Array:
    """Quantiles of the standardised residuals of each real number."""
    with torch.no_grad():
        at, scale = located(net, net(held.x), held.size)
        away = ((held.real - at) * torch.exp(-scale)).numpy()
    known = held.known.numpy()
    out = np.zeros((REALS, 4 * PARTS), np.float32)
    for k in range(REALS):
        if known[:, k].any():
            out[k] = _quantiles(away[known[:, k], k], 4 * PARTS)
    return out


def _parts() -> Array:
    """Shares of an order that is filled in part: any, since whole orders are the rule (see docs/simulator.md)."""
    return ((np.arange(PARTS) + 0.5) / PARTS).astype(np.float32)


__all__ = ["FULL", "NONE", "PART", "FittedSurrogate", "fit_surrogate", "standardised"]
