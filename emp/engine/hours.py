"""Whether a market is open now, by its calendar and not by its last event: a market that is shut sends none."""

from collections.abc import Sequence

import numpy as np

from emp.core.codes import Session
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.sessions import DAY_NS, session_table

_SHUT = np.array([Session.CLOSED, Session.HALT])


class Hours:
    """The trading hours of some instruments; the calendar of some days is kept."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments = tuple(instruments)
        self._tables: list[Array | None] = [None] * len(self._instruments)

    def opened_ns(self, i: int, now_ns: int) -> int | None:
        """Since when instrument `i` trades without a break; None where it does not trade now."""
        table = self._table(i, now_ns)
        at = max(0, int(np.searchsorted(table["start"], now_ns, side="right")) - 1)
        shut = np.flatnonzero(np.isin(table["session_id"][: at + 1], _SHUT))
        if len(shut) and shut[-1] == at:
            return None
        return int(table["start"][shut[-1] + 1 if len(shut) else 0])

    def silent_ms(self, i: int, now_ns: int, since_ns: int) -> float:
        """How long instrument `i` has been silent, since `since_ns`, while it traded; 0 while it does not."""
        opened = self.opened_ns(i, now_ns)
        return 0.0 if opened is None else max(0, now_ns - max(since_ns, opened)) / 1e6

    def _table(self, i: int, now_ns: int) -> Array:
        table = self._tables[i]
        if table is None or not table["start"][0] <= now_ns < table["start"][-1]:
            table = self._tables[i] = session_table(self._instruments[i], now_ns - DAY_NS, now_ns + DAY_NS)
        return table
