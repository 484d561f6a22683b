"""`emp bench plan`: its keys, and losses that have the order that more work must bring."""

import json
import subprocess
import sys

from emp.app.bench.searches import CASES, SIMULATIONS, losses


def test_the_command_prints_what_it_is_documented_to_print() -> None:
    done = subprocess.run(
        [
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
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    for name in CASES:
        assert 0 < result[f"{name}_us"]["p50"] <= result[f"{name}_us"]["p99"]
        assert result[f"{name}_nodes_per_s"] > 0
    assert result["nodes_per_s"] == result["depth3_nodes_per_s"]
    assert [row["simulations"] for row in result["gumbel"]] == list(SIMULATIONS)
    assert [row["depth"] for row in result["full_width"]] == [1, 2]
    assert result["peers"] == {}


def test_more_search_loses_less() -> None:
    lost = losses((8, 64), 120)
    assert 0 <= lost["depth", 2] < lost["depth", 1] < 1
    assert 0 <= lost["gumbel", 64] < lost["gumbel", 8] < 1
