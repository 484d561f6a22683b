"""Training a planner: rounds of choosing and fitting, from choices that were drawn to its own (DAgger's order).

In the first round all choices are drawn; in each further one the planner of the round before chooses, but for a share,
and what the trip of a choice brings is learned of its own conduct alone: a transition model knows nothing of conduct
that it never saw (He et al., AAMAS 2024). Of a choice are learned: which outcome comes (`outcomes`), the reward and the
next essentials of the outcome that came, the expected reward, and the value: what the trip brings from here on.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, huber_loss

from emp.core.errors import DataError
from emp.core.records import Array
from emp.plan.essentials import ACTIONS, WIDTH
from emp.plan.transition import BOUND
from emp.train.data.choices import Choices, join
from emp.train.fit.outcomes import flat_band, merge, raw_classes
from emp.train.net.transition import TransitionNet

EPOCHS = 12
BATCH = 512
RATE = 2e-3
TAIL = 3.0
"""Error beyond which it counts linearly: what a mid does has fat tails. Errors are in units and costs of a round trip
together: where a market's costs are hundreds of its moves, missing them by some must not drown all other markets."""

LEAST_CHOICES = 400

NEXT_WEIGHT = 0.3
"""Of the next essentials against the other losses: each is one number of many."""


class Fitted(NamedTuple):
    """A network and the location and scale of its essentials."""

    net: TransitionNet
    centre: Array
    spread: Array
    band: float
    merged: Array  # int64[RAW]
    loss: list[float]  # by epoch, of the part that was held back


def scales(choices: Choices) -> tuple[Array, Array]:
    """Location and scale of the essentials: float32[WIDTH] each."""
    z = choices.points["z"].astype(np.float64)
    low, high = np.quantile(z, [0.01, 0.99], axis=0)
    z = np.clip(z, low, high)
    spread = z.std(axis=0)
    return z.mean(axis=0).astype(np.float32), np.where(spread > 1e-6, spread, 1.0).astype(np.float32)


def standardised(z: Array, centre: Array, spread: Array) -> Array:
    """Essentials as the network has them: float32[n, WIDTH]."""
    return np.clip((z - centre) / spread, -BOUND, BOUND).astype(np.float32)


class _Sample(NamedTuple):
    """Tensors of choices."""

    z: Tensor
    action: Tensor
    outcome: Tensor
    reward: Tensor
    following: Tensor
    closed: Tensor
    own: Tensor  # 1 where the trip was of the conduct whose value is learned
    weight: Tensor
    yardstick: Tensor  # units that an error is measured in


def _sample(choices: Choices, own: Array, weight: Array, fitted: Fitted) -> _Sample:
    def of(x: Array, kind: type = np.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x.astype(kind)))

    raw = raw_classes(choices, fitted.band)
    return _Sample(
        of(standardised(choices.points["z"], fitted.centre, fitted.spread)),
        of(choices.points["action"], np.int64),
        of(fitted.merged[raw], np.int64),
        of(choices.reward),
        of(standardised(choices.following, fitted.centre, fitted.spread)),
        of(choices.realised[:, -1]),
        of(own),
        of(weight),
        of(1.0 + (0.5 * choices.points["spread"] + choices.points["taker_fee"]) / choices.points["unit"]),
    )


def _loss(net: TransitionNet, s: _Sample) -> Tensor:
    logits, rewards, following = net(s.z, s.action)
    rows = torch.arange(len(s.z))
    p = torch.softmax(logits, dim=1)
    step = (p * rewards).sum(dim=1)
    trip = step + (p * net.value(following)).sum(dim=1)
    by_choice = cross_entropy(logits, s.outcome, reduction="none")
    unit = s.yardstick
    by_choice = by_choice + _huber(rewards[rows, s.outcome], s.reward, unit) + _huber(step, s.reward, unit)
    away = huber_loss(following[rows, s.outcome], s.following, reduction="none").mean(dim=1)
    by_choice = by_choice + NEXT_WEIGHT * away
    valued = _huber(trip, s.closed, unit) + _huber(net.value(s.z), s.closed, unit)
    return (s.weight * (by_choice + s.own * valued)).sum() / s.weight.sum()


def _huber(said: Tensor, came: Tensor, unit: Tensor) -> Tensor:
    return huber_loss(said / unit, came / unit, reduction="none", delta=TAIL)


def fit(
    parts: Sequence[Choices],
    own: Sequence[bool],
    *,
    outcomes: int,
    hidden: int,
    seed: int,
    epochs: int = EPOCHS,
    progress: Callable[[float], None] = lambda _: None,
) -> Fitted:
    """Fit a network to choices.

    Args:
        parts: of one source and round each; every part counts as much as any other.
        own: by part, whether its trips are of the conduct that is to be valued.
        outcomes: told apart.
        hidden: units.
        seed: of the weights and the order.
        epochs: how often each choice is seen.

    Raises:
        DataError: there are too few choices.
    """
    made = sum(len(p.kind) for p in parts)
    if made < LEAST_CHOICES:
        raise DataError(f"{made} choices are too few to train a planner on: name more recordings")
    whole = join(list(parts))
    torch.manual_seed(seed)
    centre, spread = scales(whole)
    band = flat_band(whole)
    brings = np.clip(np.stack([whole.reward, whole.realised[:, -1]], axis=1), -25.0, 25.0)
    merged = merge(raw_classes(whole, band), brings, outcomes)
    net = TransitionNet(WIDTH, hidden, ACTIONS, outcomes)
    fitted = Fitted(net, centre, spread, band, merged, [])
    share = np.concatenate([np.full(len(p.kind), len(whole.kind) / len(parts) / len(p.kind)) for p in parts])
    mine = np.concatenate([np.full(len(p.kind), float(one)) for p, one in zip(parts, own, strict=True)])
    sample = _sample(whole, mine, share, fitted)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=1e-4)
    steps = epochs * -(-len(whole.kind) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    order = np.random.default_rng(seed)
    for epoch in range(epochs):
        total, count = 0.0, 0
        for rows in np.array_split(order.permutation(len(whole.kind)), -(-len(whole.kind) // BATCH)):
            some = torch.from_numpy(rows)
            loss = _loss(net, _Sample(*(field[some] for field in sample)))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total, count = total + float(loss.detach()), count + 1
        fitted.loss.append(total / count)
        progress((epoch + 1) / epochs)
    _fit_policy(net, sample.z, seed)
    return fitted


def _fit_policy(net: TransitionNet, z: Tensor, seed: int, steps: int = 200) -> None:
    """Let the policy's log-odds prefer what depth 1 prefers; nothing else of the network changes."""
    optimiser = torch.optim.Adam(net.policy.parameters(), lr=1e-2)
    order = np.random.default_rng(seed)
    for _ in range(steps):
        some = z[torch.from_numpy(order.integers(0, len(z), min(BATCH, len(z))))]
        with torch.no_grad():
            values = [
                net.imagined(some, torch.full((len(some),), a, dtype=torch.int64))[1] for a in range(ACTIONS)
            ]
            best = torch.stack(values, dim=1).argmax(dim=1)
            hidden = torch.relu(net.first(some) + net.value_hidden)
        loss = cross_entropy(net.policy(hidden), best)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
