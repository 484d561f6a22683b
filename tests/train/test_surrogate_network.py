"""The networks of surrogates: the compiled ones say what torch says, and a fit is the seed's alone."""

import numpy as np
import pytest
import torch

from emp.core.errors import DataError, UsageError
from emp.sim.surrogate.network import forward, new_room, pack_network
from emp.train.data.leaps import INPUTS, KINDS, LEAP, MOVES, REALS
from emp.train.fit.surrogate import fit_surrogate, move_classes, standardised
from emp.train.net.surrogate import SurrogateNet


def leaps(n: int, seed: int) -> np.ndarray:
    """Made-up leaps: the mid follows the first input, our bid is filled where the second is above 0."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, LEAP)
    rows["x"] = rng.normal(0.0, 1.0, (n, INPUTS))
    rows["fill"] = -1
    rows["fill"][:, 0] = rows["x"][:, 1] > 0.0
    rows["move"] = rows["x"][:, 0] + rng.normal(0.0, 0.3, n)
    rows["real"] = rng.normal(0.0, 1.0, (n, REALS)) + rows["move"][:, None]
    return rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_kernel_says_what_torch_says(kind: str, batch: int) -> None:
    torch.manual_seed(5)
    net, rng = SurrogateNet(kind), np.random.default_rng(1)
    x = rng.normal(0.0, 2.0, (batch, INPUTS)).astype(np.float32)
    centre, spread = rng.normal(0.0, 0.5, INPUTS).astype(np.float32), np.full(INPUTS, 0.7, np.float32)
    room = new_room(batch)
    room.x[:] = x
    forward(pack_network(kind, net.weights(), centre, spread), room, batch)
    with torch.no_grad():
        wanted = net(torch.from_numpy(standardised(x, centre, spread))).numpy()
    np.testing.assert_allclose(room.y, wanted, atol=2e-5)


def test_a_row_does_not_depend_on_its_batch() -> None:
    torch.manual_seed(2)
    packed = pack_network(
        "graph", SurrogateNet("graph").weights(), np.zeros(INPUTS, np.float32), np.ones(INPUTS)
    )
    x = np.random.default_rng(3).normal(0.0, 1.0, (9, INPUTS)).astype(np.float32)
    whole, alone = new_room(9), new_room(1)
    whole.x[:] = x
    forward(packed, whole, 9)
    for i in range(9):
        alone.x[0] = x[i]
        forward(packed, alone, 1)
        np.testing.assert_array_equal(alone.y[0], whole.y[i])


def test_a_price_hears_its_neighbours_and_our_order() -> None:
    """An edge that is left out would not be missed by a parity test of two networks that both lack it."""
    torch.manual_seed(4)
    net = SurrogateNet("graph")
    x = torch.zeros(1, INPUTS, requires_grad=True)
    net(x + torch.randn(1, INPUTS)).pow(2).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert bool((x.grad[0, : INPUTS - 12] != 0.0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_learns_what_there_is_and_is_the_seeds_alone(kind: str) -> None:
    rows = leaps(3_000, 0)
    once, again = (fit_surrogate(rows, kind, seed=7, epochs=3) for _ in range(2))
    assert once.loss == again.loss
    for name, weights in once.net.weights().items():
        np.testing.assert_array_equal(weights, again.net.weights()[name])
    assert once.loss[-1] < once.loss[0]
    assert fit_surrogate(rows, kind, seed=8, epochs=3).loss != once.loss


def test_classes_of_moves_hold_the_moves_that_fall_into_them() -> None:
    move = np.random.default_rng(0).normal(0.0, 1.0, 5_000).astype(np.float32)
    edges, table = move_classes(move)
    assert len(edges) == MOVES - 1
    assert np.all(np.diff(table, axis=1) >= 0.0)
    assert np.all(table[:-1, -1] <= edges)
    assert np.all(table[1:, 0] >= edges)
    assert table.mean() == pytest.approx(move.mean(), abs=0.01)


def test_too_few_leaps_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        fit_surrogate(leaps(100, 0), "mlp", seed=0)
    with pytest.raises(UsageError, match="choose one of"):
        SurrogateNet("forest")
