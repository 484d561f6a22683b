"""The Gymnasium environment: the library's own checker, seeds, and what an action does."""

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from emp.core.errors import UsageError  # noqa: E402
from emp.sim.book.check import check_book  # noqa: E402
from emp.sim.world import env as E  # noqa: E402, N812
from emp.sim.world.observation import NAMES, OBSERVATIONS  # noqa: E402


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # the checker's advice on unbounded observations
@pytest.mark.parametrize("actions", ["discrete", "quotes"])
def test_passes_the_checker(actions: str) -> None:
    check_env(E.MarketEnv(actions=actions, steps=50), skip_render_check=True)


def test_is_registered_and_vectorised() -> None:
    one = gymnasium.make("emp/Market-v0", steps=20)
    one.reset(seed=1)
    many = E.vector_env(3, steps=20, actions="quotes")
    obs, _ = many.reset(seed=5)
    assert obs.shape == (3, OBSERVATIONS)
    obs, reward, _, _, _ = many.step(many.action_space.sample())
    assert reward.shape == (3,)
    many.close()


def play(seed: int, actions: list[int]) -> tuple[np.ndarray, E.MarketEnv]:
    env = E.MarketEnv(steps=1000)
    obs, _ = env.reset(seed=seed)
    seen = [obs]
    for a in actions:
        obs, reward, _, _, _ = env.step(a)
        seen.append(np.append(obs, reward))
    return np.concatenate(seen), env


def test_same_seed_same_episode() -> None:
    actions = np.random.default_rng(0).integers(0, E.ACTIONS, 300).tolist()
    first, env = play(3, actions)
    again, _ = play(3, actions)
    other, _ = play(4, actions)
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    check_book(env._world.flow.book)


def test_posting_rests_and_is_seen_with_its_place() -> None:
    env = E.MarketEnv(every=5)
    env.reset(seed=2)
    env.step(E.POST_BID)
    for _ in range(3):
        obs, *_ = env.step(E.HOLD)
    named = dict(zip(NAMES, obs.tolist(), strict=True))
    orders = env._world.desk["orders"][0]
    if named["own_bid"]:
        assert named["own_bid"] == 1.0
        assert 0.0 <= named["own_bid_ahead"] < 1.0
        assert named["own_bid_leaves"] == 1.0
    else:
        assert env._world.desk["maker_fills"][0] + env._desk["rejected"][0] >= 1
    assert (orders["side"][orders["state"] != 0] == 0).all()


def test_crossing_moves_position_and_pays() -> None:
    env = E.MarketEnv(every=20, fees=(0.0, 0.5))
    env.reset(seed=2)
    env.step(E.CROSS_BUY)
    *_, info = env.step(E.HOLD)
    assert info["position"] == 1
    assert env._world.desk["fees"][0] == pytest.approx(0.5)
    assert info["worth"] < 1.0


def test_the_position_limit_holds() -> None:
    env = E.MarketEnv(every=20, limit=3)
    env.reset(seed=2)
    for _ in range(30):
        *_, info = env.step(E.CROSS_SELL)
    assert info["position"] == -3


def test_withdrawing_leaves_nothing() -> None:
    env = E.MarketEnv(every=20)
    env.reset(seed=2)
    env.step(E.POST_BOTH)
    for _ in range(4):
        obs, *_ = env.step(E.DROP_ALL)
    named = dict(zip(NAMES, obs.tolist(), strict=True))
    assert named["own_bid"] == named["own_ask"] == 0.0


def test_bad_use_is_refused() -> None:
    with pytest.raises(UsageError, match="choose discrete or quotes"):
        E.MarketEnv(actions="buy")
    with pytest.raises(UsageError, match="reset the environment"):
        E.MarketEnv().step(0)
