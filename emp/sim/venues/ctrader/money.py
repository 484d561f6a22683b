"""What an account of the cTrader venue is worth, what it uses as margin, and what it is charged at a roll.

All amounts are in cents of the deposit currency, in which every symbol is quoted.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from emp.access.ctrader.enums import TradeSide
from emp.access.ctrader.messages import (
    ProtoOAAssetListReq,
    ProtoOAAssetListRes,
    ProtoOAExpectedMarginReq,
    ProtoOAExpectedMarginRes,
    ProtoOAGetPositionUnrealizedPnLReq,
    ProtoOAGetPositionUnrealizedPnLRes,
)
from emp.access.ctrader.parts import (
    ProtoOAAsset,
    ProtoOAExpectedMargin,
    ProtoOAPosition,
    ProtoOAPositionUnrealizedPnL,
)
from emp.access.ctrader.wire import Message
from emp.core.instrument import Instrument
from emp.core.records import Array

USD = 15
MONEY_DIGITS = 2


class Books(Protocol):
    """Where prices are shown."""

    def book(self, instrument: str) -> Array | None:
        """The latest EVENT row of an instrument, or None where there is none yet."""


class Money:
    """Of one account."""

    def __init__(self, books: Books, symbols: Mapping[int, Instrument]) -> None:
        self.balance = 10_000_00
        self.leverage = 100
        self._books, self._symbols = books, symbols

    def margin(self, symbol: int, volume: int) -> int:
        """What a volume of a symbol asks at the price that is shown."""
        return round(volume * self._mid(symbol) / self.leverage)

    def unrealised(self, position: ProtoOAPosition) -> ProtoOAPositionUnrealizedPnL:
        """What a position would bring if it were closed at the mid."""
        data = position.trade_data
        sign = 1 if data.trade_side == TradeSide.BUY else -1
        gross = round(sign * data.volume * (self._mid(data.symbol_id) - (position.price or 0.0)))
        return ProtoOAPositionUnrealizedPnL(
            position_id=position.position_id, gross=gross, net=gross + position.swap
        )

    @staticmethod
    def rolled(position: ProtoOAPosition, long: float, short: float) -> ProtoOAPosition:
        """A position after a roll at which a unit held on a side receives so much of the price's unit."""
        data = position.trade_data
        rate = long if data.trade_side == TradeSide.BUY else short
        return msgspec.structs.replace(position, swap=position.swap + round(data.volume * rate))

    def answer(
        self, message: Message, account: int, positions: Mapping[int, ProtoOAPosition]
    ) -> Message | None:
        """The answer to a question about money; None where it is another one."""
        if isinstance(message, ProtoOAAssetListReq):
            asset = ProtoOAAsset(asset_id=USD, name="USD")
            return ProtoOAAssetListRes(ctid_trader_account_id=account, asset=(asset,))
        if isinstance(message, ProtoOAExpectedMarginReq):
            asked = [(v, self.margin(message.symbol_id, v)) for v in message.volume]
            return ProtoOAExpectedMarginRes(
                ctid_trader_account_id=account,
                margin=tuple(ProtoOAExpectedMargin(volume=v, buy_margin=m, sell_margin=m) for v, m in asked),
                money_digits=MONEY_DIGITS,
            )
        if isinstance(message, ProtoOAGetPositionUnrealizedPnLReq):
            return ProtoOAGetPositionUnrealizedPnLRes(
                ctid_trader_account_id=account,
                money_digits=MONEY_DIGITS,
                positions=tuple(self.unrealised(one) for one in positions.values()),
            )
        return None

    def _mid(self, symbol: int) -> float:
        instrument = self._symbols[symbol]
        book = self._books.book(instrument.name)
        return 0.0 if book is None else 0.5 * instrument.tick * int(book["bid_px"][0] + book["ask_px"][0])
