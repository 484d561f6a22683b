"""Adapters: merged they are the same function; what is frozen keeps its bits; penalties are what their formulae say."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

from emp.core.errors import UsageError
from emp.core.records import HORIZONS
from emp.model.heads import MEANS_AT, OUTPUTS, QUANTILES_AT
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS, SESSION_AT
from emp.train.data.chunks import plan_epoch, quotas_of
from emp.train.fit.adapt import adapt_model, fisher_information, head_name
from emp.train.fit.anchors import ewc, fisher_diagonal, l2_sp, start_of
from emp.train.fit.arms import ARMS, AdaptSettings
from emp.train.fit.export import load_network
from emp.train.fit.sequence import encoder_record, write_linear
from emp.train.judge.adaptations import in_memory
from emp.train.net.adapters import (
    FROZEN,
    LowRank,
    adapt,
    adapters,
    body,
    leave_out,
    merge_difference,
    merged,
    top,
    train_heads,
    with_heads,
)
from emp.train.net.network import STEADY_AT, Network
from tests.finetune.conftest import World
from tests.ssm.nets import network

QUICK = AdaptSettings(epochs=1, head_epochs=1, fisher_rows=1_024, length=1_024)
SIZES = {"d_model": 16, "layers": 2, "d_state": 8, "headdim": 16, "attention_heads": 2, "window": 8}


def shaken(net: Network) -> Network:
    """Adapters and heads away from where they begin."""
    torch.manual_seed(3)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.2 * torch.randn_like(p))
        for _, adapter in adapters(net):
            adapter.a *= (adapter.linear.weight != 0.0).any(0)
    return net


@pytest.mark.parametrize("impl", ["mamba2", "mamba3"])
@pytest.mark.parametrize("kind", ["per_domain", "shared"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("where", ["top", "everywhere"])
def test_merged_is_the_same_function(impl: str, kind: str, affine: bool, where: str) -> None:
    net = with_heads(network(impl, features=16, heads_kind=kind, **SIZES), ["fx_spot/spot_agg/EURUSD"])
    adapt(net, "everywhere", 4, "nowhere", 0) if where == "everywhere" else adapt(
        net, "nowhere", 4, "everywhere", 0
    )
    train_heads(net, [2], affine)
    x = torch.randn(200, INPUTS, generator=torch.Generator().manual_seed(1))
    before = merged(net)
    shaken(net)
    assert merge_difference(net, x, 2) < 1e-12
    plain = merged(net)
    assert type(plain) is Network
    assert not list(adapters(plain))
    state = None, torch.tensor([2])
    assert not torch.allclose(plain(x[None], *state).raw, before(x[None], *state).raw, atol=1e-3)


def test_an_adapter_changes_nothing_before_its_first_step_and_sees_nothing_that_its_map_does_not() -> None:
    net = network("mamba3", features=16, **SIZES)
    x = torch.randn(1, 60, INPUTS, generator=torch.Generator().manual_seed(1))
    want = net(x, None, torch.tensor([0])).raw
    adapt(net, "everywhere", 4, "nowhere", 0)
    assert torch.equal(net(x, None, torch.tensor([0])).raw, want)
    shaken(net)
    for one in (net.stem, net.features.first):
        assert isinstance(one, LowRank)
        assert (one.change[:, SESSION_AT:STEADY_AT] == 0.0).all()
    net.stem.change.sum().backward()
    assert (net.stem.a.grad[:, SESSION_AT:STEADY_AT] == 0.0).all()
    assert (net.stem.a.grad != 0.0).any()
    assert {name for name, _ in adapters(net)} == {
        name
        for name, m in network("mamba3", features=16, **SIZES).named_modules()
        if isinstance(m, nn.Linear)
    }


@pytest.mark.parametrize(
    "sizes",
    [
        {"d_model": 32, "layers": 2, "d_state": 16, "headdim": 16, "attention_heads": 2},
        {},
        {"layers": 6, "d_model": 128, "d_state": 64},
    ],
)
def test_the_bottom_is_frozen_within_the_bounds_of_the_roadmap(sizes: dict[str, int]) -> None:
    net = Network(SSMConfig(**sizes), INPUTS, ("shared",))  # type: ignore[arg-type]
    blocks, share = top(net)
    assert FROZEN[0] <= share <= FROZEN[1]
    whole = sum(p.numel() for name, p in net.named_parameters() if not name.startswith("heads."))
    assert whole == sum(block.size for block in body(net))
    assert sum(block.size for block in blocks) == pytest.approx((1.0 - share) * whole)
    adapt(net, "nowhere", 8, "top", 0)
    trained = [
        name for name, p in net.named_parameters() if p.requires_grad and not name.startswith("heads.")
    ]
    assert not any(name.startswith(("features", "stem", "mixed", "backbone.layers.0.")) for name in trained)
    assert "backbone.norm.weight" in trained


def test_a_network_without_such_a_cut_is_refused() -> None:
    net = Network(
        SSMConfig(layers=1, d_model=16, headdim=16, attention_heads=2, features=4), INPUTS, ("shared",)
    )
    with pytest.raises(ValueError, match="no cut between the blocks"):
        top(net)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_what_is_frozen_keeps_its_bits(world: World, arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All heads of before in every arm; of the body what the arm does not train. The last epoch is kept."""
    ever_better = count()
    monkeypatch.setattr("emp.train.fit.adapt.calibration_loss", lambda *_: -float(next(ever_better)))
    got = adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS[arm], QUICK)
    before, after = world.base.artifact.tensors, got.network.tensors()
    heads = len(world.base.artifact.manifest.domains)
    for name in ("hidden", "features", "direct", "bias"):
        np.testing.assert_array_equal(after[f"heads.{name}"][:heads], before[f"heads.{name}"])
        scaled_nought = ARMS[arm].affine and not before[f"heads.{name}"][0].any()
        assert scaled_nought or (after[f"heads.{name}"][heads] != before[f"heads.{name}"][0]).any()
    body_names = [name for name in after if not name.startswith("heads.")]
    changed = {name for name in body_names if (after[name] != before[name]).any()}
    below = ("features", "stem", "mixed", "backbone.layers.0.")
    speaks = (
        bool(before["heads.hidden"][0].any()) or not ARMS[arm].affine
    )  # else nothing leads from it to the body
    assert bool(changed) == (arm != "head" and speaks)
    if arm == "head":
        return
    if "top" in (ARMS[arm].trained, ARMS[arm].low_rank):
        assert not any(name.startswith(below) for name in changed)
    if ARMS[arm].low_rank != "nowhere":
        assert all(name.endswith("weight") and "norm" not in name for name in changed)
    in_memory(got)


def test_the_same_seed_gives_the_same_bytes(world: World) -> None:
    made = [
        in_memory(
            adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS["lora_l2sp_rehearsal"], s)
        )
        for s in (QUICK, QUICK, replace_seed(QUICK, 1))
    ]
    assert made[0].artifact.hash == made[1].artifact.hash
    assert made[0].artifact.hash != made[2].artifact.hash


def replace_seed(settings: AdaptSettings, seed: int) -> AdaptSettings:
    import msgspec

    return msgspec.structs.replace(settings, seed=seed)


def test_the_artifact_serves_the_new_market_by_a_head_of_its_own_and_the_old_ones_as_before(
    world: World,
) -> None:
    got = in_memory(
        adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS["lora_l2sp_rehearsal"], QUICK)
    ).artifact
    before = world.base.artifact
    name = head_name(world.spot)
    assert got.manifest.domains == [*before.manifest.domains, name]
    assert got.domain("fx_spot", "spot_agg", "EURUSD") == len(before.manifest.domains)
    assert got.domain("fx_spot", "spot_agg", "GBPJPY") == 0
    assert got.manifest.thresholds[:-1] == before.manifest.thresholds
    assert {one["instrument"] for one in got.manifest.provenance["series"]} == {"GOOG", "EURUSD"}
    assert len(got.manifest.provenance["series"]) == 2
    heads = len(got.manifest.domains)
    for tensor in ("temperature", "quartiles", "drift.edges"):
        assert len(got.tensors[tensor]) == heads
        np.testing.assert_array_equal(got.tensors[tensor][: heads - 1], before.tensors[tensor])
    assert (got.tensors["drift.size"][-1] > 0).all()


def test_what_cannot_be_kept_or_adapted_to_is_refused(world: World) -> None:
    base = world.base.artifact
    with pytest.raises(UsageError, match="need series that the model was trained on"):
        adapt_model(base, [world.spot], [], ARMS["ewc"], QUICK)
    with pytest.raises(UsageError, match="no head for fx_spot/spot_agg/EURUSD"):
        adapt_model(base, [world.equity], [world.spot], ARMS["lora"], QUICK)
    with pytest.raises(UsageError, match="GOOG: cannot be adapted to and kept"):
        adapt_model(base, [world.equity], [world.equity], ARMS["lora"], QUICK)
    short = replace(world.spot, split=world.spot.split._replace(calibrate_ns=int(world.spot.ts[0])))
    with pytest.raises(UsageError, match="no row of its train part"):
        adapt_model(base, [short], [world.equity], ARMS["lora"], QUICK)


def test_an_input_that_never_varies_in_a_market_is_left_out_of_its_head() -> None:
    net = with_heads(network("mamba3", features=16, **SIZES), ["new"])
    x = torch.randn(1, 50, INPUTS, generator=torch.Generator().manual_seed(1))
    constant = torch.zeros(INPUTS, dtype=torch.bool)
    constant[SESSION_AT : SESSION_AT + 3] = True
    x[..., constant] = torch.tensor([0.0, 1.0, 0.0])
    elsewhere = x.clone()
    elsewhere[..., constant] = torch.tensor([1.0, 0.0, 0.0])
    at, head = len(net.domains) - 1, torch.tensor([len(net.domains) - 1])
    want, others = net(x, None, head).raw, net(elsewhere, None, torch.tensor([0])).raw
    assert not torch.allclose(net(elsewhere, None, head).raw, want, atol=1e-2)
    leave_out(net.heads, at, x[0, 0], constant)
    for market in (x, elsewhere):
        torch.testing.assert_close(net(market, None, head).raw, want, rtol=1e-4, atol=1e-5)
    assert torch.equal(net(elsewhere, None, torch.tensor([0])).raw, others)
    net(x, None, head).raw.square().sum().backward()
    gradient = net.heads.direct.grad[at]
    assert (gradient[constant] == 0.0).all()
    assert (gradient[~constant] != 0.0).any()


@pytest.mark.parametrize("arm", ["head", "lora_affine", "full"])
def test_a_new_head_asks_nothing_of_inputs_that_it_never_saw_vary(world: World, arm: str) -> None:
    got = adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS[arm], QUICK)
    before, after = (t["heads.direct"] for t in (world.base.artifact.tensors, got.network.tensors()))
    encoder = encoder_record(world.base.artifact.tensors)
    seen = world.spot.encoded(encoder).x[world.spot.part("train")]
    still = (seen == seen[0]).all(axis=0)
    assert still[SESSION_AT:STEADY_AT].any()
    assert (after[-1][still] == 0.0).all()
    assert (after[-1][~still] != 0.0).any()
    np.testing.assert_array_equal(after[:-1], before)


def test_a_new_head_begins_as_what_loses_least_on_the_calibration_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the base learned of equities misleads in this market, and a linear model of it alone does not."""
    got = adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS["head"], QUICK)
    losses = got.facts["head_began_as"]
    assert losses["linear"] < losses["base"] - 0.01
    assert got.history == [pytest.approx(losses["linear"])]
    assert list(losses) == ["base", "linear"]
    said = iter((0.0, 1.0))
    with monkeypatch.context() as patch:
        patch.setattr("emp.train.fit.new_heads.calibration_loss", lambda *_: next(said))
        other = adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS["head"], QUICK)
    assert other.history == [pytest.approx(losses["base"])]
    scaled = adapt_model(world.base.artifact, [world.spot], [world.equity], ARMS["lora_affine"], QUICK)
    assert list(scaled.facts["head_began_as"]) == ["base"]


def test_a_linear_start_says_what_the_linear_model_says(world: World) -> None:
    net = with_heads(load_network(world.base.artifact, INPUTS)[0], [head_name(world.spot)])
    at = len(net.domains) - 1
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(1, INPUTS, OUTPUTS)).astype(np.float32)
    bias = rng.normal(size=(1, OUTPUTS)).astype(np.float32)
    x = rng.normal(size=(40, INPUTS)).astype(np.float32)
    before = net(torch.from_numpy(x)[None], None, torch.tensor([0])).raw
    middle = torch.from_numpy(x.mean(0) @ weight[0] + bias)
    write_linear(net.heads, slice(at, at + 1), torch.from_numpy(weight), torch.from_numpy(bias), middle)
    raw = net(torch.from_numpy(x)[None], None, torch.tensor([at])).raw[0].detach().numpy()
    want = x @ weight[0] + bias
    exact = [c for c in range(OUTPUTS) if not QUANTILES_AT <= c < MEANS_AT or (c - QUANTILES_AT) % 3 == 1]
    np.testing.assert_allclose(raw[:, exact], want[:, exact], rtol=1e-3, atol=1e-3)
    assert torch.equal(net(torch.from_numpy(x)[None], None, torch.tensor([0])).raw, before)


# --- penalties


def test_l2_sp_is_its_formula_and_takes_an_adapter_for_the_change_of_its_map() -> None:
    net = with_heads(network("mamba3", features=16, **SIZES), ["new"])
    train_heads(net, [2], False)
    adapt(net, "everywhere", 4, "nowhere", 0)
    start = start_of(net)
    penalty = l2_sp(start, 0.3, 0.7)
    assert penalty(net).item() == 0.0
    plain = merged(net).state_dict()
    shaken(net)
    want = 0.0
    for name, after in merged(net).state_dict().items():
        weight = 0.7 if name.startswith("heads.") else 0.3
        want += 0.5 * weight * (after - plain[name]).square().sum().item()
    assert penalty(net).item() == pytest.approx(want, rel=1e-5)


def test_ewc_is_its_formula() -> None:
    net = network("mamba3", features=16, **SIZES).requires_grad_(True)
    start = start_of(net)
    fisher = {name: torch.rand_like(p) for name, p in net.named_parameters() if not name.startswith("heads.")}
    shaken(net)
    want = sum(
        (fisher[name] * (p - start[name]).square()).sum().item()
        for name, p in net.named_parameters()
        if name in fisher
    )
    assert ewc(start, fisher, 5.0)(net).item() == pytest.approx(5.0 * want / (2.0 * HORIZONS), rel=1e-5)


def test_the_fisher_information_of_a_linear_layer_is_the_analytic_one() -> None:
    """Of softmax(W x + b): E[p_c (1 - p_c) x_j^2]; and the curvature of the loss that finite differences find."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    x = torch.randn(64, 4, dtype=torch.float64)
    p = layer(x).softmax(-1).detach()
    analytic = torch.einsum("nc,nj->cj", p * (1.0 - p), x.square()) / len(x)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        return layer(x).log_softmax(-1), torch.ones(len(x), dtype=torch.float64)

    draws = 4_000
    found = fisher_diagonal(layer, [batch] * draws, 0)
    # the mean of `draws` squares of sums of 64 scores: a standard error of sqrt(2 / draws) = 2.2 %
    torch.testing.assert_close(found["weight"], analytic, rtol=0.1, atol=0.0)
    torch.testing.assert_close(found["bias"], (p * (1.0 - p)).mean(0), rtol=0.1, atol=0.0)

    def expected_loss(weight: torch.Tensor) -> float:
        log_p = (x @ weight.T + layer.bias.detach()).log_softmax(-1)
        return float(-(p * log_p).sum(-1).mean())

    step = 1e-3
    for c, j in ((0, 0), (1, 2), (2, 3)):
        by = torch.zeros_like(layer.weight)
        by[c, j] = step
        w = layer.weight.detach()
        curvature = (expected_loss(w + by) - 2.0 * expected_loss(w) + expected_loss(w - by)) / step**2
        assert curvature == pytest.approx(float(analytic[c, j]), rel=1e-4)


def test_rows_that_do_not_count_leave_no_information() -> None:
    layer = nn.Linear(2, 3)
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        return layer(x).log_softmax(-1), torch.tensor([1.0, 0.0])

    found = fisher_diagonal(layer, [batch] * 50, 0)
    assert (found["weight"][:, 1] == 0.0).all()
    assert (found["weight"][:, 0] > 0.0).all()


def test_the_information_of_a_network_is_of_every_weight_that_speaks(world: World) -> None:
    found = fisher_information(world.base.artifact, [world.equity], QUICK)
    net, _ = load_network(world.base.artifact, INPUTS)
    assert set(found) == {name for name, _ in net.named_parameters() if not name.startswith("heads.")}
    assert all((one >= 0.0).all() and torch.isfinite(one).all() for one in found.values())
    assert (found["features.first.weight"] > 0.0).any()


# --- mixing


def test_an_epoch_takes_of_each_stream_its_share(world: World) -> None:
    from emp.train.fit.adapt import streams_of

    base = world.base.artifact
    edges = np.array(base.manifest.thresholds)
    streams = streams_of([world.equity, world.equity], base.manifest.domains, edges, QUICK)
    shares = (0.75, 0.25)
    quotas = quotas_of(streams, shares)
    assert quotas[0] == len(streams[0].x)
    rows = [0, 0]
    for group in plan_epoch(streams, 512, 2, 0, 0, quotas=quotas):
        for one in group:
            rows[one.stream] += one.end - one.start
    # what lies before the warm-up counts as drawn but is not trained on
    assert rows[1] / sum(rows) == pytest.approx(0.25, abs=0.05)
    assert rows[0] <= quotas[0]
    twice = plan_epoch(streams, 512, 1, 0, 0, quotas=[10, 2 * len(streams[1].x)])
    assert sum(one.end - one.start for (one,) in twice if one.stream == 1) > len(streams[1].x)
    for wrong in ((0.5, 0.6), (1.0,), (1.0, 0.0)):
        with pytest.raises(ValueError, match="must be above 0 and sum to 1"):
            quotas_of(streams, wrong)
