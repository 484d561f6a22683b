"""The rolls that are due: in the time of each market, as inputs for the driver to record and apply.

    for control in rolls.due(i, ts): ...   # before an event of `ts` is processed; each is applied before the next
    until = rolls.until(i)                 # no event before this one comes after another roll

What is next is told before it comes, because a decision rests on it; when it has come, what is held is financed. All of
it is a function of market time and of what was recorded, so a run that goes on finds it again.
"""

from collections.abc import Iterator

import numpy as np

from emp.core.contracts import Control
from emp.core.records import Array
from emp.core.rolls import RollTime, next_roll, roll_time
from emp.engine.engine import Engine

FOREVER_NS = int(np.iinfo(np.int64).max)


class Rolls:
    """Those of the instruments of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, i: int, ts_ns: int) -> Iterator[Control]:
        """Inputs that are due before an event of `ts_ns`; what was held over several rolls is financed at each."""
        after = ts_ns
        while True:
            financing = self._engine.desk.financing[i]
            at = int(financing["roll_ns"])
            if 0 < at <= ts_ns:
                after = at
                yield self._control("finance", i, at)
            elif financing["told"] or not any(self.rates(i)):
                return
            else:
                yield from self._tell(i, after)

    def known(self) -> Iterator[Control]:
        """What the engine has been told of the next rolls, as it was told."""
        for i in range(len(self._engine.instruments)):
            financing = self._engine.desk.financing[i]
            if financing["roll_ns"]:
                for side in ("short", "long"):
                    yield self._control("roll", i, int(financing["roll_ns"]), side, float(financing[side]))

    def until(self, i: int) -> int:
        """The next roll of an instrument, ns UTC; FOREVER_NS where none is known."""
        return int(self._engine.desk.financing["roll_ns"][i]) or FOREVER_NS

    def rates(self, i: int) -> tuple[float, float]:
        """Ticks that a lot held long, and short, receives for a night: as the venue states them, else the catalogue."""
        financing, one = self._engine.desk.financing[i], self._engine.instruments[i]
        stated = float(financing["rate_long"]), float(financing["rate_short"])
        known = one.swap_long, one.swap_short
        long, short = (k if np.isnan(s) else s for s, k in zip(stated, known, strict=True))
        return long, short

    def _tell(self, i: int, after_ns: int) -> Iterator[Control]:
        roll = next_roll(self._time(i, self._engine.desk.financing[i]), after_ns)
        for side, rate in zip(("short", "long"), reversed(self.rates(i)), strict=True):
            yield self._control("roll", i, roll.ts, side, rate * roll.nights)

    def _time(self, i: int, financing: Array) -> RollTime:
        known = roll_time(self._engine.instruments[i])
        minute, triple = int(financing["at_minute"]), int(financing["triple"])
        if minute >= 0:
            known = RollTime(minute, "UTC", known.triple)
        return known._replace(triple=triple) if triple >= 0 else known

    def _control(self, action: str, i: int, ts: int, reason: str = "", value: float = 0.0) -> Control:
        return Control(
            action=action,  # type: ignore[arg-type]
            ts=ts,
            instrument=self._engine.instruments[i].name,
            reason=reason,
            value=value,
        )
