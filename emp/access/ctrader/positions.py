"""Positions as the venue keeps them, and what they net to."""

from collections.abc import Iterable, Sequence

from emp.access.ctrader.enums import PositionStatus, TradeSide
from emp.access.ctrader.parts import ProtoOAPosition
from emp.access.ctrader.symbols import POINT, Terms
from emp.core.contracts import VenuePosition


class Positions:
    """Open positions by id. A hedged account may hold several of one symbol, on both sides."""

    def __init__(self) -> None:
        self._open: dict[int, ProtoOAPosition] = {}

    def replace(self, positions: Iterable[ProtoOAPosition]) -> None:
        """Take over all that the venue says is open."""
        self._open = {}
        for position in positions:
            self.update(position)

    def update(self, position: ProtoOAPosition) -> None:
        """Take over what the venue says of one position."""
        if position.position_status == PositionStatus.POSITION_STATUS_OPEN and position.trade_data.volume > 0:
            self._open[position.position_id] = position
        else:
            self._open.pop(position.position_id, None)

    def of_symbol(self, symbol_id: int) -> list[ProtoOAPosition]:
        """Open positions of a symbol."""
        return [p for p in self._open.values() if p.trade_data.symbol_id == symbol_id]

    def to_reduce(self, terms: Terms, side: int, volume: int) -> int | None:
        """Id of a position that an order of this side and volume would make smaller, the largest first."""
        against = TradeSide.SELL if side > 0 else TradeSide.BUY
        fit = [
            (p.trade_data.volume, p.position_id)
            for p in self._open.values()
            if p.trade_data.symbol_id == terms.symbol_id
            and p.trade_data.trade_side == against
            and p.trade_data.volume >= volume
        ]
        return max(fit)[1] if fit else None

    def net(self, terms: Sequence[Terms]) -> list[VenuePosition]:
        """Net position of each instrument with one; raise VenueError where that is no whole number of lots."""
        found = []
        for term in terms:
            mine = [p for p in self._open.values() if p.trade_data.symbol_id == term.symbol_id]
            signed = [
                (p.trade_data.volume if p.trade_data.trade_side == TradeSide.BUY else -p.trade_data.volume, p)
                for p in mine
            ]
            volume = sum(v for v, _ in signed)
            if not mine:
                continue
            lots = term.lots(abs(volume))
            cost = sum(v * (p.price or 0.0) for v, p in signed)
            average = cost / volume * POINT / term.tick_points if volume else 0.0
            found.append(
                VenuePosition(
                    instrument=term.instrument.name, qty=lots if volume >= 0 else -lots, avg_px=average
                )
            )
        return found
