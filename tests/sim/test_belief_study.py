"""Beliefs by tenth beside what came: cut as they are said, intervals that hold, and each fill at its own decision."""

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.core.codes import Action, OrderStatus, Reason
from emp.core.contracts import OrderUpdate
from emp.core.records import DECISION, Array
from emp.sim.measure.belief_study import KEPT, filled
from emp.sim.measure.tenths import TENTHS, by_tenth, tenth_lines

pytestmark = pytest.mark.usefixtures("compiled_engine")


def test_tenths_are_those_of_what_was_said_and_their_intervals_hold_together() -> None:
    draw, held = np.random.default_rng(3), 0
    for _ in range(200):
        block = np.repeat(np.arange(40), 50)
        said = draw.uniform(0.0, 1.0, len(block))
        shared = draw.normal(0.0, 0.1, 40)[block]
        found = by_tenth(said, said + shared + draw.normal(0.0, 0.3, len(block)), block)
        assert sum(one.n for one in found) == len(said)
        assert [one.said for one in found] == sorted(one.said for one in found)
        assert len(found) == TENTHS
        held += all(abs(one.came - one.said) <= one.half for one in found)
    assert held / 200 > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_belief_that_is_off_in_its_upper_half_is_marked_there_alone() -> None:
    draw = np.random.default_rng(6)
    said = draw.uniform(0.0, 1.0, 8_000)
    came = np.where(said > 0.5, said - 0.3, said) + draw.normal(0.0, 0.2, len(said))
    found = by_tenth(said, came, np.arange(len(said)) // 100)
    line = tenth_lines({"x": found}, "share")[-1]
    assert [cell.strip().endswith("*") for cell in line.split("|")[2:-1]] == [False] * 5 + [True] * 5
    assert len(by_tenth(np.zeros(100), came[:100], np.arange(100) // 10)) == 1, "equal beliefs are one"


def test_few_sessions_have_no_interval_whatever_they_say() -> None:
    said = np.repeat(np.arange(10.0), 40)
    for block in (np.zeros(400, np.int64), np.arange(400) % 4):
        assert all(np.isnan(one.half) for one in by_tenth(said, said + 1.0, block))
    came = said + np.random.default_rng(3).normal(0.0, 1.0, 400)
    one, more = (by_tenth(said, came, np.arange(400) % 5, tables)[0] for tables in (1, 3))
    assert 0.0 < one.half < more.half
    assert "(few)" in tenth_lines({"gain": [one._replace(half=float("nan"))]}, "ticks")[-1]


def rows_of_a_session() -> Array:
    rows = np.zeros(40, [(name, DECISION[name]) for name in KEPT])
    rows["ts"] = np.arange(40) * 1_000
    rows["bid"], rows["ask"] = 100 + np.arange(40), 102 + np.arange(40)
    rows["horizon"] = 1  # five events
    return rows


def report(ts: int, filled_lots: int, **changes: Any) -> OrderUpdate:
    facts = {"side": 1, "maker": True, "price": 99, "fee": 0.5 * 2, **changes}
    return OrderUpdate(
        clOrdID="A", execID=str(ts), status=OrderStatus.FILLED, filled=filled_lots, ts=ts, **facts
    )


def test_a_fill_is_held_against_the_last_decision_that_kept_its_order() -> None:
    rows = rows_of_a_session()
    rows["action"][4], rows["px"][4], rows["side"][4], rows["gain"][4] = Action.POST, 99, 1, 3.0
    rows["reason_code"][7], rows["px"][7], rows["side"][7], rows["gain"][7] = Reason.KEEP_RESTING, 99, 1, 2.0
    rows["reason_code"][8], rows["px"][8], rows["side"][8], rows["gain"][8] = Reason.KEEP_RESTING, 99, 1, 1.0
    rows["adverse_bid"][7] = 1.5
    found = filled(rows, [report(8_000, 2)])
    assert len(found) == 2, "a record a lot"
    assert found["gain"].tolist() == [2.0, 2.0], "the decision at the time of the fill came too late"
    assert found["came"].tolist() == [101 + 12 - 99 - 0.5] * 2
    assert found["adverse"].tolist() == [1.5, 1.5]
    assert found["fell"].tolist() == [-20.0, -20.0]
    assert not len(filled(rows, [report(8_000, 2, price=98)])), "no decision of that order"
    rows["reason_code"][36], rows["px"][36], rows["side"][36] = Reason.KEEP_RESTING, 99, 1
    assert not len(filled(rows, [report(38_000, 2)])), "its horizon lies behind the end"


def test_the_command_prints_every_tenth_with_its_interval() -> None:
    words = [
        "sim",
        "beliefs",
        "--model",
        "goog",
        "--instrument",
        "GOOG",
        "--sessions",
        "5",
        "--events",
        "20000",
    ]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output.splitlines()[-1])
    assert found["fills"] > 50
    for name in ("gain_at_rest", "adverse"):
        assert len(found[name]) == TENTHS
        assert all(
            (one["half"] is None or one["half"] > 0.0) and np.isfinite(one["came"]) for one in found[name]
        )
    assert [one["said"] for one in found["gain_at_rest"]] == sorted(o["said"] for o in found["gain_at_rest"])
