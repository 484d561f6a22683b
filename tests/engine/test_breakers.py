"""What bars opening because the venue or the machine does not keep up: when, for how long, and that it ends."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import UNSENT, OrderUpdate
from emp.engine.breakers import MOST_DOUBLINGS, BreakerLimits, Breakers, S

LIMITS = BreakerLimits()
MS = 1_000_000


class Rig:
    """Breakers on a clock of their own."""

    def __init__(self, limits: BreakerLimits = LIMITS) -> None:
        self.now = 5 * S
        self.said: list[tuple[Reason, bool]] = []
        self.breakers = Breakers(limits, lambda reason, active, _: self.said.append((reason, active)))
        self.orders = 0

    def order(self) -> str:
        self.orders += 1
        self.breakers.sent(f"o{self.orders}", self.now)
        return f"o{self.orders}"

    def answer(self, name: str, status: OrderStatus = OrderStatus.NEW, exec_id: str = "e") -> None:
        update = OrderUpdate(clOrdID=name, execID=exec_id, status=status, filled=0, price=1, ts=1)
        self.breakers.answered(update, self.now)

    def wait(self, ns: int) -> None:
        self.now += ns
        self.breakers.look(self.now)

    def refused(self, n: int, every: int = 0) -> None:
        for _ in range(n):
            self.answer(self.order(), OrderStatus.REJECTED)
            self.wait(every)

    def decide(self, *us: float) -> None:
        laps = np.zeros((len(us), 3), np.int32)
        laps[:, 2] = np.array(us) * 1e3
        self.breakers.decided(laps, self.now)

    @property
    def barred(self) -> set[Reason]:
        return set(self.breakers.barred)


# --- refusals


@given(st.lists(st.sampled_from([S, 3 * S, 4 * S, 8 * S]), min_size=25, max_size=60))
def test_twenty_refusals_within_the_window_bar_and_fewer_do_not(gaps: list[int]) -> None:
    rig = Rig()
    times: list[int] = []
    for gap in gaps:
        rig.wait(gap)
        rig.answer(rig.order(), OrderStatus.REJECTED)
        times.append(rig.now)
        if any(b - a <= LIMITS.reject_window_ns for a, b in zip(times, times[19:], strict=False)):
            assert rig.barred == {Reason.REJECTS}
            return
        assert not rig.barred


def test_a_pause_for_refusals_ends_by_itself_and_does_not_wait_for_fewer() -> None:
    rig = Rig(BreakerLimits(reject_pause_ns=S))
    rig.refused(20)
    assert rig.said == [(Reason.REJECTS, True)]
    rig.wait(S - 1)
    assert rig.barred
    rig.wait(1)
    assert rig.said == [(Reason.REJECTS, True), (Reason.REJECTS, False)]
    rig.refused(19)
    assert not rig.barred, "those before the pause counted again"
    rig.refused(1)
    assert rig.barred


def test_the_owner_ends_a_pause() -> None:
    rig = Rig()
    rig.refused(20)
    rig.breakers.resumed()
    assert rig.said[-1] == (Reason.REJECTS, False)
    rig.refused(19)
    rig.breakers.resumed()
    rig.refused(19)
    assert not rig.barred, "refusals before a resume are forgotten"


def test_only_what_the_venue_says_of_a_new_order_is_a_refusal() -> None:
    rig = Rig()
    for _ in range(50):
        rig.answer("a cancel", OrderStatus.REJECTED)
        rig.answer(rig.order(), OrderStatus.REJECTED, f"{UNSENT}o")
        rig.answer(rig.order(), OrderStatus.CANCELED)
    assert not rig.barred


# --- answers


def test_an_order_without_an_answer_bars_before_one_comes() -> None:
    rig = Rig()
    name = rig.order()
    rig.wait(LIMITS.answer_ns)
    assert not rig.barred
    rig.wait(1)
    assert rig.said == [(Reason.LATENCY, True)]
    rig.answer(name)
    assert rig.barred, "its answer is late all the same"


def test_that_nobody_knows_is_no_answer() -> None:
    rig = Rig()
    rig.answer(rig.order(), OrderStatus.UNKNOWN)
    rig.wait(LIMITS.answer_ns + 1)
    assert rig.barred


def test_after_a_cool_down_one_order_tries() -> None:
    rig = Rig()
    rig.order()
    rig.wait(LIMITS.answer_ns + 1)
    rig.wait(LIMITS.cool_down_ns - 1)
    assert rig.barred
    rig.wait(1)
    assert not rig.barred
    trial = rig.order()
    assert rig.barred, "a second one may follow the one that tries"
    rig.wait(LIMITS.answer_ns)
    rig.answer(trial)
    assert not rig.barred
    rig.answer(rig.order())
    assert not rig.barred
    assert [active for _, active in rig.said] == [True, False, True, False]


def test_each_trial_that_fails_doubles_the_cool_down_up_to_a_bound() -> None:
    rig = Rig()
    for doublings in (0, 1, 2, 3, 3, 3):
        rig.order()
        rig.wait(LIMITS.answer_ns + 1)
        length = LIMITS.cool_down_ns << doublings
        rig.wait(length - 1)
        assert rig.barred
        rig.wait(1)
        assert not rig.barred
    rig.answer(rig.order())
    rig.order()
    rig.wait(LIMITS.answer_ns + 1)
    rig.wait(LIMITS.cool_down_ns)
    assert not rig.barred, "a trial that went well does not shorten the next cool-down again"


# --- decisions


@pytest.mark.parametrize(("late", "barred"), [(10, False), (11, True)])
def test_the_99th_percentile_of_the_newest_decisions(late: int, barred: bool) -> None:
    rig = Rig()
    us = np.full(1_000, 5_000.0)
    us[:late] = 5_001.0
    rig.decide(*us[:999])
    assert not rig.barred, "a thousand are judged, not fewer"
    rig.decide(us[999])
    assert rig.barred == ({Reason.LATENCY} if barred else set())


def test_only_the_newest_count() -> None:
    rig = Rig()
    rig.decide(*[9_000.0] * 10, *[10.0] * 990)
    rig.decide(*[10.0] * 10)
    rig.decide(*[9_000.0] * 10)
    assert not rig.barred
    rig.decide(9_000.0)
    assert rig.barred


def test_decisions_that_stay_slow_double_the_cool_down_and_quick_ones_end_it() -> None:
    rig = Rig()
    rig.decide(*[9_000.0] * 1_000)
    rig.decide(*[9_000.0] * 100)
    rig.wait(LIMITS.cool_down_ns)
    assert rig.barred
    rig.decide(*[10.0] * 100)
    rig.wait(2 * LIMITS.cool_down_ns - 1)
    assert rig.barred
    rig.wait(1)
    assert not rig.barred
    assert rig.said == [(Reason.LATENCY, True), (Reason.LATENCY, False)]


@pytest.mark.parametrize("first", ["answers", "decisions"])
def test_two_reasons_for_latency_end_when_both_have(first: str) -> None:
    rig = Rig()
    for one in (first, "decisions" if first == "answers" else "answers"):
        if one == "decisions":
            rig.decide(*[9_000.0] * 1_000)
        else:
            rig.order()
            rig.wait(LIMITS.answer_ns + 1)
        rig.wait(LIMITS.cool_down_ns // 2)
    rig.wait(LIMITS.cool_down_ns // 4)
    assert rig.barred
    rig.wait(LIMITS.cool_down_ns)
    assert not rig.barred


def test_what_barred_before_a_start_bars_after_it_anew() -> None:
    rig = Rig()
    rig.breakers.restore([Reason.REJECTS, Reason.LATENCY, Reason.NO_RATE], rig.now)
    assert rig.barred == {Reason.REJECTS, Reason.LATENCY}
    assert rig.said == [], "the engine knows it from its ledger"
    rig.wait(LIMITS.cool_down_ns)
    rig.wait(LIMITS.reject_pause_ns)
    assert rig.said == [(Reason.LATENCY, False), (Reason.REJECTS, False)]


class Anything(RuleBasedStateMachine):
    """Whatever happens, in any order: what was said is what is so, and all of it ends once the faults do."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(BreakerLimits(rejects=3, decisions=8))
        self.open: list[str] = []

    @rule()
    @precondition(lambda self: not self.rig.barred)
    def opens(self) -> None:
        self.open.append(self.rig.order())

    @rule()
    def closes(self) -> None:
        self.open.append(self.rig.order())

    @rule(
        status=st.sampled_from([OrderStatus.NEW, OrderStatus.REJECTED, OrderStatus.UNKNOWN]),
        k=st.integers(0, 9),
    )
    @precondition(lambda self: self.open)
    def answers(self, status: OrderStatus, k: int) -> None:
        self.rig.answer(self.open.pop(k % len(self.open)), status)

    @rule(ns=st.sampled_from([MS, S, S + 1, 9 * S, 40 * S, 300 * S]))
    def waits(self, ns: int) -> None:
        self.rig.wait(ns)

    @rule(us=st.lists(st.sampled_from([10.0, 5_000.0, 5_001.0]), min_size=1, max_size=20))
    def decides(self, us: list[float]) -> None:
        self.rig.decide(*us)

    @rule()
    def resumes(self) -> None:
        self.rig.breakers.resumed()

    @invariant()
    def says_what_is_so(self) -> None:
        so: set[Reason] = set()
        for reason, active in self.rig.said:
            assert (reason in so) != active, "said twice"
            so ^= {reason}
        assert so == self.rig.barred

    def teardown(self) -> None:
        self.rig.decide(*[10.0] * 8)
        for _ in range(2):
            self.rig.wait(LIMITS.answer_ns + 1)  # what nobody will answer any more
            self.rig.decide(*[10.0] * 8)
            self.rig.wait((LIMITS.cool_down_ns << MOST_DOUBLINGS) + LIMITS.reject_pause_ns)
        assert not self.rig.barred
        self.rig.answer(self.rig.order())
        assert not self.rig.barred


TestAnything: Any = Anything.TestCase
