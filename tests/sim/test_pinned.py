"""The same seed gives the same events as ever: what each kind of market did when its digest was written down.

A digest changes only where the law of a market, the order of its draws or the arithmetic of a kernel was meant to
change. Only whole numbers go into it, so that the last bit of another machine's logarithm does not matter.
"""

import hashlib

import numpy as np
import pytest

from emp.sim.capacity.capacity import capacity_curve
from emp.sim.fit.calibrate import calibrate
from emp.sim.flow.shipped import shipped_flow
from emp.sim.flow.state import MSG
from emp.sim.flow.zi import zi_params
from emp.sim.measure.maker import naive_maker
from emp.sim.measure.observe_market import observe_market
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market

START = 100_000
EVENTS = 20_000


def digest(*arrays: np.ndarray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.asarray(array).astype(np.int64).tobytes())
    return sha.hexdigest()[:16]


@pytest.fixture(scope="module")
def flows() -> dict[str, np.ndarray]:
    zi = zi_params()
    tape = observe_market(Market(zi, 2, START), 60_000, "zi")
    return {"zi": zi, "hawkes": calibrate(tape.obs, "hawkes"), "goog": shipped_flow()}


@pytest.mark.parametrize(
    ("name", "want"),
    [("zi", "781aba0baf6d8977"), ("hawkes", "b727cdc09ca0a971"), ("goog", "766ca0991ec82574")],
)
def test_a_flow_sends_the_messages_that_it_always_sent(
    name: str, want: str, flows: dict[str, np.ndarray]
) -> None:
    msgs = np.zeros(EVENTS, MSG)
    assert Market(flows[name], 3, START).run(2**62, EVENTS, msgs) == EVENTS
    assert digest(*(msgs[field] for field in MSG.names or ())) == want


@pytest.mark.parametrize(
    ("name", "want"),
    [("zi", "c96a646b5f163861"), ("hawkes", "8287a5ce65b3c55b"), ("goog", "ccfe2c54a5c75821")],
)
def test_a_desk_trades_what_it_always_traded(name: str, want: str, flows: dict[str, np.ndarray]) -> None:
    done = naive_maker(Market(flows[name], 5, START), 5, LatencyConfig(), 0.0, 0.0, decisions=1_000)
    assert done.maker_fills > 100
    assert digest(2 * done.path, np.array([done.events, done.maker_fills, done.posted_lots])) == want


@pytest.mark.parametrize(("passive", "want"), [(False, "26011daede16a1f7"), (True, "7283dcdb3a47df67")])
def test_a_capacity_curve_is_what_it_always_was(
    passive: bool, want: str, flows: dict[str, np.ndarray]
) -> None:
    curve = capacity_curve(flows["goog"], START, passive=passive, trades=20, shares=(0.05, 0.5))
    values = [(p.profit.value, p.reached.value, p.impact.value, p.turnover.value) for p in curve.points]
    assert digest(np.rint(1e3 * np.array([(curve.depth_lots, curve.metaorder, 0, 0), *values]))) == want
