"""The built-in markets of `emp run`: what flows in them, where and when they begin; their kernels run once before they
keep real time.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emp.core.clock import Clock
from emp.core.codes import Reason, Session
from emp.core.config.config import SystemConfig
from emp.core.contracts import NewOrder
from emp.core.ids import generator
from emp.core.instrument import Instrument
from emp.core.sessions import session_table

if TYPE_CHECKING:
    from emp.sim.world.day import DayConfig, DayMarket
    from emp.sim.world.markets import MockMarkets
    from emp.sim.world.mock import MockMarket

DAY_NS = 86_400_000_000_000
MOCK_PX = 100_000  # ticks, where the built-in market begins
_PAST_RELEASES_NS = 300_000_000_000  # releases come at full and half hours: a demonstration begins after them
MOCK_DAYS = 30  # for which it knows its calendar
_WEDNESDAY = 6  # days after Thursday 1970-01-01, modulo 7
_HOUR_NS = 3_600_000_000_000
_AFTERNOON = 15
_TRADING = (int(Session.ASIA), int(Session.LONDON), int(Session.NY))


def open_mock(
    config: SystemConfig, instruments: Sequence[Instrument], clock: Clock
) -> "MockMarket | MockMarkets":
    """The built-in market of each instrument, compiled, at an hour at which they trade, behind one door.

    The first has the configuration's seed, as it has alone; those beside it have seeds of their own.
    """
    from emp.sim.world.markets import MockMarkets

    start_ns = market_hours_ns(instruments, clock.now_ns()) + _PAST_RELEASES_NS
    _compile(instruments[0], start_ns)
    seeds = [config.seed, *(_seed_beside(config.seed, one) for one in instruments[1:])]
    found = [_paced(config, one, seed, start_ns, clock) for one, seed in zip(instruments, seeds, strict=True)]
    if len(found) == 1:
        return found[0]
    return MockMarkets(found, past=config.warm_up_events, clock=clock)


def simulated_as(instruments: Sequence[Instrument]) -> list[str]:
    """A line that says which of the instruments have no order flow of their own, and whose they are simulated with;
    none where all have.
    """
    from emp.sim.flow.shipped import DEFAULT, SHIPPED

    others = [one.name for one in instruments if one.name.lower() not in SHIPPED]
    if not others:
        return []
    own = ", ".join(name.upper() for name in SHIPPED)
    return [
        f"{', '.join(others)}: simulated with the order flow of {DEFAULT.upper()}, fees and hours are the"
        f" instrument's (flows of their own have {own})"
    ]


def _seed_beside(seed: int, instrument: Instrument) -> int:
    """The seed of an instrument's market that is not the first; the same whichever others there are."""
    return int(generator(seed, "market", instrument.name).integers(2**63))


def _paced(
    config: SystemConfig, instrument: Instrument, seed: int, start_ns: int, clock: Clock
) -> "MockMarket":
    from emp.sim.world.day import DayConfig
    from emp.sim.world.mock import MockMarket

    found = MockMarket(
        instrument,
        seed,
        market=_market(instrument, seed, start_ns, DayConfig()),
        start_ns=start_ns,
        speed=config.access.speed,
        clock=clock,
    )
    found.past = config.warm_up_events
    return found


def _market(instrument: Instrument, seed: int, start_ns: int, rules: "DayConfig") -> "DayMarket":
    from emp.sim.flow.shipped import DEFAULT, SHIPPED, named_flow
    from emp.sim.world.day import DayMarket

    own = instrument.name.lower()
    flow = named_flow(own if own in SHIPPED else DEFAULT)
    return DayMarket(flow, seed, MOCK_PX, start_ns, instrument, rules, MOCK_DAYS)


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


def market_hours_ns(instruments: Sequence[Instrument], now_ns: int) -> int:
    """An hour of the last Wednesday that has passed at which most of the instruments trade: of several that do, 15:00
    UTC or the one nearest to it.
    """
    today = now_ns // DAY_NS - 1
    wednesday = (today - (today - _WEDNESDAY) % 7) * DAY_NS
    hours = sorted(range(24), key=lambda hour: abs(hour - _AFTERNOON))
    starts = [wednesday + hour * _HOUR_NS for hour in hours]
    return max(starts, key=lambda at: sum(_trades(one, at) for one in instruments))


def _trades(instrument: Instrument, at: int) -> bool:
    table = session_table(instrument, at, at)
    return int(table["session_id"][np.searchsorted(table["start"], at, side="right") - 1]) in _TRADING
