"""The messages of the cTrader Open API (release 91) that we speak, typed.

Class and field names, numbers and kinds are the protocol's own (`symbol_id` is `symbolId` there), required
fields first; fields that we neither send nor read are left out, and skipped when they arrive. Units of the
protocol: volume in 0.01 units of the base asset, market prices as integers in 1/100000, order prices as
doubles, times in ms.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from emp.access.ctrader.enums import (
    ClientPermissionScope,
    ExecutionType,
    OrderType,
    PayloadType,
    TimeInForce,
    TradeSide,
)
from emp.access.ctrader.parts import (
    ProtoOAAsset,
    ProtoOACtidTraderAccount,
    ProtoOADeal,
    ProtoOADepthQuote,
    ProtoOAExpectedMargin,
    ProtoOALightSymbol,
    ProtoOAOrder,
    ProtoOAPosition,
    ProtoOAPositionUnrealizedPnL,
    ProtoOASymbol,
    ProtoOATrader,
)
from emp.access.ctrader.wire import Field, Message

BY_PAYLOAD: dict[int, type[Message]] = {}
"""The type of each payload that we can read, by payload type."""

T = TypeVar("T", bound=type[Message])


def _payload(kind: PayloadType) -> Callable[[T], T]:
    def register(cls: T) -> T:
        cls.PAYLOAD = int(kind)
        BY_PAYLOAD[int(kind)] = cls
        return cls

    return register


Account = Annotated[int, Field(2, "int64")]
Symbols = Annotated[tuple[int, ...], Field(3, "int64")]


# --- connection, authentication, account ---


@_payload(PayloadType.ERROR_RES)
class ProtoErrorRes(Message, frozen=True):
    """An error of the transport."""

    error_code: Annotated[str, Field(2, "string")]
    description: Annotated[str | None, Field(3, "string")] = None


@_payload(PayloadType.HEARTBEAT_EVENT)
class ProtoHeartbeatEvent(Message, frozen=True):
    """A sign of life, either way."""


@_payload(PayloadType.PROTO_OA_APPLICATION_AUTH_REQ)
class ProtoOAApplicationAuthReq(Message, frozen=True):
    """Authenticate the application."""

    client_id: Annotated[str, Field(2, "string")]
    client_secret: Annotated[str, Field(3, "string", secret=True)]


@_payload(PayloadType.PROTO_OA_APPLICATION_AUTH_RES)
class ProtoOAApplicationAuthRes(Message, frozen=True):
    """The application is authenticated."""


@_payload(PayloadType.PROTO_OA_ACCOUNT_AUTH_REQ)
class ProtoOAAccountAuthReq(Message, frozen=True):
    """Open a session for a trading account."""

    ctid_trader_account_id: Account
    access_token: Annotated[str, Field(3, "string", secret=True)]


@_payload(PayloadType.PROTO_OA_ACCOUNT_AUTH_RES)
class ProtoOAAccountAuthRes(Message, frozen=True):
    """The account's session is open."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_ERROR_RES)
class ProtoOAErrorRes(Message, frozen=True):
    """A request was refused."""

    error_code: Annotated[str, Field(3, "string")]
    ctid_trader_account_id: Annotated[int | None, Field(2, "int64")] = None
    description: Annotated[str | None, Field(4, "string")] = None
    retry_after: Annotated[int | None, Field(6, "uint64")] = None  # s until a blocked payload type is free


@_payload(PayloadType.PROTO_OA_CLIENT_DISCONNECT_EVENT)
class ProtoOAClientDisconnectEvent(Message, frozen=True):
    """The server cancels the application's connection."""

    reason: Annotated[str | None, Field(2, "string")] = None


@_payload(PayloadType.PROTO_OA_ACCOUNTS_TOKEN_INVALIDATED_EVENT)
class ProtoOAAccountsTokenInvalidatedEvent(Message, frozen=True):
    """The access token of these accounts is no longer valid; their sessions are over."""

    ctid_trader_account_ids: Annotated[tuple[int, ...], Field(2, "int64")] = ()
    reason: Annotated[str | None, Field(3, "string")] = None


@_payload(PayloadType.PROTO_OA_ACCOUNT_DISCONNECT_EVENT)
class ProtoOAAccountDisconnectEvent(Message, frozen=True):
    """The server ended the account's session; the connection stands."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_VERSION_REQ)
class ProtoOAVersionReq(Message, frozen=True):
    """Ask for the server's version; also how we ask whether it is still there."""


@_payload(PayloadType.PROTO_OA_VERSION_RES)
class ProtoOAVersionRes(Message, frozen=True):
    """The server's version."""

    version: Annotated[str, Field(2, "string")]


@_payload(PayloadType.PROTO_OA_REFRESH_TOKEN_REQ)
class ProtoOARefreshTokenReq(Message, frozen=True):
    """Exchange the refresh token for a new pair of tokens."""

    refresh_token: Annotated[str, Field(2, "string", secret=True)]


@_payload(PayloadType.PROTO_OA_REFRESH_TOKEN_RES)
class ProtoOARefreshTokenRes(Message, frozen=True):
    """The new tokens; the old ones are void."""

    access_token: Annotated[str, Field(2, "string", secret=True)]
    token_type: Annotated[str, Field(3, "string")]
    expires_in: Annotated[int, Field(4, "int64")]  # s
    refresh_token: Annotated[str, Field(5, "string", secret=True)]


@_payload(PayloadType.PROTO_OA_GET_ACCOUNTS_BY_ACCESS_TOKEN_REQ)
class ProtoOAGetAccountListByAccessTokenReq(Message, frozen=True):
    """Ask what a token gives access to."""

    access_token: Annotated[str, Field(2, "string", secret=True)]


@_payload(PayloadType.PROTO_OA_GET_ACCOUNTS_BY_ACCESS_TOKEN_RES)
class ProtoOAGetAccountListByAccessTokenRes(Message, frozen=True):
    """The accounts of a token, and what it allows there."""

    access_token: Annotated[str, Field(2, "string", secret=True)]
    permission_scope: Annotated[ClientPermissionScope | None, Field(3, "ProtoOAClientPermissionScope")] = None
    ctid_trader_account: Annotated[
        tuple[ProtoOACtidTraderAccount, ...], Field(4, "ProtoOACtidTraderAccount")
    ] = ()


@_payload(PayloadType.PROTO_OA_ACCOUNT_LOGOUT_REQ)
class ProtoOAAccountLogoutReq(Message, frozen=True):
    """Close the account's session."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_ACCOUNT_LOGOUT_RES)
class ProtoOAAccountLogoutRes(Message, frozen=True):
    """The account's session is being closed."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_TRADER_REQ)
class ProtoOATraderReq(Message, frozen=True):
    """Ask for the account's facts."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_TRADER_RES)
class ProtoOATraderRes(Message, frozen=True):
    """The account's facts."""

    ctid_trader_account_id: Account
    trader: Annotated[ProtoOATrader, Field(3, "ProtoOATrader")]


@_payload(PayloadType.PROTO_OA_ASSET_LIST_REQ)
class ProtoOAAssetListReq(Message, frozen=True):
    """Ask for the names of what the account may count in."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_ASSET_LIST_RES)
class ProtoOAAssetListRes(Message, frozen=True):
    """Their names."""

    ctid_trader_account_id: Account
    asset: Annotated[tuple[ProtoOAAsset, ...], Field(3, "ProtoOAAsset")] = ()


@_payload(PayloadType.PROTO_OA_EXPECTED_MARGIN_REQ)
class ProtoOAExpectedMarginReq(Message, frozen=True):
    """Ask what volumes of a symbol would ask as margin now."""

    ctid_trader_account_id: Account
    symbol_id: Annotated[int, Field(3, "int64")]
    volume: Annotated[tuple[int, ...], Field(4, "int64")] = ()


@_payload(PayloadType.PROTO_OA_EXPECTED_MARGIN_RES)
class ProtoOAExpectedMarginRes(Message, frozen=True):
    """What they would."""

    ctid_trader_account_id: Account
    margin: Annotated[tuple[ProtoOAExpectedMargin, ...], Field(3, "ProtoOAExpectedMargin")] = ()
    money_digits: Annotated[int | None, Field(4, "uint32")] = None


@_payload(PayloadType.PROTO_OA_GET_POSITION_UNREALIZED_PNL_REQ)
class ProtoOAGetPositionUnrealizedPnLReq(Message, frozen=True):
    """Ask what the open positions would bring now."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_GET_POSITION_UNREALIZED_PNL_RES)
class ProtoOAGetPositionUnrealizedPnLRes(Message, frozen=True):
    """What they would."""

    ctid_trader_account_id: Account
    money_digits: Annotated[int, Field(4, "uint32")]
    positions: Annotated[
        tuple[ProtoOAPositionUnrealizedPnL, ...], Field(3, "ProtoOAPositionUnrealizedPnL")
    ] = msgspec.field(default=(), name="positionUnrealizedPnL")


# --- symbols and market data ---


@_payload(PayloadType.PROTO_OA_SYMBOLS_LIST_REQ)
class ProtoOASymbolsListReq(Message, frozen=True):
    """Ask for the names of all symbols."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_SYMBOLS_LIST_RES)
class ProtoOASymbolsListRes(Message, frozen=True):
    """The names of all symbols."""

    ctid_trader_account_id: Account
    symbol: Annotated[tuple[ProtoOALightSymbol, ...], Field(3, "ProtoOALightSymbol")] = ()


@_payload(PayloadType.PROTO_OA_SYMBOL_BY_ID_REQ)
class ProtoOASymbolByIdReq(Message, frozen=True):
    """Ask for symbols in full."""

    ctid_trader_account_id: Account
    symbol_id: Symbols = ()


@_payload(PayloadType.PROTO_OA_SYMBOL_BY_ID_RES)
class ProtoOASymbolByIdRes(Message, frozen=True):
    """Symbols in full."""

    ctid_trader_account_id: Account
    symbol: Annotated[tuple[ProtoOASymbol, ...], Field(3, "ProtoOASymbol")] = ()


@_payload(PayloadType.PROTO_OA_SUBSCRIBE_SPOTS_REQ)
class ProtoOASubscribeSpotsReq(Message, frozen=True):
    """Subscribe to best prices."""

    ctid_trader_account_id: Account
    symbol_id: Symbols = ()
    subscribe_to_spot_timestamp: Annotated[bool | None, Field(4, "bool")] = None


@_payload(PayloadType.PROTO_OA_SUBSCRIBE_SPOTS_RES)
class ProtoOASubscribeSpotsRes(Message, frozen=True):
    """Subscribed."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_UNSUBSCRIBE_SPOTS_REQ)
class ProtoOAUnsubscribeSpotsReq(Message, frozen=True):
    """End a subscription to best prices."""

    ctid_trader_account_id: Account
    symbol_id: Symbols = ()


@_payload(PayloadType.PROTO_OA_UNSUBSCRIBE_SPOTS_RES)
class ProtoOAUnsubscribeSpotsRes(Message, frozen=True):
    """Unsubscribed."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_SPOT_EVENT)
class ProtoOASpotEvent(Message, frozen=True):
    """A change of the best prices, in 1/100000; a side that did not change may be absent."""

    ctid_trader_account_id: Account
    symbol_id: Annotated[int, Field(3, "int64")]
    bid: Annotated[int | None, Field(4, "uint64")] = None
    ask: Annotated[int | None, Field(5, "uint64")] = None
    timestamp: Annotated[int | None, Field(8, "int64")] = None


@_payload(PayloadType.PROTO_OA_SUBSCRIBE_DEPTH_QUOTES_REQ)
class ProtoOASubscribeDepthQuotesReq(Message, frozen=True):
    """Subscribe to depth."""

    ctid_trader_account_id: Account
    symbol_id: Symbols = ()


@_payload(PayloadType.PROTO_OA_SUBSCRIBE_DEPTH_QUOTES_RES)
class ProtoOASubscribeDepthQuotesRes(Message, frozen=True):
    """Subscribed."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_UNSUBSCRIBE_DEPTH_QUOTES_REQ)
class ProtoOAUnsubscribeDepthQuotesReq(Message, frozen=True):
    """End a subscription to depth."""

    ctid_trader_account_id: Account
    symbol_id: Symbols = ()


@_payload(PayloadType.PROTO_OA_UNSUBSCRIBE_DEPTH_QUOTES_RES)
class ProtoOAUnsubscribeDepthQuotesRes(Message, frozen=True):
    """Unsubscribed."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_DEPTH_EVENT)
class ProtoOADepthEvent(Message, frozen=True):
    """Quotes that came and ids of quotes that went."""

    ctid_trader_account_id: Account
    symbol_id: Annotated[int, Field(3, "uint64")]
    new_quotes: Annotated[tuple[ProtoOADepthQuote, ...], Field(4, "ProtoOADepthQuote")] = ()
    deleted_quotes: Annotated[tuple[int, ...], Field(5, "uint64")] = ()


# --- orders ---


@_payload(PayloadType.PROTO_OA_NEW_ORDER_REQ)
class ProtoOANewOrderReq(Message, frozen=True):
    """Send an order."""

    ctid_trader_account_id: Account
    symbol_id: Annotated[int, Field(3, "int64")]
    order_type: Annotated[OrderType, Field(4, "ProtoOAOrderType")]
    trade_side: Annotated[TradeSide, Field(5, "ProtoOATradeSide")]
    volume: Annotated[int, Field(6, "int64")]
    limit_price: Annotated[float | None, Field(7, "double")] = None
    time_in_force: Annotated[TimeInForce | None, Field(9, "ProtoOATimeInForce")] = None
    base_slippage_price: Annotated[float | None, Field(14, "double")] = None
    slippage_in_points: Annotated[int | None, Field(15, "int32")] = None
    position_id: Annotated[int | None, Field(17, "int64")] = None
    client_order_id: Annotated[str | None, Field(18, "string")] = None


@_payload(PayloadType.PROTO_OA_CANCEL_ORDER_REQ)
class ProtoOACancelOrderReq(Message, frozen=True):
    """Cancel a resting order."""

    ctid_trader_account_id: Account
    order_id: Annotated[int, Field(3, "int64")]


@_payload(PayloadType.PROTO_OA_AMEND_ORDER_REQ)
class ProtoOAAmendOrderReq(Message, frozen=True):
    """Change a resting order's volume or price."""

    ctid_trader_account_id: Account
    order_id: Annotated[int, Field(3, "int64")]
    volume: Annotated[int | None, Field(4, "int64")] = None
    limit_price: Annotated[float | None, Field(5, "double")] = None


@_payload(PayloadType.PROTO_OA_AMEND_POSITION_SLTP_REQ)
class ProtoOAAmendPositionSLTPReq(Message, frozen=True):
    """Change a position's stop loss; a field that is left out is taken away."""

    ctid_trader_account_id: Account
    position_id: Annotated[int, Field(3, "int64")]
    stop_loss: Annotated[float | None, Field(4, "double")] = None


@_payload(PayloadType.PROTO_OA_EXECUTION_EVENT)
class ProtoOAExecutionEvent(Message, frozen=True):
    """Something happened to an order or the account."""

    ctid_trader_account_id: Account
    execution_type: Annotated[ExecutionType, Field(3, "ProtoOAExecutionType")]
    position: Annotated[ProtoOAPosition | None, Field(4, "ProtoOAPosition")] = None
    order: Annotated[ProtoOAOrder | None, Field(5, "ProtoOAOrder")] = None
    deal: Annotated[ProtoOADeal | None, Field(6, "ProtoOADeal")] = None
    error_code: Annotated[str | None, Field(9, "string")] = None
    is_server_event: Annotated[bool | None, Field(10, "bool")] = None


@_payload(PayloadType.PROTO_OA_ORDER_ERROR_EVENT)
class ProtoOAOrderErrorEvent(Message, frozen=True):
    """An order request was refused; which one, the envelope's clientMsgId says."""

    ctid_trader_account_id: Annotated[int, Field(5, "int64")]
    error_code: Annotated[str, Field(2, "string")]
    order_id: Annotated[int | None, Field(3, "int64")] = None
    position_id: Annotated[int | None, Field(6, "int64")] = None
    description: Annotated[str | None, Field(7, "string")] = None


@_payload(PayloadType.PROTO_OA_RECONCILE_REQ)
class ProtoOAReconcileReq(Message, frozen=True):
    """Ask for open positions and working orders."""

    ctid_trader_account_id: Account


@_payload(PayloadType.PROTO_OA_RECONCILE_RES)
class ProtoOAReconcileRes(Message, frozen=True):
    """Open positions and working orders."""

    ctid_trader_account_id: Account
    position: Annotated[tuple[ProtoOAPosition, ...], Field(3, "ProtoOAPosition")] = ()
    order: Annotated[tuple[ProtoOAOrder, ...], Field(4, "ProtoOAOrder")] = ()


@_payload(PayloadType.PROTO_OA_ORDER_LIST_REQ)
class ProtoOAOrderListReq(Message, frozen=True):
    """Ask for orders of a span of time, whatever became of them."""

    ctid_trader_account_id: Account
    from_timestamp: Annotated[int | None, Field(3, "int64")] = None
    to_timestamp: Annotated[int | None, Field(4, "int64")] = None


@_payload(PayloadType.PROTO_OA_ORDER_LIST_RES)
class ProtoOAOrderListRes(Message, frozen=True):
    """Orders of a span of time."""

    ctid_trader_account_id: Account
    has_more: Annotated[bool, Field(4, "bool")]
    order: Annotated[tuple[ProtoOAOrder, ...], Field(3, "ProtoOAOrder")] = ()


@_payload(PayloadType.PROTO_OA_ORDER_DETAILS_REQ)
class ProtoOAOrderDetailsReq(Message, frozen=True):
    """Ask what became of one order."""

    ctid_trader_account_id: Account
    order_id: Annotated[int, Field(3, "int64")]


@_payload(PayloadType.PROTO_OA_ORDER_DETAILS_RES)
class ProtoOAOrderDetailsRes(Message, frozen=True):
    """What became of one order, with its deals."""

    ctid_trader_account_id: Account
    order: Annotated[ProtoOAOrder, Field(3, "ProtoOAOrder")]
    deal: Annotated[tuple[ProtoOADeal, ...], Field(4, "ProtoOADeal")] = ()
