"""Only an order that risk approved can be sent: by type, by construction, and at every door."""

import ast
import copy
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import emp
from emp.access.ctrader.access import CTraderAccess
from emp.access.fix.client import FixAccess
from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import MarketAccess
from emp.core import approval
from emp.core.approval import Approved, Cleared, command_of
from emp.core.codes import Action, Reason
from emp.core.contracts import NewOrder, Replace
from emp.core.errors import NotApprovedError
from emp.core.numba.jit import kernel
from emp.core.records import DECISION, Array
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.risk.approval import approved, approved_closing
from emp.risk.limits import new_risk
from emp.risk.verdict import give_verdict, take_verdict
from emp.sim.venues.fix.loopback import FixLoopback
from emp.sim.world.markets import MockMarkets
from emp.sim.world.mock import MockMarket
from tests.kit.orders import cancel_order, cleared, new_order, query_order, replace_order

TAKERS = (FixAccess, CTraderAccess, PaperAccess, MockMarket, MockMarkets)
DOORS = (FixAccess, CTraderAccess, PaperAccess, Playback, MockMarket, MockMarkets, FixLoopback)
SOURCE = Path(emp.__file__).parent


def row_of(action: Action, side: int, qty: int, px: int, seq: int) -> Array:
    rows = np.zeros(1, DECISION)
    rows["action"], rows["side"], rows["qty"], rows["px"], rows["seq"] = action, side, qty, px, seq
    return rows


@kernel
def judge(risks: Any, rows: Any) -> None:
    give_verdict(risks[0], rows[0])


@kernel
def take(risks: Any, rows: Any) -> bool:
    return take_verdict(risks[0], rows[0])


def intent_of(action: Action, side: int, qty: int, px: int, seq: int, filled: int) -> NewOrder | Replace:
    if action is Action.REPLACE:
        return replace_order("B", "A", side, filled + qty, px, seq=seq)
    return new_order("A", side, qty, px, immediate=action is Action.CROSS, seq=seq)


orders = st.tuples(
    st.sampled_from([Action.CROSS, Action.POST, Action.REPLACE]),
    st.sampled_from([1, -1]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(0, 5),
)


# --- the type


def test_nobody_makes_one_but_risk() -> None:
    order = new_order("A", 1, 1, 100)
    with pytest.raises(TypeError, match="alone"):
        Approved(object(), order, closing=False)
    with pytest.raises(RuntimeError, match="claimed already"):
        approval.claim()
    with pytest.raises(TypeError, match="no other kinds"):
        type("Mine", (Approved,), {})


def test_what_was_approved_does_not_change() -> None:
    made = cleared(new_order("A", 1, 1, 100))
    assert isinstance(made, Approved)
    with pytest.raises(AttributeError):
        made.intent = new_order("A", 1, 9, 100)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        made.closing = True  # type: ignore[misc]
    with pytest.raises(AttributeError):
        made.intent.qty = 9  # type: ignore[misc]
    with pytest.raises((TypeError, AttributeError)):
        msgspec.structs.replace(made, intent=made.intent)  # type: ignore[type-var]
    for another in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        with pytest.raises((TypeError, AttributeError)):
            another(made)


def test_the_driver_and_every_door_take_nothing_else() -> None:
    for door in (MarketAccess, *DOORS):
        assert get_type_hints(door.send)["cleared"] == Cleared, door
    hints = get_type_hints(Driver.send)
    assert "Approved" in str(hints["commands"])
    assert "NewOrder" not in str(hints["commands"])


@pytest.mark.parametrize("door", TAKERS)
@pytest.mark.parametrize("bare", [new_order("A", 1, 1, 100), replace_order("B", "A", 1, 1, 100)])
def test_a_door_refuses_a_bare_intent_before_anything_else(door: type[Any], bare: Any) -> None:
    with pytest.raises(TypeError, match="not approved by risk"):
        door.send(object.__new__(door), bare)  # of nothing that it would need to send


def test_the_engine_notes_nothing_that_was_not_approved() -> None:
    with pytest.raises(TypeError, match="not approved by risk"):
        Engine.sent(object.__new__(Engine), new_order("A", 1, 1, 100))  # type: ignore[arg-type]


def test_withdrawing_and_asking_need_no_approval() -> None:
    for command in (cancel_order("C", "A"), query_order("A")):
        assert command_of(command) is command


def calls(tree: ast.AST) -> set[str]:
    """Names of whatever is called or imported in a module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            found.add(function.id if isinstance(function, ast.Name) else getattr(function, "attr", ""))
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names if alias.name in ("claim", "_SEAL")}
    return found


MAKERS_OF_INTENTS = {
    "app/bench/fix.py",  # of messages alone
    "app/bench/journal.py",
    "app/bench/mirrored/writer.py",
    "app/checks.py",
    "app/wiring/mock_market.py",  # the built-in market, compiled
    "core/messages.py",  # what the compiled loop has sent, in words
    "engine/engine.py",
    "execution/flatten.py",
    "sim/chaos/exchange.py",  # what somebody else orders on the account
    # venues: what their clients order
    "sim/venues/ctrader/account.py",
    "sim/venues/fix/entry.py",
    "sim/venues/fix/venue.py",
    "sim/world/exchange.py",
}


def test_no_other_module_approves_or_makes_orders() -> None:
    makers = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        found = calls(ast.parse(path.read_text()))
        if name != "core/approval.py":
            assert "Approved" not in found, name
            assert name == "risk/approval.py" or not found & {"claim", "_SEAL"}, name
        if found & {"NewOrder", "Replace"}:
            makers.add(name)
    assert makers == MAKERS_OF_INTENTS


# --- the verdict


@given(judged=orders, asked=orders, seq=st.integers(1, 3), filled=st.integers(0, 3))
def test_only_what_was_judged_is_approved_and_once(
    judged: tuple[Action, int, int, int, int], asked: tuple[Action, int, int, int, int], seq: int, filled: int
) -> None:
    risks = new_risk()
    judge(risks, row_of(*judged[:4], judged[4]))
    twin = risks.copy()
    same = judged == asked
    intent = intent_of(*asked, filled if asked[0] is Action.REPLACE else 0)
    kept = filled if asked[0] is Action.REPLACE else 0
    assert take(twin, row_of(*asked)) is same
    if not same:
        with pytest.raises(NotApprovedError, match="risk has not approved"):
            approved(risks[0], intent, filled=kept)
        return
    assert approved(risks[0], intent, filled=kept).intent is intent
    assert not risks["approved"][0]
    assert not twin["approved"][0]
    with pytest.raises(NotApprovedError):
        approved(risks[0], intent, filled=kept)
    assert not take(twin, row_of(*asked))


@given(
    halted=st.booleans(),
    immediate=st.booleans(),
    side=st.sampled_from([1, -1]),
    qty=st.integers(-1, 6),
    held=st.integers(-5, 5),
    reason=st.sampled_from([Reason.KILL_SWITCH, Reason.CROSS_EDGE]),
)
def test_a_closing_order_only_closes(
    halted: bool, immediate: bool, side: int, qty: int, held: int, reason: Reason
) -> None:
    risk = new_risk()[0]
    risk["halted"] = halted
    order = new_order("A", side, qty, 100, immediate=immediate, reason=reason)
    after = held + side * qty
    may = halted and immediate and reason is Reason.KILL_SWITCH and qty > 0
    may = may and abs(after) < abs(held) and after * held >= 0
    if may:
        assert approved_closing(risk, order, held).closing
    else:
        with pytest.raises(NotApprovedError, match="not a closing order"):
            approved_closing(risk, order, held)
