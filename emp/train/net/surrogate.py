"""The networks of learned surrogates in torch, for training: the formulas of `emp.sim.surrogate.network`, in float32.

All read the input of `emp.train.data.leaps` and give its output; they differ in what lies between.

`graph` encodes every node, lets each twice hear its neighbours, and reads the answer off the global node, our orders
and the best prices (encode, process, decode: Battaglia et al., "Relational inductive biases, deep learning, and graph
networks", arXiv 1806.01261; Sanchez-Gonzalez et al., "Learning to simulate complex physics with graph networks", ICML
2020). Neighbours: price levels those beside them, so the best bid and the best ask each other; our order the best
price of its side and our other order; everybody the global node.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.train.data.leaps import (
    AHEAD,
    AT_LEVEL,
    AT_LOCATION,
    AT_OWN,
    GLOBALS,
    INPUTS,
    KINDS,
    LEVEL,
    LEVELS,
    NODES,
    OUTPUTS,
    OWN,
    QTY,
    REALS,
)

WIDE = 96
"""Units of the flat network's two layers."""
NODE, GLOBAL, READ = 16, 32, 64
"""Units of a node, of the global node, of the read-out."""
ROUNDS = 2
HEADS = AT_LOCATION + 2 * (QTY + 2)
"""Outputs that no price level says: log-odds, locations and log scales of the others."""


class Linear(nn.Module):
    """No hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(INPUTS, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """float32[n, OUTPUTS] of float32[n, INPUTS]."""
        y: Tensor = self.out(x)
        return y


class Flat(nn.Module):
    """Two hidden layers over all numbers: it is not told which belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(INPUTS, WIDE), nn.Linear(WIDE, WIDE)
        self.out = nn.Linear(WIDE, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """float32[n, OUTPUTS] of float32[n, INPUTS]."""
        y: Tensor = self.out(torch.relu(self.second(torch.relu(self.first(x)))))
        return y


class Graph(nn.Module):
    """Price levels, our orders and a global node that hear each other."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Linear(LEVEL, NODE)
        self.own = nn.Linear(OWN, NODE)
        self.world = nn.Linear(GLOBALS, GLOBAL)
        self.levels = nn.ModuleList(nn.Linear(3 * NODE + GLOBAL, NODE) for _ in range(ROUNDS))
        self.owns = nn.ModuleList(nn.Linear(3 * NODE + GLOBAL, NODE) for _ in range(ROUNDS))
        self.worlds = nn.ModuleList(nn.Linear(4 * NODE + GLOBAL, GLOBAL) for _ in range(ROUNDS))
        self.read = nn.Linear(4 * NODE + GLOBAL, READ)
        self.heads = nn.Linear(READ, HEADS)
        self.node = nn.Linear(NODE + GLOBAL, 4)

    def forward(self, x: Tensor) -> Tensor:
        """float32[n, OUTPUTS] of float32[n, INPUTS]."""
        n = len(x)
        levels = torch.relu(self.level(x[:, AT_LEVEL : AT_LEVEL + NODES * LEVEL].view(n, NODES, LEVEL)))
        owns = torch.relu(self.own(x[:, AT_OWN : AT_OWN + 2 * OWN].view(n, 2, OWN)))
        world = torch.relu(self.world(x[:, :GLOBALS]))
        for k in range(ROUNDS):
            levels, owns, world = self._hear(k, levels, owns, world)
        bid, ask = LEVELS - 1, LEVELS
        seen = torch.cat([world, owns[:, 0], owns[:, 1], levels[:, bid], levels[:, ask]], dim=1)
        heads = self.heads(torch.relu(self.read(seen)))
        nodes = self.node(torch.cat([levels, world[:, None].expand(-1, NODES, -1)], dim=2))
        return _assembled(heads, nodes)

    def _hear(self, k: int, levels: Tensor, owns: Tensor, world: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One round: everybody hears what the others were before it, and adds to what it was."""
        n = len(world)
        edge = torch.zeros(n, 1, NODE)
        beside = torch.cat([edge, levels[:, :-1]], dim=1) + torch.cat([levels[:, 1:], edge], dim=1)
        ours = owns.repeat_interleave(LEVELS, dim=1)
        wide = world[:, None]
        heard = torch.cat([levels, beside, ours, wide.expand(-1, NODES, -1)], dim=2)
        best = levels[:, LEVELS - 1 : LEVELS + 1]
        told = torch.cat([owns, best, owns.flip(1), wide.expand(-1, 2, -1)], dim=2)
        means = levels.view(n, 2, LEVELS, NODE).mean(dim=2)
        summed = torch.cat([world, means[:, 0], means[:, 1], owns[:, 0], owns[:, 1]], dim=1)
        return (
            levels + torch.relu(self.levels[k](heard)),
            owns + torch.relu(self.owns[k](told)),
            world + torch.relu(self.worlds[k](summed)),
        )


def _assembled(heads: Tensor, nodes: Tensor) -> Tensor:
    """The output from the heads [n, HEADS] and what each level says [n, NODES, 4]."""
    at, few = AT_LOCATION, QTY
    parts = [heads[:, :at]]
    for k in range(2):
        start = at + k * (few + 2)
        parts += [heads[:, start : start + few], nodes[:, :, 2 * k], nodes[:, :, 2 * k + 1]]
        parts.append(heads[:, start + few : start + few + 2])
    spare = heads.new_zeros(len(heads), OUTPUTS - at - 2 * REALS)
    return torch.cat([*parts, spare], dim=1)


class SurrogateNet(nn.Module):
    """A network, and how each real number follows the move of the mid: coefficients of the move and of its size."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UsageError(f"unknown surrogate {kind!r}: choose one of {', '.join(KINDS)}")
        self.kind = kind
        self.trunk: nn.Module = {"linear": Linear, "mlp": Flat, "graph": Graph}[kind]()
        self.follow = nn.Parameter(torch.zeros(2, REALS))

    def forward(self, x: Tensor) -> Tensor:
        """float32[n, OUTPUTS] of standardised inputs float32[n, INPUTS]."""
        y: Tensor = self.trunk(x)
        return y

    def weights(self) -> dict[str, Array]:
        """Weights by name, float32; matrices as [inputs, outputs]."""
        out: dict[str, Any] = {}
        for name, tensor in self.state_dict().items():
            x = tensor.detach().numpy().astype(np.float32)
            out[name.removeprefix("trunk.")] = np.ascontiguousarray(
                x.T if x.ndim == 2 and name != "follow" else x
            )
        return out


assert AHEAD == QTY + 2 * NODES  # the order in which `_assembled` lays out real numbers
