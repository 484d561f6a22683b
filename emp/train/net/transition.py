"""The transition model of `emp.plan.transition` in torch, for training: the same formulas, in float32."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emp.core.records import Array
from emp.plan.transition import BOUND


class TransitionNet(nn.Module):
    """Afterstates by action, weighted outcomes of each, values of states.

    Shapes: z float32[n, S]; an action int64[n].
    """

    def __init__(self, width: int, hidden: int, actions: int, outcomes: int) -> None:
        super().__init__()
        self.width, self.outcomes = width, outcomes
        self.first = nn.Linear(width, hidden)
        self.action = nn.Parameter(torch.randn(actions, hidden) * 0.3)
        self.change = nn.Linear(hidden, outcomes * width)
        self.logits = nn.Linear(hidden, outcomes)
        self.rewards = nn.Linear(hidden, outcomes)
        self.value_hidden = nn.Parameter(torch.randn(hidden) * 0.3)
        self.worth = nn.Linear(hidden, 1)
        self.policy = nn.Linear(hidden, actions)

    def forward(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log-odds [n, C], rewards [n, C], following states [n, C, S]) of taking an action in each state."""
        h = torch.relu(self.first(z) + self.action[action])
        moved = z[:, None, :] + self.change(h).view(-1, self.outcomes, self.width)
        bound = float(BOUND)
        return self.logits(h), self.rewards(h), moved.clamp(-bound, bound)

    def value(self, z: Tensor) -> Tensor:
        """Value of each state, [n] of [n, S] or [n, C] of [n, C, S]."""
        found: Tensor = self.worth(torch.relu(self.first(z) + self.value_hidden))[..., 0]
        return found

    def odds(self, z: Tensor) -> Tensor:
        """Log-odds of the actions, [n, A]."""
        found: Tensor = self.policy(torch.relu(self.first(z) + self.value_hidden))
        return found

    def imagined(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """(expected reward [n], expected reward and value of what follows [n]): the search's values at depth 1."""
        logits, rewards, following = self(z, action)
        p = torch.softmax(logits, dim=1)
        step = (p * rewards).sum(dim=1)
        return step, step + (p * self.value(following)).sum(dim=1)

    def weights(self) -> dict[str, Any]:
        """Unpadded weights by the names of `emp.plan.transition.pack`, float32, without the bias of the value."""

        def of(x: Tensor) -> Array:
            return np.ascontiguousarray(x.detach().numpy().astype(np.float32))

        c, s = self.outcomes, self.width
        change = of(self.change.weight).reshape(c, s, -1).transpose(0, 2, 1)
        return {
            "w1": of(self.first.weight).T,
            "b1": of(self.first.bias),
            "action": of(self.action),
            "change": change,
            "change_bias": of(self.change.bias).reshape(c, s),
            "logits": of(self.logits.weight).T,
            "logits_bias": of(self.logits.bias),
            "rewards": of(self.rewards.weight).T,
            "rewards_bias": of(self.rewards.bias),
            "value_hidden": of(self.value_hidden),
            "value": of(self.worth.weight)[0],
            "policy": of(self.policy.weight).T,
            "policy_bias": of(self.policy.bias),
        }

    @property
    def value_bias(self) -> float:
        """Bias of the value."""
        return float(self.worth.bias.detach()[0])
