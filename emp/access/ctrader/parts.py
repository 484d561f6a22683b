"""The envelope and the parts that messages are made of: see `messages.py` for names and units."""

from typing import Annotated

import msgspec

from emp.access.ctrader.enums import (
    AccessRights,
    AccountType,
    CommissionType,
    DayOfWeek,
    DealStatus,
    OrderType,
    PositionStatus,
    SwapCalculationType,
    TimeInForce,
    TradeSide,
    TradingMode,
    VenueOrderStatus,
)
from emp.access.ctrader.wire import Field, Message


class ProtoMessage(Message, frozen=True):
    """The envelope of every frame."""

    payload_type: Annotated[int, Field(1, "uint32")]
    payload: Annotated[bytes | None, Field(2, "bytes", secret=True)] = None
    client_msg_id: Annotated[str | None, Field(3, "string")] = None


class ProtoOAInterval(Message, frozen=True):
    """A span of a weekly schedule, in seconds since Sunday 00:00 of the schedule's zone."""

    start_second: Annotated[int, Field(3, "uint32")]
    end_second: Annotated[int, Field(4, "uint32")]


class ProtoOACtidTraderAccount(Message, frozen=True):
    """An account that a token gives access to."""

    ctid_trader_account_id: Annotated[int, Field(1, "uint64")]
    is_live: Annotated[bool | None, Field(2, "bool")] = None
    trader_login: Annotated[int | None, Field(3, "int64")] = None
    broker_title_short: Annotated[str | None, Field(6, "string")] = None


class ProtoOASymbol(Message, frozen=True):
    """A symbol in full: what the venue allows and how it counts."""

    symbol_id: Annotated[int, Field(1, "int64")]
    digits: Annotated[int, Field(2, "int32")]
    pip_position: Annotated[int, Field(3, "int32")]
    swap_rollover3_days: Annotated[DayOfWeek | None, Field(6, "ProtoOADayOfWeek")] = None
    swap_long: Annotated[float | None, Field(7, "double")] = None
    swap_short: Annotated[float | None, Field(8, "double")] = None
    max_volume: Annotated[int | None, Field(9, "int64")] = None
    min_volume: Annotated[int | None, Field(10, "int64")] = None
    step_volume: Annotated[int | None, Field(11, "int64")] = None
    schedule: Annotated[tuple[ProtoOAInterval, ...], Field(13, "ProtoOAInterval")] = ()
    commission: Annotated[int | None, Field(14, "int64")] = None
    commission_type: Annotated[CommissionType | None, Field(15, "ProtoOACommissionType")] = None
    schedule_time_zone: Annotated[str | None, Field(26, "string")] = None
    trading_mode: Annotated[TradingMode | None, Field(27, "ProtoOATradingMode")] = None
    swap_calculation_type: Annotated[SwapCalculationType | None, Field(29, "ProtoOASwapCalculationType")] = (
        None
    )
    lot_size: Annotated[int | None, Field(30, "int64")] = None
    precise_trading_commission_rate: Annotated[int | None, Field(31, "int64")] = (
        None  # 1e-8 of the type's unit
    )
    swap_time: Annotated[int | None, Field(37, "int32")] = None  # minute of the day, UTC


class ProtoOALightSymbol(Message, frozen=True):
    """A symbol in the list."""

    symbol_id: Annotated[int, Field(1, "int64")]
    symbol_name: Annotated[str | None, Field(2, "string")] = None
    enabled: Annotated[bool | None, Field(3, "bool")] = None
    base_asset_id: Annotated[int | None, Field(4, "int64")] = None
    quote_asset_id: Annotated[int | None, Field(5, "int64")] = None


class ProtoOATrader(Message, frozen=True):
    """The trading account."""

    ctid_trader_account_id: Annotated[int, Field(1, "int64")]
    balance: Annotated[int, Field(2, "int64")]
    deposit_asset_id: Annotated[int, Field(8, "int64")]
    access_rights: Annotated[AccessRights | None, Field(7, "ProtoOAAccessRights")] = None
    swap_free: Annotated[bool | None, Field(9, "bool")] = None
    account_type: Annotated[AccountType | None, Field(15, "ProtoOAAccountType")] = None
    money_digits: Annotated[int | None, Field(20, "uint32")] = None


class ProtoOAAsset(Message, frozen=True):
    """A currency, or another thing that is counted in."""

    asset_id: Annotated[int, Field(1, "int64")]
    name: Annotated[str, Field(2, "string")]


class ProtoOAExpectedMargin(Message, frozen=True):
    """What a volume asks as margin, in the account's money."""

    volume: Annotated[int, Field(1, "int64")]
    buy_margin: Annotated[int, Field(2, "int64")]
    sell_margin: Annotated[int, Field(3, "int64")]


class ProtoOAPositionUnrealizedPnL(Message, frozen=True):
    """What an open position would bring now, in the account's money; net of commission and swap."""

    position_id: Annotated[int, Field(1, "int64")]
    gross: Annotated[int, Field(2, "int64")] = msgspec.field(name="grossUnrealizedPnL")
    net: Annotated[int, Field(3, "int64")] = msgspec.field(name="netUnrealizedPnL")


class ProtoOATradeData(Message, frozen=True):
    """What an order or a position trades."""

    symbol_id: Annotated[int, Field(1, "int64")]
    volume: Annotated[int, Field(2, "int64")]
    trade_side: Annotated[TradeSide, Field(3, "ProtoOATradeSide")]
    open_timestamp: Annotated[int | None, Field(4, "int64")] = None
    label: Annotated[str | None, Field(5, "string")] = None
    comment: Annotated[str | None, Field(7, "string")] = None


class ProtoOAPosition(Message, frozen=True):
    """A position."""

    position_id: Annotated[int, Field(1, "int64")]
    trade_data: Annotated[ProtoOATradeData, Field(2, "ProtoOATradeData")]
    position_status: Annotated[PositionStatus, Field(3, "ProtoOAPositionStatus")]
    swap: Annotated[int, Field(4, "int64")]
    price: Annotated[float | None, Field(5, "double")] = None
    stop_loss: Annotated[float | None, Field(6, "double")] = None
    utc_last_update_timestamp: Annotated[int | None, Field(8, "int64")] = None
    commission: Annotated[int | None, Field(9, "int64")] = None
    used_margin: Annotated[int | None, Field(13, "uint64")] = None
    money_digits: Annotated[int | None, Field(15, "uint32")] = None


class ProtoOAOrder(Message, frozen=True):
    """An order, with how much of it has been executed."""

    order_id: Annotated[int, Field(1, "int64")]
    trade_data: Annotated[ProtoOATradeData, Field(2, "ProtoOATradeData")]
    order_type: Annotated[OrderType, Field(3, "ProtoOAOrderType")]
    order_status: Annotated[VenueOrderStatus, Field(4, "ProtoOAOrderStatus")]
    execution_price: Annotated[float | None, Field(7, "double")] = None
    executed_volume: Annotated[int | None, Field(8, "int64")] = None
    utc_last_update_timestamp: Annotated[int | None, Field(9, "int64")] = None
    base_slippage_price: Annotated[float | None, Field(10, "double")] = None
    slippage_in_points: Annotated[int | None, Field(11, "int64")] = None
    closing_order: Annotated[bool | None, Field(12, "bool")] = None
    limit_price: Annotated[float | None, Field(13, "double")] = None
    client_order_id: Annotated[str | None, Field(17, "string")] = None
    time_in_force: Annotated[TimeInForce | None, Field(18, "ProtoOATimeInForce")] = None
    position_id: Annotated[int | None, Field(19, "int64")] = None


class ProtoOADeal(Message, frozen=True):
    """One execution of an order."""

    deal_id: Annotated[int, Field(1, "int64")]
    order_id: Annotated[int, Field(2, "int64")]
    position_id: Annotated[int, Field(3, "int64")]
    volume: Annotated[int, Field(4, "int64")]
    filled_volume: Annotated[int, Field(5, "int64")]
    symbol_id: Annotated[int, Field(6, "int64")]
    create_timestamp: Annotated[int, Field(7, "int64")]
    execution_timestamp: Annotated[int, Field(8, "int64")]
    trade_side: Annotated[TradeSide, Field(11, "ProtoOATradeSide")]
    deal_status: Annotated[DealStatus, Field(12, "ProtoOADealStatus")]
    execution_price: Annotated[float | None, Field(10, "double")] = None
    commission: Annotated[int | None, Field(14, "int64")] = None
    money_digits: Annotated[int | None, Field(17, "uint32")] = None


class ProtoOADepthQuote(Message, frozen=True):
    """A quote of the depth: a bid or an ask."""

    id: Annotated[int, Field(1, "uint64")]
    size: Annotated[int, Field(3, "uint64")]
    bid: Annotated[int | None, Field(4, "uint64")] = None
    ask: Annotated[int | None, Field(5, "uint64")] = None
