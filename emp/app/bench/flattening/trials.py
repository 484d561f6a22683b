"""Trials: the trigger is pulled again and again, while the engine trades or while it starts, and each is timed."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from emp.app.bench.flattening.bench import OPEN_API_S, Desk, desk
from emp.app.bench.flattening.terms import Faults, Terms, Truth
from emp.app.bench.flattening.venue import VenueProcess
from emp.core.clock import LiveClock
from emp.core.ids import generator
from emp.engine.load import LoadedModel

A_PROCESS = 20
"""Trials before the engine begins anew: it sends at most sixty closing orders a minute and instrument."""


class Trial(msgspec.Struct, frozen=True):
    """What one pull of the trigger came to; times in ms, from the trigger unless said otherwise."""

    last_byte_ms: float  # the last command of the first wave was handed to the system
    arrived_ms: float  # the venue had read it
    flat_ms: float  # the engine had been told that nothing is held and nothing works
    venue_flat_ms: float  # that was so at the venue
    commands: int  # in the first wave
    refused: int  # cancels that the venue refused
    events_per_s: float  # that reached the engine between the trigger and flat
    blind_ms: float = (
        0.0  # from the trigger until the engine could see it: it was starting, or its loop stood still
    )
    wrong: str = ""  # what the venue knows and the engine does not


class Waited(msgspec.Struct):
    """When the trigger was pulled and when the engine could first act on it; monotonic ns, 0 while that is not so."""

    pulled_ns: int = 0
    able_ns: int = 0


async def while_trading(
    terms: Terms, venue: VenueProcess, folder: Path, model: LoadedModel, trials: int
) -> AsyncIterator[Trial]:
    """Pull the trigger while the engine trades."""
    draw = generator(terms.seed, "flattening", "trigger")
    pause_s = OPEN_API_S if terms.over == "ctrader" else 0.0
    each = A_PROCESS if terms.faults is None else 1  # a loop that stood still opens nothing for a minute
    for first in range(0, trials, each):
        async with desk(terms, folder, venue.port, model, LiveClock()) as one:
            for _ in range(min(each, trials - first)):
                if one.engine.desk.risk["halted"].any():
                    one.live.owner.control("resume", "drill")
                await _ready(one, venue, pause_s + draw.uniform(0.02, 0.1))
                one.access.handed.clear()
                rows = one.access.rows
                waited = await _pulled(one, terms.faults, float(draw.random()), loop=bool(first % 2))
                yield await _seen_through(one, venue, waited, len(one.access.handed), rows)


async def _pulled(one: Desk, faults: Faults | None, when: float, *, loop: bool) -> Waited:
    """Pull the trigger, and let the loop hear of it; with faults from another thread, as whoever pulls it does, at the
    share `when` of a stall of the feed, or of the engine's `loop`.
    """
    waited, running, heard = Waited(), asyncio.get_running_loop(), asyncio.Event()

    def hear() -> None:
        waited.able_ns = time.monotonic_ns()
        one.live.owner.kill("drill")
        heard.set()

    def pull() -> None:
        waited.pulled_ns = time.monotonic_ns()
        running.call_soon_threadsafe(hear)

    one.access.faults = faults
    if faults is None:
        pull()
    else:
        threading.Timer(when * faults.stalled_s, pull).start()
        if loop:
            time.sleep(faults.stalled_s)
        else:
            one.access.stall(faults.stalled_s)
    await heard.wait()
    return waited


async def while_starting(
    terms: Terms, venue: VenueProcess, folder: Path, model: LoadedModel, trials: int
) -> AsyncIterator[Trial]:
    """Pull the trigger as soon as the next process begins, after one that ended with everything open."""
    for _ in range(trials):
        async with desk(terms, folder, venue.port, model, LiveClock()) as before:
            if before.engine.desk.risk["halted"].any():
                before.live.owner.control("resume", "drill")
            await before.set_up()
        if terms.over == "ctrader":
            await asyncio.sleep(OPEN_API_S)
        await venue.truth()
        one = Desk(terms, folder, venue.port, model, LiveClock())
        try:
            one.begin()
            pulled = time.monotonic_ns()
            one.live.owner.kill("drill")
            await one.connected()
            waited = Waited(pulled, time.monotonic_ns())
            yield await _seen_through(one, venue, waited, None, one.access.rows)
        finally:
            await one.break_off()


async def _ready(one: Desk, venue: VenueProcess, pause_s: float) -> None:
    """Set up what is to be closed, and let the pause go by with all of it in place."""
    while True:
        await one.set_up()
        await asyncio.sleep(pause_s)
        await venue.truth()
        if one.complete():
            return


async def _seen_through(one: Desk, venue: VenueProcess, waited: Waited, wave: int | None, rows: int) -> Trial:
    """Wait until all is flat, and ask the venue whether it is. `wave` is how many commands left at once; None: all that
    were needed count, since a start withdraws what rests before it acts on the trigger, and closes at the first quotes.
    """
    await one.until(one.flat, "flat")
    wave = len(one.access.handed) if wave is None else wave
    flat_ns = time.monotonic_ns()
    seen = one.access.rows - rows
    truth = await venue.truth()
    from_ns = waited.able_ns
    last = one.access.handed[wave - 1] if wave else flat_ns
    arrived = truth.arrived[wave - 1] if 0 < wave <= len(truth.arrived) else flat_ns
    return Trial(
        last_byte_ms=(last - from_ns) / 1e6,
        arrived_ms=(arrived - from_ns) / 1e6,
        flat_ms=(flat_ns - from_ns) / 1e6,
        venue_flat_ms=(truth.flat_ns - from_ns) / 1e6,
        commands=wave,
        refused=truth.refused,
        events_per_s=seen / max(1e-9, (flat_ns - from_ns) / 1e9),
        blind_ms=(from_ns - waited.pulled_ns) / 1e6,
        wrong=_wrong(truth, wave),
    )


def _wrong(truth: Truth, wave: int) -> str:
    held = {name: lots for name, lots in truth.position.items() if lots}
    if truth.working or held:
        return f"not flat at the venue: {truth.working} orders, {held}"
    return "" if wave else "nothing was sent at once"
