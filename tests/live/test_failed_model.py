"""A model that the monitor has found to fail: replaced between two events, or kept from opening; no event is lost."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from emp.app.wiring.live import Running
from emp.app.wiring.rerun import verify_run
from emp.core.codes import Reason
from emp.engine.engine import EngineLimits
from emp.engine.succession import Models
from emp.engine.verdict import Verdict
from emp.journal.actionlog import read_actions
from emp.journal.swaps import read_swaps
from tests.kit.models import eager_model

from .test_account import later, look, run, settings
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
        world.live.control("resume", "operator")
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
        running.live.control("resume", "operator")
        await see(running, venue)

    run(config, venue, fail, models)
    again = run(config, later(venue, "p1-"), see, models)
    verify_run(again.folder, lambda *_: None)
    run(config, later(venue, "p2-"), see, Models(second))
    run(config, later(venue, "p3-"), let, models)
    run(config, later(venue, "p4-"), see, models)
    barred = (Reason.MODEL,)
    assert seen == [barred, (), barred, (), ()]
