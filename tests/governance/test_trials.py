"""Gains among those of all trials: better never fails for it, and nothing that is cut ever passes for it."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.code_version import code_version
from emp.core.records import Array
from emp.governance.evidence import Evidence, Record
from emp.governance.gates import Gates, read_gates, rules
from emp.governance.judge import Case, Verdict, judge_gate
from emp.governance.overfitting import deflated, overfitting, share_overfitted
from emp.governance.registry import Registry
from emp.model.artifact import Manifest
from tests.governance.conftest import REFERENCE, TRAINED, evaluation

GATES = ("deflated_sharpe_min", "backtest_overfitting_max")
MINE = "a" * 64
HORIZONS = ("1ev", "5ev", "20ev")


def gained(model: str, gains: Array, series: str = "goog") -> Evidence:
    """A look at one series, on which a model gained float[3, blocks]."""
    made = [
        Record("gain_bps_lots", series, "GOOG", "equity", horizon, tuple(map(float, row)), "day", 99)
        for horizon, row in zip(HORIZONS, gains, strict=True)
    ]
    return evaluation(model, made)


def verdicts(evidence: list[Evidence], limit: float | None = None) -> dict[str, Verdict]:
    manifest = Manifest(
        kind="linear",
        schema="",
        domains=[],
        k_sigma=0.5,
        thresholds=[],
        warmup_events=0,
        provenance={"series": [TRAINED]},
        hash=MINE,
    )
    named = {f"{k:064x}": one for k, one in enumerate(evidence)}
    case = Case(manifest, named, REFERENCE, code_version())
    mine = [rule for rule in rules(read_gates()) if rule.name in GATES]
    chosen = [rule if limit is None else rule._replace(limit=limit) for rule in mine]
    return {rule.name: judge_gate(rule, case, 0.95) for rule in chosen}


def passed(evidence: list[Evidence], limit: float | None = None) -> set[str]:
    return {name for name, one in verdicts(evidence, limit).items() if one.verdict == "pass"}


def world(seed: int, trials: int, blocks: int, skill: float) -> list[Evidence]:
    """A model of some skill and trials of others, with gains of whatever skewness."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(trials + 1):
        gains = rng.normal(skill if k == 0 else rng.normal(0.0, 0.3), 1.0, (3, blocks))
        gains += rng.choice([0.0, 5.0, -5.0], (3, blocks), p=[0.9, 0.07, 0.03])
        found.append(gained(MINE if k == 0 else f"{k:064x}", gains))
    return found


WORLDS = st.builds(
    world,
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.sampled_from([16, 17, 24, 31]),
    st.sampled_from([-0.2, 0.2, 0.6, 1.5]),
)
LIMITS = st.sampled_from([None, 0.01, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9])


def shifted(one: Evidence, by: float) -> Evidence:
    return gained(one.model, np.array([r.blocks for r in one.records]) + by)


@settings(max_examples=150, deadline=None)
@given(WORLDS, st.floats(0.0, 30.0), LIMITS)
def test_better_by_the_same_in_every_block_never_fails_for_it(
    found: list[Evidence], better: float, limit: float | None
) -> None:
    assert passed(found, limit) <= passed([shifted(found[0], better), *found[1:]], limit)


@settings(max_examples=150, deadline=None)
@given(
    WORLDS,
    LIMITS,
    st.integers(0, 5),
    st.integers(0, 2),
    st.sampled_from(["leave out", "cut", "reorder", "swap"]),
    st.integers(0, 10_000),
)
def test_nothing_left_out_cut_or_reordered_passes_for_it(
    found: list[Evidence],
    limit: float | None,
    of: int,
    which: int,
    how: str,
    seed: int,
) -> None:
    one = found[of % len(found)]
    made = list(one.records)
    blocks = list(made[which].blocks)
    if how == "leave out":
        del made[which]
    elif how == "swap":
        made.reverse()
    else:
        np.random.default_rng(seed).shuffle(blocks)
        kept = blocks if how == "reorder" else blocks[:-3]
        made[which] = msgspec.structs.replace(made[which], blocks=tuple(kept))
    changed = [msgspec.structs.replace(e, records=tuple(made)) if e is one else e for e in found]
    if tuple(made) != one.records:
        assert passed(changed, limit) == set(), "whatever else there is"
    if how in ("leave out", "cut"):  # also where whoever did it has sealed it anew
        sealed = [evaluation(e.model, made) if e is one else e for e in found]
        assert passed(sealed, limit) <= passed(found, limit)


GAINS = st.lists(st.floats(-3.0, 3.0).map(lambda x: x + 20.0 * (x > 2.8)), min_size=18, max_size=18)


@settings(max_examples=150, deadline=None)
@given(GAINS, st.lists(GAINS, min_size=1, max_size=3), st.floats(0.0, 5.0), st.integers(4, 400))
def test_neither_figure_ever_gets_worse(
    gains: list[float], others: list[list[float]], better: float, trials: int
) -> None:
    """What skewness the gains have: a few large ones among small ones, too."""
    mine, theirs = np.array(gains), [np.array(one) for one in others]
    assert deflated(mine + better, theirs, trials) >= deflated(mine, theirs, trials) - 1e-9
    assert share_overfitted(mine + better, theirs, trials) <= share_overfitted(mine, theirs, trials)


def test_the_plain_probability_does_not_have_this_property() -> None:
    """What is mended: a better model is chosen more often, and the share of bad choices may rise with it."""
    risen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gains = rng.normal(0.0, 1.0, (24, 3))
        better = gains + np.array([0.3, 0.0, 0.0])
        risen += overfitting(better) > overfitting(gains)
        mine, others = gains[:, 0], [gains[:, 1], gains[:, 2]]
        assert share_overfitted(mine + 0.3, others, 3) <= share_overfitted(mine, others, 3)
    assert risen > 0


def test_the_highest_probability_is_that_of_a_search() -> None:
    rng = np.random.default_rng(7)
    for trials in (1, 2, 3, 5):
        mine, others = rng.normal(0.2, 1.0, 20), [rng.normal(0.1, 1.0, 20) for _ in range(trials)]
        tried = [overfitting(np.column_stack([mine + c, *others])) for c in np.linspace(0.0, 4.0, 400)]
        found = share_overfitted(mine, others, trials + 1)
        assert max(tried) <= found <= max(tried) + 0.02


def test_a_twin_among_the_trials_costs_nothing() -> None:
    rng = np.random.default_rng(5)
    mine, noise = rng.normal(2.0, 1.0, 24), rng.normal(0.0, 1.0, 24)
    assert share_overfitted(mine, [noise], 2) == share_overfitted(mine, [mine.copy(), noise], 3) == 0.0


@pytest.mark.parametrize("figure", [deflated, share_overfitted])
def test_gains_that_are_all_alike_earn_nothing(figure: Callable[..., float], gates: Gates) -> None:
    others = [np.random.default_rng(1).normal(size=20)]
    found = figure(np.zeros(20), others, 2)
    assert found == 0.0 if figure is deflated else found > gates.beyond.backtest_overfitting_max


def test_a_trial_that_traded_and_has_no_gains_is_not_passed_over() -> None:
    found = world(3, 3, 24, 3.0)
    assert passed(found) == set(GATES)
    traded = evaluation("b" * 64, [])
    silent = msgspec.structs.replace(traded, config={"trade": True})
    assert passed([*found, traded]) == set(GATES)
    said = verdicts([*found, silent])
    assert {one.verdict for one in said.values()} == {"fail"}
    assert all("trial bbbbbbbb are not whole" in one.why for one in said.values())


def test_a_trial_on_a_copy_of_the_recording_is_a_trial() -> None:
    """Under the name of its file: neither forgotten nor held to have no gains."""
    gains = np.random.default_rng(3).normal(0.1, 1.0, (6, 3, 30))
    plain = [gained(f"{k:x}" * 64 if k else MINE, one) for k, one in enumerate(gains)]
    copied = [plain[0]]
    for k, one in enumerate(gains[1:], 1):
        look = gained(f"{k:x}" * 64, one, "copy")
        data = [msgspec.structs.replace(it, series="copy") for it in look.data]
        copied.append(msgspec.structs.replace(look, data=data))
    assert verdicts(copied) == verdicts(plain)


def test_a_trial_on_a_copy_that_was_cut_counts_among_the_models() -> None:
    """Whoever tries a hundred models on all rows but one pays for a hundred."""
    found = world(3, 3, 24, 0.6)
    cut = []
    for k in range(100):
        one = evaluation(f"{k + 1000:064x}", [])
        data = [
            msgspec.structs.replace(it, rows=it.rows - 1, rows_sha256=f"{k}{it.series}".ljust(64, "0"))
            for it in one.data
        ]
        cut.append(msgspec.structs.replace(one, data=tuple(data)))
    before, after = verdicts(found), verdicts([*found, *cut])
    assert before["deflated_sharpe_min"].why.endswith("of 4 trials")
    assert after["deflated_sharpe_min"].why.endswith("of 104 trials")
    moved = [
        msgspec.structs.replace(
            one, data=tuple(msgspec.structs.replace(it, span=(300, 400)) for it in one.data)
        )
        for one in cut
    ]
    assert verdicts([*found, *moved]) == before, "at another time it is another market"


def test_looks_at_a_copy_that_was_cut_are_counted(registry: Registry) -> None:
    registry.store.add(evaluation("a" * 64))
    whole = evaluation("b" * 64)
    cut = [
        msgspec.structs.replace(one, rows_sha256=one.series.ljust(64, "0"), span=(210, 300))
        for one in whole.data
    ]
    name = registry.store.add(msgspec.structs.replace(whole, data=tuple(cut)))
    assert registry.store.all()[name].looks == 1
    later = [msgspec.structs.replace(one, span=(300, 400)) for one in cut]
    elsewhere = [msgspec.structs.replace(one, rows_sha256="0" * 64) for one in later]
    name = registry.store.add(msgspec.structs.replace(whole, data=tuple(elsewhere)))
    assert registry.store.all()[name].looks == 0
