"""The account's margin as the venue states it: a conversation of a few questions (`flows.py`)."""

from collections.abc import Generator, Sequence

from emp.access.ctrader.flows import expect
from emp.access.ctrader.messages import (
    ProtoOAAssetListReq,
    ProtoOAAssetListRes,
    ProtoOAExpectedMarginReq,
    ProtoOAExpectedMarginRes,
    ProtoOAGetPositionUnrealizedPnLReq,
    ProtoOAGetPositionUnrealizedPnLRes,
    ProtoOAReconcileReq,
    ProtoOAReconcileRes,
    ProtoOATraderReq,
    ProtoOATraderRes,
)
from emp.access.ctrader.symbols import Terms
from emp.access.ctrader.wire import Message
from emp.access.port import VenueMargin
from emp.core.errors import VenueError


def ask_margin(account: int, terms: Sequence[Terms]) -> Generator[Message, Message, VenueMargin]:
    """Equity is the balance and what all open positions of the account would bring, used margin what they all ask.

    Raises:
        VenueError: an answer lacks what was asked for.
    """
    trader = expect(ProtoOATraderRes, (yield ProtoOATraderReq(ctid_trader_account_id=account))).trader
    assets = expect(ProtoOAAssetListRes, (yield ProtoOAAssetListReq(ctid_trader_account_id=account))).asset
    state = expect(ProtoOAReconcileRes, (yield ProtoOAReconcileReq(ctid_trader_account_id=account)))
    question = ProtoOAGetPositionUnrealizedPnLReq(ctid_trader_account_id=account)
    open_ = expect(ProtoOAGetPositionUnrealizedPnLRes, (yield question))
    lots: dict[str, float] = {}
    for one in terms:
        asked = ProtoOAExpectedMarginReq(
            ctid_trader_account_id=account, symbol_id=one.symbol_id, volume=(one.lot_volume,)
        )
        answer = expect(ProtoOAExpectedMarginRes, (yield asked))
        if not answer.margin:
            raise VenueError(f"{one.instrument.name}: the venue does not say what a lot asks as margin")
        dearer = max(answer.margin[0].buy_margin, answer.margin[0].sell_margin)
        lots[one.instrument.name] = _money(dearer, answer.money_digits)
    return VenueMargin(
        currency=next((one.name for one in assets if one.asset_id == trader.deposit_asset_id), ""),
        equity=_money(trader.balance, trader.money_digits)
        + sum(_money(one.net, open_.money_digits) for one in open_.positions),
        used=sum(_money(one.used_margin or 0, one.money_digits) for one in state.position),
        lots=lots,
    )


def _money(amount: int, digits: int | None) -> float:
    """An amount of the protocol; without digits it is in cents."""
    return amount / 10.0 ** (2 if digits is None else digits)
