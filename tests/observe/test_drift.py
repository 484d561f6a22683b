"""Drift of the inputs: found and named where there is some, and not invented where neighbours resemble each other."""

import math

import numpy as np
import pytest

from emp.core.records import Array
from emp.observe.drift import BLOCK, LEAST_ROWS, LEVEL, DriftLook, DriftWatch, Reference, make_reference
from emp.observe.psi import LIMIT

KEEPS = (0.0, 0.9, 0.98)
"""Of three inputs, from one event to the next."""


def inputs(n: int, seed: int) -> Array:
    """float[n, 3]: standard normal, each with a memory of its own."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, len(KEEPS)))
    rows = np.zeros_like(noise)
    last = rng.normal(size=len(KEEPS))
    keeps = np.array(KEEPS)
    for k in range(n):
        last = rows[k] = keeps * last + np.sqrt(1.0 - keeps**2) * noise[k]
    return rows


@pytest.fixture(scope="module")
def reference() -> Reference:
    made = make_reference([inputs(60_000, 1), inputs(50_000, 2)])
    assert made is not None
    return made


def watch(
    reference: Reference, rows: Array, pieces: int = 10**9, day: int = 1, bound: float = math.inf
) -> list[DriftLook]:
    found, at, one = [], 0, DriftWatch(reference, bound=bound)
    while at < len(rows):
        n = min(one.room, pieces, len(rows) - at)
        look = one.add(rows[at : at + n], day)
        at += n
        found += [] if look is None else [look]
    return found


def test_rows_are_worth_as_many_independent_ones_as_their_memory_says(reference: Reference) -> None:
    assert reference.alike[0] == pytest.approx(1.0, rel=0.5)
    assert 5.0 < reference.alike[1] < 20.0  # (1 + r) / (1 - r) = 19 for the mean, less for the outer bins
    assert 20.0 < reference.alike[2] < 99.0
    assert reference.size[0] > 20.0 * reference.size[2]


def test_undisturbed_days_raise_no_more_alarms_than_stated(reference: Reference) -> None:
    days = [watch(reference, inputs(12 * BLOCK, 100 + k)) for k in range(40)]
    assert sum(any(look.drifted for look in day) for day in days) <= 3  # of 40 at 1 %: the 99.9 % point
    most = sorted(max(look.log_evidence for look in day) for day in days)
    assert most[-4] < -math.log(LEVEL), "so says the evidence alone, whatever the index"
    chance = np.mean([day[-1].psi > day[-1].chance for day in days], axis=0)
    assert (chance < 0.2).all(), "about one in twenty lies above the 95 % point"
    assert max(day[-1].psi[2] for day in days) > LIMIT / 2, "by chance alone it comes near the limit"


@pytest.mark.parametrize("which", range(len(KEEPS)))
def test_an_input_three_times_as_large_is_found_and_named(reference: Reference, which: int) -> None:
    rows = inputs(60 * BLOCK, 7)
    rows[20 * BLOCK :, which] *= 3.0
    looks = watch(reference, rows)
    alarmed = [k for k, look in enumerate(looks) if look.drifted]
    assert 20 <= alarmed[0] < 50
    assert looks[alarmed[0]].drifted == (which,)
    assert looks[alarmed[0]].log_evidence >= -math.log(LEVEL)
    assert looks[-1].drifted == (which,), "until the day ends"


def test_a_shift_within_the_limit_is_no_drift_however_many_events_show_it(reference: Reference) -> None:
    rows = inputs(150 * BLOCK, 8)
    rows[:, 0] += 0.3
    looks = watch(reference, rows)
    psi = np.array([look.psi[0] for look in looks])
    assert (psi[5:] > looks[0].chance[0]).mean() > 0.9, "it is there beyond chance"
    assert psi.max() < LIMIT
    assert not any(look.drifted for look in looks)
    assert max(look.log_evidence for look in looks) < 0.0, "nor is there evidence"


@pytest.mark.parametrize("value", [4.1, -4.1, math.inf])
def test_an_input_larger_than_it_is_made_is_named_by_the_next_look(
    reference: Reference, value: float
) -> None:
    rows = inputs(4 * BLOCK, 10).clip(-4.0, 4.0)
    assert not any(look.drifted for look in watch(reference, rows, bound=4.0)), "as large as it is made"
    rows[BLOCK + 5, 1] = value
    looks = watch(reference, rows, 97, bound=4.0)
    assert [look.drifted for look in looks] == [(), (1,), (1,), (1,)]
    assert [look.beyond for look in looks] == [(), (1,), (), ()]
    assert math.isfinite(looks[1].log_evidence)
    assert looks[1].log_evidence >= -math.log(LEVEL)
    assert not any(look.drifted for look in watch(reference, rows)), "where no bound is known"


def test_the_same_is_found_however_events_are_cut(reference: Reference) -> None:
    rows = inputs(5 * BLOCK + 17, 9)
    for one, other in zip(watch(reference, rows), watch(reference, rows, 97), strict=True):
        assert [repr(value) for value in one] == [repr(value) for value in other]


def test_a_new_day_begins_anew(reference: Reference) -> None:
    one = DriftWatch(reference)
    rows = inputs(30 * BLOCK, 3)
    rows[:, 0] *= 3.0
    last = None
    for k in range(30):
        last = one.add(rows[k * BLOCK : (k + 1) * BLOCK], 1)
    assert last is not None
    assert last.drifted == (0,)
    calm = one.add(inputs(BLOCK, 4), 2)
    assert calm is not None
    assert (calm.rows, calm.drifted) == (BLOCK, ())


def test_an_input_that_a_feed_does_not_tell_is_left_out(reference: Reference) -> None:
    rows = inputs(40 * BLOCK, 5)
    rows[:, 1] = math.nan
    looks = watch(reference, rows)
    assert all(math.isnan(look.psi[1]) for look in looks)
    assert not any(look.drifted for look in looks)
    untold = make_reference([rows])
    assert untold is not None
    assert untold.size[1] == 0.0
    assert all(math.isnan(look.psi[1]) for look in watch(untold, inputs(3 * BLOCK, 6)))


def test_a_short_training_is_no_reference() -> None:
    assert make_reference([inputs(LEAST_ROWS - 1, 1)]) is None
    assert make_reference([inputs(LEAST_ROWS, 1)]) is not None


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("to", [-1.0, 0.0, 1.0])
def test_an_input_that_was_one_value_in_training_drifts_whichever_way_it_leaves(
    share: float, to: float
) -> None:
    """All of it, or its lowest 30 %, was 0.0 then; all that was 0.0 is another value now."""
    rng = np.random.default_rng(5)

    def rows(n: int, lowest: float) -> Array:
        values = np.where(rng.random(n) < share, lowest, 1.0 + rng.random(n))
        return np.column_stack([values, rng.normal(size=n)])

    found = make_reference([rows(2 * LEAST_ROWS, 0.0)])
    assert found is not None
    watch = DriftWatch(found)
    looks = [watch.add(rows(BLOCK, to).astype(np.float32), 1) for _ in range(40)]
    last = looks[-1]
    assert last is not None
    assert last.drifted == (() if to == 0.0 else (0,))
