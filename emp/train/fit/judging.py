"""Judging an epoch's weights while the next epoch trains: a snapshot goes to a thread, its loss comes back later."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import NamedTuple

from torch import Tensor

from emp.train.net.network import Network

Judge = Callable[[Network], float]
"""The loss by which the epoch to keep is chosen."""


class Verdict(NamedTuple):
    """Weights and their loss."""

    loss: float
    weights: dict[str, Tensor]


class Judging:
    """One snapshot at a time is judged beside the training; most of a judge's work runs without the interpreter.

    The loss is that of the snapshot, whenever it is asked for, so no number depends on which thread was quicker.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.waiting: dict[str, Tensor] | None = None
        self._future: Future[float] | None = None

    def begin(self, network: Network, weights: dict[str, Tensor] | None = None) -> None:
        """Judge a copy of a network on the CPU, with other weights where they are given; collect what came before."""
        snapshot = deepcopy(network).cpu()
        if weights is not None:
            snapshot.load_state_dict(weights)
        self.waiting = {name: t.clone() for name, t in snapshot.state_dict().items()}
        pool = ThreadPoolExecutor(1, thread_name_prefix="emp-judge")
        self._future = pool.submit(self.judge, snapshot)
        pool.shutdown(wait=False)

    def collect(self) -> Verdict | None:
        """What became of the snapshot that waits, once it is known; None where there is none."""
        if self._future is None or self.waiting is None:
            return None
        found = Verdict(self._future.result(), self.waiting)
        self._future = self.waiting = None
        return found
