"""A planner of random weights, which chooses often and badly."""

from pathlib import Path

import numpy as np

from emp.core.records import Array
from emp.plan.artifact import PlannerArtifact, PlannerManifest, save_planner
from emp.plan.essentials import ACTIONS, ESSENTIALS, WIDTH

HIDDEN, OUTCOMES = 12, 2


def random_planner(folder: Path, model: str, seed: int = 8, step: int = 5, depth: int = 2) -> PlannerArtifact:
    """Written into a folder, as if it had been trained on the forecasts of the model of a hash."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.normal(0.0, 0.6, shape).astype(np.float32)

    tensors = {
        "w1": draw(WIDTH, HIDDEN),
        "b1": draw(HIDDEN),
        "action": draw(ACTIONS, HIDDEN),
        "change": draw(OUTCOMES, HIDDEN, WIDTH),
        "change_bias": draw(OUTCOMES, WIDTH),
        "logits": draw(HIDDEN, OUTCOMES),
        "logits_bias": draw(OUTCOMES),
        "rewards": draw(HIDDEN, OUTCOMES),
        "rewards_bias": draw(OUTCOMES) + np.float32(4.0),  # what is imagined to lose is not opened
        "value_hidden": draw(HIDDEN),
        "value": draw(HIDDEN),
        "policy": draw(HIDDEN, ACTIONS),
        "policy_bias": draw(ACTIONS),
        "centre": np.zeros(WIDTH, np.float32),
        "spread": np.ones(WIDTH, np.float32),
    }
    return _saved(folder, tensors, model, step, depth)


def taking_planner(folder: Path, model: str, step: int = 5) -> PlannerArtifact:
    """One that always thinks most of taking, and something of it: it opens and closes without end."""
    made = random_planner(folder, model, step=step)
    tensors = {name: np.zeros_like(t) for name, t in made.tensors.items()}
    tensors["spread"] = made.tensors["spread"]
    for a, pay in enumerate((0.0, 2.0, 1.0)):
        tensors["action"][a, a] = 1.0
        tensors["rewards"][a] = pay
    return _saved(folder, tensors, model, step, 1)


def _saved(folder: Path, tensors: dict[str, Array], model: str, step: int, depth: int) -> PlannerArtifact:
    manifest = PlannerManifest(
        model=model,
        essentials=list(ESSENTIALS),
        step=step,
        depth=depth,
        outcomes=OUTCOMES,
        hidden=HIDDEN,
        value_bias=0.0,
    )
    return save_planner(folder, manifest, tensors)
