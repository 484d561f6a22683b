"""Full-width expectimax by iterative deepening over a transition model: every action, every outcome, level by level.

    q_L(z, a) = sum_c p_c (r_c + discount v_{L-1}(z'_c)),   v_L(z) = max_a q_L(z, a),   v_0(z) = the model's value

Levels are worked at in batches, breadth first, and a depth goes on from the leaves of the one before, so deepening
costs nothing but the backups. Between depths the clock is looked at: a depth is begun only where it fits into the
budget by what the last one took. So there is always a whole answer, that of the deepest depth that was completed; and a
search without a budget to the depth that one with a budget reached gives its answer to the last bit, which is how a
decision is played again.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel, monotonic_ns
from emp.core.numba.lend import lent
from emp.core.records import Array
from emp.plan.transition import LANES, TransitionModel, heads_of, outcome_rows, products, rectified


class Workspace(NamedTuple):
    """Room of a search of some depth; nothing is allocated while it runs."""

    states: Array  # float32[nodes, S]
    hidden: Array  # float32[nodes, H]
    heads: Array  # float32[nodes, 16]
    prob: Array  # float32[nodes]: chance of a node where its action was taken
    reward: Array  # float32[nodes]: on the way into it
    value: Array  # float32[nodes]
    after_hidden: Array  # float32[afterstates of a level, H]
    after: Array  # float32[afterstates of a level, C * S + T]
    q: Array  # float32[A]: the answer, values of the actions
    clock: Array  # int64[2]


def nodes_to(model: TransitionModel, depth: int) -> int:
    """States of a whole tree of a depth, its root included."""
    fan = len(model.action) * model.outcomes
    return sum(fan**level for level in range(depth + 1))


def workspace(model: TransitionModel, depth: int) -> Workspace:
    """Room for searches up to a depth."""
    nodes, (wide, deep) = nodes_to(model, depth), model.w1.shape
    level = nodes - (nodes_to(model, depth - 1) if depth > 0 else 0)

    def room(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    return Workspace(
        states=room(nodes, wide),
        hidden=room(nodes, deep),
        heads=room(nodes, LANES),
        prob=room(nodes),
        reward=room(nodes),
        value=room(nodes),
        after_hidden=room(max(level, 1), deep),
        after=room(max(level // model.outcomes, 1), model.w2.shape[1]),
        q=room(len(model.action)),
        clock=np.zeros(2, np.int64),
    )


@kernel
def set_root(model: Any, state: Any, work: Any) -> None:
    """Put a state at the root: what is beyond its length is 0."""
    for k in range(work.states.shape[1]):
        work.states[0, k] = state[k] if k < state.size else np.float32(0.0)
    products(work.states, 0, 1, model.w1, model.b1, work.hidden, 0)


@kernel
def expand_level(model: Any, work: Any, at: int, n: int, child: int) -> None:
    """Take every action in the n states from row `at` on; the outcomes fill the rows from `child` on, valued."""
    actions, outcomes = model.action.shape[0], model.outcomes
    for i in range(n):
        for a in range(actions):
            rectified(work.hidden, at + i, model.action, a, work.after_hidden, i * actions + a)
    products(work.after_hidden, 0, n * actions, model.w2, model.b2, work.after, 0)
    for i in range(n):
        for a in range(actions):
            row = i * actions + a
            first = child + row * outcomes
            outcome_rows(model, work.after, row, work.states, at + i, first, work.prob, work.reward)
    count = n * actions * outcomes
    products(work.states, child, count, model.w1, model.b1, work.hidden, child)
    heads_of(model, work.hidden, child, count, work.after_hidden, work.heads)
    for i in range(child, child + count):
        work.value[i] = work.heads[i, 0]


@kernel
def action_value(model: Any, work: Any, first: int) -> Any:
    """Expectation over the outcomes from row `first` on, float32."""
    total = np.float32(0.0)
    gamma = np.float32(model.discount)
    for i in range(first, first + model.outcomes):
        total += work.prob[i] * (work.reward[i] + gamma * work.value[i])
    return total


@kernel
def back_up(model: Any, work: Any, depth: int) -> None:
    """Values of all states above the leaves at a depth, and of the actions at the root."""
    actions, fan = model.action.shape[0], model.action.shape[0] * model.outcomes
    n, at = 1, 0
    for _ in range(depth - 1):
        at += n
        n *= fan
    for _ in range(depth):
        child = at + n
        for i in range(n):
            best = np.float32(-np.inf)
            for a in range(actions):
                q = action_value(model, work, child + i * fan + a * model.outcomes)
                if at == 0:
                    work.q[a] = q
                best = max(best, q)
            work.value[at + i] = best
        n //= fan
        at -= n


@kernel
def look_ahead(model: Any, state: Any, depth: int, budget_ns: int, work: Any) -> int:
    """Search from a state; the values of the actions are in `work.q`.

    Args:
        state: float32[s], s up to S; it is only read.
        depth: how deep at most, from 1 on; `work` must have been made for it.
        budget_ns: wall time, 0 for none. The first depth is always searched.

    Returns:
        The depth that was completed.
    """
    model, work = lent(model), lent(work)
    began = monotonic_ns(work.clock) if budget_ns > 0 else 0
    set_root(model, state, work)
    fan = model.action.shape[0] * model.outcomes
    n, at, last = 1, 0, began
    for level in range(depth):
        expand_level(model, work, at, n, at + n)
        back_up(model, work, level + 1)
        at += n
        n *= fan
        if budget_ns > 0:
            now = monotonic_ns(work.clock)
            if now + (now - last) * fan > began + budget_ns:
                return level + 1
            last = now
    return depth


@kernel
def best_action(q: Any, allowed: Any) -> int:
    """The first allowed action of the largest value; -1 where none is allowed."""
    best = -1
    for a in range(q.size):
        if allowed[a] and (best < 0 or q[a] > q[best]):
            best = a
    return best
