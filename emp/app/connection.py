"""`emp doctor --connect`: what a person checks by hand before any money, held against configuration and catalogue."""

import asyncio
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import structlog

from emp.access.ctrader.survey import CTraderSurvey
from emp.access.fix.survey import FixSurvey
from emp.access.port import Reach
from emp.access.survey import LinkFacts, Quotes, Survey, SymbolFacts, WorkingOrder
from emp.app.connection_terms import judge_terms, plain_name, silent
from emp.app.doctor import Finding, Verdict, configuration, credentials
from emp.app.wiring.doors import ctrader_settings, fix_settings
from emp.core.clock import Clock, LiveClock
from emp.core.codes import Session
from emp.core.config import secrets
from emp.core.config.config import SystemConfig
from emp.core.errors import EmpError
from emp.core.instrument import Instrument, find
from emp.core.sessions import session_table

LONGEST_S = 27.0
"""After which what is there is told; closing takes 2 s more at most."""

ANSWER_S = 5.0
WATCH_S = 3.0

CLOCK_BAD_MS = 1_000.0
CLOCK_WARN_MS = 100.0
"""Clocks further apart than this: the age of each price is wrong by as much, and what is stale looks fresh."""


ADVICE: Mapping[str, str] = {
    "unreachable": "correct access.host and access.port; ask the broker whether this address is let through",
    "unanswered": "something listens and says nothing: check access.port, access.tls and access.target_comp_id",
    "refused": "compare user name, password, account and CompIDs with what the broker wrote; ask what its words mean",
    "occupied": "somebody is logged on under this name: end the other process, or wait a minute and try again",
    "taken": "somebody else logged on under this name meanwhile: end the other process",
    "logout": "ask the broker what it says above means",
    "lost": "the connection broke: try again, then ask the broker",
    "silent": "the connection stands and nothing comes: ask the broker",
    "fault": "one side broke the protocol: check access.dialect, the clock, and access.reset_on_logon",
}


def examine_connection(path: Path, clock: Clock | None = None) -> Iterator[Finding]:
    """The configuration, then everything that its broker says of itself; no order is sent, nor could one be."""
    clock = clock or LiveClock()
    config, found = configuration(path)
    yield from found
    if config is None:
        return
    if config.mode == "mock" or config.access.connection_protocol not in secrets.NEEDED:
        why = f"mode {config.mode} over {config.access.connection_protocol} has no broker"
        yield Finding("bad", "connection", why, "name a configuration of paper, observe or live")
        return
    present = list(credentials(config))
    yield from present
    instruments, problems = _instruments(config)
    yield from problems
    if any(one.verdict == "bad" for one in (*present, *problems)):
        return
    try:
        with _unlogged():
            survey, took_s = asyncio.run(_survey(config, instruments, clock))
    except EmpError as error:
        yield Finding("bad", "connection", str(error), "see the line")
        return
    yield from judge(survey, instruments, config, clock.now_ns())
    yield Finding("ok", "time taken", f"{took_s:.1f} s; no order was sent, nor could one be")


@contextmanager
def _unlogged() -> Iterator[None]:
    """What an access logs is in its findings, too: none of it goes between them."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _instruments(config: SystemConfig) -> tuple[list[Instrument], list[Finding]]:
    known: list[Instrument] = []
    problems: list[Finding] = []
    for name in config.instruments.names:
        try:
            known.append(find(name, config.instruments.catalogue))
        except EmpError as error:
            problems.append(Finding("bad", "instrument", str(error), "emp instruments lists what is known"))
    return known, problems


async def _survey(config: SystemConfig, instruments: list[Instrument], clock: Clock) -> tuple[Survey, float]:
    """Ask the broker, for LONGEST_S at most; (what was found, how long it took)."""
    reach = Reach.MARKET if config.mode == "observe" else Reach.ACCOUNT
    names = [one.name for one in instruments]
    known = secrets.load_secrets()
    access = config.access
    if access.connection_protocol == "ctrader":
        assert access.host is not None
        assert access.port is not None
        found = Survey("the Open API", names)
        settings, tokens = ctrader_settings(config, known, reach)
        work: CTraderSurvey | FixSurvey = CTraderSurvey(
            settings,
            tokens.newest(),
            instruments,
            found,
            host=access.host,
            port=access.port,
            clock=clock,
            keep_tokens=tokens.keep,
            watch_s=WATCH_S,
        )
    else:
        found = Survey("FIX 4.4", names)
        fix = fix_settings(config, known, reach, timeout_s=ANSWER_S)
        work = FixSurvey(fix, instruments, found, clock, watch_s=WATCH_S)
        work.warm_up()
    began = clock.monotonic_ns()
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S):
                await work.run()
                return found, (clock.monotonic_ns() - began) / 1e9
        found.unfinished.append(f"not everything was answered within {LONGEST_S:g} s")
        return found, (clock.monotonic_ns() - began) / 1e9
    finally:
        await work.close()


# --- judgement -----------------------------------------------------------------------------------------------


def judge(
    found: Survey, instruments: Sequence[Instrument], config: SystemConfig, now_ns: int
) -> Iterator[Finding]:
    """Each fact as a line: good, doubtful, in the way, or not told by this protocol."""
    for link in found.links:
        yield _link(link, config)
    if not any(link.up for link in found.links):
        return
    yield from _account(found, config)
    yield from _clock(found)
    for one in instruments:
        facts, quotes = found.symbols[one.name], found.quotes[one.name]
        yield from _symbol(one, facts, found, config)
        yield from _quotes(one, facts, quotes, config, now_ns, found.links)
        if facts.symbol:
            yield from judge_terms(one, facts, quotes, found, now_ns)
    if config.mode != "observe":
        yield from _orders(found, config)
        yield from _positions(found)
        yield left_alone(config)
    for what, said in found.refusals:
        yield Finding("warn", what, f"refused: {said}", "ask the broker, if it matters to you")
    for what in found.unfinished:
        yield Finding("bad", "time", what, "try again; ask the broker why it answers so late")


def left_alone(config: SystemConfig) -> Finding:
    """What becomes of orders and positions while no engine runs and nobody is at hand."""
    what, advice = "left alone", "keep another way in: the broker's own terminal, a telephone number"
    if config.access.connection_protocol == "ctrader":
        return Finding(
            "ok",
            what,
            "a stop at the venue closes a position at the loss limit; orders that rest stay",
            advice,
        )
    if config.access.cancel_on_disconnect:
        asked = config.access.cancel_on_disconnect
        return Finding(
            "warn",
            what,
            f"the venue is asked ({asked}) to withdraw orders that rest; a position stays",
            advice,
        )
    words = "orders that rest and a position stay as they are: FIX knows no stop that belongs to a position"
    return Finding(
        "warn", what, words, f"set access.cancel_on_disconnect where the venue has such a field; {advice}"
    )


def _link(link: LinkFacts, config: SystemConfig) -> Finding:
    if link.up and not link.said:
        return Finding("ok", link.name, f"{link.address}: logged on in {link.logon_ms:.0f} ms")
    advice = ADVICE.get(link.cause, "see the line")
    if link.cause == "unreachable" and config.access.tls and "SSL" in link.said.upper():
        advice = "set access.tls as the port has it, and trust its certificate's issuer"
    before = f"logged on in {link.logon_ms:.0f} ms, then: " if link.up else ""
    return Finding("bad", link.name, f"{link.address}: {before}{link.said}", advice)


def _account(found: Survey, config: SystemConfig) -> Iterator[Finding]:
    yield Finding("ok", "account", found.account)
    demo = config.access.demo
    if found.live is None:
        yield silent(found, "demo or live")
    elif demo is not None and demo == found.live:
        kind = "live" if found.live else "demo"
        fix = "name another account, or change access.demo: with live money only on purpose"
        yield Finding("bad", "demo or live", f"a {kind} account, and access.demo is {str(demo).lower()}", fix)
    else:
        yield Finding("ok", "demo or live", "live: real money" if found.live else "demo")
    if found.account_kind:
        yield Finding("ok", "account kind", found.account_kind)
    else:
        yield silent(found, "account kind")
    if config.mode == "observe":
        yield Finding("ok", "trading", "not asked for: mode observe trades nothing")
    elif not found.trading:
        yield silent(found, "right to trade")
    elif found.trading == "yes":
        yield Finding("ok", "right to trade", "the account may trade")
    else:
        verdict: Verdict = "bad" if config.mode == "live" else "warn"
        yield Finding(verdict, "right to trade", found.trading, "ask the broker; obtain a token for trading")


def _clock(found: Survey) -> Iterator[Finding]:
    if found.round_trip_ms is None:
        yield Finding("warn", "round trip", "not measured: no answer to a question of this kind")
    else:
        yield Finding("ok", "round trip", f"{found.round_trip_ms:.1f} ms")
    if found.clock_ms is None:
        yield Finding("warn", "clock", "not compared: too few fresh stamps came", "try again in market hours")
        return
    beyond = max(0.0, abs(found.clock_ms) - found.clock_error_ms)
    way = "ahead of" if found.clock_ms > 0 else "behind"
    shown = f"ours is {abs(found.clock_ms):.0f} ms {way} the venue's (±{found.clock_error_ms:.0f} ms)"
    if beyond > CLOCK_BAD_MS:
        yield Finding("bad", "clock", shown, "let this machine's clock be set over the network (NTP)")
    elif beyond > CLOCK_WARN_MS:
        yield Finding("warn", "clock", shown, "let this machine's clock be set over the network (NTP)")
    else:
        yield Finding("ok", "clock", shown)


# --- one instrument --------------------------------------------------------------------------------------------


def _symbol(one: Instrument, facts: SymbolFacts, found: Survey, config: SystemConfig) -> Iterator[Finding]:
    what = f"{one.name} symbol"
    if facts.symbol:
        called = (
            f"{facts.symbol} ({facts.name})" if facts.name and facts.name != facts.symbol else facts.symbol
        )
        wrong = facts.name and plain_name(facts.name) != plain_name(one.name)
        if wrong and one.name in config.access.symbols:
            fix = f"correct access.symbols.{one.name}"
            yield Finding("bad", what, f"{called} is not {one.name} at the venue", fix)
        else:
            yield Finding("ok", what, called)
    if facts.problem:
        fix = "name it as the venue does (access.symbols over FIX), or correct the catalogue"
        yield Finding("bad", what if not facts.symbol else f"{one.name} terms", facts.problem, fix)
    elif facts.tradable and facts.tradable != "yes":
        verdict: Verdict = "warn" if config.mode == "observe" else "bad"
        yield Finding(verdict, f"{one.name} trading", facts.tradable, "ask the broker")


def _quotes(
    one: Instrument,
    facts: SymbolFacts,
    quotes: Quotes,
    config: SystemConfig,
    now_ns: int,
    links: Sequence[LinkFacts],
) -> Iterator[Finding]:
    if not facts.symbol:
        return
    what = f"{one.name} quotes"
    if quotes.refused:
        fix = f"ask the broker for market data of it; if it calls it otherwise, set access.symbols.{one.name}"
        yield Finding("bad", what, f"refused: {quotes.refused}", fix)
        return
    if quotes.depth_refused:
        fix = "ask the broker for market depth"
        if config.access.connection_protocol == "ctrader":
            fix += ", or set access.depth: false to trade on best prices"
        yield Finding("bad", f"{one.name} depth", f"refused: {quotes.depth_refused}", fix)
    if not quotes.events:
        yield _no_quotes(one, facts, quotes, now_ns, lost=any(link.up and link.said for link in links))
        return
    spread = "no two-sided book" if quotes.spread is None else f"spread {quotes.spread:g} ticks"
    bid, ask = (px * one.tick for px in (quotes.bid, quotes.ask))
    yield Finding("ok", what, f"{bid:.10g} / {ask:.10g}, {spread}, {quotes.events} events in {WATCH_S:g} s")
    if quotes.quarantined:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(quotes.quarantined.items()))
        yield Finding(
            "warn", what, f"not believed: {reasons}", "see docs/recordings.md; compare tick and lot"
        )
    if quotes.sub_lot:
        yield Finding(
            "warn", f"{one.name} lot", f"{quotes.sub_lot} levels held less than one lot of {one.lot:g}"
        )
    if not quotes.depth_refused:
        few = quotes.levels <= 1
        shown = "best prices alone" if few else f"{quotes.levels} levels a side"
        yield Finding("warn" if few else "ok", f"{one.name} depth", shown)


def _no_quotes(one: Instrument, facts: SymbolFacts, quotes: Quotes, now_ns: int, *, lost: bool) -> Finding:
    what = f"{one.name} quotes"
    if quotes.quarantined:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(quotes.quarantined.items()))
        worst = max(quotes.quarantined, key=lambda reason: quotes.quarantined[reason])
        fix = f"compare the catalogue's tick of {one.tick:g} and lot of {one.lot:g} with the venue's"
        if worst == "unknown_order":
            fix = f"they are not of {facts.symbol}: set access.symbols.{one.name} to what the venue calls it in them"
        elif worst not in ("absurd_price", "absurd_size"):
            fix = "ask the broker whether it quotes both sides now; docs/recordings.md says what a book is worth"
        return Finding("bad", what, f"none can be used: {reasons}", fix)
    if lost:
        return Finding("bad", what, "none before the session ended", "see why it ended")
    if _is_shut(one, now_ns):
        return Finding(
            "warn", what, f"none within {WATCH_S:g} s: the market is shut", "try again when it is open"
        )
    fix = "ask the broker whether this account is given quotes; compare the hours of the catalogue"
    return Finding("bad", what, f"none within {WATCH_S:g} s, though the catalogue says that it is open", fix)


def _is_shut(one: Instrument, now_ns: int) -> bool:
    table = session_table(one, now_ns, now_ns)
    row = table[max(0, int(np.searchsorted(table["start"], now_ns, side="right")) - 1)]
    return int(row["session_id"]) in (Session.CLOSED, Session.HALT)


# --- what stands there -----------------------------------------------------------------------------------------


def _orders(found: Survey, config: SystemConfig) -> Iterator[Finding]:
    if found.orders is None:
        if not any(what == "open orders" for what, _ in found.refusals):
            yield silent(found, "open orders")
        return
    if not found.orders:
        yield Finding("ok", "open orders", "none")
    for order in found.orders:
        name = order.cl_ord_id or order.venue_id
        shown = f"{order.side} {order.size} of {order.instrument or order.symbol}, id {name}"
        run = _run_of(order, config)
        if run:
            yield Finding("warn", "open orders", f"{shown}: of run {run}", "the next start withdraws it")
        elif order.instrument:
            fix = "cancel it, or give emp an account of its own: a start withdraws every order of its instruments"
            yield Finding("bad", "open orders", f"{shown}: somebody else's", fix)
        else:
            yield Finding("warn", "open orders", f"{shown}: in another instrument, it is left alone")


def _run_of(order: WorkingOrder, config: SystemConfig) -> str:
    """The run of ours that an order is of, by the folders of runs; empty where there is none."""
    run, _, number = order.cl_ord_id.rpartition("-")
    if not run or not number.isdigit() or not re.fullmatch(r"[0-9A-Z]{8}", run):
        return ""
    return run if any(config.run_dir.glob(f"*-{run}")) else ""


def _positions(found: Survey) -> Iterator[Finding]:
    if found.positions is None:
        if not any(what == "positions" for what, _ in found.refusals):
            yield silent(found, "positions")
        return
    held = [one for one in found.positions if one.size]
    if not held:
        yield Finding("ok", "positions", "none")
    for one in held:
        at = "" if one.price is None else f" at {one.price:.10g}"
        shown = f"{one.size:+g} of {one.instrument or one.symbol}{at}"
        if one.instrument:
            fix = "close it by hand if it is not to be taken over: a start takes it for its own"
            yield Finding("warn", "positions", shown, fix)
        else:
            yield Finding("ok", "positions", f"{shown}: in another instrument, it is left alone")
