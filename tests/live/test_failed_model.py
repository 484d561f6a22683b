"""A model that the monitor has found to fail: replaced between two events, or kept from opening; no event is lost."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.open_run import _failed
from emp.app.wiring.rerun import verify_run
from emp.app.wiring.unfinished import brought_though_failed, carry_over
from emp.core.clock import LiveClock
from emp.core.codes import Reason
from emp.core.contracts import Control
from emp.core.errors import GovernanceError
from emp.core.instrument import Instrument
from emp.engine.limits import EngineLimits
from emp.engine.rebuild import rebuild
from emp.engine.succession import Models
from emp.engine.verdict import Verdict
from emp.execution.orders import OrderManager
from emp.journal.account_file import AccountState, Carried
from emp.journal.actionlog import read_actions
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.swaps import Swap, read_swaps
from emp.observe.board import Board
from tests.kit.models import eager_model

from .test_account import gone, later, look, run, settings, started, unseal
from .test_models import metrics, named, trickle
from .world import BTC, Venue, World, play

LIMITS = EngineLimits(max_position_lots=4, max_order_lots=2, warmup_events=30)


def verdict(model: str, gate: str = "log_loss.standby") -> Verdict:
    return Verdict(model, gate, BTC.name, 5.5, f"{model} does worse")


def test_what_stands_by_takes_over_from_a_model_that_has_failed_and_stays(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITS, model=named("first"), standby=named("second"))

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 50)
        world.verdicts.append(verdict("first"))
        await world.until(lambda: world.engine.model.artifact.hash == "second", 20)
        world.verdicts.append(verdict("first"))  # what was found before it gave way says nothing of the other
        await trickle(world, 50)
        await asyncio.sleep(0.2)  # ten looks at verdicts
        assert world.engine.model.artifact.hash == "second"
        view = world.viewer.view()
        assert (view.serving.role, view.serving.why, view.serving.standby) == (
            "fallback",
            "first does worse",
            "",
        )
        assert any("model_failed" in breach for breach in view.breaches)
        assert 'model_swaps_total{reason="failed"} 1.0' in metrics(world)
        assert Reason.MODEL not in world.engine.bars.every()

    play(world, script)
    (swap,) = read_swaps(world.recorded())
    assert (swap.before, swap.after, swap.reason) == ("first", "second", "failed")
    rows = read_actions(world.actions.folder)
    assert len(rows) == 100
    (change,) = np.flatnonzero(np.diff(rows["model_id"]))
    assert rows["seq"][change] == swap.seq
    (breach,) = world.recorded().notes("risk_breach")
    assert breach.data["reason"] == "model_failed"
    assert breach.data["metric"] == "log_loss.standby"
    assert (breach.data["value"], breach.data["limit"]) == (5.5, np.log(200.0))


def test_where_nothing_stands_by_nothing_is_opened_until_the_owner_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITS, model=named("first"))

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 10)
        world.verdicts.append(verdict("first", "value.mean_reversion"))
        await world.until(lambda: Reason.MODEL in world.engine.bars.every(), 20)
        await trickle(world, 60)
        assert any("nothing is opened: first does worse" in why for why in world.board.unhealthy())
        world.live.owner.control("resume", "operator")
        assert world.engine.bars.every() == ()
        assert not any("does worse" in why for why in world.board.unhealthy())
        await trickle(world, 30)

    play(world, script)
    rows = read_actions(world.actions.folder)
    barred = rows["barred"] == Reason.MODEL
    assert barred.sum() >= 55
    assert not rows["action"][barred].any(), "the model wants to buy all the time"
    assert rows["action"][~barred].any()
    assert not list(read_swaps(world.recorded()))


def test_drift_bars_opening_whatever_stands_by_because_it_sees_the_same_inputs(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITS, model=named("first"), standby=named("second"))

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 10)
        world.verdicts.append(verdict("first", "drift"))
        await world.until(lambda: Reason.MODEL in world.engine.bars.every(), 20)
        assert world.engine.model.artifact.hash == "first"
        assert world.viewer.view().serving.standby == "second"

    play(world, script)


@pytest.mark.parametrize("gate", ["log_loss.standby", "drift"])
def test_a_process_that_died_after_it_goes_on_as_it_was(gate: str, tmp_path: Path) -> None:
    """A model that has failed halts nothing: another serves, or nothing is opened, over a restart too."""
    first = World(tmp_path, limits=LIMITS, model=named("first"), standby=named("second"))
    left: list[object] = []

    def as_it_is(world: World) -> list[object]:
        risk = world.engine.desk.risk
        return [world.engine.bars.every(), risk["halted"].tolist(), risk["halt_reason"].tolist()]

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 10)
        world.verdicts.append(verdict("first", gate))
        await world.until(lambda: bool(world.recorded().notes("risk_breach")), 20)
        await trickle(world, 10)
        left.extend(as_it_is(world))

    play(first, script)
    first.unseal()
    again = World(tmp_path, limits=LIMITS, model=first.engine.model, actions="later")

    async def look(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 60)
        await trickle(world, 10)
        assert as_it_is(world) == left == [(Reason.MODEL,) if gate == "drift" else (), [False], [0]]

    play(again, look)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("gate", ["log_loss.standby", "drift"])
def test_a_process_that_died_between_a_failure_and_what_is_done_about_it_opens_nothing(
    gate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = eager_model(tmp_path / "a"), eager_model(tmp_path / "b", seed=5)
    config, venue, models = settings(tmp_path / "runs"), Venue(), Models(first, second)

    async def fail(running: Running, venue: Venue) -> None:
        await look(running, venue)
        with monkeypatch.context() as dying:
            dying.setattr(running.live._succession, "_take_over", lambda *_: None)
            dying.setattr(running.live._opening, "bar", lambda *_: None)
            running.live._succession._verdicts.append(verdict(first.artifact.hash, gate))
            for _ in range(6_000):
                await asyncio.sleep(0.01)
                if running.engine.failed_models:
                    break
        assert running.engine.model is first
        assert running.engine.bars.every() == ()

    async def fail_again(running: Running, venue: Venue) -> None:
        await look(running, venue)
        assert running.engine.bars.every() == (Reason.MODEL,)
        assert not running.engine.halted
        assert any("had failed before this start" in why for why in running.live._board.unhealthy())
        running.live._succession._verdicts.append(verdict(first.artifact.hash))
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            if running.engine.model is not first:
                break
        assert running.engine.bars.every() == (Reason.MODEL,), "what stood before the swap stays"

    async def see(running: Running, venue: Venue) -> None:
        await look(running, venue)
        assert running.engine.bars.every() == (Reason.MODEL,)

    unseal(run(config, venue, fail, models))
    unseal(run(config, later(venue, "p1-"), fail_again, models))
    again = run(config, later(venue, "p2-"), see, models)
    verify_run(again.folder, lambda *_: None)
    ledger = LedgerReader(again.folder.ledger)
    told = [rebuild(ledger, OrderManager([BTC.name]), whole=whole).barred for whole in (False, True)]
    assert told == [{BTC.name: {Reason.MODEL: None}}] * 2


ETH = msgspec.structs.replace(BTC, name="ETHUSDT")


def test_a_failure_bars_the_model_on_instruments_that_its_run_did_not_have(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run="R")
    state = AccountState(run="OLD", instruments={BTC.name: Carried(failed="other first")})
    carry_over(state, [BTC, ETH], ledger, LiveClock(), "first")
    barred = rebuild(ledger, OrderManager([BTC.name, ETH.name])).barred
    assert barred == {one.name: {Reason.MODEL: None} for one in (BTC, ETH)}
    ledger.close()


@pytest.mark.usefixtures("compiled_engine")
def test_a_failure_is_the_account_s_over_runs_of_other_instruments(tmp_path: Path) -> None:
    model = eager_model(tmp_path / "a")
    config, seen = settings(tmp_path / "runs"), list[object]()

    def trade(instrument: Instrument, *, resume: bool = False, fail: bool = False) -> None:
        running = started(config, Venue(), Models(model), instrument)

        async def whole() -> None:
            task = asyncio.create_task(running.live.run())
            await asyncio.wait_for(running.live.connected.wait(), 120)
            seen.append(running.engine.bars.every())
            if resume:
                running.live.owner.control("resume", "operator")
            if fail:
                running.live._succession._verdicts.append(verdict(model.artifact.hash))
                running.live._look_at_model()
            running.live.owner.stop()
            await task

        asyncio.run(whole())

    trade(BTC, fail=True)
    trade(ETH)
    trade(ETH, resume=True)
    trade(BTC)
    assert seen == [(), (Reason.MODEL,), (Reason.MODEL,), ()]


@pytest.mark.usefixtures("compiled_engine")
def test_a_failure_bars_all_instruments_where_one_was_barred_before(tmp_path: Path) -> None:
    model, clock = eager_model(tmp_path / "a"), LiveClock()
    config = settings(tmp_path / "runs")
    running = assemble_live(config, [BTC, ETH], Models(model), Venue(), Board(clock), clock)
    running.engine.bar(0, Reason.MODEL, active=True)
    running.live._succession._verdicts.append(verdict(model.artifact.hash))
    running.live._look_at_model()
    assert [running.engine.bars.reasons(i) for i in (0, 1)] == [(Reason.MODEL,)] * 2
    gone(running)


@pytest.mark.parametrize("why", ["failed", "slow"])
def test_what_has_failed_does_not_stand_by(why: str, tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITS, model=named("first"), standby=named("second"))
    world.engine.failed_models.add("second")  # in an earlier run of the account

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 10)
        assert world.viewer.view().serving.standby == ""
        if why == "failed":
            world.verdicts.append(verdict("first"))
            await world.until(lambda: Reason.MODEL in world.engine.bars.every(), 20)
        else:
            world.live._succession._too_slow()
            assert any("nothing stands by" in told for told in world.board.unhealthy())
        assert world.engine.model.artifact.hash == "first"

    play(world, script)
    assert not list(read_swaps(world.recorded()))


@pytest.mark.usefixtures("compiled_engine")
def test_a_failed_model_that_takes_over_from_one_that_may_not_serve_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood in for it was withdrawn while the process was dead: what is configured is what had failed."""
    first, second = eager_model(tmp_path / "a"), eager_model(tmp_path / "b", seed=5)
    config, venue, models = settings(tmp_path / "runs"), Venue(), Models(first, second)
    seen: list[tuple[Reason, ...]] = []

    def withdrawn(_: object, model: str) -> None:
        if model == second.artifact.hash:
            raise GovernanceError("it was withdrawn")

    async def fail(running: Running, venue: Venue) -> None:
        await look(running, venue)
        running.live._succession._verdicts.append(verdict(first.artifact.hash))
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            if running.engine.model.artifact.hash == second.artifact.hash:
                break
        assert running.engine.bars.every() == ()

    async def see(running: Running, venue: Venue) -> None:
        await look(running, venue)
        assert running.engine.model.artifact.hash == first.artifact.hash
        seen.append(running.engine.bars.every())

    async def let(running: Running, venue: Venue) -> None:
        await see(running, venue)
        running.live.owner.control("resume", "operator")
        await see(running, venue)

    unseal(run(config, venue, fail, models))
    monkeypatch.setattr("emp.app.wiring.open_run.refuse_unpromoted", withdrawn)
    unseal(run(config, later(venue, "p1-"), see, Models(first)))
    unseal(run(config, later(venue, "p2-"), let, Models(first)))
    again = run(config, later(venue, "p3-"), see, Models(first))
    verify_run(again.folder, lambda *_: None)
    barred = (Reason.MODEL,)
    assert seen == [barred, barred, (), ()]
    swaps = [(one.reason, one.after) for one in read_swaps(LedgerReader(again.folder.ledger))]
    assert swaps == [("failed", second.artifact.hash), ("release", first.artifact.hash)]
    reader = LedgerReader(again.folder.ledger)
    breaches = [note for note in reader.notes("risk_breach") if note.data["reason"] == "model_failed"]
    assert len(breaches) > 1
    assert all(note.ts > 0 for note in breaches), "acted on before anything was seen"
    reader.close()


@pytest.mark.usefixtures("compiled_engine")
def test_a_failure_is_not_forgotten_where_the_process_dies_before_it_is_looked_at(
    tmp_path: Path,
) -> None:
    first, second = eager_model(tmp_path / "a"), eager_model(tmp_path / "b", seed=5)
    ledger = Ledger(tmp_path / "ledger.sqlite", run="R")
    for before, after, reason in ((first, second, "failed"), (second, first, "release")):
        swap = Swap(
            instrument=BTC.name,
            seq=1,
            ts=1,
            before=before.artifact.hash,
            after=after.artifact.hash,
            reason=reason,
        )
        ledger.record_note(swap.note)
    hashes = first.artifact.hash, {first.artifact.hash}
    assert _failed(AccountState(), ledger) == hashes[1], "a release brings nothing back"
    assert brought_though_failed(ledger, *hashes)
    ledger.record_control(Control(action="resume", ts=2))
    assert not brought_though_failed(ledger, *hashes)
    ledger.close()


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("stands_by", [False, True])
def test_a_model_that_has_failed_opens_nothing_in_the_account_s_next_run(
    stands_by: bool, tmp_path: Path
) -> None:
    """Until the owner lets it: a stop and a start do not make it better."""
    first, second = eager_model(tmp_path / "a"), eager_model(tmp_path / "b", seed=5)
    models = Models(first, second if stands_by else None)
    config, venue = settings(tmp_path / "runs"), Venue()
    seen: list[tuple[Reason, ...]] = []

    async def fail(running: Running, venue: Venue) -> None:
        await look(running, venue)
        running.live._succession._verdicts.append(verdict(first.artifact.hash))
        failed = running.engine.failed_models
        for _ in range(6_000):
            await asyncio.sleep(0.01)
            if failed:
                break
        assert failed == {first.artifact.hash}
        assert (running.engine.model is first) == (not stands_by)

    async def see(running: Running, venue: Venue) -> None:
        await look(running, venue)
        seen.append(running.engine.bars.every())

    async def let(running: Running, venue: Venue) -> None:
        await see(running, venue)
        running.live.owner.control("resume", "operator")
        await see(running, venue)

    run(config, venue, fail, models)
    again = run(config, later(venue, "p1-"), see, models)
    verify_run(again.folder, lambda *_: None)
    run(config, later(venue, "p2-"), see, Models(second))
    run(config, later(venue, "p3-"), let, models)
    run(config, later(venue, "p4-"), see, models)
    barred = (Reason.MODEL,)
    assert seen == [barred, (), barred, (), ()]
