"""The drill of take-overs, small, with real processes and a real Redis; and that its check finds what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from emp.app.bench.takeover.check import check
from emp.app.bench.takeover.drill import Drill
from emp.core.ids import cl_ord_id
from tests.kit.services import needed


@pytest.mark.usefixtures("compiled_engine")
def test_another_engine_takes_over_from_one_that_is_killed_paused_or_cut_off(tmp_path: Path) -> None:
    needed(bool(shutil.which("redis-server")), "no redis-server: install it to try take-overs")
    drill = Drill(tmp_path, 4, 2.0)
    try:
        drill.start()
        for which in ("SIGKILL", "SIGSTOP", "cut off from Redis", "Redis forgets"):
            drill.fault(which)
        found = drill.finish()
    finally:
        drill.close()
    assert found.violations == 0, found.words
    assert found.tokens >= 4
    assert found.starts >= 4
    assert found.orders > 0


def written(folder: Path, lines: list[dict[str, object]]) -> None:
    (folder / "venue.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def test_the_check_finds_what_is_wrong(tmp_path: Path) -> None:
    home = tmp_path / "box"
    home.mkdir()
    told = [{"t": 10, "k": "has", "token": 7}, {"t": 50, "k": "has", "token": 8}]
    (home / "told.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    first, second = cl_ord_id("0ABCDEFG", 1, 7), cl_ord_id("0ABCDEFG", 2, 8)
    written(
        tmp_path,
        [
            {"t": 20, "k": "D", "id": first, "again": False},
            {"t": 21, "k": "works", "id": first, "n": 1},
            {"t": 60, "k": "D", "id": second, "again": False},
            {"t": 61, "k": "F", "id": cl_ord_id("0ABCDEFG", 3, 7), "again": False},
            {"t": 62, "k": "D", "id": second, "again": False},
            {"t": 63, "k": "D", "id": second, "again": True},
        ],
    )
    found = check(tmp_path, [home])
    assert (found.overlaps, found.older, found.doubled, found.left) == (1, 1, 1, 1)
    assert found.unrecorded == 4  # no ledger has them
    assert found.violations == 8
