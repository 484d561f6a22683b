"""What the scripts of this folder have in common; they run where EMP is not, so nothing of it is imported.

A script gets a file of trees: by outcomes of an action, the weights of as many models (as `emp.plan.transition` packs
them) and the state that each begins with. It prints a JSON line when all is compiled: its version, what each action of
the first tree of each kind is worth at a depth of one (by which the trees are found to be the same), and the actions
that each search takes without noise. Then a line on stdin asks for a round: microseconds of single searches.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

DEPTH, BOUND = 3, 8.0
SIMULATIONS = (8, 16, 32, 64)
SEARCHES = 100
"""Timed in a round, each of another tree."""

Trees = dict[int, dict[str, Any]]
"""By outcomes of an action: arrays by name, with an axis for the trees first."""


class Search(NamedTuple):
    """A way to search."""

    method: str
    outcomes: int
    simulations: int
    together: int  # roots searched at once
    run: Callable[[int, float], Any]  # (tree, scale of the noise) to the action that is taken

    def told(self) -> dict[str, Any]:
        """What it is, for the host."""
        return {name: value for name, value in self._asdict().items() if name != "run"}


def read_trees(path: str) -> Trees:
    """The trees of a file; from now on the process keeps to one core, where it can be told to."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    trees: Trees = {}
    with np.load(path) as file:
        for key in file.files:
            outcomes, _, name = key.partition("/")
            trees.setdefault(int(outcomes), {})[name] = file[key]
    return trees


def serve(peer: str, worth: dict[int, list[float]], searches: list[Search], count: int) -> None:
    """Answer the host until it closes stdin; `count` trees there are of each kind."""
    for one in searches:
        one.run(0, 1.0)
    taken = [
        one.told() | {"actions": [int(one.run(i, 0.0)) for i in range(count)]}
        for one in searches
        if one.together == 1
    ]
    print(json.dumps({"version": version(peer), "worth": worth, "searches": taken}), flush=True)
    for _ in sys.stdin:
        print(json.dumps([one.told() | {"us": _times(one, count)} for one in searches]), flush=True)


def _times(one: Search, count: int) -> list[float]:
    took = []
    for i in range(SEARCHES):
        began = time.perf_counter_ns()
        one.run(i % count, 1.0)
        took.append((time.perf_counter_ns() - began) / 1e3 / one.together)
    return took
