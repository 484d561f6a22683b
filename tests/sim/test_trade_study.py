"""The engine's policy over sessions of a flow: the same twice, sums that agree, and a rule that is misled."""

import msgspec
import numpy as np
import pytest

from emp.core.instrument import find
from emp.decision.rule import Part
from emp.engine.choose import load_model
from emp.engine.limits import EngineLimits
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.ablation import Sessions, ablation, ablation_lines, study_ablation
from emp.sim.measure.trade_study import TradeStudy, study_trading

pytestmark = pytest.mark.usefixtures("compiled_engine")


def study(*, misled: bool = False, sessions: int = 8) -> TradeStudy:
    return study_trading(
        named_flow("goog"),
        find("GOOG"),
        load_model("linear"),
        EngineLimits(),
        sessions=sessions,
        events=20_000,
        start_px=58_000,
        misled=misled,
    )


def test_sessions_are_the_same_twice_and_their_sums_agree() -> None:
    found = study()
    assert msgspec.to_builtins(found) == msgspec.to_builtins(study())
    assert found.sessions == 8
    assert found.lots > 100
    assert found.missed == pytest.approx(found.realised - found.expected)
    assert found.stopped == 0
    assert found.realised_half > 0.0


def test_a_rule_that_is_misled_decides_otherwise() -> None:
    assert study(misled=True).realised != study().realised


def test_a_part_that_is_left_out_is_not_used_and_the_whole_is_the_rule_in_earnest() -> None:
    found = study_ablation(
        named_flow("goog"),
        find("GOOG"),
        load_model("linear"),
        EngineLimits(),
        Sessions(8, 20_000, 58_000),
        parts=(Part.JOIN, Part.WORTH, Part.CANCEL),
    )
    assert found.pnl_ticks == pytest.approx(study().pnl_ticks), "the whole rule is not the one that trades"
    assert found.lots == study().lots / 8
    by_name = {one.part: one for one in found.parts}
    assert list(by_name) == ["join", "worth", "cancel"]
    for one in found.parts:
        assert one.brings == pytest.approx(found.pnl_ticks - one.pnl_ticks)
        assert one.half > 0.0
        assert (one.lots, one.pnl_ticks) != (found.lots, found.pnl_ticks), f"{one.part} changes nothing"
    assert len(ablation_lines(found)) == 6


def test_intervals_of_an_ablation_hold_for_all_parts_together() -> None:
    rng, held = np.random.default_rng(4), 0
    for _ in range(200):
        whole = rng.normal(100, 30, (40, 3))
        parts = [
            ablation(Part.JOIN, whole, whole - [5, 0, 0] + rng.normal(0, 10, (40, 3)), 10) for _ in range(10)
        ]
        held += all(abs(one.brings - 5.0) <= one.half for one in parts)
    assert 180 <= held <= 199  # 95 % of 200, three standard deviations either side
    gone = ablation(Part.JOIN, whole, whole - [50, 0, 0], 1)
    assert (gone.verdict, gone.brings) == ("earns", pytest.approx(50.0))
    assert ablation(Part.JOIN, whole - [50, 0, 0], whole, 1).verdict == "costs"
