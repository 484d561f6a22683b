"""The venue's word on what we hold, asked for while we trade: somebody else may trade on the account too.

A position closed by hand, a broker's stop-out or a fill whose report was lost changes what the account holds, and
nothing need be told to us. A difference counts where two looks in a row find the same one, nothing of the instrument
having changed in between, so that a fill on its way is not taken for one; or where STEADY looks do, whatever we trade
meanwhile: what is on its way would not be the same each time.
"""

from collections.abc import Mapping
from typing import NamedTuple

from emp.access.port import MarketAccess
from emp.core.codes import WorkingState
from emp.core.errors import VenueError
from emp.engine.engine import Engine

LOOK_S = 10.0
"""Between two looks while positions agree."""

AGAIN_S = 2.0
"""Until a difference is looked at again."""

STEADY = 5
"""Looks that find the same difference while we go on trading."""

_STILL = frozenset({WorkingState.NONE, WorkingState.RESTING})


class _Mark(NamedTuple):
    """What must not change between two looks for a difference to count."""

    fills: int
    position: int
    ids: int  # client order ids given out: an order may have come and gone


class PositionAudit:
    """Compares positions for one engine on one access."""

    def __init__(self, engine: Engine, access: MarketAccess) -> None:
        self._engine, self._access = engine, access
        self._suspected: dict[
            str, tuple[int, _Mark, int]
        ] = {}  # lots, when nothing had changed, looks in a row
        self.problem = ""  # why positions are not known, in words

    @property
    def wait_s(self) -> float:
        """Until the next look."""
        return AGAIN_S if self._suspected else LOOK_S

    async def look(self) -> Mapping[str, int]:
        """Lots, signed, that the venue holds beyond our position, by instrument, where that is so for sure by now.

        Where the venue does not answer nothing is known, and what was suspected is forgotten.
        """
        before = {} if self._is_explaining() else self._marks()
        try:
            held = {one.instrument: one.qty for one in await self._access.positions()}
        except VenueError as error:
            self._suspected.clear()
            self.problem = str(error)
            return {}
        self.problem = ""
        after, confirmed = {} if self._is_explaining() else self._marks(), {}
        for name in held.keys() | self._suspected.keys() | before.keys():
            mark, known = before.get(name), self._suspected.pop(name, None)
            if (
                mark is None or after.get(name) != mark
            ):  # an answer is awaited, or came: this look says nothing
                if known is not None:
                    self._suspected[name] = known
                continue
            qty = held.get(name, 0) - mark.position
            looks = known[2] + 1 if known is not None and known[0] == qty else 1
            if qty and (looks >= STEADY or (known is not None and known[:2] == (qty, mark))):
                confirmed[name] = qty
            elif qty:
                self._suspected[name] = qty, mark, looks
        return confirmed

    def _is_explaining(self) -> bool:
        """Whether the access is itself asking for reports that would explain a difference."""
        return bool(getattr(self._access, "explaining", False))

    def _marks(self) -> dict[str, _Mark]:
        """Of the instruments of which no answer is awaited."""
        desk = self._engine.desk
        return {
            one.name: _Mark(
                int(desk.account["fills"][i]), int(desk.account["position"][i]), self._engine.sequence
            )
            for i, one in enumerate(self._engine.instruments)
            if WorkingState(int(desk.working["state"][i])) in _STILL
        }
