"""The built-in market of `emp run`: where and when it begins; its kernels run once before it keeps real time."""

from typing import TYPE_CHECKING

import numpy as np

from emp.core.clock import Clock
from emp.core.codes import Reason, Session
from emp.core.config.config import SystemConfig
from emp.core.contracts import NewOrder
from emp.core.instrument import Instrument
from emp.core.sessions import session_table

if TYPE_CHECKING:
    from emp.sim.world.day import DayConfig, DayMarket
    from emp.sim.world.mock import MockMarket

DAY_NS = 86_400_000_000_000
MOCK_PX = 100_000  # ticks, where the built-in market begins
_PAST_RELEASES_NS = 300_000_000_000  # releases come at full and half hours: a demonstration begins after them
MOCK_DAYS = 30  # for which it knows its calendar
_WEDNESDAY = 6  # days after Thursday 1970-01-01, modulo 7
_HOUR_NS = 3_600_000_000_000
_AFTERNOON = 15
_TRADING = (int(Session.ASIA), int(Session.LONDON), int(Session.NY))


def open_mock(config: SystemConfig, instrument: Instrument, clock: Clock) -> "MockMarket":
    """The built-in market, compiled, at an hour at which the instrument trades."""
    from emp.sim.world.day import DayConfig
    from emp.sim.world.mock import MockMarket

    start_ns = market_hours_ns(instrument, clock.now_ns()) + _PAST_RELEASES_NS
    _compile(instrument, start_ns)
    found = MockMarket(
        instrument,
        config.seed,
        market=_market(instrument, config.seed, start_ns, DayConfig()),
        start_ns=start_ns,
        speed=config.access.speed,
        clock=clock,
    )
    found.past = config.warm_up_events
    return found


def _market(instrument: Instrument, seed: int, start_ns: int, rules: "DayConfig") -> "DayMarket":
    from emp.sim.flow.shipped import shipped_flow
    from emp.sim.world.day import DayMarket

    return DayMarket(shipped_flow(), seed, MOCK_PX, start_ns, instrument, rules, MOCK_DAYS)


def _compile(instrument: Instrument, start_ns: int) -> None:
    """Run every kernel of the built-in market once, so that none is compiled while it keeps real time."""
    from emp.sim.world.day import DayConfig
    from emp.sim.world.mock import MockMarket

    halted = DayConfig(halts=((start_ns, 1.0),), pause_s=1.0)  # so that an auction is compiled as well
    market = _market(instrument, 1, start_ns, halted)
    spare = MockMarket(instrument, market=market, start_ns=start_ns, n_events=20)
    order = NewOrder(
        cl_ord_id="warm-up",
        instrument=instrument.name,
        side=1,
        qty=1,
        px=1,
        immediate=False,
        ts=0,
        reason=Reason.POST_EDGE,
        decision_seq=0,
    )
    spare.take(order)
    for _ in spare.batches():
        pass


def market_hours_ns(instrument: Instrument, now_ns: int) -> int:
    """An hour of the last Wednesday that has passed at which the instrument trades: 15:00 UTC, else the one nearest."""
    today = now_ns // DAY_NS - 1
    wednesday = (today - (today - _WEDNESDAY) % 7) * DAY_NS
    for away in sorted(range(24), key=lambda hour: abs(hour - _AFTERNOON)):
        at = wednesday + away * _HOUR_NS
        table = session_table(instrument, at, at)
        if int(table["session_id"][np.searchsorted(table["start"], at, side="right") - 1]) in _TRADING:
            return at
    return wednesday + _AFTERNOON * _HOUR_NS
