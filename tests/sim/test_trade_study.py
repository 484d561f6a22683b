"""The engine's policy over sessions of a flow: the same twice, sums that agree, and a rule that is misled."""

import msgspec
import pytest

from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.engine import EngineLimits
from emp.sim.flow.shipped import named_flow
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
