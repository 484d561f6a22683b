"""The engine in front of the venue of a drill: set up what is to be closed, pull the trigger, see when all is flat."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np

from emp.access.port import LinkState, MarketAccess, Sink
from emp.app.bench.flattening.terms import ACCOUNT, Faults, Terms, instruments_of
from emp.app.bench.flattening.venue import client_tls
from emp.app.bench.restless import RestlessRule
from emp.app.wiring.live import Running, assemble_live
from emp.core.approval import Cleared
from emp.core.clock import Clock
from emp.core.codes import Action, Reason, WorkingState
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.errors import EmpError, VenueError
from emp.core.ids import generator
from emp.core.instrument import Instrument
from emp.core.records import DECISION, Array
from emp.engine.engine import Output
from emp.engine.load import LoadedModel
from emp.engine.succession import Models
from emp.observe.board import Board
from emp.risk.verdict import give_verdict

AWAY = 300
"""Ticks from the touch at which orders rest, so that none fills."""

THROUGH = 20
"""Ticks beyond the touch that an order accepts which is to fill."""

SPARE_ROWS = 64
"""Of each instrument, beyond those that the model asks for."""

OPEN_API_S = 1.1
"""Between two bursts at a venue that counts requests by the second."""

LOOK_S = 0.001
PATIENCE_S = 60.0
"""How long a drill waits for anything at all."""


class Timed:
    """An access that remembers when it was handed each command, and how many rows it passed on."""

    def __init__(self, access: MarketAccess, seed: int) -> None:
        self.handed: list[int] = []  # monotonic ns at which it had handed a command to the transport
        self.rows = 0
        self._access = access
        self._sink: Sink
        self.faults: Faults | None = None  # that befall what passes
        self._draw = generator(seed, "flattening", "faults")
        self._kept: list[Array] | None = None  # what came while the feed stands still
        self._over = False

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """As the access."""
        self._sink = sink
        await self._access.connect(instruments, self)

    def send(self, cleared: Cleared) -> None:
        """As the access."""
        self._access.send(cleared)
        self.handed.append(time.monotonic_ns())

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """As the access."""
        return await self._access.open_orders()

    async def positions(self) -> Sequence[VenuePosition]:
        """As the access."""
        return await self._access.positions()

    async def close(self) -> None:
        """As the access."""
        self._over = True
        await self._access.close()

    def events(self, rows: Array) -> None:
        """To the engine, as far as no fault befalls them."""
        if self.faults is not None:
            lucky = self._draw.random(len(rows))
            times = np.where(lucky < self.faults.lost, 0, 1) + (lucky > 1 - self.faults.repeated)
            rows = np.repeat(rows, times)
        if self._kept is not None:
            self._kept.append(rows.copy())
        elif len(rows):
            self.rows += len(rows)
            self._sink.events(rows)

    def stall(self, seconds: float) -> None:
        """Let the feed stand still from now on; what comes meanwhile comes at the end of it."""
        self._kept = []
        asyncio.get_running_loop().call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        kept, self._kept = self._kept or [], None
        for rows in () if self._over else kept:
            self.rows += len(rows)
            self._sink.events(rows)

    def report(self, update: OrderUpdate) -> None:
        """To the engine, now and then twice."""
        self._sink.report(update)
        if self.faults is not None and self._draw.random() < self.faults.repeated:
            self._sink.report(update)

    def link(self, state: LinkState) -> None:
        """To the engine."""
        self._sink.link(state)

    def ended(self, error: Exception | None) -> None:
        """To the engine."""
        self._sink.ended(error)

    async def ready(self) -> None:
        """As the engine."""
        await self._sink.ready()


class Desk:
    """One process of the engine, as far as its own task is one."""

    def __init__(self, terms: Terms, folder: Path, port: int, model: LoadedModel, clock: Clock) -> None:
        self._terms = terms
        self._instruments = instruments_of(terms)
        self.access = Timed(_access(terms, folder, port, clock), terms.seed)
        self._running: Running = assemble_live(
            _config(terms, folder, port),
            self._instruments,
            Models(model, None),
            self.access,
            Board(clock),
            clock,
        )
        self.live = self._running.live
        self.engine = self._running.engine
        self.engine.attach_rule(RestlessRule(np.array([False])))  # holds: the orders of a drill are its own
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start; what has to be compiled is no part of it."""
        self.live.prepare()
        self._task = asyncio.create_task(self.live.run())

    async def connected(self) -> None:
        """Return when it trades."""
        await self.until(self.live.connected.is_set, "the start")

    async def until(self, what: Callable[[], bool], name: str) -> None:
        """Return when something is so; VenueError where it does not come to pass, and whatever the run ended with."""
        began = time.monotonic()
        while not what():
            if self._task is not None and self._task.done():
                self._task.result()
                raise VenueError(f"the run ended while it was waiting for {name}")
            if time.monotonic() - began > PATIENCE_S:
                raise VenueError(f"{name} was not over within {PATIENCE_S:g} s")
            await asyncio.sleep(LOOK_S)

    async def set_up(self) -> None:
        """Hold lots of every instrument, and let orders rest, until the venue has confirmed all of it.

        What the engine withdraws meanwhile by itself, since this machine was too slow for a moment, is ordered again.
        """
        await self.until(self._warm, "quotes of every instrument")
        while not self.complete():
            await self.until(self._may_order, "what was ordered before")
            await asyncio.sleep(OPEN_API_S if self._terms.over == "ctrader" else 0.0)
            self._running.driver.send([self._order(*one) for one in self._missing()])
            await self.until(lambda: not self._on_the_way(), "what is to be closed")

    def complete(self) -> bool:
        """Whether everything rests and is held that a trial closes."""
        return not self._on_the_way() and not self._missing()

    def _warm(self) -> bool:
        desk = self.engine.desk
        return self.access.rows > len(self._instruments) * (
            int(desk.limits["warmup_events"].max()) + SPARE_ROWS
        )

    def _may_order(self) -> bool:
        return not self._on_the_way() and not self.engine.desk.risk["degraded"].any()

    def _on_the_way(self) -> bool:
        return any(order.working is not WorkingState.RESTING for order in self.engine.orders.open_orders())

    def _missing(self) -> list[tuple[int, Action, int, int, int]]:
        """What does not rest and is not held: (instrument, how it is ordered, side, lots, ticks)."""
        each, orders = self._terms.orders // self._terms.instruments, self.engine.orders
        missing: list[tuple[int, Action, int, int, int]] = []
        for i, one in enumerate(self._instruments):
            touch, side = self.engine.touch(i), 1 if i % 2 == 0 else -1
            if orders.position(one.name) != side * self._terms.held:
                px = touch.ask + THROUGH if side > 0 else touch.bid - THROUGH
                missing.append((i, Action.CROSS, side, self._terms.held, px))
            for k in range(len(orders.open_orders(one.name)), each):
                side = 1 if k % 2 == 0 else -1
                missing.append(
                    (i, Action.POST, side, 1, touch.bid - AWAY - k if side > 0 else touch.ask + AWAY + k)
                )
        return missing

    def _order(self, i: int, action: Action, side: int, qty: int, px: int) -> Cleared:
        """An order that the drill decides, with a verdict as risk would give it: the engine takes no other."""
        row, reason = (
            np.zeros(1, DECISION)[0],
            Reason.CROSS_EDGE if action is Action.CROSS else Reason.POST_EDGE,
        )
        row["action"], row["side"], row["qty"], row["px"] = action, side, qty, px
        give_verdict(self.engine.desk.risk[i], row)
        output = Output()
        self.engine.act(output, (i, time.time_ns(), 0, action, reason, side, px, qty))
        [order] = output.commands
        return order

    def flat(self) -> bool:
        """Whether the engine knows of nothing held, working or to be closed."""
        orders = self.engine.orders
        return not (
            self.engine.flattening
            or orders.open_orders()
            or any(orders.position(one.name) for one in self._instruments)
        )

    async def break_off(self) -> None:
        """End the task where it is, with its orders at the venue; its ledger stays open for the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, EmpError):
                await self._task


@contextlib.asynccontextmanager
async def desk(
    terms: Terms, folder: Path, port: int, model: LoadedModel, clock: Clock
) -> AsyncIterator[Desk]:
    """An engine that trades, and is broken off at the end."""
    one = Desk(terms, folder, port, model, clock)
    one.begin()
    try:
        await one.connected()
        yield one
    finally:
        await one.break_off()


def _access(terms: Terms, folder: Path, port: int, clock: Clock) -> MarketAccess:
    if terms.over == "fix":
        from emp.access.fix.client import FixAccess, FixSettings
        from emp.access.fix.dialect import PLAIN

        return FixAccess(
            FixSettings(
                host="127.0.0.1",
                port=port,
                sender="EMP",
                target="EMPVENUE",
                dialect=PLAIN,
                tls=False,
                account=str(ACCOUNT),
                store=folder / "fix-sequence",
                reset_on_loss=True,
            ),
            clock,
        )
    from emp.access.ctrader.access import CTraderAccess
    from emp.access.ctrader.settings import Credentials, Settings

    known = Credentials(
        client_id=Secret("app"), client_secret=Secret("app-secret"), access_token=Secret("access-1")
    )
    return CTraderAccess(
        Settings(account=ACCOUNT), known, host="127.0.0.1", port=port, clock=clock, tls=client_tls(folder)
    )


def _config(terms: Terms, folder: Path, port: int) -> SystemConfig:
    fix = {"sender_comp_id": "EMP", "target_comp_id": "EMPVENUE", "dialect": "fix44"}
    return SystemConfig(
        mode="live",
        run_dir=folder / "runs",
        warm_up_events=0,
        cool_down_events=0,
        instruments={"names": [one.name for one in instruments_of(terms)]},  # type: ignore[arg-type]
        access={  # type: ignore[arg-type]
            "connection_protocol": terms.over,
            "host": "127.0.0.1",
            "port": port,
            "account": str(ACCOUNT),
            **(fix if terms.over == "fix" else {}),
        },
        model={"ssm_impl": "linear", "fallback_impl": "none", "p99_ms": 1e6, "total_p99_ms": 1e7},  # type: ignore[arg-type]
        risk={"max_daily_loss_ticks": 1e9, "max_drawdown_ticks": 1e9},  # type: ignore[arg-type]
        context={"enabled": False},  # type: ignore[arg-type]
        # a machine that cannot keep up withdraws its orders by itself, and nothing is left to be timed; after a
        # stall it orders nothing for as long again
        bus={"max_age_ms": 60_000.0 if terms.faults is None else 2_000.0, "queue_bound": 1 << 16},  # type: ignore[arg-type]
    )
