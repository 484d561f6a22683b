"""The peers' searches in turn with ours, and how much longer they take to lose as little."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from emp.app.bench.searches import (
    COMPARED,
    TREES,
    action_values,
    drawn_tree,
    exact_values,
    loss_of,
    stacked,
)
from emp.core.errors import EmpError, UsageError

SCRIPTS = {"mctx": "with_mctx.py", "gumbel_mcts": "with_gumbel_mcts.py"}
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
ENDED = re.compile(r"^\w+Error: .*", re.MULTILINE)

NEAR = 1e-3
"""What the first actions of a tree are worth may differ by in the peer's arithmetic."""


class Peer:
    """A peer in an interpreter of its own: what its searches take and lose."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self._process = process
        self.version: str = told["version"]
        for outcomes, worth in told["worth"].items():
            ours = action_values(*drawn_tree(int(outcomes), 0), 1)
            if not np.allclose(ours, worth, atol=NEAR):
                raise EmpError(f"the peer does not search the same trees: {worth}, ours {ours.tolist()}")
        exact = {c: exact_values(TREES, c) for c in COMPARED}
        self._loss = {_key(one): loss_of(one["actions"], exact[one["outcomes"]]) for one in told["searches"]}
        self._best: dict[tuple[Any, ...], dict[str, Any]] = {}

    def round(self) -> None:
        """Time a round; the one with the lowest median counts."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            said = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            raise EmpError("a peer has ended before its time") from None
        for one in said:
            took = one.pop("us")
            p50, p99 = (round(float(np.quantile(took, q)), 1) for q in (0.5, 0.99))
            key = (*_key(one), one["together"])
            if key not in self._best or p50 < self._best[key]["us"]["p50"]:
                self._best[key] = {
                    **one,
                    "us": {"p50": p50, "p99": p99},
                    "loss": round(self._loss[_key(one)], 4),
                }

    def rows(self) -> list[dict[str, Any]]:
        """Each way to search with its microseconds and loss."""
        return list(self._best.values())


def _key(one: dict[str, Any]) -> tuple[Any, ...]:
    return one["method"], one["outcomes"], one["simulations"]


@contextmanager
def peers(python: str) -> Iterator[dict[str, Peer]]:
    """Those peers that an interpreter has, compiled and waiting.

    Raises:
        UsageError: the interpreter cannot be started, or has none of them.
    """
    with TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        np.savez(folder / "trees.npz", **drawn_arrays())
        found = {}
        for peer in SCRIPTS:
            process = running.enter_context(_started(python, peer, folder))
            running.callback(process.kill)
            assert process.stdout
            said = process.stdout.readline()
            if said:
                found[peer] = _told_by(process, said, f"--peer-python {python}")
                continue
            words = (folder / "stderr").read_text()
            if "ModuleNotFoundError" not in words:
                raise EmpError(f"{peer}: {(ENDED.findall(words) or ['it has ended without a word'])[-1]}")
        if not found:
            raise UsageError(f"--peer-python {python}: has neither mctx nor gumbel-mcts")
        yield found


def _told_by(process: "subprocess.Popen[str]", said: str, who: str) -> Peer:
    try:
        return Peer(process, json.loads(said))
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"{who}: is no Python, or says what no peer says: {said.strip()[:80]}") from None


def _started(python: str, peer: str, folder: Path) -> "subprocess.Popen[str]":
    command = [python, str(Path(__file__).with_name(SCRIPTS[peer])), str(folder / "trees.npz")]
    with (folder / "stderr").open("w") as errors:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | ONE_CORE,
            )
        except OSError as error:
            raise UsageError(f"--peer-python {python}: {error.strerror}") from None


def drawn_arrays() -> dict[str, Any]:
    """The compared trees as the scripts read them: "outcomes/name" to arrays with an axis of trees first."""
    arrays: dict[str, Any] = {}
    for outcomes in COMPARED:
        models, states = stacked(outcomes)
        found = models._asdict() | {"state": states}
        arrays |= {f"{outcomes}/{n}": array for n, array in found.items() if isinstance(array, np.ndarray)}
    return arrays


def beside(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each way of the peer's with the quickest of ours that loses no more on the same trees, and the ratio of times."""
    rows = []
    for row in theirs:
        as_good = [o for o in ours if o["outcomes"] == row["outcomes"] and o["loss"] <= row["loss"]]
        quickest = min(as_good, key=lambda o: o["us"]["p50"])
        ratio = round(row["us"]["p50"] / quickest["us"]["p50"], 1)
        rows.append(
            {**row, "ours": {key: quickest[key] for key in ("search", "n", "us", "loss")}, "ratio": ratio}
        )
    return rows
