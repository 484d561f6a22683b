"""gumbel-mcts: `python with_gumbel_mcts.py trees.npz`, on trees with one outcome; it knows no chance and no rewards.

It is made for two players, and has kernels in plain Python for one: they are compiled here and take the place of the
others. It asks its model for one leaf after another: compiled code tells what a path of actions is worth, rewards on
the way and the value at its end. A board holds the path.
"""

import sys
from typing import TYPE_CHECKING, Any

import gumbel_mcts.gumbel_dense
import gumbel_mcts.puct
import numpy as np
import torch
from gumbel_mcts import GumbelDense
from kernels import python_kernels
from numba import njit

if TYPE_CHECKING:
    from emp.app.bench.search_peers.rounds import BOUND, DEPTH, SIMULATIONS, Search, Trees, read_trees, serve
else:
    from rounds import BOUND, DEPTH, SIMULATIONS, Search, Trees, read_trees, serve

ONE_PLAYER = (
    "descend_tree_kernel",
    "backpropagate_batch",
    "get_gumbel_score_kernel",
    "get_forced_root_moves_kernel",
    "compute_gumbel_policy_kernel",
)
"""Its kernels that know of players."""

ORDER = ("w1", "b1", "action", "w2", "b2", "value_hidden", "value", "value_bias", "state")


@njit
def fast_step(board: Any, action: int, _player: int) -> Any:
    """The action goes to the path, which keeps its own length first."""
    board[0] += 1
    board[board[0]] = action
    return 0.0, 0, False, board


@njit
def get_valid_mask(board: Any, _player: int) -> Any:
    """Every action may be taken."""
    return np.ones(board.size - 1, np.float32)


@njit
def followed(path: Any, tree: Any, policy: Any) -> float:
    """What a path is worth: rewards and the value at its end; `policy` gets the chances of actions there."""
    w1, b1, action, w2, b2, value_hidden, value, value_bias, state = tree
    z, total = state.copy(), 0.0
    size = z.size
    for k in range(path[0]):
        after = np.maximum(z @ w1 + b1 + action[path[1 + k]], np.float32(0.0)) @ w2 + b2
        z = np.minimum(np.maximum(z + after[:size], np.float32(-BOUND)), np.float32(BOUND))
        total += after[size + 1]
    heads = np.maximum(z @ w1 + b1 + value_hidden[0], np.float32(0.0)) @ value + value_bias
    odds = np.exp(heads[1 : 1 + policy.size] - heads[1 : 1 + policy.size].max())
    policy[:] = odds / odds.sum()
    return total + heads[0]


class Logic:
    """The rules as the peer wants them told."""

    NUM_ACTIONS, MAX_LEGAL_MOVES, MAX_MOVES = 3, 3, DEPTH
    BOARD_SHAPE = (1 + DEPTH,)
    PLAYER_1, PLAYER_2 = 1, 2
    fast_step = staticmethod(fast_step)
    get_valid_mask = staticmethod(get_valid_mask)


class Model:
    """A tree's model as the peer asks it."""

    logic = Logic

    def __init__(self, tree: tuple[Any, ...]) -> None:
        self.tree = tree
        self.policy = np.zeros((1, Logic.NUM_ACTIONS), np.float32)
        self.value = np.zeros(1, np.float32)

    def forward_for_mcts(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Chances of the actions and the worth of a leaf."""
        path = batch["boards"][0].numpy().astype(np.int64)
        self.value[0] = followed(path, self.tree, self.policy[0])
        return {"policy": torch.from_numpy(self.policy), "value": torch.from_numpy(self.value)}


def for_one_player() -> None:
    """Put the compiled kernels for one player into the peer's modules."""
    python_kernels._init_node = njit(python_kernels._init_node)  # which others call
    for name in ONE_PLAYER:
        compiled = njit(getattr(python_kernels, name))
        for module in (gumbel_mcts.gumbel_dense, gumbel_mcts.puct):
            if hasattr(module, name):
                setattr(module, name, compiled)


def made(models: list[Model], simulations: int) -> Search:
    """A search; it is told to consider all three actions, as ours does."""
    tree = GumbelDense(1, 2 + simulations, Logic, device="cpu", max_considered_actions=4)
    root = np.zeros((1, 1 + DEPTH), np.int8)
    player = np.ones(1, np.int8)

    def run(i: int, noise: float) -> Any:
        tree.reset()
        tree.initialize_roots([0], root, player)
        tree.gumbel_noises *= noise
        return tree.run_simulation_batch(models[i], [0], num_simulations=simulations)[0]

    return Search("gumbel", 1, simulations, 1, run)


def models_of(trees: Trees) -> list[Model]:
    """The models with one outcome."""
    named = trees[1]
    return [
        Model(tuple(np.ascontiguousarray(named[name][i]) for name in ORDER))
        for i in range(len(named["state"]))
    ]


def main() -> None:
    """Search the trees of the file that is named."""
    for_one_player()
    torch.set_num_threads(1)
    models = models_of(read_trees(sys.argv[1]))
    worth = []
    for a in range(Logic.NUM_ACTIONS):
        path = np.array([1, a] + [0] * (DEPTH - 1))
        worth.append(float(followed(path, models[0].tree, models[0].policy[0])))
    serve("gumbel-mcts", {1: worth}, [made(models, n) for n in SIMULATIONS], len(models))


if __name__ == "__main__":
    main()
