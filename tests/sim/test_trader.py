"""The compiled world is the ordinary engine in the ordinary exchange, byte for byte."""

import msgspec
import numpy as np
import pytest

from emp.core.records import DECISION
from emp.engine.limits import EngineLimits
from emp.sim.world.trader import Trader
from tests.kit.two_worlds import BUSY, Ordinary, compiled, engine, market

EVENTS = 12_000


def test_the_compiled_world_writes_the_log_of_the_ordinary_engine() -> None:
    """The same rows and the same words, with orders, rejects, fills, replacements and silent feeds among them."""
    one, other = compiled(EVENTS, 3), Ordinary(3).run(EVENTS)
    said = one.kinds()
    assert {
        "NewOrder",
        "Replace",
        "CancelOrder",
        "Control",
        "new",
        "filled",
        "rejected",
        "canceled",
    } <= said.keys()
    assert said["new (replaced)"] > 100
    for mine, theirs in zip(one.said, other.said, strict=True):
        assert mine == theirs
    assert (one.rows, one.digest.hexdigest()) == (other.rows, other.digest.hexdigest())


def test_how_it_is_cut_changes_nothing() -> None:
    """Stretches of any length give one log."""
    whole = compiled(3_000, 5)
    trader = Trader(engine(), market(5), seed=5)
    rows, laps = np.zeros(97, DECISION), np.zeros((97, 3), np.int32)
    said = []
    while trader.events < 3_000:
        trader.run(rows, laps, min(31, 3_000 - trader.events))
        said += trader.messages()
    assert said == whole.said
    assert len(said) == trader.logged > trader.commands > 50


def test_a_loss_limit_ends_the_run() -> None:
    """What the engine would do next, closing its position, is left to who drives it."""
    limits = msgspec.structs.replace(BUSY, max_drawdown=30.0)
    trader = Trader(engine(limits), market(3), seed=3)
    rows, laps = np.zeros(512, DECISION), np.zeros((512, 3), np.int32)
    while trader.events < EVENTS and not trader.closed:
        written = trader.run(rows, laps, EVENTS)
    assert trader.closed
    assert rows[written - 1]["drawdown"] < -30.0
    assert trader.run(rows, laps, 100) == 0


@pytest.mark.parametrize("limits", [BUSY, EngineLimits()])
def test_position_and_money_are_those_of_the_venue(limits: EngineLimits) -> None:
    """What the engine believes to hold is what the exchange says, once all reports have come."""
    trader = Trader(engine(limits), market(7), seed=7)
    rows, laps = np.zeros(512, DECISION), np.zeros((512, 3), np.int32)
    while trader.events < 4_000 or not _told(trader):
        trader.run(rows, laps, 1)
    account, venue = trader.engine.desk.account[0], trader.venue.venue[0]
    assert (account["position"], account["cash"], account["fees"]) == pytest.approx(
        (venue["position"], venue["cash"], venue["fees"])
    )


def _told(trader: Trader) -> bool:
    venue = trader.venue.venue[0]
    return bool(venue["out_n"] == venue["handed"])
