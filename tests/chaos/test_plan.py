"""Plans: one vocabulary, drawn from a seed, cut down fault by fault."""

import inspect

import pytest

from emp.app.chaos.befall import _COUNTED, Befalls
from emp.app.chaos.drill import kept_faults, plan_of
from emp.core.errors import UsageError
from emp.sim.chaos.plan import KINDS


def test_a_seed_is_a_plan_and_another_seed_another() -> None:
    assert plan_of(7) == plan_of(7)
    assert len({plan_of(seed) for seed in range(50)}) == 50


def test_every_kind_is_drawn_within_its_sizes_and_befalls_somehow() -> None:
    drawn = [fault for seed in range(600) for fault in plan_of(seed).faults]
    assert {fault.kind for fault in drawn} == set(KINDS)
    for fault in drawn:
        assert KINDS[fault.kind].least <= fault.size <= KINDS[fault.kind].most
        assert fault.said()
    ways = {name for name, _ in inspect.getmembers(Befalls, inspect.isfunction)}
    assert all(kind in _COUNTED or f"_{kind}" in ways for kind in KINDS)


def test_only_the_kinds_that_were_asked_for() -> None:
    kinds = {fault.kind for seed in range(30) for fault in plan_of(seed, ["kill", "power"]).faults}
    assert kinds == {"kill", "power"}
    with pytest.raises(UsageError, match="unknown kind of fault 'quake'"):
        plan_of(0, ["quake"])


def test_numbers_of_the_faults_that_are_left() -> None:
    whole = next(plan for plan in map(plan_of, range(50)) if len(set(plan.faults)) > 3)
    part = type(whole)(
        **{**{f: getattr(whole, f) for f in whole.__struct_fields__}, "faults": whole.faults[1:3]}
    )
    assert kept_faults(whole, part) == [2, 3]
