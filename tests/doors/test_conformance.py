"""The same engine through every door: the same checks, the same verdict.

Each check was seen red when its subject was broken on purpose:

    FixAccess hands out each report twice; drops every tenth    ..._arrives_exactly_once
    the driver applies a report before it records it            ..._arrives_exactly_once
    PaperAccess reports after the event                         ..._arrives_exactly_once
    the market journal misses a batch                           ..._arrives_exactly_once
    an overfill is not judged                                   an_overfill_halts...
    the Open API client believes an overfill                    an_overfill_halts...
    a failed ledger stops the flattening                        a_ledger_that_fails...
    kill does not flatten                                       the_kill_switch_flattens...
    FIX books go on after a loss without a gap                  a_link_lost...
    a refused subscription is not told                          a_refused_subscription...
    a trade link that is down is ignored                        without_a_trade_link...
    a query is sent as the order again                          an_unknown_outcome...
    an acknowledged immediate order is not asked for            an_unknown_outcome...
    what a sink raises reaches the transport                    what_the_sink_raises...
    the recovery does not hear the reports                      a_start_asks...

That the engine asks at once after an overfill is `tests/engine/test_doubt.py`'s to see: here its timer asks too. For
the same reason a FIX client that asks for nothing after a reconnect passes here, and is `tests/fix/test_recovery.py`'s.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from emp.access.port import LinkState
from emp.core.approval import Cleared, command_of
from emp.core.codes import EventFlag, OrderStatus, Reason
from emp.core.contracts import OrderUpdate, QueryOrder
from emp.core.errors import JournalError, VenueError
from emp.core.records import UNHASHED, Array, fieldwise_bytes
from emp.engine.engine import Output
from emp.engine.limits import EngineLimits
from emp.journal.actionlog import read_actions
from emp.journal.market import read_market
from tests.kit.doors import DOORS, PAIR, Door, make_door
from tests.kit.orders import new_order
from tests.kit.venue import TOO_MANY, Fact, fact
from tests.live.world import World

pytestmark = pytest.mark.usefixtures("compiled_engine", "compiled_market", "compiled_feeds")

POSITION = 8
"""Lots that the engine buys, one at a time, before its limit stops it."""

LINKS = "link lost in the middle of a message"
TRADE = "trade link down while quotes run"
REFUSED_LATER = "subscription refused after a reconnect"
DOUBT = "order in doubt at the start"

NO_LINK = "nothing is between the engine and the market that could be lost"
ONE_LINK = "one connection carries market data and orders: with the one the other is lost"
LOCAL = "orders are filled in this process: there is no link that carries them"

NOT_APPLICABLE = {
    (LINKS, "scripted"): NO_LINK,
    (LINKS, "mock"): NO_LINK,
    (LINKS, "paper-recording"): "a recording has no link",
    (TRADE, "mock"): NO_LINK,
    (TRADE, "mock-over-fix"): ONE_LINK,
    (TRADE, "fix-plain"): ONE_LINK,
    (TRADE, "open-api"): ONE_LINK,
    (TRADE, "paper-recording"): LOCAL,
    (TRADE, "paper-over-fix"): LOCAL,
    (DOUBT, "paper-recording"): "an account on paper begins empty with each run: none is continued",
    (REFUSED_LATER, "scripted"): NO_LINK,
    (REFUSED_LATER, "mock"): NO_LINK,
    (REFUSED_LATER, "mock-over-fix"): "its venue is its own, and shows what it was made for",
    (
        REFUSED_LATER,
        "open-api",
    ): "the venue refuses the orders for a symbol with the symbol: nothing could be closed",
    (REFUSED_LATER, "paper-recording"): "a recording is subscribed to once",
}
"""What cannot be asked of a door, and why; every other check is made at every door."""


def through(check: str = "") -> pytest.MarkDecorator:
    """Every door at which a check can be made."""
    doors = [kind for kind in DOORS if (check, kind.name) not in NOT_APPLICABLE]
    return pytest.mark.parametrize("kind", doors, ids=lambda kind: kind.name)


class PairWorld(World):
    """A world of the pair that every door trades."""

    instrument = PAIR


class Run:
    """A live engine behind a door, and what went in and out of its sink."""

    def __init__(self, door: Door, folder: Path, position: int) -> None:
        limits = EngineLimits(
            max_position_lots=position,
            max_order_lots=1,
            max_daily_loss=1e9,
            max_drawdown=1e9,
            orders_per_minute=1e6,
            turnover_per_minute=1e6,
            turnover_per_hour=1e6,
            depth_share=1.0,
            order_timeout_ns=300_000_000,
        )
        self.door = door
        self.running: asyncio.Task[None]
        self.world = PairWorld(folder, queue_bound=4096, limits=limits, venue=cast(Any, door.access))
        self.arrived: list[OrderUpdate] = []
        self.links: list[LinkState] = []
        self.applied: list[OrderUpdate] = []
        self.processed: list[Array] = []
        self.rows: list[Array] = []
        self.hasty: list[str] = []  # what was applied or sent before the ledger held it
        self.overtaken: list[OrderUpdate] = []  # reports that came after an event later than they
        self._newest = 0  # ts of the newest event
        live, engine = self.world.live, self.world.engine
        events, report, link = live.events, live.report, live.link
        on_report, process = engine.on_report, engine.process

        def hear(update: OrderUpdate) -> None:
            self.arrived.append(update)
            if update.ts < self._newest:
                self.overtaken.append(update)
            report(update)

        def take(rows: Array) -> None:
            self._newest = int(rows["ts"][-1])
            events(rows)

        def see_link(state: LinkState) -> None:
            self.links.append(state)
            link(state)

        def apply(update: OrderUpdate) -> Output:
            if not self.held("report", update.clOrdID, update.execID):
                self.hasty.append(f"{update.clOrdID} {update.execID}")
            self.applied.append(update)
            return on_report(update)

        def go_on(events: Array) -> Output:
            output = process(events)
            self.processed.append(events[: output.consumed].copy())
            self.rows.append(output.rows.copy())
            return output

        live.report, live.link = hear, see_link  # type: ignore[method-assign]
        live.events = take  # type: ignore[method-assign]
        engine.on_report, engine.process = apply, go_on  # type: ignore[method-assign]
        driver = self.world.driver
        send = driver._send

        def leave(cleared: Cleared) -> None:
            command = command_of(cleared)
            kind = "query" if isinstance(command, QueryOrder) else "intent"
            if not self.held(kind, command.cl_ord_id):
                self.hasty.append(command.cl_ord_id)
            send(cleared)

        driver._send = leave

    def held(self, kind: str, name: str, exec_id: str = "") -> bool:
        """Whether the ledger holds a command or a report now."""
        query = "SELECT count(*) FROM events WHERE kind=? AND cl_ord_id=? AND (kind='query' OR exec_id=?)"
        return bool(self.world.ledger._db.execute(query, (kind, name, exec_id)).fetchone()[0])

    async def until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait; long, because an overloaded machine keeps the engine degraded, and only a failure takes that long."""
        try:
            await self.world.until(condition, seconds)
        except AssertionError as error:
            doubtful = [
                (o.command.cl_ord_id, o.status, o.filled) for o in self.world.engine.orders.open_orders()
            ]
            positions = (self.door.position, self.world.position)
            raise AssertionError(
                f"{error}; open {doubtful}, positions {positions}, told {self.door.end.told[-4:]},"
                f" arrived {[fact(u) for u in self.arrived[-4:]]}, asked {self.door.queries[-4:]}"
            ) from None

    async def bought(self, lots: int = POSITION) -> None:
        """Let it buy, until what was bought is known here too."""
        await self.until(lambda: self.door.position >= lots <= self.world.position)

    async def events(self, n: int) -> None:
        """Let n more events be processed."""
        wanted = self.seen + n
        await self.until(lambda: self.seen >= wanted)

    @property
    def seen(self) -> int:
        return sum(len(rows) for rows in self.processed)

    def lost(self, channel: str) -> int:
        """How often what was up went down; attempts to dial again say so each, and do not count."""
        states = [state.up for state in self.links if state.channel == channel]
        return sum(before and not after for before, after in itertools.pairwise(states))

    @property
    def whole(self) -> bool:
        """Whether every link is up."""
        return all({state.channel: state.up for state in self.links}.values())

    @property
    def over(self) -> bool:
        """Whether the run has ended by itself."""
        return self.running.done()

    @property
    def downs(self) -> list[LinkState]:
        return [state for state in self.links if not state.up]

    @property
    def unheard(self) -> list[str]:
        """Orders of which a report was lost."""
        return [name for name in self.door.end.lost if self.world.engine.orders.order(name) is not None]

    def asked_for(self, name: str) -> bool:
        """Whether the venue was asked about an order, by the id of its replacement where it has one."""
        orders = self.world.engine.orders
        return any(orders.order(asked) is orders.order(name) for asked in self.door.queries)

    def ours(self, facts: list[Fact]) -> Counter[Fact]:
        """Those that are about orders of the engine, not about what an access does by itself."""
        return Counter(one for one in facts if self.world.engine.orders.order(one.cl_ord_id) is not None)

    def recorded(self) -> list[OrderUpdate]:
        reader = self.world.recorded()
        found = [e.body for e in reader.events() if isinstance(e.body, OrderUpdate)]
        reader.close()
        return found

    def breaches(self) -> list[str]:
        reader = self.world.recorded()
        found = [str(note.data["reason"]) for note in reader.notes("risk_breach")]
        reader.close()
        return found

    def orders_are_the_venues(self) -> None:
        """No order was lost or sent twice, and both sides hold the same."""
        orders = self.door.orders
        assert max(Counter(orders).values(), default=0) <= 1, "an order came twice"
        assert self.world.engine.orders.open_orders() == []
        assert self.world.position == self.door.position

    def is_flat(self) -> None:
        self.orders_are_the_venues()
        assert self.door.position == 0
        assert self.world.engine.halted


Script = Callable[[Run], Awaitable[None]]


class Gate:
    """Opens doors, lets the engine run through them, and requires that nothing is left behind."""

    def __init__(self, folder: Path, pem: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.pem, self.patch = folder, pem, patch
        self.run: Run

    def play(
        self,
        kind: type[Door],
        script: Script,
        *,
        position: int = POSITION,
        before: Callable[[Run], None] = lambda run: None,
        **options: Any,
    ) -> Run:
        """Run `script` beside the engine, then stop; raise what the run ended with."""
        problems: list[str] = []

        async def both() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(str(what)))
            door = make_door(kind, self.folder, self.pem, self.patch, **options)
            await door.open()
            try:
                self.run = Run(door, self.folder / "run", position)
                before(self.run)
                self.run.running = asyncio.create_task(self.run.world.live.run())
                try:
                    await script(self.run)
                finally:
                    self.run.world.live.owner.stop()
                    await self.run.running
            finally:
                await door.shut()
                await asyncio.sleep(0.02)
                assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(both())
        assert not problems, problems
        return self.run

    def fails(
        self, kind: type[Door], script: Script, error: type[Exception], text: str, **options: Any
    ) -> Run:
        """The same for a run that must end with an error, in one line."""
        with pytest.raises(error, match=text) as raised:
            self.play(kind, script, **options)
        assert "\n" not in str(raised.value)
        return self.run


@pytest.fixture
def gate(tmp_path: Path, pem: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(tmp_path, pem, monkeypatch)


@through()
def test_each_report_and_each_event_arrives_exactly_once(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.bought()
        await run.events(20)

    run = gate.play(kind, script)
    told = run.ours(run.door.end.told)
    assert sum(told.values()) >= POSITION
    assert run.ours([fact(u) for u in run.arrived]) == told
    assert run.ours([fact(u) for u in run.applied]) == told
    assert run.ours([fact(u) for u in run.recorded()]) == told
    seen = np.concatenate(run.processed)
    marks = run.door.marks(seen)
    steps = [
        (at, before, after)
        for at, (before, after) in enumerate(itertools.pairwise(marks))
        if after != before + 1
    ]
    assert steps == [], f"events are missing, or came twice: {run.world.bus.counts(0)}"
    journal = np.concatenate(list(read_market(run.world.journal.market.folder)))
    assert fieldwise_bytes(journal) == fieldwise_bytes(seen)
    rows, logged = np.concatenate(run.rows), read_actions(run.world.actions.folder)
    assert fieldwise_bytes(logged, UNHASHED) == fieldwise_bytes(rows, UNHASHED)
    run.orders_are_the_venues()
    assert run.hasty == [], "applied or sent before it was recorded"
    assert run.overtaken == [] or not run.door.name.startswith("paper"), (
        "an event came before an earlier report"
    )
    assert run.downs == []


@through()
def test_an_overfill_halts_flattens_and_says_so(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        run.door.end.overfill = True
        await run.until(lambda: run.world.engine.halted)
        await run.until(lambda: not run.world.engine.flattening and run.door.position == 0)
        await run.until(lambda: "risk halted: kill_switch" in run.world.board.unhealthy())

    run = gate.play(kind, script, position=1000)
    assert any(one.filled > TOO_MANY for one in run.door.end.told)
    run.is_flat()
    assert "overfill" in run.breaches()
    assert run.downs == []


@pytest.mark.parametrize("method", ["record_report", "record_intent"])
@through()
def test_a_ledger_that_fails_leaves_it_flat_and_the_connection_whole(
    kind: type[Door], gate: Gate, method: str
) -> None:
    def full(*_: object) -> int:
        raise JournalError("disk is full")

    async def script(run: Run) -> None:
        await run.bought(3)
        gate.patch.setattr(run.world.ledger, method, full)
        await run.until(lambda: run.over)

    run = gate.fails(kind, script, JournalError, "disk is full", position=1000)
    run.is_flat()
    assert run.downs == []
    assert "failed: disk is full" in run.world.board.unhealthy()


@through()
def test_the_kill_switch_flattens_halts_and_sends_nothing_new(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        run.world.live.owner.kill("operator")
        await run.until(
            lambda: run.door.position == run.world.position == 0 and not run.world.engine.flattening
        )
        sent = run.world.driver.commands
        await run.events(20)
        assert run.world.driver.commands == sent, "traded although halted"
        await run.until(lambda: "risk halted: kill_switch" in run.world.board.unhealthy())

    run = gate.play(kind, script, position=1000)
    run.is_flat()
    assert run.breaches() == ["operator"]
    assert run.downs == []


@through(LINKS)
def test_a_link_lost_in_the_middle_of_a_message_loses_and_doubles_nothing(
    kind: type[Door], gate: Gate
) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        cuts = [("market", run.door.cut_quotes)]  # type: ignore[attr-defined]
        if run.door.orders_over_link:
            cuts.append(("trade", run.door.cut_report))  # type: ignore[attr-defined]
        for channel, cut in cuts:
            lost = run.lost(channel)
            cut()
            await run.until(lambda channel=channel, lost=lost: run.lost(channel) == lost + 1)
            await run.until(lambda: run.whole)
            await run.events(10)
            held = run.door.position
            await run.bought(held + 3)
        run.world.live.owner.control("halt", "enough")
        await run.until(lambda: not run.world.engine.orders.open_orders())

    run = gate.play(kind, script, position=1_000_000)
    run.orders_are_the_venues()
    assert run.door.position > 6
    flags = np.concatenate(run.processed)["flags"]
    assert (flags & EventFlag.GAP).any(), "nobody was told that market data are missing"
    assert run.breaches() == []


@through()
def test_a_refused_subscription_ends_the_run_in_one_line(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.until(lambda: run.over)

    run = gate.fails(kind, script, VenueError, PAIR.name + "|symbol|serves", refuses=True)
    assert run.door.orders == []
    assert run.door.position == run.world.position == 0


@through(REFUSED_LATER)
def test_a_subscription_refused_after_a_reconnect_ends_the_run_flat(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        run.door.refuse_again()  # type: ignore[attr-defined]
        await run.until(lambda: run.over)

    run = gate.fails(kind, script, VenueError, "unknown symbol", position=1000)
    run.is_flat()


@through(TRADE)
def test_without_a_trade_link_nothing_is_decided_until_it_is_back(kind: type[Door], gate: Gate) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        run.door.trade_link(up=False)  # type: ignore[attr-defined]
        await run.until(lambda: run.world.engine.desk.risk["degraded"][0])
        assert any("trade link down" in reason for reason in run.world.board.unhealthy())
        batches, sent = len(run.rows), len(run.door.orders)
        await run.events(10)
        assert len(run.door.orders) == sent, "ordered although no order can leave"
        rows = np.concatenate(run.rows[batches:])
        assert set(rows["reason_code"]) == {Reason.DEGRADED}
        run.door.trade_link(up=True)  # type: ignore[attr-defined]
        await run.bought(run.door.position + 3)
        assert not any("trade link" in reason for reason in run.world.board.unhealthy())

    run = gate.play(kind, script, position=1000)
    run.orders_are_the_venues()
    assert [state.channel for state in run.downs] == ["trade"]


@pytest.mark.parametrize("lost", ["every report", "the last report"])
@through()
def test_an_unknown_outcome_is_asked_for_and_never_sent_again(
    kind: type[Door], gate: Gate, lost: str
) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        run.door.end.ends_only = lost == "the last report"
        run.door.end.silent = True
        await run.until(lambda: bool(run.unheard))
        name = run.unheard[0]
        await run.until(lambda: run.asked_for(name) or run.door.orders[-1] != name)
        assert run.asked_for(name), "ordered while an outcome is unknown"
        run.door.end.silent = False
        orders = run.world.engine.orders
        await run.until(lambda: orders.order(name) not in orders.open_orders())
        await run.bought(run.door.position + 3)
        found.append(name)

    found: list[str] = []
    run = gate.play(kind, script, position=1000)
    run.orders_are_the_venues()
    assert found[0] in [update.clOrdID for update in run.applied]


@pytest.mark.parametrize("what", ["events", "report"])
@through()
def test_what_the_sink_raises_never_reaches_the_transport(kind: type[Door], gate: Gate, what: str) -> None:
    """The bus fails once, when it is handed events or a report."""

    async def script(run: Run) -> None:
        await run.bought(3)
        publish = run.world.bus.publish

        def fail(message: Any, *more: Any) -> None:
            if isinstance(message, OrderUpdate) == (what == "report"):
                run.world.bus.publish = publish  # type: ignore[method-assign]
                raise RuntimeError("a bug")
            publish(message, *more)

        run.world.bus.publish = fail  # type: ignore[method-assign]
        await run.until(lambda: run.over)

    run = gate.fails(kind, script, RuntimeError, "a bug", position=1000)
    run.is_flat()
    assert run.downs == []


@pytest.mark.parametrize("method", ["process", "on_report"])
@through()
def test_an_engine_that_raises_never_reaches_the_transport(kind: type[Door], gate: Gate, method: str) -> None:
    async def script(run: Run) -> None:
        await run.bought(3)
        working = getattr(run.world.engine, method)

        def fail(_: Any) -> Output:
            setattr(run.world.engine, method, working)
            raise RuntimeError("a bug")

        setattr(run.world.engine, method, fail)
        await run.until(lambda: run.over)

    run = gate.fails(kind, script, RuntimeError, "a bug", position=1000)
    run.is_flat()
    assert run.downs == []


@through(DOUBT)
def test_a_start_asks_for_an_order_in_doubt_and_sends_it_to_nobody(kind: type[Door], gate: Gate) -> None:
    """A process died between writing an intent down and sending it: the venue knows nothing of the order."""
    doubtful = "TEST0001-00000001"

    def before(run: Run) -> None:
        run.world.ledger.record_intent(
            new_order(
                doubtful, 1, 1, 1, immediate=True, ts=run.world.clock.now_ns(), reason=Reason.CROSS_EDGE
            )
        )

    async def script(run: Run) -> None:
        await run.until(run.world.live.connected.is_set)
        order = run.world.engine.orders.order(doubtful)
        assert order is not None
        assert order.status is OrderStatus.REJECTED
        await run.bought(3)

    run = gate.play(kind, script, before=before)
    assert doubtful not in run.door.orders
    assert doubtful in [u.clOrdID for u in run.recorded()]
    assert doubtful not in [u.clOrdID for u in run.applied], "the recovery was not the one to hear it"
    run.orders_are_the_venues()


def test_every_exception_names_a_check_and_a_door() -> None:
    assert {check for check, _ in NOT_APPLICABLE} == {LINKS, TRADE, REFUSED_LATER, DOUBT}
    assert {name for _, name in NOT_APPLICABLE} <= {kind.name for kind in DOORS}
