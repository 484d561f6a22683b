"""Training: every row once, state carried over edges, the same numbers by seed and after a resume."""

from functools import cache

import numpy as np
import pytest
import torch

from emp.core.errors import ArtifactError, UsageError
from emp.core.records import HORIZONS
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS, SESSION_AT
from emp.perception.targets import CLASSES, NO_LABEL, classes
from emp.train.data import chunks
from emp.train.data.auxiliary import (
    ASK_DOWN,
    ASK_EMPTIES,
    BID_DOWN,
    BID_EMPTIES,
    BID_UP,
    NEITHER,
    NONE,
    STAYS,
    auxiliary_labels,
    mirrored,
)
from emp.train.data.chunks import Stream, burn_in, plan_epoch, row_batches, window_batch, windows
from emp.train.data.mirror import mirror_matrix
from emp.train.fit.config import TrainConfig
from emp.train.fit.features import learn_features
from emp.train.fit.judging import Judging
from emp.train.fit.learner import schedule
from emp.train.fit.loop import Trainer
from emp.train.fit.losses import Scales, Targets, forecast_losses, move_scales, targets_of
from emp.train.net.network import STEADY_AT, Network, read_outputs
from tests.ssm.nets import SMALL

torch.set_num_threads(1)

DOMAINS = ("shared", "equity/nasdaq")
M = mirror_matrix().astype(np.float32)
pytestmark = pytest.mark.usefixtures("short_windows")


def stream(n=700, seed=0, breaks=(250,), warmup=20):
    """A walk whose next move is told by one input."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, INPUTS)).astype(np.float32)
    delta_hat = (np.sign(x[:, 1:2]) * np.abs(rng.normal(size=(n, HORIZONS)))).astype(np.float32)
    segment = np.searchsorted(np.array(breaks), np.arange(n), side="right")
    since = np.arange(n) - np.r_[0, breaks][segment]
    bid = np.cumsum(rng.integers(-1, 2, n))
    return Stream(
        name=f"s{seed}",
        domain=1,
        broader=(0,),
        x=x,
        delta_hat=delta_hat,
        labels=classes(delta_hat, np.full(HORIZONS, 0.3)),
        use=since >= warmup,
        segment=segment,
        pos_weight=np.ones((1, HORIZONS, CLASSES), np.float32),
        day=np.zeros(n, np.int64),
        weight=1.0,
        auxiliary=auxiliary_labels(bid, bid + 1, x, segment),
    )


@cache
def streams():
    return (stream(seed=0), stream(seed=1, n=400, breaks=()))


def scales():
    rows = move_scales(streams()[0].delta_hat)
    return Scales(*(torch.tensor(np.stack([a, a]), dtype=torch.float32) for a in rows))


def trainer(seed=0, impl="mamba3", **settings):
    torch.manual_seed(seed)
    network = Network(SSMConfig(impl=impl, **SMALL), INPUTS, DOMAINS)
    defaults = {"curriculum": ((128, 1), (256, 1)), "lanes": 2, "lr": 1e-3, "checkpoint_every": 2}
    config = TrainConfig(seed=seed, **(defaults | settings))
    return Trainer(network, streams(), scales(), config)


def judged(network):
    """A made-up loss that is least in the middle of a run."""
    return abs(float(network.heads.bias.sum()) - 0.02)


def weights(t):
    return torch.cat([p.detach().flatten() for p in t.network.parameters()])


@pytest.mark.parametrize("length", [128, 256, 1024])
def test_an_epoch_visits_every_usable_row_once_and_no_sequence_crosses_a_segment(length):
    found = [np.zeros(len(s.x), int) for s in streams()]
    for group in plan_epoch(streams(), length, 3, seed=0, epoch=1):
        assert 1 <= len(group) <= 3
        for at, start, end, burn, _ in group:
            found[at][start:end] += 1
            assert end - start <= length
            assert len(set(streams()[at].segment[start - burn : end])) == 1
            first = np.flatnonzero(streams()[at].segment == streams()[at].segment[start])[0]
            assert burn == min(16, start - first)
    for counts, s in zip(found, streams(), strict=True):
        assert (counts[s.use] == 1).all()
        assert counts.max() == 1


def test_plans_differ_by_epoch_and_seed_but_not_by_run():
    a = plan_epoch(streams(), 128, 2, seed=0, epoch=0)
    assert a == plan_epoch(streams(), 128, 2, seed=0, epoch=0)
    assert a != plan_epoch(streams(), 128, 2, seed=0, epoch=1)
    assert a != plan_epoch(streams(), 128, 2, seed=1, epoch=0)


def test_windows_hold_the_rows_and_nothing_else_counts():
    s = streams()[0]
    group = [chunks.Sequence(0, 300, 400, 16, False), chunks.Sequence(0, 240, 250, 16, False)]
    assert [windows(q) for q in group] == [2, 1]
    first, second = (window_batch(streams(), group, w) for w in range(2))
    np.testing.assert_array_equal(first.x[0], s.x[300:364])
    np.testing.assert_array_equal(second.x[0], s.x[364:400])
    np.testing.assert_array_equal(first.labels[1, :10], s.labels[240:250])
    assert (first.weight[1, 10:] == 0).all()
    assert (first.labels[1, 10:] == NO_LABEL).all()
    assert (second.weight[1] == 0).all()
    x, burn = burn_in(streams(), group)
    np.testing.assert_array_equal(x[0], s.x[284:300])
    assert burn.tolist() == [16, 16]


def test_the_mirror_turns_inputs_labels_weights_and_auxiliaries():
    s = streams()[0]._replace(pos_weight=np.arange(HORIZONS * 3, dtype=np.float32).reshape(1, HORIZONS, 3))
    plain, turned = (window_batch((s,), [chunks.Sequence(0, 300, 340, 0, m)], 0) for m in (False, True))
    np.testing.assert_allclose(turned.x, plain.x @ mirror_matrix(), rtol=1e-6)
    np.testing.assert_array_equal(turned.delta_hat, -plain.delta_hat)
    np.testing.assert_array_equal(turned.labels, 2 - plain.labels)
    np.testing.assert_array_equal(turned.pos_weight, plain.pos_weight[..., ::-1])
    kinds = {STAYS: STAYS, BID_UP: ASK_DOWN, BID_DOWN: 3, 3: BID_DOWN, ASK_DOWN: BID_UP, NONE: NONE}
    want = [kinds[k] for k in plain.auxiliary.next_kind[0]]
    assert turned.auxiliary.next_kind[0].tolist() == want
    again = mirrored(mirrored(plain.auxiliary))
    np.testing.assert_array_equal(again.depletion, plain.auxiliary.depletion)


def test_auxiliary_labels_by_hand():
    bid = np.array([10, 10, 9, 9, 9, 10, 10])
    ask = np.array([11, 11, 11, 12, 12, 12, 11])
    segment = np.array([0, 0, 0, 0, 0, 0, 1])
    found = auxiliary_labels(bid, ask, np.zeros((7, INPUTS), np.float32), segment)
    assert found.next_kind.tolist() == [STAYS, BID_DOWN, 3, STAYS, BID_UP, NONE, NONE]
    assert found.depletion.tolist() == [BID_EMPTIES, BID_EMPTIES, ASK_EMPTIES, NONE, NONE, NONE, NONE]
    quiet = auxiliary_labels(
        np.full(30, 5), np.full(30, 6), np.zeros((30, INPUTS), np.float32), np.zeros(30, int)
    )
    assert quiet.depletion.tolist() == [NEITHER] * 10 + [NONE] * 20
    assert np.isnan(found.wait[5])


def test_windows_of_a_sequence_carry_the_state_exactly():
    """Over two windows the outputs are those of one pass over burn-in and both windows."""
    t = trainer()
    group = [chunks.Sequence(0, 300, 420, 16, False)]
    state = t._burned_in(group)
    rows = []
    with torch.no_grad():
        for w in range(2):
            batch = window_batch(t.streams, group, w)
            carried = t.network(torch.from_numpy(batch.x), state, torch.tensor([1]))
            rows.append(carried.raw)
            state = carried.state
        x = torch.from_numpy(streams()[0].x[284:420])[None]
        whole = t.network(x, None, torch.tensor([1])).raw
    torch.testing.assert_close(torch.cat(rows, 1), whole[:, 16:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["mamba2", "mamba3"])
def test_training_lowers_the_loss(impl):
    t = trainer(impl=impl, lr=5e-3, curriculum=((256, 6),))
    assert t.run()
    directions = [row["direction"] for row in t.losses]
    assert np.mean(directions[-5:]) < 0.9 * np.mean(directions[:5])
    assert len(directions) == t.total


def test_the_same_seed_trains_to_the_same_bits_and_another_does_not():
    a, b, c = trainer(0), trainer(0), trainer(1)
    for t in (a, b, c):
        t.run()
    assert torch.equal(weights(a), weights(b))
    assert a.losses == b.losses
    assert not torch.equal(weights(a), weights(c))


def test_a_resumed_run_reaches_the_same_numbers(tmp_path):
    whole, first = trainer(), trainer()
    whole.judging, first.judging = Judging(judged), Judging(judged)
    whole.run()
    seen = iter(range(100))
    assert not first.run(stop=lambda: next(seen) == 2)
    first.save(tmp_path / "c.pt")
    torch.manual_seed(99)
    second = trainer()
    second.judging = Judging(judged)
    second.resume(tmp_path / "c.pt")
    assert 0 < second.step < second.total
    assert second.run()
    assert torch.equal(weights(second), weights(whole))
    assert second.losses == whole.losses
    for a, b in zip(second.averaged().parameters(), whole.averaged().parameters(), strict=True):
        assert torch.equal(a, b)
    assert second.history == whole.history
    assert len(whole.history) == 3
    for name, kept in whole.best.items():
        assert torch.equal(second.best[name], kept)


def test_the_epoch_with_the_least_loss_is_kept():
    t = trainer(curriculum=((128, 3),))
    told = iter([3.0, 1.0, 2.0, 4.0])
    kept = []

    def judge(network):
        kept.append({name: p.clone() for name, p in network.state_dict().items()})
        return next(told)

    t.judging = Judging(judge)
    t.run()
    assert t.history == [3.0, 1.0, 2.0, 4.0]
    assert all(torch.equal(t.best[name], kept[1][name]) for name in kept[1])
    assert not torch.equal(t.best["heads.bias"], kept[3]["heads.bias"])


def test_features_learn_what_no_linear_map_can_tell_and_leave_the_backbone_alone():
    x = np.random.default_rng(5).normal(size=(4000, INPUTS)).astype(np.float32)
    moves = np.repeat(np.abs(x[:, :1] * x[:, 1:2]) > 0.5, HORIZONS, axis=1).astype(np.float32)
    s = stream(n=4000, breaks=())._replace(
        x=x, delta_hat=moves * np.float32(1.0), labels=np.where(moves > 0, 2, 1).astype(np.int8)
    )
    torch.manual_seed(0)
    network = Network(SSMConfig(**SMALL), INPUTS, DOMAINS)
    before = {name: p.clone() for name, p in network.state_dict().items()}
    config = TrainConfig(features_epochs=25, features_lr=5e-3)
    losses = learn_features(network, [s], scales(), config)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    changed = {n.split(".")[0] for n, p in network.state_dict().items() if not torch.equal(p, before[n])}
    assert changed == {"features", "heads"}
    assert torch.equal(network.heads.hidden, before["heads.hidden"])
    again = Network(SSMConfig(**SMALL), INPUTS, DOMAINS)
    again.load_state_dict(before)
    assert learn_features(again, [s], scales(), config) == losses


def test_rows_of_an_epoch_are_every_usable_row_once():
    found = [np.zeros(len(s.x), int) for s in streams()]
    for batch in row_batches(streams(), 64, seed=0, epoch=0):
        assert batch.domain.tolist() == [1]
        for row in batch.x[0]:
            at = [np.flatnonzero((s.x == row).all(1) | (s.x == row @ M).all(1)) for s in streams()]
            for counts, rows in zip(found, at, strict=True):
                counts[rows] += 1
    for counts, s in zip(found, streams(), strict=True):
        np.testing.assert_array_equal(counts, s.use.astype(int))


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused_in_one_line(tmp_path):
    t = trainer()
    t.save(tmp_path / "c.pt")
    with pytest.raises(UsageError, match="another run"):
        trainer(lr=2e-3).resume(tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:5000])
    with pytest.raises(UsageError, match="not a readable checkpoint") as caught:
        t.resume(tmp_path / "c.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("lanes", "times"), [(1, 1.0), (4, 1.0), (16, 2.0), (64, 4.0)])
def test_the_learning_rate_grows_with_the_root_of_lanes_beyond_four(lanes, times):
    t = trainer(lanes=lanes, lr=1e-3, warmup_steps=1)
    assert t.config.rate == pytest.approx(times * 1e-3)
    t.train_group(t.plans[0][0])
    share = schedule(t.config, t.step - 1, t.total)
    rates = [group["lr"] / share for group in t.learner.optimizer.param_groups]
    assert rates == pytest.approx([times * 1e-3, times * 1e-3, times * 1e-3 * t.config.direct_rate])


def test_divergence_is_said_in_one_line():
    t = trainer()
    with torch.no_grad():
        t.network.stem.weight[0, 0] = float("nan")
    with pytest.raises(ArtifactError, match="diverged"):
        t.run()


def test_rows_that_do_not_count_have_no_gradient():
    t = trainer()
    batch = window_batch(t.streams, [chunks.Sequence(0, 240, 250, 0, False)], 0)
    targets = targets_of(batch, torch.device("cpu"))
    raw = torch.zeros(1, 10, 48, requires_grad=True)
    weight = targets.weight.clone()
    weight[:, 5:] = 0.0
    losses = forecast_losses(read_outputs(raw), Targets(*targets._replace(weight=weight)), scales())
    (gradient,) = torch.autograd.grad(sum(losses.values()), raw)
    assert float(gradient[:, :5].abs().sum()) > 0.0
    assert float(gradient[:, 5:].abs().sum()) == 0.0


def test_class_weights_tilt_the_direction_loss():
    logits = torch.tensor([0.0, 0.0, 0.0]).expand(1, 1, HORIZONS, 3)
    raw = torch.zeros(1, 1, 48)
    outputs = read_outputs(raw)._replace(logits=logits)
    base = Targets(
        torch.tensor([0]),
        torch.ones(1, 1, HORIZONS),
        torch.full((1, 1, HORIZONS), 2),
        torch.ones(1, 1, HORIZONS, 3),
        torch.ones(1, 1),
    )
    heavy = base._replace(pos_weight=base.pos_weight * torch.tensor([1.0, 1.0, 3.0]))
    plain, tilted = (float(forecast_losses(outputs, t, scales())["direction"]) for t in (base, heavy))
    assert tilted == pytest.approx(3.0 * plain)
    assert plain == pytest.approx(np.log(3.0))


def test_an_epoch_takes_only_so_many_rows_of_a_long_series():
    groups = plan_epoch(streams(), 64, 2, seed=0, epoch=0, most=200)
    taken = [sum(q.end - q.start for g in groups for q in g if q.stream == at) for at in range(2)]
    assert all(200 <= n < 200 + 64 for n in taken)


def test_a_group_carries_its_state_from_window_to_window_without_gradient():
    t = trainer(lr=0.0, masked_share=0.0)
    seen = []
    original = t.learner.learn

    def watched(window, state, step, total):
        values, after = original(window, state, step, total)
        seen.append((state, after))
        return values, after

    t.learner.learn = watched
    t.train_group([chunks.Sequence(0, 300, 428, 16, False)])
    (first, between), (carried, after) = seen
    assert carried is between
    assert not carried.requires_grad
    x = torch.from_numpy(streams()[0].x[284:428])[None]
    with torch.no_grad():
        burned = t.network(x[:, :16], None, torch.tensor([1])).state
        whole = t.network(x, None, torch.tensor([1])).state
    torch.testing.assert_close(first, burned)
    torch.testing.assert_close(after, whole, rtol=1e-4, atol=1e-4)


def test_only_the_direct_path_sees_what_names_a_market_and_training_keeps_it_so():
    t = trainer(lr=5e-3)
    learn_features(t.network, t.streams, t.learner.scales, t.config)
    t.run()
    x = torch.zeros(1, 3, INPUTS)
    x[..., SESSION_AT:STEADY_AT] = 1.0
    for seen, blind in zip(t.network.embed(x), t.network.embed(torch.zeros_like(x)), strict=True):
        assert torch.equal(seen, blind)
    for layer in (t.network.stem, t.network.features.first):
        assert layer.weight[:, :SESSION_AT].any()
        assert layer.weight[:, STEADY_AT:].any()
    assert t.network.heads.direct[1, SESSION_AT:STEADY_AT].any()
