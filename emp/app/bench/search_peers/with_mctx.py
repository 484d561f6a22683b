"""mctx: `python with_mctx.py trees.npz`. Gumbel MuZero on trees with one outcome, Stochastic MuZero on the others.

One by one, as a decision needs it, and with many roots at once, as it is made for; on one core.
"""

import sys
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np

if TYPE_CHECKING:
    from emp.app.bench.search_peers.rounds import BOUND, DEPTH, SIMULATIONS, Search, Trees, read_trees, serve
else:
    from rounds import BOUND, DEPTH, SIMULATIONS, Search, Trees, read_trees, serve

TOGETHER = 64


def hidden(w: Any, z: Any) -> Any:
    """Hidden units of states [..., S], before an action."""
    return z @ w["w1"] + w["b1"]


def heads(w: Any, z: Any) -> tuple[Any, Any]:
    """(value [...], log-odds of the actions [..., A]) of states [..., S]."""
    all_ = jnp.maximum(hidden(w, z) + w["value_hidden"][0], 0.0) @ w["value"] + w["value_bias"]
    return all_[..., 0], all_[..., 1 : 1 + w["action"].shape[0]]


def outcomes_of(w: Any, z: Any, action: Any) -> tuple[Any, Any, Any]:
    """(states [B, C, S], log-odds [B, C], rewards [B, C]) of actions [B] in states [B, S]."""
    n, size = w["count"].shape[0], z.shape[-1]
    all_ = jnp.maximum(hidden(w, z) + w["action"][action], 0.0) @ w["w2"] + w["b2"]
    moved = all_[:, : n * size].reshape(-1, n, size)
    after = jnp.clip(z[:, None, :] + moved, -BOUND, BOUND)
    return after, all_[:, n * size : n * size + n], all_[:, n * size + n : n * size + 2 * n]


def step(w: Any, _key: Any, action: Any, z: Any) -> tuple[Any, Any]:
    """Take an action that has one outcome."""
    after, _, reward = outcomes_of(w, z, action)
    value, odds = heads(w, after[:, 0])
    said = mctx.RecurrentFnOutput(
        reward=reward[:, 0], discount=jnp.ones_like(value), prior_logits=odds, value=value
    )
    return said, after[:, 0]


def decide(w: Any, _key: Any, action: Any, state: Any) -> tuple[Any, Any]:
    """Take an action that has several outcomes: the chances of each, and what to expect."""
    after, odds, reward = outcomes_of(w, state[0], action)
    worth = (jax.nn.softmax(odds) * (reward + heads(w, after)[0])).sum(-1)
    return mctx.DecisionRecurrentFnOutput(chance_logits=odds, afterstate_value=worth), (state[0], action)


def chance(w: Any, _key: Any, outcome: Any, afterstate: Any) -> tuple[Any, Any]:
    """One of them comes."""
    z, action = afterstate
    after, _, rewards = outcomes_of(w, z, action)
    row = jnp.arange(len(outcome))
    value, odds = heads(w, after[row, outcome])
    said = mctx.ChanceRecurrentFnOutput(
        action_logits=odds, value=value, reward=rewards[row, outcome], discount=jnp.ones_like(value)
    )
    return said, (after[row, outcome], action)


def gumbel(simulations: int, w: Any, key: Any, z: Any, noise: Any) -> Any:
    """The actions of Gumbel MuZero."""
    value, odds = heads(w, z)
    root = mctx.RootFnOutput(prior_logits=odds, value=value, embedding=z)
    found = mctx.gumbel_muzero_policy(w, key, root, step, simulations, max_depth=DEPTH, gumbel_scale=noise)
    return found.action


def stochastic(simulations: int, w: Any, key: Any, z: Any, _noise: Any) -> Any:
    """The actions most visited by Stochastic MuZero, whose depth counts the chances too."""
    value, odds = heads(w, z)
    embedding = (z, jnp.zeros(len(z), jnp.int32))
    root = mctx.RootFnOutput(prior_logits=odds, value=value, embedding=embedding)
    depth = {"max_depth": 2 * DEPTH}
    plain = {"dirichlet_fraction": 0.0, "temperature": 0.0}
    found = mctx.stochastic_muzero_policy(w, key, root, decide, chance, simulations, **depth, **plain)
    return found.action


def made(method: str, trees: list[dict[str, Any]], simulations: int, together: int) -> Search:
    """A search, compiled at its first call."""
    compiled = jax.jit({"gumbel": gumbel, "stochastic": stochastic}[method], static_argnums=0)
    key = jax.random.PRNGKey(0)
    roots = [jnp.tile(tree["state"], (together, 1)) for tree in trees]

    def run(i: int, noise: float) -> Any:
        return np.asarray(compiled(simulations, trees[i], key, roots[i], noise))[0]

    return Search(method, len(trees[0]["count"]), simulations, together, run)


def on_device(trees: Trees, outcomes: int) -> list[dict[str, Any]]:
    """Weights of each tree; `count` has a row for each outcome, as a number would be traced."""
    named = trees[outcomes]
    return [
        {name: jnp.asarray(array[i]) for name, array in named.items()} | {"count": jnp.zeros(outcomes)}
        for i in range(len(named["state"]))
    ]


def first_worth(w: dict[str, Any]) -> list[float]:
    """What each action is worth at a depth of one."""
    actions = w["action"].shape[0]
    after, odds, reward = outcomes_of(w, jnp.tile(w["state"], (actions, 1)), jnp.arange(actions))
    worth = (jax.nn.softmax(odds) * (reward + heads(w, after)[0])).sum(-1)
    return [float(x) for x in worth]


def main() -> None:
    """Search the trees of the file that is named."""
    trees = read_trees(sys.argv[1])
    weights = {outcomes: on_device(trees, outcomes) for outcomes in trees}
    searches = [
        made("gumbel" if outcomes == 1 else "stochastic", weights[outcomes], n, together)
        for outcomes in trees
        for n in SIMULATIONS
        for together in (1, TOGETHER)
    ]
    worth = {outcomes: first_worth(weights[outcomes][0]) for outcomes in trees}
    serve("mctx", worth, searches, min(len(w) for w in weights.values()))


if __name__ == "__main__":
    main()
