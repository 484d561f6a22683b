"""A survey over the Open API: logged on as an engine would, then questions alone; refusals are noted, not raised."""

import asyncio
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from emp.access.ctrader.access import PORT, CTraderAccess
from emp.access.ctrader.enums import (
    AccessRights,
    AccountType,
    ClientPermissionScope,
    CommissionType,
    PayloadType,
    SwapCalculationType,
    TradeSide,
    TradingMode,
)
from emp.access.ctrader.flows import (
    Flow,
    Refused,
    authenticate,
    enter_account,
    expect,
    learn_account,
    subscribe_depth,
)
from emp.access.ctrader.messages import (
    ProtoOAGetAccountListByAccessTokenReq,
    ProtoOAGetAccountListByAccessTokenRes,
    ProtoOAReconcileReq,
    ProtoOAReconcileRes,
    ProtoOASpotEvent,
    ProtoOASubscribeSpotsReq,
    ProtoOASymbolByIdReq,
    ProtoOASymbolByIdRes,
    ProtoOASymbolsListReq,
    ProtoOASymbolsListRes,
    ProtoOAVersionReq,
)
from emp.access.ctrader.parts import ProtoMessage, ProtoOALightSymbol, ProtoOASymbol
from emp.access.ctrader.session import Session
from emp.access.ctrader.settings import Credentials, Settings
from emp.access.ctrader.symbols import VOLUME_UNIT, Terms, find_symbol, make_terms
from emp.access.ctrader.wire import Message, WireError, decode
from emp.access.port import LinkState, Reach
from emp.access.survey import HeldPosition, LinkFacts, Survey, SymbolFacts, WorkingOrder
from emp.core.clock import Clock, LiveClock
from emp.core.contracts import OrderUpdate
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from emp.core.records import Array

PINGS = 4
FRESH = 3
"""Stamped prices of different times after which the clocks are compared."""

_PRECISE = 1e8
_PER = {
    CommissionType.USD_PER_MILLION_USD: ("million_usd", "USD per million USD"),
    CommissionType.USD_PER_LOT: ("usd_lot", "USD per lot"),
    CommissionType.PERCENTAGE_OF_VALUE: ("percent", "% of the value"),
    CommissionType.QUOTE_CCY_PER_LOT: ("quote_lot", "of the quote currency per lot"),
}
_SWAP = {
    SwapCalculationType.PIPS: "pips",
    SwapCalculationType.PERCENTAGE: "% a year",
    SwapCalculationType.POINTS: "points",
}
_MODES = {
    TradingMode.ENABLED: "yes",
    TradingMode.DISABLED_WITHOUT_PENDINGS_EXECUTION: "trading is disabled",
    TradingMode.DISABLED_WITH_PENDINGS_EXECUTION: "trading is disabled but for orders that rest",
    TradingMode.CLOSE_ONLY_MODE: "positions can only be closed",
}
_RIGHTS = {
    AccessRights.FULL_ACCESS: "yes",
    AccessRights.CLOSE_ONLY: "positions can only be closed (CLOSE_ONLY)",
    AccessRights.NO_TRADING: "the account may not trade (NO_TRADING)",
    AccessRights.NO_LOGIN: "the account may not log in (NO_LOGIN)",
}


class CTraderSurvey:
    """Logs on, asks, watches quotes for a while, logs off. `found` is filled as it goes. It is its own sink."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        instruments: Sequence[Instrument],
        found: Survey,
        *,
        host: str,
        port: int = PORT,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        keep_tokens: Callable[[Credentials], None] | None = None,
        watch_s: float = 3.0,
    ) -> None:
        """`watch_s`: how long quotes are looked at. The connection of `settings` is opened without orders."""
        self._found = found
        self._instruments = list(instruments)
        self._clock = clock or LiveClock()
        self._watch_s = watch_s
        self._depth = settings.depth
        self._subscribed: list[Instrument] = []
        self._terms: list[Terms] = []
        reach = min(settings.reach, Reach.ACCOUNT)
        self._link = LinkFacts("the Open API", f"{host}:{port}")
        self._access = _Listening(
            msgspec.structs.replace(settings, reach=reach),
            credentials,
            host=host,
            port=port,
            clock=self._clock,
            tls=tls,
            keep_tokens=keep_tokens,
            opening=self._examine,
        )

    async def run(self) -> None:
        """Find out everything; what is refused is noted, and nothing is raised for it."""
        self._found.links.append(self._link)
        began = self._clock.monotonic_ns()
        try:
            await self._access.connect(self._instruments, self)
        except VenueError as error:
            self._link.said = str(error).removeprefix("cTrader: ")
            return
        self._link.up = True
        self._link.logon_ms = (self._clock.monotonic_ns() - began) / 1e6
        await asyncio.sleep(self._watch_s)
        times = self._access.times
        if self._found.round_trip_ms is not None and len(times) >= FRESH:
            self._found.clock_error_ms = self._found.round_trip_ms / 2 + 1.0
            least = min(heard - stamp for stamp, heard in times.items())
            self._found.clock_ms = least / 1e6 - self._found.round_trip_ms / 2
        for term in self._terms:
            quotes, top = self._found.quotes[term.instrument.name], self._access.tops.get(term.symbol_id)
            if quotes.depth_refused and top is not None:
                quotes.best(top[0] // term.tick_points, top[1] // term.tick_points)
        for reason, n in self._access.counts.quarantined.items():
            for one in self._subscribed:
                self._found.quotes[one.name].quarantined[reason.name.lower()] = n

    async def close(self) -> None:
        """Log off, in 2 s at most."""
        await self._access.close()

    # --- the sink -------------------------------------------------------------------------------------------

    def events(self, rows: Array) -> None:
        """Look at rows."""
        for row in rows:
            self._found.quotes[self._subscribed[int(row["instrument"])].name].take(row)

    def report(self, update: OrderUpdate) -> None:
        """Orders are listed by name elsewhere."""

    def link(self, state: LinkState) -> None:
        """The logon itself says why it failed."""
        self._link.cause = state.cause

    def ended(self, error: Exception | None) -> None:
        """So does this."""

    async def ready(self) -> None:
        """There is always room."""

    # --- the conversation -----------------------------------------------------------------------------------

    def _examine(self, s: Session) -> Flow:
        """Everything that is asked, in place of an engine's logon."""
        yield from authenticate(s)
        yield from enter_account(s, refresh_first=s.token_is_old())
        trips = []
        for _ in range(PINGS):
            began = self._clock.monotonic_ns()
            yield ProtoOAVersionReq()
            trips.append((self._clock.monotonic_ns() - began) / 1e6)
        self._found.round_trip_ms = min(trips)
        yield from self._account(s)
        terms = yield from self._symbols(s)
        s.set_terms(terms)
        self._terms, self._subscribed = terms, [one.instrument for one in terms]
        yield from self._subscribe(s, terms)
        question = ProtoOAReconcileReq(ctid_trader_account_id=s.account)
        state = expect(ProtoOAReconcileRes, (yield question))
        self._standing(state)
        s.ready(state)

    def _account(self, s: Session) -> Flow:
        """Whose money it is, and what may be done with it."""
        found = self._found
        token = s.credentials.access_token.reveal()
        answer = yield from self._asked("accounts", ProtoOAGetAccountListByAccessTokenReq(access_token=token))
        scope = None
        if isinstance(answer, ProtoOAGetAccountListByAccessTokenRes):
            scope = answer.permission_scope
            for one in answer.ctid_trader_account:
                if one.ctid_trader_account_id == s.account:
                    found.live = one.is_live
        trader = yield from learn_account(s)
        kinds = {AccountType.HEDGED: "hedging", AccountType.NETTED: "netting"}
        kind = AccountType.HEDGED if trader.account_type is None else trader.account_type
        found.account_kind = kinds.get(kind, str(kind))
        found.account = str(s.account)
        rights = AccessRights.FULL_ACCESS if trader.access_rights is None else trader.access_rights
        found.trading = _RIGHTS.get(rights, str(rights))
        if scope is ClientPermissionScope.SCOPE_VIEW and found.trading == "yes":
            found.trading = "the token was given for looking only (SCOPE_VIEW)"

    def _symbols(self, s: Session) -> Generator[Message, Message, list[Terms]]:
        """What the venue says of our instruments; the terms of those that can be traded by our catalogue."""
        question = ProtoOASymbolsListReq(ctid_trader_account_id=s.account)
        listed = expect(ProtoOASymbolsListRes, (yield question)).symbol
        lights: dict[str, ProtoOALightSymbol] = {}
        for one in self._instruments:
            facts = self._found.symbols[one.name]
            try:
                light = lights[one.name] = find_symbol(one, listed)
                facts.symbol, facts.name = str(light.symbol_id), light.symbol_name or ""
            except VenueError as error:
                facts.problem = str(error)
        full: dict[int, ProtoOASymbol] = {}
        if lights:
            ids = tuple(light.symbol_id for light in lights.values())
            asked = ProtoOASymbolByIdReq(ctid_trader_account_id=s.account, symbol_id=ids)
            full = {one.symbol_id: one for one in expect(ProtoOASymbolByIdRes, (yield asked)).symbol}
        terms: list[Terms] = []
        for one in self._instruments:
            if one.name not in lights:
                continue
            light, facts = lights[one.name], self._found.symbols[one.name]
            symbol = full.get(light.symbol_id)
            if symbol is None:
                facts.problem = "the venue lists the symbol but does not describe it"
                continue
            _describe(facts, symbol, enabled=light.enabled is not False)
            try:
                terms.append(make_terms(len(terms), one, light, symbol))
            except VenueError as error:
                facts.problem = str(error).removeprefix(f"{one.name}: ")
        return terms

    def _subscribe(self, s: Session, terms: Sequence[Terms]) -> Flow:
        """Best prices and depth, a symbol at a time, so that each refusal names one."""
        for which, one in enumerate(terms):
            quotes, ids = self._found.quotes[one.instrument.name], (one.symbol_id,)
            spots = ProtoOASubscribeSpotsReq(
                ctid_trader_account_id=s.account, symbol_id=ids, subscribe_to_spot_timestamp=True
            )
            try:
                yield spots
            except Refused as refusal:
                quotes.refused = s.credentials.mask(str(refusal))
                continue
            if not self._depth:
                continue
            try:
                yield from subscribe_depth(s, (which,))
            except Refused as refusal:
                quotes.depth_refused = s.credentials.mask(str(refusal))

    def _asked(self, what: str, question: Message) -> Generator[Message, Message, Message | None]:
        """The answer to a question that an engine can do without; None where it is refused, which is noted."""
        try:
            return (yield question)
        except Refused as refusal:
            self._found.refusals.append((what, str(refusal)))
            return None

    def _standing(self, state: ProtoOAReconcileRes) -> None:
        """Working orders and open positions."""
        names = {f.symbol: f.instrument for f in self._found.symbols.values() if f.symbol}

        def side(value: TradeSide) -> str:
            return "buy" if value == TradeSide.BUY else "sell"

        self._found.orders = [
            WorkingOrder(
                symbol=str(one.trade_data.symbol_id),
                cl_ord_id=one.client_order_id or "",
                venue_id=str(one.order_id),
                side=side(one.trade_data.trade_side),
                size=f"{(one.trade_data.volume - (one.executed_volume or 0)) / VOLUME_UNIT:g}",
                instrument=names.get(str(one.trade_data.symbol_id), ""),
            )
            for one in state.order
        ]
        self._found.positions = [
            HeldPosition(
                symbol=str(one.trade_data.symbol_id),
                size=(1 if one.trade_data.trade_side == TradeSide.BUY else -1)
                * one.trade_data.volume
                / VOLUME_UNIT,
                price=one.price,
                instrument=names.get(str(one.trade_data.symbol_id), ""),
            )
            for one in state.position
        ]


def _describe(facts: SymbolFacts, symbol: ProtoOASymbol, *, enabled: bool) -> None:
    """The venue's terms in units of the instrument."""
    facts.tick = 10.0**-symbol.digits
    facts.step = _units(symbol.step_volume)
    facts.smallest, facts.largest = _units(symbol.min_volume), _units(symbol.max_volume)
    facts.lot_units = _units(symbol.lot_size)
    facts.schedule = tuple((span.start_second, span.end_second) for span in symbol.schedule)
    facts.zone = symbol.schedule_time_zone or "UTC"
    mode = TradingMode.ENABLED if symbol.trading_mode is None else symbol.trading_mode
    facts.tradable = _MODES.get(mode, str(mode)) if enabled else "the symbol is disabled"
    rate = symbol.precise_trading_commission_rate
    if rate is not None:
        kind = (
            CommissionType.USD_PER_MILLION_USD if symbol.commission_type is None else symbol.commission_type
        )
        facts.commission_rate = rate / _PRECISE
        facts.commission_per, words = _PER.get(kind, ("", str(kind)))
        facts.commission = f"{facts.commission_rate:g} {words}"
    if symbol.swap_long is not None or symbol.swap_short is not None:
        unit = _SWAP.get(symbol.swap_calculation_type or SwapCalculationType.PIPS, "")
        facts.swap = f"long {symbol.swap_long or 0.0:g}, short {symbol.swap_short or 0.0:g} {unit}".rstrip()


def _units(volume: int | None) -> float | None:
    return volume / VOLUME_UNIT if volume else None


class _Listening(CTraderAccess):
    """An access that keeps the venue's stamps of prices beside our own, for comparing clocks."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.tops: dict[int, tuple[int, int]] = {}  # by symbol: best bid and ask, in 1/100000
        self.times: dict[int, int] = {}  # the venue's ns -> ours, at most so many ns apart as the news took
        self._left = b""

    def _received(self, data: bytes) -> None:
        self._note(data)
        super()._received(data)

    def _note(self, data: bytes) -> None:
        """Look for stamped prices; whatever is no frame is the session's to judge."""
        now, raw, at = self._clock.now_ns(), self._left + data, 0
        while len(raw) - at >= 4:
            end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
            if end > len(raw):
                break
            try:
                envelope = decode(ProtoMessage, raw[at + 4 : end])
                if envelope.payload_type == PayloadType.PROTO_OA_SPOT_EVENT:
                    spot = decode(ProtoOASpotEvent, envelope.payload or b"")
                    bid, ask = self.tops.get(spot.symbol_id, (0, 0))
                    self.tops[spot.symbol_id] = (spot.bid or bid, spot.ask or ask)
                    if spot.timestamp:
                        self.times.setdefault(spot.timestamp * 1_000_000, now)
            except WireError:
                return
            at = end
        self._left = raw[at:]
