"""Stop losses that the venue keeps on our positions: they close what is held when nobody is there to do it.

A stop belongs to a position and ends with it, so it can never open one. The venue tells a position's stop with the
position; what is asked for goes out again wherever that is not what the venue tells: for a new position, and after a
connection was lost.
"""

from typing import Protocol

from emp.access.ctrader.enums import TradeSide
from emp.access.ctrader.messages import ProtoOAAmendPositionSLTPReq
from emp.access.ctrader.outbox import Outbox
from emp.access.ctrader.parts import ProtoOAPosition
from emp.access.ctrader.positions import Positions
from emp.access.ctrader.symbols import Terms

NAME = "stop-"
"""How the names of our requests begin; no client order id does."""


class Host(Protocol):
    """What the stops need of their session."""

    account: int
    is_ready: bool
    terms: list[Terms]
    positions: Positions
    out: Outbox

    def notice(self, text: str) -> None:
        """Put a line into the log, secrets masked."""


class Stops:
    """Stops of one session's positions."""

    def __init__(self, session: Host) -> None:
        self._s = session
        self._wanted: dict[str, tuple[int, int]] = {}  # by instrument: of which side, ticks
        self._asked: dict[int, float] = {}  # by position: the last price asked for
        self._names: dict[str, int] = {}  # our requests -> their position
        self._count = 0

    def protect(self, instrument: str, side: int, px: int) -> None:
        """Keep a stop at `px` ticks on what is held of an instrument on one side; 0: ask for none any more."""
        self._wanted[instrument] = side, px
        self.apply()

    def resting(self, instrument: str) -> int:
        """Ticks at which the venue says that everything held of an instrument is stopped; 0 where it does not."""
        terms = self._terms(instrument)
        held = self._s.positions.of_symbol(terms.symbol_id) if terms is not None else []
        prices = {p.stop_loss or 0.0 for p in held}
        return terms.ticks(prices.pop()) if terms is not None and len(prices) == 1 else 0

    def restart(self) -> None:
        """A new connection: what was asked for on the old one may not have arrived."""
        self._asked.clear()
        self._names.clear()

    def compare(self) -> None:
        """The venue has told every position with its stop: what it does not keep as wanted is asked for again."""
        under_way = set(self._names.values())
        self._asked = {one: price for one, price in self._asked.items() if one in under_way}
        self.apply()

    def apply(self) -> None:
        """Ask for every stop that the venue does not keep as wanted."""
        if not self._s.is_ready:
            return
        open_now: set[int] = set()
        for terms in self._s.terms:
            held = self._s.positions.of_symbol(terms.symbol_id)
            open_now |= {p.position_id for p in held}
            side, px = self._wanted.get(terms.instrument.name, (0, 0))
            wanted = TradeSide.BUY if side > 0 else TradeSide.SELL
            if px > 0 and all(p.trade_data.trade_side == wanted for p in held):  # else one hedges the other
                for position in held:
                    self._ask(position, terms, side, px)
        self._asked = {one: price for one, price in self._asked.items() if one in open_now}

    def refused(self, name: str, text: str) -> bool:
        """The venue refused a request; whether it was one of these. It is asked for again with the next price, or when
        positions are told next.
        """
        position = self._names.pop(name, None)
        if position is None:
            return False
        self._s.notice(f"the venue keeps no stop for position {position}: {text}")
        return True

    def _ask(self, position: ProtoOAPosition, terms: Terms, side: int, px: int) -> None:
        price = terms.price(px, side)  # rounded away from the market
        if price in (position.stop_loss, self._asked.get(position.position_id)):
            return
        self._count += 1
        name = f"{NAME}{self._count}"
        self._asked[position.position_id] = price
        self._names[name] = position.position_id
        self._s.out.put(
            ProtoOAAmendPositionSLTPReq(
                ctid_trader_account_id=self._s.account, position_id=position.position_id, stop_loss=price
            ),
            name,
        )

    def answered(self, name: str) -> None:
        """The venue has answered a request."""
        self._names.pop(name, None)

    def _terms(self, instrument: str) -> Terms | None:
        return next((t for t in self._s.terms if t.instrument.name == instrument), None)
