"""A survey over FIX: the sessions of an engine, logged on as it would, and only questions on them."""

import asyncio
import ssl
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from emp.access.fix.answers import Pending
from emp.access.fix.frame import Books
from emp.access.fix.link import Link
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.refusal import reason_of
from emp.access.fix.settings import Dialer, FixSettings
from emp.access.fix.station import ANSWER_S, Question, Station
from emp.access.fix.symbols import plain_name
from emp.access.fix.terms import Phase
from emp.access.fix.text import FieldError, Scale, number
from emp.access.port import Reach
from emp.access.survey import HeldPosition, LinkFacts, Survey, SymbolFacts, WorkingOrder
from emp.core.clock import Clock, LiveClock
from emp.core.errors import VenueError
from emp.core.instrument import Instrument

PINGS = 5

_NO_DEPTH = frozenset({3, 5, 7})
"""MDReqRejReason (281) after which best prices may still be had: permissions, depth, aggregation."""


class FixSurvey:
    """Logs on, asks, watches quotes for a while, logs off. `found` is filled as it goes."""

    def __init__(
        self,
        settings: FixSettings,
        instruments: Sequence[Instrument],
        found: Survey,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        watch_s: float = 3.0,
    ) -> None:
        """`watch_s`: how long quotes are looked at. The sessions of `settings` are opened without orders."""
        reach = min(settings.reach, Reach.ACCOUNT)
        self._settings = msgspec.structs.replace(settings, reach=reach)
        self._instruments = list(instruments)
        self._found = found
        self._clock = clock or LiveClock()
        self._dialer = Dialer(self._settings, self._clock, None, tls)
        self._watch_s = watch_s
        self._stations: list[Station] = []
        self._listed: list[dict[int, bytes]] | None = None  # entries of the venue's list of symbols
        self._requests = 0
        self._ends: list[asyncio.Task[None]] = []

    def warm_up(self) -> None:
        """Compile what reads quotes: on a machine that has not done so yet it takes longer than a venue may."""
        Market(self._instruments, [i.name for i in self._instruments], self._settings.dialect).warm_up()

    async def run(self) -> None:
        """Find out everything; what is refused is noted, and nothing is raised for it."""
        settings, dialect = self._settings, self._settings.dialect
        self._found.account = settings.account or settings.sender
        hours, now = dialect.hours, self._clock.now_ns()
        if hours is not None and hours.session(now) is None:
            hours_s = (hours.next_start_ns(now) - now) / 3.6e12
            said = f"the venue's session is closed now; it opens in {hours_s:.1f} h"
            self._found.links.append(
                LinkFacts("quote session", f"{settings.host}:{settings.port}", said=said)
            )
            return
        quotes = await self._quotes()
        account: Station | None = quotes
        if settings.reach is Reach.MARKET:
            account = None
        elif dialect.split:
            account = await self._trade(quotes)
        await asyncio.gather(
            *(work for work in (self._look(quotes), self._ask_account(account)) if work is not None)
        )
        if quotes is not None:
            await self._describe(quotes)
            self._count(quotes)

    async def close(self) -> None:
        """Log off everywhere, in 2 s at most."""
        for station in self._stations[:1]:
            if station.market is not None and station.link.session.phase is Phase.ACTIVE:
                station.link.session.send(b"V", station.market.unsubscribe())
        await asyncio.gather(*self._ends)
        await asyncio.gather(*(station.link.close() for station in self._stations))

    # --- sessions -------------------------------------------------------------------------------------------

    async def _log_on(
        self, name: str, sub: str, port: int, market: Market | None, books: Books | None
    ) -> tuple[Station | None, LinkFacts]:
        station = Station(self._clock, market, self._found)
        link = station.link = self._dialer.link(sub, port, station, books)
        self._stations.insert(0, station)
        facts = LinkFacts(name, link.address)
        self._found.links.append(facts)
        began = self._clock.monotonic_ns()
        link.on_loss = lambda why, _: self._lost(link, facts, why)
        station.on_end = lambda why: self._lost(link, facts, why)
        facts.said = await link.start()
        facts.logon_ms = (self._clock.monotonic_ns() - began) / 1e6
        facts.up, facts.cause = not facts.said, link.cause if facts.said else ""
        return (station if facts.up else None), facts

    def _lost(self, link: Link, facts: LinkFacts, why: str) -> None:
        """A session that stood has ended: it is told, and not made again."""
        if facts.up and not facts.said:
            facts.said, facts.cause = why, link.cause
            self._ends.append(asyncio.create_task(link.close()))

    async def _quotes(self) -> Station | None:
        """The quote session, after the list of symbols where the engine needs that."""
        settings, dialect = self._settings, self._settings.dialect
        unknown = [i for i in self._instruments if i.name not in settings.symbols]
        name = "quote session" if dialect.split else "session"
        if dialect.security_list and unknown:
            station, facts = await self._log_on(name, dialect.quote_sub, settings.port, None, None)
            if station is None:
                return None
            try:
                self._listed = await self._list(station, settings.timeout_s, None)
            except VenueError as error:
                for one in unknown:
                    self._found.symbols[one.name].problem = f"no list of symbols: {error}"
                self._found.refusals.append(("list of symbols", str(error)))
            await station.link.close()
            self._stations.remove(station)
            self._found.links.remove(facts)
        known = [i for i in self._instruments if self._symbol(i)]
        if not known:
            return None
        symbols = [self._found.symbols[i.name].symbol for i in known]
        market = Market(known, symbols, dialect, self._clock.now_ns())
        station, _ = await self._log_on(name, dialect.quote_sub, settings.port, market, market)
        return station

    async def _trade(self, quotes: Station | None) -> Station | None:
        settings = self._settings
        port = settings.trade_port or settings.port
        first = self._found.links[0] if self._found.links else None
        last = self._stations[0].link.session if self._stations else None
        if quotes is None and first is not None and not first.up and last is not None and last.fatal:
            said = "not tried: what the quote session was told would lock an account"
            self._found.links.append(LinkFacts("trade session", f"{settings.host}:{port}", said=said))
            return None
        station, _ = await self._log_on("trade session", settings.dialect.trade_sub, port, None, None)
        return station

    def _symbol(self, instrument: Instrument) -> bool:
        """Note what the venue calls an instrument; whether it is known."""
        facts, settings = self._found.symbols[instrument.name], self._settings
        if instrument.name in settings.symbols:
            facts.symbol = settings.symbols[instrument.name]
        elif self._listed is None:
            facts.symbol = "" if settings.dialect.security_list else instrument.name
        else:
            wanted = plain_name(instrument.name)
            found = [e for e in self._listed if plain_name(_text(e, 1007)) == wanted and 55 in e]
            facts.symbol = _text(found[0], 55) if found else ""
            if not found:
                facts.problem = "the venue lists no such symbol"
        return bool(facts.symbol)

    # --- questions ------------------------------------------------------------------------------------------

    def _name(self, kind: str) -> str:
        self._requests += 1
        return f"{kind}{self._requests}"

    async def _list(self, station: Station, wait_s: float, symbol: str | None) -> list[dict[int, bytes]]:
        """35=x: every symbol, or one."""
        request = self._name("list")
        which = "559=4|" if symbol is None else f"559=0|55={symbol}|"
        body = f"320={request}|{which}".replace("|", "\x01").encode()
        question = Question(lambda m: m.get(893) != b"N")  # LastFragment
        answers = await station.ask(b"x", body, request, question, wait_s)
        return [entry for message in answers for entry in message.group(146)]

    async def _look(self, station: Station | None) -> None:
        """Subscribe as the engine does, ping, and look at what comes."""
        if station is None or station.market is None:
            return
        await self._subscribe(station)
        trips = [trip for n in range(PINGS) if (trip := await station.ping(n)) is not None]
        if trips:
            self._found.round_trip_ms, self._found.clock_ms = min(trips)
            resolution = 1.0 if self._settings.dialect.stamp_digits <= 3 else 0.0
            self._found.clock_error_ms = self._found.round_trip_ms / 2 + resolution
        began = self._clock.monotonic_ns()
        if any(not self._found.quotes[i.name].refused for i in station.market.instruments):
            await asyncio.wait([first := asyncio.create_task(station.first.wait())], timeout=self._watch_s)
            first.cancel()
            left = self._watch_s - (self._clock.monotonic_ns() - began) / 1e9
            await asyncio.sleep(max(0.0, left))

    async def _subscribe(self, station: Station) -> None:
        """One request for everything, as the engine makes it; where that is refused, one for each symbol."""
        market = station.market
        assert market is not None
        refusal = await self._request(station, market.subscribe(), market.request)
        if refusal is None:
            return
        for instrument in market.instruments:
            symbol, quotes = self._found.symbols[instrument.name].symbol, self._found.quotes[instrument.name]
            body = market.subscribe([symbol])
            one = (
                await self._request(station, body, market.request) if len(market.instruments) > 1 else refusal
            )
            if one is None:
                continue
            why = quotes.refused = reason_of(one)
            if one.kind == "Y" and one.integer(281) in _NO_DEPTH and self._settings.dialect.depth != 1:
                body = market.subscribe([symbol], 1)
                if await self._request(station, body, market.request) is None:
                    quotes.refused, quotes.depth_refused = "", why
        if len(market.instruments) > 1 and not any(q.refused for q in self._found.quotes.values()):
            self._found.refusals.append(("a request for several symbols at once", reason_of(refusal)))

    async def _request(self, station: Station, body: bytes, request: str) -> Message | None:
        """Send a MarketDataRequest; the refusal, where one comes before the first data or a while."""
        question = Question(lambda _: False)
        refused = asyncio.create_task(station.ask(b"V", body, request, question, ANSWER_S / 2))
        first = asyncio.create_task(station.first.wait())
        await asyncio.wait([refused, first], return_when=asyncio.FIRST_COMPLETED)
        for task in (refused, first):
            task.cancel()
        await asyncio.gather(refused, first, return_exceptions=True)
        return question.refusal

    async def _ask_account(self, station: Station | None) -> None:
        """Working orders and positions."""
        if station is None:
            return
        scales = {i.name: Scale(i) for i in self._instruments}
        names = {i.name: self._found.symbols[i.name].symbol or i.name for i in self._instruments}
        dialect = self._settings.dialect
        orders = Orders(scales, names, dialect, self._settings.account, self._settings.sender)
        try:
            request = self._name("orders")
            answers = await station.ask(
                b"AF", orders.bodies.mass_status(request), request, _pending(), self._settings.timeout_s
            )
            self._found.orders = [_order(m, orders, dialect.symbol_tag) for m in answers if m.kind == "8"]
        except VenueError as error:
            self._found.refusals.append(("open orders", str(error)))
        try:
            request = self._name("held")
            body = orders.bodies.positions(request, self._clock.now_ns())
            answers = await station.ask(b"AN", body, request, _pending(), self._settings.timeout_s)
            held = [m for m in answers if m.kind == "AP" and m.text(728, "0") == "0"]
            self._found.positions = [_position(m, orders, dialect.symbol_tag) for m in held]
            if any(m.kind == "AP" for m in answers):
                self._found.account_kind = _kind(held, dialect.symbol_tag)
        except (VenueError, FieldError) as error:
            self._found.refusals.append(("positions", str(error)))

    async def _describe(self, station: Station) -> None:
        """What the venue's list says of our symbols; a question of our own, asked when all else is known."""
        for facts in self._found.symbols.values():
            if not facts.symbol:
                continue
            entries = self._listed
            try:
                if entries is None and self._settings.dialect.security_list:
                    entries = self._listed = await self._list(station, ANSWER_S, None)
                elif entries is None:
                    entries = await self._list(station, ANSWER_S, facts.symbol)
            except VenueError:
                return  # few venues of plain FIX 4.4 have a list: then nothing of it is reported
            for entry in entries:
                if _text(entry, 55) == facts.symbol or _text(entry, 48) == facts.symbol:
                    _read_entry(facts, entry)

    def _count(self, station: Station) -> None:
        """What was not believed, by reason."""
        market = station.market
        assert market is not None
        for i, instrument in enumerate(market.instruments):
            self._found.quotes[instrument.name].sub_lot = int(market.books["judge"]["sub_lot"][i])
        for instrument in market.instruments:  # those of whole messages name no instrument
            for reason, n in market.quarantined.items():
                self._found.quotes[instrument.name].quarantined[reason.name.lower()] = n


def _pending() -> Pending:
    return Pending(asyncio.get_running_loop().create_future())


def _text(entry: dict[int, bytes], tag: int) -> str:
    return entry.get(tag, b"").decode("latin-1")


def _read_entry(facts: SymbolFacts, entry: dict[int, bytes]) -> None:
    """What an entry of a SecurityList says: decimals (1008) or tick (969), lot (561) and smallest trade (562)."""
    facts.name = _text(entry, 1007) or facts.name
    digits, tick = entry.get(1008, b""), _positive(entry.get(969))
    if digits.isdigit() and len(digits) < 3:
        facts.tick = float(Decimal(1).scaleb(-int(digits)))
    elif tick is not None:
        facts.tick = tick
    facts.step = _positive(entry.get(561)) or facts.step
    facts.smallest = _positive(entry.get(562)) or facts.smallest


def _positive(text: bytes | None) -> float | None:
    try:
        value = number(text)
    except FieldError:
        return None
    return float(value) if value is not None and value > 0 else None


def _order(message: Message, orders: Orders, symbol_tag: int) -> WorkingOrder:
    return WorkingOrder(
        symbol=message.text(symbol_tag),
        cl_ord_id=message.text(11),
        venue_id=message.text(37),
        side={"1": "buy", "2": "sell"}.get(message.text(54), message.text(54)),
        size=message.text(151) or message.text(38),
        instrument=orders.name_of(message),
    )


def _position(message: Message, orders: Orders, symbol_tag: int) -> HeldPosition:
    """Sum of the long (704) less the short (705) quantities of a report; FieldError where one is no number."""
    size = sum(
        ((number(e.get(704)) or Decimal(0)) - (number(e.get(705)) or Decimal(0)) for e in message.group(702)),
        Decimal(0),
    )
    return HeldPosition(
        symbol=message.text(symbol_tag),
        size=float(size),
        price=_positive(message.get(730)),
        instrument=orders.name_of(message),
    )


def _kind(held: Sequence[Message], symbol_tag: int) -> str:
    """Hedging, where the positions show it: several of one symbol, or long and short at once; else not told."""
    symbols = [m.text(symbol_tag) for m in held]
    both = any(
        (number(e.get(704)) or 0) > 0 and (number(e.get(705)) or 0) > 0 for m in held for e in m.group(702)
    )
    return "hedging" if both or len(set(symbols)) < len(symbols) else ""
