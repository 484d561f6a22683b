"""Transition models for the tests, and the plainest search of them."""

from typing import Any

import numpy as np

from emp.plan.transition import TransitionModel, pack


def random_weights(
    rng: np.random.Generator, actions: int, outcomes: int, s: int = 5, h: int = 7
) -> dict[str, Any]:
    """Weights of an unpadded model."""

    def draw(*shape: int) -> Any:
        return rng.normal(0.0, 0.6, shape)

    return {
        "w1": draw(s, h),
        "b1": draw(h),
        "action": draw(actions, h),
        "change": draw(outcomes, h, s),
        "change_bias": draw(outcomes, s),
        "logits": draw(h, outcomes),
        "logits_bias": draw(outcomes),
        "rewards": draw(h, outcomes),
        "rewards_bias": draw(outcomes),
        "value_hidden": draw(h),
        "value": draw(h),
        "value_bias": float(draw(1)[0]),
        "policy": draw(h, actions),
        "policy_bias": draw(actions),
        "discount": 0.9,
    }


def plain_values(w: dict[str, Any], state: Any, depth: int) -> list[float]:
    """Values of the actions by recursion in float64, from the formulas."""
    u = state @ w["w1"] + w["b1"]
    found = []
    for bias in w["action"]:
        h = np.maximum(u + bias, 0.0)
        odds = np.exp(h @ w["logits"] + w["logits_bias"])
        rewards = h @ w["rewards"] + w["rewards_bias"]
        total = 0.0
        for c, p in enumerate(odds / odds.sum()):
            after = np.clip(state + h @ w["change"][c] + w["change_bias"][c], -8.0, 8.0)
            total += p * (rewards[c] + w["discount"] * plain_value(w, after, depth - 1))
        found.append(float(total))
    return found


def plain_value(w: dict[str, Any], state: Any, depth: int) -> float:
    """Value of a state by recursion."""
    if depth > 0:
        return max(plain_values(w, state, depth))
    hidden = np.maximum(state @ w["w1"] + w["b1"] + w["value_hidden"], 0.0)
    return float(hidden @ w["value"] + w["value_bias"])


def golden_tree() -> tuple[TransitionModel, Any]:
    """A tree of states 0 to 6, two actions, two even outcomes, as a model, and its root.

    From 0: action 0 goes to 1 or 2 for a reward of 1; action 1 to 3 or 4 for nothing. From 1 and 2 both actions end
    at 5 or 6 for nothing; from 3 action 1 pays 8 whichever way it ends, from 4 action 0 costs 2 and action 1 costs 6.
    State 5 is worth 2, state 2 is worth 5 where a search ends there, all others nothing. So
    at depth 1: q(0, 0) = 1 + (0 + 5) / 2 and q(0, 1) = 0;
    at depth 2: q(0, 0) = 1 + 1 = 2 and q(0, 1) = ((8 + 1) + (-2 + 1)) / 2 = 4.
    """
    states, actions = 7, 2
    to = {(0, 0): (1, 2), (0, 1): (3, 4)} | {(s, a): (5, 6) for s in range(1, 5) for a in range(2)}
    pay = {(0, 0): 1.0, (3, 1): 8.0, (4, 0): -2.0, (4, 1): -6.0}
    units = states * actions
    w1, action = np.zeros((states, units)), np.full((actions, units), -1.0)
    change, rewards = np.zeros((2, units, states)), np.zeros((units, 2))
    value = np.zeros(units)
    for s in range(states):
        for a in range(actions):
            unit = s * actions + a
            w1[s, unit], action[a, unit] = 1.0, 0.0
            rewards[unit] = pay.get((s, a), 0.0)
            for c, target in enumerate(to.get((s, a), (s, s))):
                change[c, unit, s] -= 1.0
                change[c, unit, target] += 1.0
    value[5 * actions], value[2 * actions] = 2.0, 5.0
    model = pack(
        w1=w1,
        b1=np.zeros(units),
        action=action,
        change=change,
        change_bias=np.zeros((2, states)),
        logits=np.zeros((units, 2)),
        logits_bias=np.zeros(2),
        rewards=rewards,
        rewards_bias=np.zeros(2),
        value_hidden=np.zeros(units),
        value=value,
        value_bias=0.0,
        policy=np.zeros((units, actions)),
        policy_bias=np.zeros(actions),
    )
    return model, np.eye(states, dtype=np.float32)[0]
