"""`emp bench plan`: its keys, losses that have the order that more work must bring, and peers beside it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.app.bench.search_peers.beside import beside, drawn_arrays
from emp.app.bench.searches import (
    CASES,
    SIMULATIONS,
    TREES,
    action_values,
    drawn_tree,
    exact_values,
    loss_of,
    losses,
)

PEER = '''#!{python}
"""Stands for an interpreter that has mctx alone: it searches to a depth of one, in NumPy."""
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import rounds
if "gumbel" in sys.argv[1]:
    raise ModuleNotFoundError("No module named 'gumbel_mcts'")
trees = rounds.read_trees(sys.argv[2])

def worth(w, i):
    z = w["state"][i]
    n, size = w["n"], len(z)
    found = []
    for a in range(len(w["action"][i])):
        out = np.maximum(z @ w["w1"][i] + w["b1"][i] + w["action"][i, a], 0.0) @ w["w2"][i] + w["b2"][i]
        after = np.clip(z + out[: n * size].reshape(n, size), -rounds.BOUND, rounds.BOUND)
        chance = np.exp(out[n * size : n * size + n])
        hidden = np.maximum(after @ w["w1"][i] + w["b1"][i] + w["value_hidden"][i, 0], 0.0)
        value = (hidden @ w["value"][i] + w["value_bias"][i])[:, 0]
        found.append(float(chance @ (out[n * size + n : n * size + 2 * n] + value) / chance.sum()) + {off})
    return found

def searched(w):
    return lambda i, noise: int(np.argmax(worth(w, i)))

ways = []
for n, w in trees.items():
    w["n"] = n
    ways.append(rounds.Search("one", n, 1, 1, searched(w)))
if {dies}:
    rounds._times = lambda one, count: sys.exit(3)
rounds.serve("numpy", {{n: worth(w, 0) for n, w in trees.items()}}, ways, len(trees[1]["state"]))
'''


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "emp",
        "bench",
        "plan",
        "--searches",
        "100",
        "--rounds",
        "1",
    ]
    return subprocess.run([*command, *options, "--json"], capture_output=True, text=True, check=False)


def peer(folder: Path, off: float = 0.0, dies: bool = False) -> str:
    there = folder / "python"
    there.write_text(PEER.format(python=sys.executable, off=off, dies=dies))
    there.chmod(0o755)
    return str(there)


def check_ours(result: dict[str, Any]) -> None:
    for name in CASES:
        assert 0 < result[f"{name}_us"]["p50"] <= result[f"{name}_us"]["p99"]
        assert result[f"{name}_nodes_per_s"] > 0
    assert result["nodes_per_s"] == result["depth3_nodes_per_s"]
    for outcomes in (1, 4):
        ways = [row for row in result["ways"] if row["outcomes"] == outcomes]
        assert [row["n"] for row in ways if row["search"] == "depth"] == [1, 2, 3]
        assert [row["n"] for row in ways if row["search"] == "gumbel"] == list(SIMULATIONS)
        assert all(0 < row["us"]["p50"] <= row["us"]["p99"] for row in ways)


def test_the_command_prints_what_it_is_documented_to_print() -> None:
    done = bench()
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    check_ours(result)
    assert result["peers"] == {}


def test_a_peer_searches_the_same_trees_and_is_timed_beside_what_loses_no_more(tmp_path: Path) -> None:
    done = bench("--peer-python", peer(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    check_ours(result)
    (found,) = result["peers"].values()
    assert list(result["peers"]) == ["mctx"]
    assert found["version"] == np.__version__
    ours = {(row["outcomes"], row["search"], row["n"]): row for row in result["ways"]}
    for row in found["rows"]:
        full = ours[row["outcomes"], "depth", 1]
        assert row["loss"] == pytest.approx(full["loss"], abs=2e-3), (
            "it takes what the full width takes at that depth"
        )
        assert row["ours"]["loss"] <= row["loss"]
        assert row["ratio"] == round(row["us"]["p50"] / row["ours"]["us"]["p50"], 1)
    assert found["ratio"] == min(row["ratio"] for row in found["rows"])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"off": 0.01}, "emp: the peer does not search the same trees"),
        ({"dies": True}, "emp: a peer has ended before its time"),
    ],
)
def test_a_peer_that_is_no_peer_is_one_line(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    done = bench("--peer-python", peer(tmp_path, **how))
    assert done.returncode != 0
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1


def test_an_interpreter_without_a_peer_is_one_line(tmp_path: Path) -> None:
    for python, words in (
        (str(tmp_path / "none"), "No such file"),
        (sys.executable, "neither mctx nor gumbel-mcts"),
        ("/bin/echo", "is no Python, or says what no peer says"),
    ):
        done = bench("--peer-python", python)
        assert done.returncode != 0
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_more_search_loses_less() -> None:
    for outcomes in (1, 4):
        lost = losses((8, 64), 120, outcomes)
        assert 0 == lost["depth", 3] < lost["depth", 2] < lost["depth", 1] < 1
        assert 0 <= lost["gumbel", 64] < lost["gumbel", 8] < 1


def test_what_is_lost_is_told_of_the_worth_of_actions() -> None:
    exact = np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 6.0]])
    assert loss_of([1, 2], exact) == 0.0
    assert loss_of([0, 1], exact) == pytest.approx(8.0 / (1.0 + 4.0))


def test_the_quickest_of_ours_that_loses_no_more_is_set_beside() -> None:
    def way(outcomes: int, n: int, us: float, loss: float) -> dict[str, Any]:
        return {"outcomes": outcomes, "search": "depth", "n": n, "us": {"p50": us}, "loss": loss}

    ours = [way(1, 1, 1.0, 0.6), way(1, 2, 2.0, 0.3), way(1, 3, 5.0, 0.0), way(4, 1, 0.1, 0.0)]
    theirs = [{"outcomes": 1, "us": {"p50": 10.0}, "loss": loss} for loss in (0.7, 0.6, 0.5, 0.1)]
    found = beside(ours, theirs)
    assert [row["ours"]["n"] for row in found] == [1, 1, 2, 3]
    assert [row["ratio"] for row in found] == [10.0, 10.0, 5.0, 2.0]


def test_the_trees_that_others_get_are_those_that_are_judged() -> None:
    arrays = drawn_arrays()
    assert {key.partition("/")[0] for key in arrays} == {"1", "4"}
    for outcomes in (1, 4):
        assert len(arrays[f"{outcomes}/state"]) == TREES
        model, state = drawn_tree(outcomes, 7)
        assert (arrays[f"{outcomes}/w2"][7] == model.w2).all()
        assert (arrays[f"{outcomes}/state"][7] == state).all()
        assert exact_values(8, outcomes)[7] == pytest.approx(action_values(model, state, 3))
