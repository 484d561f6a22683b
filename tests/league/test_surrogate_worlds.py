"""Surrogate worlds: accounts and queues hold whatever a network says, and rollouts are the seed's alone."""

import numpy as np
import pytest

from emp.core.errors import ArtifactError, UsageError
from emp.core.numba.rng import seeded
from emp.league.batches import Terms, decide_all, leap_all, learned_rollouts
from emp.league.leaps import gather, market_scale
from emp.league.match import Table, states
from emp.league.rollouts import rollouts, simulated
from emp.league.seats import FEATURES, VIEW
from emp.league.yardsticks import explorer, yardsticks
from emp.sim.book.book import BEST, OWN_LIVE, PX, QTY, ahead_of
from emp.sim.book.check import check_book
from emp.sim.flow.shipped import named_flow
from emp.sim.surrogate import artifact
from emp.sim.surrogate.equivalence import EQUIVALENT
from emp.sim.surrogate.leap import new_batch, seat
from emp.sim.surrogate.network import forward, new_room
from emp.sim.surrogate.tau import tau_leaping
from emp.sim.world.desk import SLOTS
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.train.data.leaps import FULL, INPUTS, MOVES, NONE, OUTPUTS, PARTS, REALS

LATENCY = latency_record(LatencyConfig())
TERMS = {"decisions": 12, "latency": LATENCY, "fees": (0.1, 0.3), "seed": 4}


@pytest.fixture(scope="module")
def starts():
    return states(Table(named_flow("goog")), 3, 12)


@pytest.fixture(scope="module")
def surrogate(starts) -> artifact.Learned:
    """One whose network is random: what it says is no market, and its books must be books all the same."""
    rng = np.random.default_rng(0)
    tensors = {
        "out.weight": rng.normal(0.0, 0.05, (INPUTS, OUTPUTS)),
        "out.bias": np.zeros(OUTPUTS),
        "centre": np.zeros(INPUTS),
        "spread": np.ones(INPUTS),
        "moves": np.sort(rng.normal(0.0, 1.0, MOVES * PARTS)).reshape(MOVES, PARTS),
        "residuals": np.sort(rng.normal(0.0, 0.5, (REALS, 4 * PARTS)), axis=1),
        "follow": np.zeros((2, REALS)),
    }
    scale = [float(x) for x in market_scale(starts, 256)[0]]
    manifest = artifact.SurrogateManifest(kind="linear", market="goog", params="", every=256, scale=scale)
    return artifact.Learned(manifest, {k: v.astype(np.float32) for k, v in tensors.items()})


def test_books_orders_and_accounts_hold_after_every_leap(starts, surrogate) -> None:
    n = 24
    batch, room, views = new_batch(n), new_room(n), np.zeros(n, VIEW)
    luck = np.random.default_rng(1).integers(0, 2**63, (n, 2), dtype=np.uint64)
    seat(batch, [starts[i % len(starts)] for i in range(n)], luck, (0.1, 0.3))
    terms = Terms(
        starts[0].flow.params,
        LATENCY,
        surrogate.scale,
        np.zeros(len(FEATURES)),
        np.zeros(MOVES, np.float32),
        np.zeros((SLOTS, 3), np.int64),
    )
    me, network, tables = yardsticks()["naive maker"], surrogate.network(), surrogate.tables()
    fates = np.zeros(3, np.int64)
    for step in range(30):
        decide_all(batch, terms, me[0], views, step / 30, room)
        before = _queues(batch)
        forward(network, room, n)
        leap_all(batch, terms, room, tables, 256)
        for i in range(n):
            check_book(batch.books[i])
            book, desk = batch.books[i], batch.desks[i]
            assert book[BEST] < book[BEST + 1]
            live = [int(o["handle"]) for o in desk["orders"] if o["handle"]]
            assert int(book[OWN_LIVE]) == len(live)
            for side in range(2):
                fate = int(batch.latents[i]["fill"][side])
                if fate >= NONE:
                    fates[fate] += 1
                    _follow(batch, i, int(batch.latents[i]["slots"][side]), fate, before)
    assert fates[NONE] > 50
    assert fates[FULL] > 50


def _queues(batch) -> dict:
    found = {}
    for i, desk in enumerate(batch.desks):
        for slot, o in enumerate(desk["orders"]):
            h = int(o["handle"])
            if h:
                book = batch.books[i]
                found[i, slot] = int(book[h + PX]), int(book[h + QTY]), int(ahead_of(book, h))
    return found


def _follow(batch, i: int, slot: int, fate: int, before: dict) -> None:
    """An order that was filled is gone; one that was not stands at its price, no farther back."""
    px, qty, ahead = before[i, slot]
    h = int(batch.desks[i]["orders"][slot]["handle"])
    if fate == FULL:
        assert h == 0
        return
    if fate == NONE:
        book = batch.books[i]
        assert (int(book[h + PX]), int(book[h + QTY])) == (px, qty)
        assert int(ahead_of(book, h)) <= ahead


def test_money_and_lots_of_a_rollout_belong_together(starts, surrogate) -> None:
    path = learned_rollouts(
        surrogate, starts[0].flow.params, starts, yardsticks()["naive maker"], episodes=20, **TERMS
    )
    bought = np.diff(path["position"], axis=1)
    assert np.all(np.abs(bought) <= np.diff(path["lots"], axis=1))
    assert np.abs(path["position"]).max() <= 50
    assert path["lots"][:, -1].mean() > 5
    fees = 0.1 * path["lots"][:, -1]
    paid = path["cash"][:, -1] + fees + path["position"][:, -1] * path["mid"][:, -1]
    assert np.abs(paid).max() < 1e6  # bought and sold at prices of this market, not at 0


def test_rollouts_are_the_seeds_alone(starts, surrogate) -> None:
    params, me = starts[0].flow.params, yardsticks()["league agent"]
    one, two = (learned_rollouts(surrogate, params, starts, me, episodes=9, **TERMS) for _ in range(2))
    assert np.array_equal(one, two)
    other = learned_rollouts(surrogate, params, starts, me, episodes=9, **TERMS | {"seed": 5})
    assert not np.array_equal(one["mid"], other["mid"])


def test_tau_leaping_goes_on_from_the_market_and_is_the_seeds_alone(starts) -> None:
    def leaping(state, luck):
        return tau_leaping(simulated(state, luck), 16)

    me = yardsticks()["naive maker"]
    one, two = (rollouts(starts, me, leaping, episodes=6, every=16, **TERMS) for _ in range(2))
    assert np.array_equal(one, two)
    true = rollouts(starts, me, simulated, episodes=6, every=256, **TERMS)
    assert np.array_equal(one["mid"][:, 0], true["mid"][:, 0])
    assert 0.3 < one["lots"][:, -1].mean() / true["lots"][:, -1].mean() < 3.0


def test_tau_leaping_refuses_a_flow_whose_rates_it_does_not_know() -> None:
    market = states(Table(named_flow("zi")), 1, 1)[0]
    with pytest.raises(UsageError, match="queue-reactive"):
        tau_leaping(simulated(market, seeded(1, "x")))


def test_leaps_to_learn_from_are_the_seeds_alone_and_tell_of_our_orders(starts) -> None:
    scale = market_scale(starts, 256)
    terms = {"decisions": 10, "latency": LATENCY, "fees": (0.0, 0.0), "every": 256}
    one, two = (gather(starts, explorer, scale, episodes=14, seed=3, **terms) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert np.isfinite(one["x"]).all()
    rested = one["fill"] >= NONE
    assert rested.any()
    assert np.array_equal(
        rested[:, 0], one["x"][:, 16] == 1.0
    )  # an order has a fate where the input shows one


def test_what_was_not_shown_to_be_equivalent_is_refused(tmp_path, surrogate) -> None:
    saved = artifact.save_surrogate(tmp_path, surrogate.manifest, surrogate.tensors)
    assert artifact.load_surrogate(tmp_path).manifest.hash == saved.manifest.hash
    with pytest.raises(ArtifactError, match="never judged"):
        artifact.load_passed(tmp_path)
    answers = dict.fromkeys(artifact.QUESTIONS, EQUIVALENT)
    right = {"passed": True, "answers": answers, "surrogate": saved.manifest.hash}
    for wrong, why in (
        (
            {**right, "passed": False, "answers": {**answers, "alpha": "different"}},
            r"alpha different\): train it again",
        ),
        ({**right, "answers": {**answers, "alpha": "undecided"}}, "alpha undecided"),
        ({**right, "answers": {"ranks": EQUIVALENT}}, "of other weights"),
        ({**right, "surrogate": "0" * 64}, "of other weights"),
        ({"passed": True}, "of other weights"),
    ):
        saved.manifest.verdict = wrong
        artifact.write_manifest(tmp_path, saved.manifest)
        with pytest.raises(ArtifactError, match=why):
            artifact.load_passed(tmp_path)
    saved.manifest.verdict = right
    artifact.write_manifest(tmp_path, saved.manifest)
    assert artifact.load_passed(tmp_path).manifest.hash == saved.manifest.hash


def test_a_surrogate_that_was_changed_after_training_is_refused(tmp_path, surrogate) -> None:
    artifact.save_surrogate(tmp_path, surrogate.manifest, surrogate.tensors)
    text = (tmp_path / "surrogate.json").read_text(encoding="utf-8")
    (tmp_path / "surrogate.json").write_text(text.replace('"every": 256', '"every": 128'), encoding="utf-8")
    with pytest.raises(ArtifactError, match="changed or damaged"):
        artifact.load_surrogate(tmp_path)
    with pytest.raises(ArtifactError, match="no such file"):
        artifact.load_surrogate(tmp_path / "nowhere")
