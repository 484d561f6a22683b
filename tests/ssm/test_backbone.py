"""The backbone: step, chunked form and any mixture of them are one function; its gradients are right."""

import warnings

import pytest
import torch

from emp.core.errors import ConfigError
from emp.model.ssm_config import SSMConfig, layout
from emp.train.net.backbone import BackboneSSM
from emp.train.net.mixers import LocalAttention
from emp.train.net.scan import chunked_scan

torch.set_num_threads(1)

IMPLS = ("mamba2", "mamba3")
EVENTS = 8192
SMALL = {"d_model": 16, "layers": 2, "d_state": 8, "headdim": 8, "attention_heads": 2, "window": 8}
CUTS = (1, 1, 2, 3, 63, 64, 65, 127, 700, 1, 1500, 333, 2048)


def make(impl, dtype, seed=0, **sizes):
    torch.manual_seed(seed)
    model = BackboneSSM(impl=impl, **(SMALL | sizes)).to(dtype)
    with torch.no_grad():  # layer-scale near one and a biased attention, so that nothing hides
        for block in (*model.layers, model.attention):
            block.scale.uniform_(0.5, 1.0)
        model.attention.mixer.bias.normal_()
    return model


def random_state(model, streams, dtype):
    state = model.start(streams).to(dtype)
    for name, part in layout(model.config).items():
        here = state[:, part.at : part.at + part.size]
        if name == "attention.at":
            here.copy_(torch.randint(0, model.config.window, here.shape))
        elif name.endswith("phi"):
            here.uniform_(0.0, 6.0)
        else:
            here.normal_()
    return state


def by_step(model, x, state):
    rows = []
    for t in range(x.shape[1]):
        y, state = model(x[:, t : t + 1], state)
        rows.append(y)
    return torch.cat(rows, 1), state


def recorded_step(model, x, state):
    """The operations of the step as torch records them, which spares half the time of running them one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns that T = 1 is fixed, as it is meant to be
        step = torch.jit.trace(model, (x[:, :1], state), check_trace=False)
    for a, b in zip(by_step(step, x[:, :100], state), by_step(model, x[:, :100], state), strict=True):
        assert torch.equal(a, b)
    return step


def in_chunks(model, x, state, cuts):
    rows, at, i = [], 0, 0
    while at < x.shape[1]:
        y, state = model(x[:, at : at + cuts[i % len(cuts)]], state)
        rows.append(y)
        at += cuts[i % len(cuts)]
        i += 1
    return torch.cat(rows, 1), state


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def state_error(model, a, b):
    """Largest relative difference of any part of two states; angles are compared on the circle."""
    worst = 0.0
    for name, part in layout(model.config).items():
        u, v = a[:, part.at : part.at + part.size], b[:, part.at : part.at + part.size]
        if name.endswith("phi"):
            u, v = torch.stack((u.cos(), u.sin())), torch.stack((v.cos(), v.sin()))
        worst = max(worst, relative(u, v)) if float(v.abs().max()) else worst
    return worst


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.inference_mode()
def test_step_equals_chunked_over_8192_events_from_any_state(impl, dtype, limit):
    model = make(impl, dtype)
    x = torch.randn(1, EVENTS, 16, dtype=dtype)
    state = random_state(model, 1, dtype)
    steps, after_steps = by_step(recorded_step(model, x, state), x, state)
    whole, after_whole = model(x, state)
    mixed, after_mixed = in_chunks(model, x, state, CUTS)
    assert relative(whole, steps) < limit
    assert relative(mixed, steps) < limit
    assert state_error(model, after_whole, after_steps) < 100 * limit  # angles gather rounding event by event
    assert state_error(model, after_mixed, after_steps) < 100 * limit


@pytest.mark.parametrize("impl", IMPLS)
@torch.inference_mode()
def test_the_full_size_in_single_precision(impl):
    torch.manual_seed(1)
    model = BackboneSSM(impl=impl)
    x = torch.randn(1, 512, 64)
    state = random_state(model, 1, torch.float32)
    steps, _ = by_step(model, x, state)
    whole, _ = model(x, state)
    assert relative(whole, steps) < 1e-5


@pytest.mark.parametrize("impl", IMPLS)
@torch.inference_mode()
def test_streams_of_a_batch_do_not_see_each_other(impl):
    model = make(impl, torch.float64)
    x = torch.randn(3, 100, 16, dtype=torch.float64)
    state = random_state(model, 3, torch.float64)
    together, _ = model(x, state)
    alone, _ = model(x[1:2], state[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@torch.inference_mode()
def test_outputs_do_not_depend_on_later_events(impl):
    model = make(impl, torch.float64)
    x = torch.randn(1, 300, 16, dtype=torch.float64)
    other = x.clone()
    other[:, 150:] = torch.randn(1, 150, 16, dtype=torch.float64)
    assert torch.equal(model(x)[0][:, :150], model(other)[0][:, :150])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("length", [1, 11])
def test_gradients_are_those_of_finite_differences(impl, length):
    model = make(impl, torch.float64, d_model=4, layers=2, d_state=4, headdim=4, window=4)
    x = torch.randn(1, length, 4, dtype=torch.float64, requires_grad=True)
    state = random_state(model, 1, torch.float64)
    at = layout(model.config)["attention.at"].at  # a place, not a quantity
    place = state[:, at].clone()
    free = state.clone().requires_grad_()
    names = [n for n, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for _, p in model.named_parameters()]

    def run(x, free, *values):
        state = torch.cat((free[:, :at], place[:, None], free[:, at + 1 :]), 1)
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, state))

    assert torch.autograd.gradcheck(run, (x, free, *values), eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_pass_through_a_chunk_edge(impl):
    model = make(impl, torch.float64)
    x = torch.randn(1, 40, 16, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(model(x)[0][:, 20:].square().sum(), x)
    _, state = model(x[:, :20])
    (split,) = torch.autograd.grad(model(x[:, 20:], state)[0].square().sum(), x)
    torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-12)
    assert float(split[:, :20].abs().max()) > 0.0


def test_the_scan_is_the_recurrence():
    torch.manual_seed(3)
    decay = -torch.rand(2, 9, 3, dtype=torch.float64)
    now, later = torch.rand(2, 9, 3, dtype=torch.float64), torch.rand(2, 9, 3, dtype=torch.float64)
    q, k = (torch.randn(2, 9, 3, 4, dtype=torch.float64) for _ in range(2))
    v = torch.randn(2, 9, 3, 5, dtype=torch.float64)
    start = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y, end = chunked_scan(decay, now, later, q, k, v, start, chunk=4)
    h = start
    for t in range(9):
        pair = k[:, t, :, :, None] * v[:, t, :, None, :]
        decayed = decay[:, t].exp()[..., None, None] * h
        seen = decayed + now[:, t, :, None, None] * pair
        torch.testing.assert_close(y[:, t], (q[:, t, :, :, None] * seen).sum(-2), rtol=1e-12, atol=1e-12)
        h = decayed + later[:, t, :, None, None] * pair
    torch.testing.assert_close(end, h, rtol=1e-12, atol=1e-12)


@torch.inference_mode()
def test_attention_sees_exactly_its_window():
    torch.manual_seed(4)
    config = SSMConfig(**SMALL)
    attention = LocalAttention(config).double()
    state = {
        "at": torch.zeros(1, 1, dtype=torch.float64),
        "k": torch.zeros(1, 16, 8, dtype=torch.float64),
        "v": torch.zeros(1, 8, 16, dtype=torch.float64),
    }
    u = torch.randn(1, 40, 16, dtype=torch.float64)
    base, _ = attention(u, state)
    changed = u.clone()
    changed[:, 10] += 1.0
    moved = (attention(changed, state)[0] - base).abs().amax((0, 2)) > 1e-12
    assert moved.nonzero().flatten().tolist() == list(range(10, 18))


@pytest.mark.parametrize(
    ("sizes", "word"),
    [
        ({"headdim": 24}, "headdim"),
        ({"d_state": 6}, "d_state"),
        ({"layers": 0}, "layers"),
        ({"dt_min": 0.0}, "dt"),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(sizes, word):
    with pytest.raises(ConfigError, match=word) as caught:
        SSMConfig(**sizes)
    assert "\n" not in str(caught.value)
