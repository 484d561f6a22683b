"""What a transition model imagines of many states at once, as a search would."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.plan.search import look_ahead, workspace
from emp.plan.transition import TransitionModel


@kernel
def _imagine(model: Any, states: Any, depth: int, work: Any, out: Any) -> None:
    for i in range(states.shape[0]):
        look_ahead(model, states[i], depth, 0, work)
        out[i, :] = work.q


def imagine(model: TransitionModel, states: Array, depth: int) -> Array:
    """Values of the actions in each state: float32[n, A].

    Args:
        states: float32[n, s], standardised.
        depth: of the search, from 1 on.
    """
    out: Array = np.zeros((len(states), len(model.action)), np.float32)
    _imagine(model, np.ascontiguousarray(states, np.float32), depth, workspace(model, depth), out)
    return out


def without_value(model: TransitionModel) -> TransitionModel:
    """The same model to which every state is worth nothing: a search of it to depth k imagines k steps and no more."""
    heads, bias = model.value.copy(), model.value_bias.copy()
    heads[:, 0], bias[0] = 0.0, 0.0
    return model._replace(value=heads, value_bias=bias)
