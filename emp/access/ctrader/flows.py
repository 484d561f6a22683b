"""The conversations with the venue, each a generator: it yields a request and is sent the answer.

A refusal is thrown into the generator as `Refused`, a missing answer as `Unanswered`. The session runs them
(`session.py`) and decides what a failure means.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from emp.access.ctrader.enums import AccessRights, AccountType, ErrorCode
from emp.access.ctrader.messages import (
    ProtoOAAccountAuthReq,
    ProtoOAAccountLogoutReq,
    ProtoOAApplicationAuthReq,
    ProtoOAGetAccountListByAccessTokenReq,
    ProtoOAGetAccountListByAccessTokenRes,
    ProtoOAOrderDetailsReq,
    ProtoOAOrderDetailsRes,
    ProtoOAOrderListReq,
    ProtoOAOrderListRes,
    ProtoOAReconcileReq,
    ProtoOAReconcileRes,
    ProtoOARefreshTokenReq,
    ProtoOARefreshTokenRes,
    ProtoOASubscribeDepthQuotesReq,
    ProtoOASubscribeSpotsReq,
    ProtoOASymbolByIdReq,
    ProtoOASymbolByIdRes,
    ProtoOASymbolsListReq,
    ProtoOASymbolsListRes,
    ProtoOATraderReq,
    ProtoOATraderRes,
    ProtoOAUnsubscribeDepthQuotesReq,
    ProtoOAUnsubscribeSpotsReq,
)
from emp.access.ctrader.orders import Orders
from emp.access.ctrader.parts import ProtoOADeal, ProtoOAOrder, ProtoOATrader
from emp.access.ctrader.settings import Credentials
from emp.access.ctrader.symbols import Terms, find_symbol, make_terms
from emp.access.ctrader.wire import M, Message, WireError
from emp.access.port import Reach
from emp.core.clock import Clock
from emp.core.errors import VenueError
from emp.core.instrument import Instrument

Flow = Generator[Message, Message, None]
Opening = Callable[[Any], Flow]
"""Makes the conversation that a session's connection begins with; it is handed the session."""

TOKEN_CODES = frozenset({ErrorCode.CH_ACCESS_TOKEN_INVALID, ErrorCode.OA_AUTH_TOKEN_EXPIRED})

GONE_CODES = frozenset({ErrorCode.ORDER_NOT_FOUND, ErrorCode.ENTITY_NOT_FOUND})

MS = 1_000_000
LOOK_BACK_MS = 6 * 24 * 3_600_000
"""How far back an order is looked for whose time of sending is not known; the venue allows a week."""

CLOCKS_APART_MS = 3_600_000
"""How far the venue's clock and ours may be apart: an order must not be taken for missing because of it."""

PAGES = 20


class Host(Protocol):
    """What the conversations need of the session that runs them."""

    credentials: Credentials
    clock: Clock
    account: int
    instruments: tuple[Instrument, ...]
    depth: bool
    demo: bool | None
    reach: Reach
    hedged: bool
    swap_free: bool
    terms: list[Terms]
    orders: Orders

    def token_is_old(self) -> bool:
        """Whether the access token should be exchanged now."""

    def renewed(self, answer: ProtoOARefreshTokenRes) -> None:
        """Take over new tokens."""

    def set_terms(self, terms: list[Terms]) -> None:
        """Take over the venue's terms for our instruments."""

    def clear_book(self, which: int) -> None:
        """Forget an instrument's quotes."""

    def ready(self, state: ProtoOAReconcileRes) -> None:
        """The logon is complete."""

    def left(self) -> None:
        """The goodbye is over."""

    def report_state(self, order: ProtoOAOrder, deals: Sequence[ProtoOADeal]) -> None:
        """Report what the venue says of an order."""

    def report_missing(self, cl_ord_id: str) -> None:
        """The venue has no such order."""


class Refused(Exception):  # noqa: N818  the venue's word, not a failure of ours
    """The venue answered a request with an error."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"{code}: {description}" if description else code)
        self.code = code


class Unanswered(Exception):  # noqa: N818
    """The venue has not answered a request in time, or the connection went away before it could."""


def expect(cls: type[M], answer: Message) -> M:
    """The answer, where it is of the type that was asked for; raise WireError where it is not."""
    if not isinstance(answer, cls):
        raise WireError(f"expected {cls.__name__} as answer, got {type(answer).__name__}")
    return answer


def login(s: Host) -> Flow:
    """Authenticate the application, then open the account's session."""
    yield from authenticate(s)
    yield from open_account(s, refresh_first=s.token_is_old())


def authenticate(s: Host) -> Flow:
    """Authenticate the application."""
    secrets = s.credentials
    try:
        yield ProtoOAApplicationAuthReq(
            client_id=secrets.client_id.reveal(), client_secret=secrets.client_secret.reveal()
        )
    except Refused as refusal:
        if refusal.code != ErrorCode.CH_CLIENT_ALREADY_AUTHENTICATED:
            raise


def open_account(s: Host, *, refresh_first: bool) -> Flow:
    """Open the account's session and bring everything up to it: symbols, subscriptions, orders, positions."""
    yield from enter_account(s, refresh_first=refresh_first)
    if s.demo is not None:
        token = s.credentials.access_token.reveal()
        listed = yield ProtoOAGetAccountListByAccessTokenReq(access_token=token)
        refuse_other_kind(s, expect(ProtoOAGetAccountListByAccessTokenRes, listed))
    rights = (yield from learn_account(s)).access_rights
    if rights not in (None, AccessRights.FULL_ACCESS) and s.reach is Reach.ORDERS:
        raise VenueError(f"account {s.account} may not trade: its rights are {rights!r}")
    yield from learn_symbols(s)
    yield from subscribe(s)
    state = expect(ProtoOAReconcileRes, (yield ProtoOAReconcileReq(ctid_trader_account_id=s.account)))
    s.ready(state)


def learn_account(s: Host) -> Generator[Message, Message, ProtoOATrader]:
    """What kind of account this is, and in what it counts."""
    trader = expect(ProtoOATraderRes, (yield ProtoOATraderReq(ctid_trader_account_id=s.account))).trader
    s.hedged = trader.account_type in (None, AccountType.HEDGED)
    s.orders.deposit_asset_id = trader.deposit_asset_id
    s.swap_free = trader.swap_free is True
    return trader


def refuse_other_kind(s: Host, listed: ProtoOAGetAccountListByAccessTokenRes) -> None:
    """Raise VenueError where the account is live and a demo one was asked for, or the other way round."""
    for one in listed.ctid_trader_account:
        if one.ctid_trader_account_id == s.account and one.is_live is not None and one.is_live is s.demo:
            kind, wanted = ("live", "demo") if one.is_live else ("demo", "live")
            raise VenueError(
                f"account {s.account} is a {kind} account, and access.demo allows a {wanted} one only"
            )


def enter_account(s: Host, *, refresh_first: bool) -> Flow:
    """Authenticate the account, with new tokens where the old ones will not do."""
    if refresh_first:
        yield from refresh(s)
    try:
        yield _account_auth(s)
    except Refused as refusal:
        if refusal.code in TOKEN_CODES and not refresh_first:
            yield from refresh(s)
            yield _account_auth(s)
        elif refusal.code != ErrorCode.ALREADY_LOGGED_IN:
            raise


def _account_auth(s: Host) -> ProtoOAAccountAuthReq:
    return ProtoOAAccountAuthReq(
        ctid_trader_account_id=s.account, access_token=s.credentials.access_token.reveal()
    )


def refresh(s: Host) -> Flow:
    """Exchange the refresh token for new tokens."""
    token = s.credentials.refresh_token
    if token is None:
        raise VenueError(
            "the access token is not valid and there is no refresh token: obtain new tokens at the venue"
        )
    answer = expect(ProtoOARefreshTokenRes, (yield ProtoOARefreshTokenReq(refresh_token=token.reveal())))
    s.renewed(answer)


def learn_symbols(s: Host) -> Flow:
    """Find the instruments among the venue's symbols and take over its terms."""
    answer = expect(ProtoOASymbolsListRes, (yield ProtoOASymbolsListReq(ctid_trader_account_id=s.account)))
    lights = [find_symbol(i, answer.symbol) for i in s.instruments]
    ids = tuple(light.symbol_id for light in lights)
    full = expect(
        ProtoOASymbolByIdRes, (yield ProtoOASymbolByIdReq(ctid_trader_account_id=s.account, symbol_id=ids))
    )
    by_id = {symbol.symbol_id: symbol for symbol in full.symbol}
    terms: list[Terms] = []
    for index, (instrument, light) in enumerate(zip(s.instruments, lights, strict=True)):
        if light.symbol_id not in by_id:
            raise VenueError(f"{instrument.name}: the venue lists the symbol but does not describe it")
        terms.append(make_terms(index, instrument, light, by_id[light.symbol_id]))
    s.set_terms(terms)


def subscribe(s: Host) -> Flow:
    """Subscribe every instrument: best prices always, depth where it is wanted."""
    ids = tuple(t.symbol_id for t in s.terms)
    spots = ProtoOASubscribeSpotsReq(
        ctid_trader_account_id=s.account, symbol_id=ids, subscribe_to_spot_timestamp=True
    )
    try:
        yield spots
    except Refused as refusal:
        if refusal.code != ErrorCode.ALREADY_SUBSCRIBED:
            raise
        yield ProtoOAUnsubscribeSpotsReq(ctid_trader_account_id=s.account, symbol_id=ids)
        yield spots
    if s.depth:
        yield from subscribe_depth(s, tuple(range(len(ids))))


def subscribe_depth(s: Host, which: tuple[int, ...]) -> Flow:
    """Subscribe to depth with empty books, so that the quotes that follow are all there is."""
    ids = tuple(s.terms[i].symbol_id for i in which)
    for i in which:
        s.clear_book(i)
    try:
        yield ProtoOASubscribeDepthQuotesReq(ctid_trader_account_id=s.account, symbol_id=ids)
    except Refused as refusal:
        if refusal.code != ErrorCode.ALREADY_SUBSCRIBED:
            raise
        yield from renew_depth(s, which)


def renew_depth(s: Host, which: tuple[int, ...]) -> Flow:
    """Let the venue send a book anew."""
    ids = tuple(s.terms[i].symbol_id for i in which)
    yield ProtoOAUnsubscribeDepthQuotesReq(ctid_trader_account_id=s.account, symbol_id=ids)
    for i in which:
        s.clear_book(i)
    yield ProtoOASubscribeDepthQuotesReq(ctid_trader_account_id=s.account, symbol_id=ids)


def leave(s: Host) -> Flow:
    """Unsubscribe and close the account's session."""
    ids = tuple(t.symbol_id for t in s.terms)
    if ids and s.depth:
        yield ProtoOAUnsubscribeDepthQuotesReq(ctid_trader_account_id=s.account, symbol_id=ids)
    if ids:
        yield ProtoOAUnsubscribeSpotsReq(ctid_trader_account_id=s.account, symbol_id=ids)
    yield ProtoOAAccountLogoutReq(ctid_trader_account_id=s.account)
    s.left()


def resolve(s: Host, cl_ord_id: str) -> Flow:
    """Find out what became of an order and report it; one that the venue never had counts as rejected."""
    known = s.orders.find(cl_ord_id)
    if known is not None and known.order_id:
        try:
            details = yield ProtoOAOrderDetailsReq(ctid_trader_account_id=s.account, order_id=known.order_id)
        except Refused as refusal:
            if refusal.code not in GONE_CODES:
                raise
        else:
            answer = expect(ProtoOAOrderDetailsRes, details)
            s.report_state(answer.order, answer.deal)
            return
    state = expect(ProtoOAReconcileRes, (yield ProtoOAReconcileReq(ctid_trader_account_id=s.account)))
    order = _of_client(state.order, cl_ord_id)
    until = s.clock.now_ns() // MS + CLOCKS_APART_MS
    since = until - LOOK_BACK_MS
    if known is not None and known.sent_ts:
        since = known.sent_ts // MS - CLOCKS_APART_MS
    for _ in range(PAGES):
        if order is not None:
            s.report_state(order, ())
            return
        page = expect(
            ProtoOAOrderListRes,
            (
                yield ProtoOAOrderListReq(
                    ctid_trader_account_id=s.account, from_timestamp=since, to_timestamp=until
                )
            ),
        )
        order = _of_client(page.order, cl_ord_id)
        stamps = [o.utc_last_update_timestamp for o in page.order if o.utc_last_update_timestamp]
        if order is None and not (page.has_more and stamps):
            s.report_missing(cl_ord_id)
            return
        until = min(stamps, default=until)


def _of_client(orders: tuple[ProtoOAOrder, ...], cl_ord_id: str) -> ProtoOAOrder | None:
    return next((o for o in orders if o.client_order_id == cl_ord_id), None)
