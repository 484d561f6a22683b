"""The venue's word on what we hold, asked for while we trade: somebody else may trade on the account too.

A position closed by hand, a broker's stop-out or a fill whose report was lost changes what the account holds, and
nothing need be told to us. A difference counts where two looks in a row find the same one, nothing of the instrument
having changed in between, so that a fill on its way is not taken for one; or where STEADY looks do, whatever we trade
meanwhile: what is on its way would not be the same each time. What a report has told and no order of ours explains is
another word on the same: where the venue holds just so many lots more, that is so at once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import structlog

from emp.access.port import MarketAccess
from emp.core.codes import WorkingState
from emp.core.contracts import Control
from emp.core.errors import VenueError
from emp.engine.market_clock import MarketClock
from emp.engine.reconciliation.others import OthersTrades
from emp.engine.reconciliation.positions import Positions

LOOK_S = 10.0
"""Between two looks while positions agree."""

AGAIN_S = 2.0
"""Until a difference is looked at again."""

STEADY = 5
"""Looks that find the same difference while we go on trading."""

_STILL = frozenset({WorkingState.NONE, WorkingState.RESTING})

_log = structlog.get_logger(__name__)


class _Mark(NamedTuple):
    """What must not change between two looks for a difference to count."""

    fills: int
    position: int
    ids: int  # client order ids given out: an order may have come and gone


class Known(NamedTuple):
    """What is known of an instrument, and must not change while the venue is asked."""

    fills: int
    position: int
    claimed: int  # lots that reports have told and no order of ours explains


class PositionAudit:
    """Compares positions with those of one access."""

    def __init__(self, positions: Positions, last_id: Callable[[], int], access: MarketAccess) -> None:
        """`last_id` says how many client order ids were given out: an order may have come and gone meanwhile."""
        self._orders, self._claims, self._access = positions.orders, positions.claims, access
        self._last_id = last_id
        self._suspected: dict[
            str, tuple[int, _Mark, int]
        ] = {}  # lots, when nothing had changed, looks in a row
        self._untold = False  # the last look found a difference that orders on their way may explain
        self.problem = ""  # why positions are not known, in words

    @property
    def settled(self) -> bool:
        """Whether the last look found what our fills make, and nothing else was told since."""
        return not (self._claims or self._suspected or self._untold or self.problem)

    @property
    def wait_s(self) -> float:
        """Until the next look."""
        return LOOK_S if self.settled else AGAIN_S

    async def look(self) -> Mapping[str, int]:
        """Lots, signed, that the venue holds beyond our position, by instrument, where that is so for sure by now; 0
        where they are none, but were in doubt.

        Where the venue does not answer nothing is known, and what was suspected is forgotten.
        """
        before = {} if self._is_explaining() else self._marks()
        claimed = {} if self._is_explaining() else self._claimed()
        self._untold = False
        try:
            held = {one.instrument: one.qty for one in await self._access.positions()}
        except VenueError as error:
            self._suspected.clear()
            self.problem = str(error)
            return {}
        self.problem = ""
        after, confirmed = {} if self._is_explaining() else self._marks(), {}
        still = {} if self._is_explaining() else self._claimed()
        for name in held.keys() | set(self._orders.instruments):
            mark, known = before.get(name), self._suspected.pop(name, None)
            claim = claimed.get(name)
            unchanged = claim is not None and still.get(name) == claim
            if claim is not None and unchanged and held.get(name, 0) - claim.position == claim.claimed:
                confirmed[name] = claim.claimed
                continue
            if (
                mark is None or after.get(name) != mark
            ):  # an answer is awaited, or came: this look says nothing
                if known is not None:
                    self._suspected[name] = known
                self._untold |= held.get(name, 0) != self._orders.position(name)
                continue
            qty = held.get(name, 0) - mark.position
            looks = known[2] + 1 if known is not None and known[0] == qty else 1
            differs = bool(qty) or claim is not None
            if differs and (looks >= STEADY or (known is not None and known[:2] == (qty, mark))):
                confirmed[name] = qty
            elif differs:
                self._suspected[name] = qty, mark, looks
        return confirmed

    def known(self, name: str) -> Known:
        """Fills so far, the lots held by them, and lots that are claimed."""
        i = self._orders.instruments.index(name)
        account = self._orders.accounts[i]
        return Known(int(account["fills"]), int(account["position"]), self._claims.lots(i))

    def _claimed(self) -> dict[str, Known]:
        """Of the instruments that are in doubt."""
        each = enumerate(self._orders.instruments)
        return {name: self.known(name) for i, name in each if self._claims.doubted(i)}

    def look_again(self) -> None:
        """What was found is not so any more, perhaps."""
        self._untold = True

    def _is_explaining(self) -> bool:
        """Whether the access is itself asking for reports that would explain a difference."""
        return bool(getattr(self._access, "explaining", False))

    def _marks(self) -> dict[str, _Mark]:
        """Of the instruments of which no answer is awaited."""
        accounts, working = self._orders.accounts, self._orders.working
        return {
            name: _Mark(int(accounts["fills"][i]), int(accounts["position"][i]), self._last_id())
            for i, name in enumerate(self._orders.instruments)
            if WorkingState(int(working["state"][i])) in _STILL
        }


class PositionWatch:
    """Asks for positions all the time, and has what differs explained, or booked and closed."""

    def __init__(
        self,
        audit: PositionAudit,
        positions: Positions,
        others: OthersTrades,
        market: MarketClock,
        control: Callable[[Control], None],
        show: Callable[[str, bool], None],
    ) -> None:
        """`others` tells what a difference cost. `control` records and applies what is found. `show` is told after each
        look why it is not known what the account holds, "" where it is; and whether that is what our fills make.
        """
        self._audit, self._orders, self._claims = audit, positions.orders, positions.claims
        self._others, self._market, self._control, self._show = others, market, control, show
        self._agreed = market.newest()  # market time at which the account last held what our fills make
        self._at_once = asyncio.Event()
        self._asked: dict[str, int] = {}  # lots for which orders were asked for, by instrument

    def look_at_once(self) -> None:
        """The venue can be heard again: do not wait."""
        self._at_once.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            # not asyncio.wait_for, which may lose a cancellation (Python 3.11)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._audit.wait_s):
                    await self._at_once.wait()
            self._at_once.clear()
            asked = self._market.newest()
            found = await self._audit.look()
            known = {name: self._audit.known(name) for name in found}
            prices = {
                name: 0.0
                if self._is_claimed(name, lots)
                else await self._others.price(name, lots, self._agreed)
                for name, lots in found.items()
            }
            for name, lots in found.items():
                # a report that came while the venue was asked may explain it
                if self._audit.known(name) != known[name]:
                    self._audit.look_again()
                    continue
                self._end(name, lots, prices[name])
            agrees = self._audit.settled and not any(found.values())
            self._agreed = asked if agrees else self._agreed
            self._show(self._audit.problem, agrees)

    def take_ours(self, names: Iterable[str]) -> None:
        """The owner has looked: what our fills make is what is held of these instruments, which are in doubt."""
        for name in names:
            self._confirm(name, 0)

    def _end(self, name: str, lots: int, px: float) -> None:
        """Have booked what the venue holds beyond our position, at `px` ticks where that is known."""
        if self._is_claimed(name, lots):
            self._confirm(name, lots)
            return
        _log.error("the venue holds another position", instrument=name, lots_beyond_ours=lots)
        self._settle(name, lots, px)

    def _is_claimed(self, name: str, lots: int) -> bool:
        """Whether reports have told of just these lots, of more, or of some and there are none."""
        i = self._orders.instruments.index(name)
        return self._claims.doubted(i) and self._claims.covers(i, lots)

    def _confirm(self, name: str, lots: int) -> None:
        """The venue holds `lots` of what was told of an instrument."""
        _log.warning("the venue has said what it holds", instrument=name, lots_beyond_ours=lots)
        now = self._market.newest()
        self._control(Control(action="confirmed", ts=now, instrument=name, value=float(lots)))

    def _settle(self, name: str, lots: int, px: float) -> None:
        """Have orders asked for that may explain a difference; where they have not, withdraw them: it can be booked
        once none is left, at `px` ticks where that is known.
        """
        now = self._market.newest()
        stays = self._asked.get(name) == lots and self._orders.open_orders(name)
        self._asked[name] = lots
        self._control(
            Control(action="halt", ts=now, instrument=name, reason="position_differs")
            if stays
            else Control(
                action="differs",
                ts=now,
                instrument=name,
                value=float(lots),
                reason=repr(px) if px else "",
            )
        )
