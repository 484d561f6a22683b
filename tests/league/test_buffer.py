"""The two buffers: how much of what is drawn, at which weight, and that a flash move is one."""

import numpy as np
import pytest

from emp.league.buffer import RARE_SHARE, RUN_SPREADS, Buffer, fill, flash
from emp.league.match import Table, states
from emp.sim.book.book import BEST, BUY, SELL
from emp.sim.flow.zi import zi_params

TABLE = Table(zi_params())


def test_a_fifth_is_rare_and_weights_bring_back_the_rate_of_the_market() -> None:
    rare = np.arange(40) >= 30
    buffer = Buffer([None] * 40, rare, 0.02, 10)  # type: ignore[list-item]
    for progress, share in ((0.0, RARE_SHARE), (1.0, 0.02)):
        draw = buffer.draw(1, 3, 50, progress)
        assert rare[draw.picks].mean() == pytest.approx(RARE_SHARE)
        assert draw.weights.mean() == pytest.approx(1)
        assert draw.weights[rare[draw.picks]].sum() / draw.weights.sum() == pytest.approx(share)
    half = buffer.draw(1, 3, 50, 0.5)
    assert 0.02 < half.weights[rare[half.picks]].sum() / half.weights.sum() < RARE_SHARE
    assert np.array_equal(half.picks, buffer.draw(1, 3, 50, 0.5).picks)
    assert not np.array_equal(half.picks, buffer.draw(1, 4, 50, 0.5).picks)


@pytest.mark.parametrize("all_rare", [False, True])
def test_one_kind_of_states_is_drawn_as_it_is(all_rare: bool) -> None:
    draw = Buffer([None] * 9, np.full(9, all_rare), float(all_rare), 0).draw(1, 0, 6, 1.0)  # type: ignore[list-item]
    assert len(draw.picks) == 6
    assert (draw.weights == 1).all()


def test_a_flash_move_runs_and_leaves_its_origin_alone() -> None:
    state = states(TABLE, 1, 1)[0]
    before = state.book.copy()
    for side, sign in ((BUY, 1), (SELL, -1)):
        best = BEST + 1 - side
        ran = sign * (int(flash(state, TABLE, side).book[best]) - int(before[best]))
        assert ran >= RUN_SPREADS
    assert np.array_equal(state.book, before)
    buffer = fill(TABLE, 1, 12, 4)
    assert len(buffer.states) == len(buffer.rare) == 16
    assert buffer.rare[-4:].all()
