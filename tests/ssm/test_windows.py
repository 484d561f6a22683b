"""Windows gathered on a device are those that the host copies together, and teach the same."""

import numpy as np
import pytest
import torch

from emp.core.ids import generator
from emp.train.data import chunks
from emp.train.data.chunks import plan_epoch, spans
from emp.train.fit import windows
from emp.train.fit.captured import plain
from emp.train.fit.learner import WHOLE, Learner, window_losses
from emp.train.fit.windows import HostWindows, Masks, ResidentWindows, Window
from tests.ssm.test_training import scales, stream, streams, trainer

CPU = torch.device("cpu")
LANES = 4
pytestmark = pytest.mark.usefixtures("short_windows")


def groups():
    some = (*streams(), stream(seed=2, n=300, breaks=(100,)))
    return some, plan_epoch(some, 256, LANES, seed=0, epoch=0)


def same(one, other):
    for a, b in zip(one.tensors(), other.tensors(), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def test_gathered_windows_are_those_of_the_host():
    some, plan = groups()
    masks = Masks(5, 0.3)
    host = HostWindows(some, masks, CPU, LANES)
    resident = ResidentWindows(some, masks, LANES, CPU)
    seen = set()
    for group in plan:
        for number in range(max(map(chunks.windows, group))):
            one = resident.window(group, number, number)
            assert one.x.shape[:2] == (LANES, windows.WINDOW)
            same(one, host.window(group, number, number))
            seen |= {(len(group) < LANES, q.mirror, min(map(len, spans(group, number))) == 0) for q in group}
    assert {(False, True, False), (False, False, False)} <= seen
    assert any(short for short, _, _ in seen)  # a group of fewer sequences than lanes
    assert any(over for _, _, over in seen)  # a sequence that is over before its group


def test_rows_that_fill_a_window_up_teach_nothing():
    some, plan = groups()
    masks = Masks(5, 0.3)
    group = next(g for g in plan if len(g) < LANES)
    t = trainer()
    found = []
    for source in (HostWindows(some, masks, CPU), ResidentWindows(some, masks, LANES, CPU)):
        learner = Learner(trainer().network, scales(), t.config, WHOLE)
        state = learner.network.backbone.start(source.lanes(group))
        values, after = learner.gradients(source.window(group, 0, 1), state)
        gradients = torch.cat([p.grad.flatten() for p in learner.trained])
        found.append((values, after[: len(group)], gradients))
    assert found[0][2].abs().max() > 0.0
    short = len(found[0][1])
    full = [lane for lane in range(short) if len(spans(group, 0)[lane]) == windows.WINDOW]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0][2], found[1][2], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found[0][1][full], found[1][1][full], rtol=1e-4, atol=1e-5)


def test_masks_are_drawn_by_step_and_never_where_a_window_is_filled_up():
    masks = Masks(1, 0.5)
    rows = [range(20), range(5, 12)]
    small, large = masks.draw(3, rows, (2, 20)), masks.draw(3, rows, (4, 32))
    np.testing.assert_array_equal(large[:2, :20], small)
    assert not large[2:].any()
    assert not large[:, 20:].any()
    assert (masks.draw(4, rows, (2, 20)) != small).any()
    np.testing.assert_array_equal(small, generator(1, "mask", 3).random((2, 20)) < 0.5)


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # torch's own, which it hides from users
@pytest.mark.parametrize("bf16", [False, True])
def test_what_a_gpu_compiles_is_one_graph_each_and_computes_the_same(bf16):
    """Blocks and losses are traced whole: a break would launch kernels one by one, and could not be captured."""
    some, plan = groups()
    source = ResidentWindows(some, Masks(5, 0.3), LANES, CPU)
    group = plan[0]
    found = []
    for traced in (False, True):
        torch.compiler.reset()
        t = trainer(bf16=bf16)
        learner = Learner(t.network, scales(), t.config, WHOLE)
        if traced:
            for block in (*t.network.backbone.layers, t.network.backbone.attention):
                block.compile(backend="aot_eager", fullgraph=True, dynamic=False)
            learner._losses = torch.compile(window_losses, backend="aot_eager", fullgraph=True, dynamic=False)
        window: Window = source.window(group, 0, 1)
        values, after = learner.gradients(window, learner.network.backbone.start(LANES))
        with plain(), torch.no_grad():
            again = learner.network.backbone(learner.network.embed(window.x[:, :7])[0])[0]
        found.append((values, after, torch.cat([p.grad.flatten() for p in learner.trained]), again))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-4 if not bf16 else 2e-2, atol=1e-5 if not bf16 else 2e-2
        )
