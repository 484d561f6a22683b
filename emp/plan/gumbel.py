"""Gumbel MuZero search (Danihelka et al., ICLR 2022) over a model with chance, for many outcomes or few calls.

At the root the `considered` actions of the largest Gumbel noise plus log-odds are halved in turns (sequential halving)
by noise + log-odds + sigma(q). Below it, the action whose share of visits lags most behind the improved policy is
taken: argmax softmax(log-odds + sigma(q)) - N / (1 + sum N). sigma(q) = (50 + max N) * 0.1 * q, q scaled to 0 .. 1 over
the node; the q of an action that was not visited is completed by the mixed value of the node.

Two things differ from the paper. The model names every outcome and its chance, so a chance node is not sampled: the
outcome whose share of visits lags most behind its chance is followed, and an action is worth the expectation over all
outcomes. And a node of which every action was visited is worth the best of them. What is below a state that has been
searched to the depth's end is never searched again; so the values become those of the full tree, the last bits aside,
with as many simulations as it has states with actions times actions.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent
from emp.core.numba.rng import uniform
from emp.core.records import Array
from emp.plan.search import set_root
from emp.plan.transition import LANES, TransitionModel, heads_of, outcome_rows, products, rectified

VISITS = 50.0
SCALE = 0.1

NODE = np.dtype(
    [
        ("value", "f8"),  # as the search has it
        ("visits", "i8"),
        ("depth", "i8"),
        ("done", "i8"),  # 1 where nothing below is left to search
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("q", "f8"),
        ("visits", "i8"),
        ("child", "i8"),  # row of its first outcome, 0 where it was not visited
        ("done", "i8"),
    ],
    align=True,
)


class Tree(NamedTuple):
    """Room of a search of some simulations."""

    states: Array  # float32[nodes, S]
    hidden: Array  # float32[nodes, H]
    heads: Array  # float32[nodes, 16]
    prob: Array  # float32[nodes]
    reward: Array  # float32[nodes]
    after_hidden: Array  # float32[C, H]
    after: Array  # float32[1, C * S + T]
    nodes: Array  # NODE[nodes]
    edges: Array  # EDGE[nodes, A]
    noise: Array  # float64[A]: Gumbel noise of the root
    policy: Array  # float64[A]: the improved policy
    completed: Array  # float64[A]
    alive: Array  # int64[A]: 1 while an action of the root is considered
    path: Array  # int64[depth, 2]: (node, action)


def new_tree(model: TransitionModel, simulations: int, depth: int) -> Tree:
    """Room for a number of simulations down to a depth."""
    nodes, (wide, deep) = 1 + simulations * model.outcomes, model.w1.shape
    actions = len(model.action)

    def room(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    return Tree(
        states=room(nodes, wide),
        hidden=room(nodes, deep),
        heads=room(nodes, LANES),
        prob=room(nodes),
        reward=room(nodes),
        after_hidden=room(model.outcomes, deep),
        after=room(1, model.w2.shape[1]),
        nodes=np.zeros(nodes, NODE),
        edges=np.zeros((nodes, actions), EDGE),
        noise=np.zeros(actions),
        policy=np.zeros(actions),
        completed=np.zeros(actions),
        alive=np.zeros(actions, np.int64),
        path=np.zeros((depth, 2), np.int64),
    )


@kernel
def _clear(tree: Any, i: int, depth: int) -> None:
    node = tree.nodes[i]
    node.value, node.visits, node.depth, node.done = tree.heads[i, 0], 0, depth, 0
    for a in range(tree.edges.shape[1]):
        edge = tree.edges[i, a]
        edge.q, edge.visits, edge.child, edge.done = 0.0, 0, 0, 0


@kernel
def _mixed_value(tree: Any, i: int, allowed: Any) -> float:
    """The node's own value, and those of the visited actions weighted by the policy (the paper's appendix D)."""
    most = -np.inf
    for a in range(allowed.size):
        if allowed[a]:
            most = max(most, float(tree.heads[i, 1 + a]))
    mass, worth, visits = 0.0, 0.0, 0
    for a in range(allowed.size):
        edge = tree.edges[i, a]
        if allowed[a] and edge.visits > 0:
            p = np.exp(tree.heads[i, 1 + a] - most)
            mass += p
            worth += p * edge.q
            visits += edge.visits
    own = float(tree.heads[i, 0])
    return own if visits == 0 else (own + visits * worth / mass) / (1 + visits)


@kernel
def improve(tree: Any, i: int, allowed: Any) -> None:
    """Write sigma of the completed values into `tree.completed` and the improved policy into `tree.policy`."""
    mixed = _mixed_value(tree, i, allowed)
    low, high, visits = np.inf, -np.inf, 0
    for a in range(allowed.size):
        edge = tree.edges[i, a]
        q = edge.q if edge.visits > 0 else mixed
        tree.completed[a] = q
        if allowed[a]:
            low, high, visits = min(low, q), max(high, q), max(visits, edge.visits)
    spread = max(high - low, 1e-12)
    most = -np.inf
    for a in range(allowed.size):
        tree.completed[a] = (VISITS + visits) * SCALE * (tree.completed[a] - low) / spread
        if allowed[a]:
            most = max(most, tree.heads[i, 1 + a] + tree.completed[a])
    total = 0.0
    for a in range(allowed.size):
        tree.policy[a] = 0.0
        if allowed[a]:
            tree.policy[a] = np.exp(tree.heads[i, 1 + a] + tree.completed[a] - most)
            total += tree.policy[a]
    for a in range(allowed.size):
        tree.policy[a] /= total


@kernel
def _below(tree: Any, i: int, every: Any) -> int:
    """The action to follow at a node below the root, of those not searched to the end."""
    improve(tree, i, every)
    visits = 0
    for a in range(every.size):
        visits += tree.edges[i, a].visits
    best, lag = -1, -np.inf
    for a in range(every.size):
        behind = tree.policy[a] - tree.edges[i, a].visits / (1.0 + visits)
        if tree.edges[i, a].done == 0 and behind > lag:
            best, lag = a, behind
    return best


@kernel
def _outcome(tree: Any, edge: Any, outcomes: int) -> int:
    """The node of the outcome to follow, of those not searched to the end."""
    best, lag = -1, -np.inf
    for i in range(edge.child, edge.child + outcomes):
        behind = tree.prob[i] - tree.nodes[i].visits / (1.0 + edge.visits)
        if tree.nodes[i].done == 0 and behind > lag:
            best, lag = i, behind
    return best


@kernel
def _visit(model: Any, tree: Any, i: int, a: int, child: int, depth: int) -> None:
    """Take an action at a node for the first time: its outcomes fill the rows from `child` on."""
    rectified(tree.hidden, i, model.action, a, tree.after_hidden, 0)
    products(tree.after_hidden, 0, 1, model.w2, model.b2, tree.after, 0)
    outcome_rows(model, tree.after, 0, tree.states, i, child, tree.prob, tree.reward)
    products(tree.states, child, model.outcomes, model.w1, model.b1, tree.hidden, child)
    heads_of(model, tree.hidden, child, model.outcomes, tree.after_hidden, tree.heads)
    tree.edges[i, a].child = child
    for c in range(child, child + model.outcomes):
        _clear(tree, c, tree.nodes[i].depth + 1)
        tree.nodes[c].done = 1 if tree.nodes[c].depth == depth else 0


@kernel
def _learn(model: Any, tree: Any, i: int, a: int, allowed: Any) -> None:
    """Values and ends of an action and of its node, from what is below."""
    edge, node = tree.edges[i, a], tree.nodes[i]
    edge.visits += 1
    node.visits += 1
    edge.q, edge.done = 0.0, 1
    for c in range(edge.child, edge.child + model.outcomes):
        edge.q += tree.prob[c] * (tree.reward[c] + model.discount * tree.nodes[c].value)
        edge.done &= tree.nodes[c].done
    best, node.done, whole = -np.inf, 1, True
    for b in range(allowed.size):
        if allowed[b]:
            other = tree.edges[i, b]
            node.done &= other.done
            whole = whole and other.visits > 0
            best = max(best, other.q)
    node.value = best if whole else _mixed_value(tree, i, allowed)


@kernel
def simulate(
    model: Any, tree: Any, root_action: int, child: int, depth: int, allowed: Any, every: Any
) -> None:
    """One simulation that begins with an action of the root; its new outcomes fill the rows from `child` on."""
    i, a, steps = 0, root_action, 0
    while True:
        tree.path[steps, 0], tree.path[steps, 1] = i, a
        steps += 1
        if tree.edges[i, a].child == 0:
            _visit(model, tree, i, a, child, depth)
            break
        i = _outcome(tree, tree.edges[i, a], model.outcomes)
        a = _below(tree, i, every)
    for s in range(steps - 1, -1, -1):
        _learn(model, tree, tree.path[s, 0], tree.path[s, 1], allowed if s == 0 else every)


@kernel
def _keep(tree: Any, allowed: Any, keep: int) -> None:
    """Leave alive the `keep` best of the actions that are."""
    improve(tree, 0, allowed)
    alive = 0
    for a in range(allowed.size):
        alive += tree.alive[a]
    for _ in range(alive - keep):
        worst, low = -1, np.inf
        for a in range(allowed.size):
            score = tree.noise[a] + tree.heads[0, 1 + a]
            if tree.edges[0, a].visits > 0:
                score += tree.completed[a]
            if tree.alive[a] and score < low:
                worst, low = a, score
        tree.alive[worst] = 0


@kernel
def _next_root_action(tree: Any, allowed: Any) -> int:
    """Of those alive the least visited; where they are all searched to the end, of the others; -1: nothing is left."""
    best = -1
    for a in range(allowed.size):
        edge = tree.edges[0, a]
        if not allowed[a] or edge.done:
            continue
        if best < 0 or (-tree.alive[a], edge.visits) < (-tree.alive[best], tree.edges[0, best].visits):
            best = a
    return best


@kernel
def gumbel_search(
    model: Any,
    state: Any,
    allowed: Any,
    simulations: int,
    considered: int,
    depth: int,
    noise: float,
    rng: Any,
    tree: Any,
) -> int:
    """Search from a state; the actions' values are `tree.edges[0]["q"]`, of those that were visited.

    Args:
        state: float32[s], s up to S; it is only read.
        allowed: bool[A], at least one of the root's actions; below it all are.
        simulations: how many at most; `tree` must have been made for them.
        considered: actions of the root to try, at least 1.
        noise: scale of the Gumbel noise; 0 to take the best and not to explore.
        rng: uint64[1], see `core.numba.rng`.

    Returns:
        The action that the halving leaves.
    """
    model, tree = lent(model), lent(tree)
    set_root(model, state, tree)
    heads_of(model, tree.hidden, 0, 1, tree.after_hidden, tree.heads)
    _clear(tree, 0, 0)
    every = np.ones(allowed.size, np.bool_)
    open_ = 0
    for a in range(allowed.size):
        tree.noise[a] = -noise * np.log(-np.log(uniform(rng) + 1e-300) + 1e-300)
        tree.alive[a] = 1 if allowed[a] else 0
        open_ += tree.alive[a]
    left = max(1, min(considered, open_))
    _keep(tree, allowed, left)
    rounds = max(1, int(np.ceil(np.log2(left))))
    done, child = 0, 1
    for turn in range(rounds):
        until = simulations * (turn + 1) // rounds
        while done < until:
            a = _next_root_action(tree, allowed)
            if a < 0:
                break
            simulate(model, tree, a, child, depth, allowed, every)
            child += model.outcomes
            done += 1
        left = (left + 1) // 2
        _keep(tree, allowed, max(1, left))
    for a in range(allowed.size):
        if tree.alive[a]:
            return a
    return -1
