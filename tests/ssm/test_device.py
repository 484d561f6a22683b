"""Where and in which precision it is trained: bfloat16, the scan without a loop, judging beside, devices."""

import threading

import pytest
import torch

from emp.core.errors import UsageError
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS
from emp.train.fit.config import TrainConfig
from emp.train.fit.loop import Trainer
from emp.train.fit.settings import pick_device
from emp.train.net.network import Network
from emp.train.net.scan import _over_chunks, chunked_scan
from tests.ssm.nets import IMPLS, SMALL
from tests.ssm.test_training import DOMAINS, scales, streams

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("short_windows")


def trainer(judge=None, **settings):
    torch.manual_seed(0)
    network = Network(SSMConfig(impl=settings.pop("impl", "mamba3"), **SMALL), INPUTS, DOMAINS)
    defaults = {"curriculum": ((128, 2),), "lanes": 2, "lr": 1e-3, "checkpoint_every": 2}
    return Trainer(network, streams(), scales(), TrainConfig(**(defaults | settings)), judge)


@pytest.mark.parametrize("impl", IMPLS)
def test_training_in_bfloat16_follows_training_in_float32(impl):
    exact, narrow = trainer(impl=impl), trainer(impl=impl, bf16=True)
    assert exact.run()
    assert narrow.run()
    assert len(exact.losses) == len(narrow.losses)
    for one, other in zip(exact.losses, narrow.losses, strict=True):
        assert other["total"] == pytest.approx(one["total"], rel=0.02)
    assert any(a["total"] != b["total"] for a, b in zip(exact.losses, narrow.losses, strict=True))
    assert all(p.dtype == torch.float32 for p in narrow.network.parameters())


@pytest.mark.parametrize("impl", IMPLS)
def test_what_is_carried_stays_in_float32_under_autocast(impl):
    torch.manual_seed(1)
    network = Network(SSMConfig(impl=impl, **SMALL), INPUTS, DOMAINS)
    x = torch.randn(2, 200, INPUTS)
    domain = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = network(x, None, domain)
        half = network(x[:, :100], None, domain)
        rest = network(x[:, 100:], half.state, domain)
        step = network(x[:, :1], half.state, domain)
    for carried in (whole, half, rest, step):
        assert carried.state.dtype == carried.hidden.dtype == torch.float32
    with torch.no_grad():
        exact = network(x, None, domain)
    # hidden states of both are of unit size; bfloat16 has eight bits
    assert (rest.hidden - whole.hidden[:, 100:]).abs().max() < 0.1
    assert (whole.hidden - exact.hidden).abs().mean() < 0.02


def test_the_scan_gives_the_same_bits_under_autocast():
    torch.manual_seed(3)
    decay, now, later = -torch.rand(2, 150, 3), torch.rand(2, 150, 3), torch.rand(2, 150, 3)
    q, k, v = torch.randn(2, 150, 3, 4), torch.randn(2, 150, 3, 4), torch.randn(2, 150, 3, 5)
    h = torch.randn(2, 3, 4, 5)
    exact = chunked_scan(decay, now, later, q, k, v, h)
    with torch.autocast("cpu", torch.bfloat16):
        narrow = chunked_scan(decay, now, later, q, k, v, h)
    assert all(torch.equal(a, b) for a, b in zip(exact, narrow, strict=True))


def test_chunks_in_one_product_are_the_recurrence():
    torch.manual_seed(2)
    decay = -torch.rand(2, 7, 3, dtype=torch.float64) * 4.0
    added, h = torch.randn(2, 7, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    starts, end = _over_chunks(decay, added, h)
    for c in range(7):
        torch.testing.assert_close(starts[:, c], h, rtol=1e-12, atol=1e-12)
        h = decay[:, c].exp()[..., None, None] * h + added[:, c]
    torch.testing.assert_close(end, h, rtol=1e-12, atol=1e-12)


def test_a_heavy_decay_over_many_chunks_neither_overflows_nor_loses_its_gradient():
    decay = torch.full((1, 64, 1), -80.0, requires_grad=True)
    added, h = torch.ones(1, 64, 1, 2, 2), torch.ones(1, 1, 2, 2)
    starts, end = _over_chunks(decay, added, h)
    (starts.sum() + end.sum()).backward()
    assert torch.isfinite(starts).all()
    assert torch.isfinite(decay.grad).all()
    torch.testing.assert_close(end, torch.ones_like(end))


def test_an_epoch_is_judged_while_the_next_one_trains():
    """The judge holds its verdict back until a step of the next epoch is reported: it cannot, if training waits."""
    trained_on, judged_by = threading.Event(), []

    def judge(network):
        judged_by.append(threading.current_thread())
        assert trained_on.wait(60.0), "training waited for its judge"
        return float(len(judged_by))

    one = trainer(judge)
    assert one.run(lambda step: trained_on.set())
    assert one.history == [1.0, 2.0, 3.0]
    assert threading.main_thread() not in judged_by


def test_a_judge_sees_the_weights_of_its_own_epoch_and_its_failure_ends_the_run():
    seen = []

    def judge(network):
        seen.append(torch.cat([p.flatten() for p in network.parameters()]).clone())
        return -float(len(seen))

    one = trainer(judge)
    one.run()
    best = torch.cat([one.best[name].flatten() for name, _ in one.network.named_parameters()])
    assert torch.equal(best, seen[-1])
    assert not torch.equal(seen[0], seen[1])

    def broken(network):
        raise UsageError("no verdict")

    with pytest.raises(UsageError, match="no verdict"):
        trainer(broken).run()


def test_a_run_that_stopped_before_the_verdict_has_it_judged_again(tmp_path):
    def judge(network):
        return float(sum(p.abs().sum() for p in network.parameters()))

    whole = trainer(judge)
    whole.run()
    first, stops = trainer(judge), iter([False, False, True])
    assert not first.run(checkpoint=tmp_path / "c.pt", stop=lambda: next(stops))
    second = trainer(judge)
    second.resume(tmp_path / "c.pt")
    second.run()
    assert second.history == whole.history
    assert all(torch.equal(second.best[name], t) for name, t in whole.best.items())


def test_a_checkpoint_names_no_device(tmp_path):
    """Its tensors are read to wherever the network lies; nothing else in it tells of a device."""
    one = trainer()
    one.save(tmp_path / "c.pt")
    kept = torch.load(tmp_path / "c.pt", map_location="meta", weights_only=True)
    assert "cuda" not in repr(kept["fingerprint"])
    assert "cpu" not in repr(kept["fingerprint"])
    assert all(t.device.type == "meta" for t in kept["network"].values())


def test_a_device_that_is_not_here_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="no CUDA device here"):
        pick_device("cuda")
    with pytest.raises(UsageError, match="use auto, cpu or cuda"):
        pick_device("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == "cuda"
    assert pick_device("cpu") == "cpu"
