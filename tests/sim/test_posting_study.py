"""Ways to post over the same sessions: the same twice, each what it says, and intervals that hold."""

import json

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.limits import EngineLimits
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.posting_study import WAYS, PostingStudy, paired_ratio, posting_lines, study_posting
from tests.sim.test_trade_study import study

pytestmark = pytest.mark.usefixtures("compiled_engine")


def ways_of_posting() -> PostingStudy:
    return study_posting(
        named_flow("goog"),
        find("GOOG"),
        load_model("linear"),
        EngineLimits(),
        sessions=8,
        events=20_000,
        start_px=58_000,
    )


def test_the_ways_are_told_apart_and_the_rule_is_the_one_that_trades() -> None:
    found = ways_of_posting()
    assert msgspec.to_builtins(found) == msgspec.to_builtins(ways_of_posting())
    by_name = {one.way: one for one in found.ways}
    assert tuple(by_name) == WAYS
    assert by_name["rule"].pnl_ticks == pytest.approx(study().pnl_ticks), (
        "the rule is not the one that trades"
    )
    assert len({one.pnl_ticks for one in found.ways}) == len(WAYS), "two ways trade alike"
    assert all(one.lots > 1 for one in found.ways)
    assert by_name["touch"].lots > by_name["rule"].lots, "who always rests fills more"
    for one in found.ahead:
        assert one.ticks == pytest.approx(by_name["rule"].brought - by_name[one.of].brought)
        assert one.bps == pytest.approx(one.ticks * 1e4 / 58_000)
        assert one.low_bps < one.bps
    assert sum(line.startswith("| ") for line in posting_lines(found)) == 1 + len(WAYS)


def test_the_interval_of_a_difference_of_ratios_holds() -> None:
    """Ratios of 2 and 1.5 that share what moves both; 95 % of 400 intervals, three standard deviations either side."""
    draw, held = np.random.default_rng(7), 0
    for _ in range(400):
        n, m = draw.integers(5, 60, 40), draw.integers(20, 90, 40)
        shared = draw.normal(0.0, 20.0, 40)
        y = 2.0 * n + shared + draw.normal(0.0, 10.0, 40)
        x = 1.5 * m + shared + draw.normal(0.0, 10.0, 40)
        off, half = paired_ratio(y, n, x, m)
        held += abs(off - 0.5) <= half
    assert 366 <= held <= 393


def test_pairing_narrows_the_interval() -> None:
    draw = np.random.default_rng(8)
    n, shared = np.full(60, 30), draw.normal(0.0, 50.0, 60)
    y, x = n + shared, 0.5 * n + shared + draw.normal(0.0, 1.0, 60)
    _, half = paired_ratio(y, n, x, n)
    _, apart = paired_ratio(y, n, np.roll(x, 1), n)
    assert half < 0.1 * apart


def test_the_command_prints_the_study() -> None:
    words = [
        "sim",
        "posting",
        "--model",
        "goog",
        "--instrument",
        "GOOG",
        "--sessions",
        "5",
        "--events",
        "2000",
    ]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])
    assert [one["way"] for one in told["ways"]] == list(WAYS)
    assert [one["of"] for one in told["ahead"]] == list(WAYS[1:])
