"""Which model serves while it trades: too slow, replaced on request, refused; no event is lost over any of it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.codes import Reason
from emp.core.contracts import Control
from emp.core.errors import ArtifactError, UsageError
from emp.core.numba import pinned
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.control_socket import ask
from emp.engine.engine import Engine
from emp.engine.guard import CLEAR, TRIP, WINDOW, LatencyGuard
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel, load_folder
from emp.engine.reloads import OFFERED
from emp.engine.serving import allocate
from emp.engine.succession import Models
from emp.engine.tap import Tap
from emp.engine.verdict import Verdict
from emp.journal.actionlog import actions_sha256, read_actions
from emp.journal.swaps import Swap, read_swaps
from emp.model.artifact import Artifact, save
from emp.observe.metrics import exposition, registry
from tests.kit.control import degrade

from .world import BTC, World, buyer, play

LIMITS = EngineLimits(max_position_lots=4, max_order_lots=2, warmup_events=30)
MODEL_COLUMNS = ("model_id", "state_events", "since_reset", "p", "q", "mean", "seq")


def named(name: str) -> LoadedModel:
    """The buyer under a hash of its own, believing something of its own."""
    model = buyer()
    model.params.bias[:, :18] = len(name)
    model.params.bias[:, 0] = ord(name[0]) / 100.0
    manifest = msgspec.structs.replace(model.artifact.manifest, hash=name)
    return model._replace(artifact=Artifact(manifest, {}))


async def trickle(world: World, n: int) -> None:
    """Let `n` events arrive, some at a time, and wait until they are dealt with."""
    target = world.bus.counts(0).received + n
    for at in range(0, n, 5):
        world.venue.tick(min(5, n - at))
        await asyncio.sleep(0.001)
    await world.until(lambda: world.bus.counts(0).delivered == target)


def kept_events(world: World) -> list[Array]:
    """Everything that the venue will send."""
    sent: list[Array] = []
    put = world.venue.feed.put_nowait

    def note(rows: Array) -> None:
        sent.append(rows.copy())
        put(rows)

    world.venue.feed.put_nowait = note  # type: ignore[method-assign,assignment]
    return sent


def metrics(world: World) -> str:
    return exposition(registry(world.board)).decode()


def test_a_model_that_is_too_slow_gives_way_and_the_journal_repeats_it(tmp_path: Path) -> None:
    world = World(
        tmp_path,
        limits=LIMITS,
        model=named("first"),
        guard=LatencyGuard(1e-6, 1e-6),
        standby=named("second"),
    )
    sent = kept_events(world)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 100)
        await world.until(
            lambda: world.board.view is not None and world.board.view.serving.role == "fallback"
        )
        view = world.board.view
        assert view is not None
        assert (view.model, view.serving.kind, view.serving.standby) == ("second", "linear", "")
        assert "p99" in view.serving.why
        assert 'model_swaps_total{reason="latency"} 1.0' in metrics(world)
        assert 'model_info{hash="second",kind="linear",role="fallback"} 1.0' in metrics(world)
        await world.until(lambda: any("nothing stands by" in r for r in world.board.unhealthy()))

    play(world, script)
    (swap,) = read_swaps(world.recorded())
    assert (swap.before, swap.after, swap.reason) == ("first", "second", "latency")
    rows = read_actions(world.actions.folder)
    assert len(rows) == 100
    changes = np.flatnonzero(np.diff(rows["model_id"]))
    assert len(changes) == 1
    assert rows["seq"][changes[0]] == swap.seq
    assert TRIP < changes[0] + 1 <= TRIP + 1 + 64, "the first batch in which it trips is the last it serves"
    assert set(rows["reason_code"][changes[0] + 1 :][:30]) == {Reason.WARMUP}
    assert actions_sha256(world.actions.folder) == world.actions.sha256
    again = repeated(np.concatenate(sent), swap)
    for name in MODEL_COLUMNS:
        np.testing.assert_array_equal(again[name], rows[name], name)


def repeated(events: Array, swap: Swap) -> Array:
    """Rows of the same events with the swap where the journal says; nobody trades."""
    e = Engine([BTC], named(swap.before), LIMITS, "TEST0001")
    degrade(e)
    at = int(np.searchsorted(events["seq"], swap.seq, side="right"))
    before = e.process(events[:at]).rows
    e.install(allocate(named(swap.after), 1))
    return np.concatenate([before, e.process(events[at:]).rows])


def test_without_a_fallback_slowness_is_said_and_taken_back(tmp_path: Path) -> None:
    guard = LatencyGuard(1e-6, 1e-6)
    world = World(tmp_path, limits=LIMITS, guard=guard)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 60)
        assert any("too slow and nothing stands by" in reason for reason in world.board.unhealthy())
        await world.until(lambda: "model_slow 1.0" in metrics(world))
        guard._limits[:] = 10**12
        guard.reset()
        guard._guard["slow"] = True
        await trickle(world, 5)
        assert not any("too slow" in reason for reason in world.board.unhealthy())

    play(world, script)
    assert list(read_swaps(world.recorded())) == []


def test_another_artifact_takes_over_between_two_events_and_none_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path, limits=LIMITS, model=named("first"), load=lambda: Models(named("second")))

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 120)
        assert world.position == 4
        world.live.owner.reload()
        world.live.owner.reload()  # a second request while one is under way is not a second swap
        while world.engine.model.artifact.hash == "first":
            await trickle(world, 5)
        await trickle(world, 100)

    play(world, script)
    rows = read_actions(world.actions.folder)
    counts = world.bus.counts(0)
    assert counts.received == counts.delivered == len(rows)
    np.testing.assert_array_equal(rows["seq"], np.arange(1, len(rows) + 1))
    (change,) = np.flatnonzero(np.diff(rows["model_id"]))
    np.testing.assert_array_equal(rows["state_events"][change + 1 :], np.arange(1, len(rows) - change))
    np.testing.assert_array_equal(rows["since_reset"], np.arange(1, len(rows) + 1))
    # a machine that stalls meanwhile is degraded, which comes before
    assert set(rows["reason_code"][change + 1 : change + 31]) <= {Reason.WARMUP, Reason.DEGRADED}
    assert world.viewer.view().serving.swaps == {"reload": 1}
    assert world.viewer.view().instruments[0].restarts == {"start": 2, "market": 0, "idle": 0, "number": 0}
    assert actions_sha256(world.actions.folder) == world.actions.sha256


def test_a_reload_that_names_another_challenger_alone_compares_it_from_then_on(tmp_path: Path) -> None:
    found = Models(named("first"), challenger=named("second"))
    world = World(tmp_path, limits=LIMITS, model=named("first"), load=lambda: found)
    seen: list[str] = []

    class Hears(Tap):
        """Which models serve and are compared, as taps are told."""

        name = "hears"

        def on_control(self, control: Control, at: int) -> None:
            if control.action in ("compare", "swap"):
                seen.append(f"{control.action} {control.reason}")

    async def script(world: World) -> None:
        world.taps.attach(Hears())
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 20)
        for _ in range(2):  # the second time nobody else is named
            await world.live.owner.ask("reload", "operator", "")
            await trickle(world, 5)
        await world.until(lambda: bool(seen))

    play(world, script)
    assert seen == ["compare first"]
    assert world.engine.model.artifact.hash == "first"


@pytest.mark.parametrize("why", ["slow", "failed"])
def test_an_offer_lifts_no_bar_and_brings_no_model_back(why: str, tmp_path: Path) -> None:
    """The owner's reload does both."""
    now = [Models(named("first"), named("second"))]
    world = World(tmp_path, limits=LIMITS, model=named("first"), standby=named("second"), load=lambda: now[0])

    async def asks(reason: str) -> str:
        await world.live.owner.ask("reload", reason, "")
        await trickle(world, 5)
        return world.engine.model.artifact.hash

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 20)
        world.live._opening.bar(Reason.MODEL, True, "the test")
        assert await asks(OFFERED) == "first"
        assert Reason.MODEL in world.engine.bars.every()
        await asks("operator")
        assert Reason.MODEL not in world.engine.bars.every()
        if why == "slow":
            world.live._succession._too_slow()
        else:
            world.verdicts.append(Verdict("first", "value", BTC.name, 9.0, "the test"))
        while world.engine.model.artifact.hash == "first":
            await trickle(world, 5)
        assert await asks(OFFERED) == "second"
        now[0] = Models(named("third"))
        assert await asks(OFFERED) == "third", "another one may come"
        now[0] = Models(named("first"), named("second"))
        if why == "failed":
            assert await asks(OFFERED) == "third", "it has failed, whoever serves since"
            assert await asks("operator") == "first"
            assert world.engine.failed_models == set()
        else:
            assert await asks(OFFERED) == "first", "it serves in nobody's place any more"

    play(world, script)


def test_who_asks_for_a_reload_is_told_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emp.engine import reloads

    may_go_on = threading.Event()

    def load() -> Models:
        assert may_go_on.wait(60)
        return Models(named("second"))

    world = World(tmp_path, limits=LIMITS, model=named("first"), load=load, socket=True)

    async def asked(world: World) -> str:
        return await asyncio.to_thread(ask, world.ledger_path.parent, {"do": "reload"})

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        monkeypatch.setattr(reloads, "RELOAD_TOLD_S", 0.05)
        assert "log.jsonl of the run says what comes of it" in await asked(world)
        with pytest.raises(UsageError, match="one is under way, this one is not begun"):
            await asked(world)
        may_go_on.set()
        await world.until(lambda: world.engine.model.artifact.hash == "second", 120)
        monkeypatch.setattr(reloads, "RELOAD_TOLD_S", 60.0)
        assert (await asked(world)).endswith("second serves already")

    play(world, script)
    assert world.viewer.view().serving.swaps == {"reload": 1}


def damaged(folder: Path) -> Path:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    return folder


def tampered(folder: Path) -> Path:
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"k_sigma": 0.5', '"k_sigma": 0.7'))
    return folder


def foreign(folder: Path) -> Path:
    artifact = load_model("linear").artifact
    save(folder, msgspec.structs.replace(artifact.manifest, schema="0" * 64), artifact.tensors)
    return folder


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(damaged, "truncated"), (tampered, "content does not match its hash"), (foreign, "input schema")],
)
def test_what_cannot_be_loaded_is_refused_and_the_old_model_goes_on(
    tmp_path: Path, spoil: Callable[[Path], Path], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = load_model("linear").artifact
    folder = spoil(tmp_path / "model") if spoil is foreign else tmp_path / "model"
    if spoil is not foreign:
        save(folder, artifact.manifest, artifact.tensors)
        spoil(folder)
    said: list[str] = []

    def load() -> Models:
        try:
            return Models(load_folder(folder))
        except ArtifactError as error:
            said.append(str(error))
            raise

    world = World(tmp_path / "run", limits=LIMITS, model=named("first"), load=load)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 60)
        with pytest.raises(UsageError, match=f"reload: refused, the model that serves goes on: .*{why}"):
            await world.live.owner.ask("reload", "operator", "")
        assert world.viewer.view().serving.refused == 1
        await trickle(world, 60)
        await world.until(lambda: "model_reloads_refused_total 1.0" in metrics(world))

    play(world, script)
    assert why in said[0]
    assert "\n" not in said[0]
    rows = read_actions(world.actions.folder)
    assert len(rows) == 120
    assert set(rows["model_id"]) == {0}
    np.testing.assert_array_equal(rows["state_events"], np.arange(1, 121))
    assert list(read_swaps(world.recorded())) == []


def test_states_that_cannot_be_locked_are_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned, "_mlock", lambda *_: -1)
    world = World(tmp_path, limits=LIMITS)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await trickle(world, 40)
        await world.until(lambda: "state_pinned 0.0" in metrics(world))

    play(world, script)
    assert len(read_actions(world.actions.folder)) == 40


def laps(n: int, model_us: float, total_us: float = 0.0) -> Array:
    rows = np.zeros((n, 3), np.int32)
    rows[:, 1], rows[:, 2] = model_us * 1e3, max(model_us, total_us) * 1e3
    return rows


@pytest.mark.parametrize("slow", [laps(1, 400), laps(1, 10, 900)])
def test_the_guard_needs_more_than_one_in_a_hundred(slow: Array) -> None:
    guard = LatencyGuard(0.35, 0.85)
    guard.watch(laps(WINDOW, 16))
    for _ in range(TRIP):
        assert not guard.watch(slow)
        guard.watch(laps(3, 16))
    assert not guard.slow
    assert guard.watch(slow)
    assert guard.breaches == TRIP + 1
    assert max(guard.p99_ms()[0] / 0.35, guard.p99_ms()[1] / 0.85) > 1.0
    guard.watch(laps(WINDOW - 4 * (TRIP + 1), 16))
    assert guard.slow, "few enough left to be under the limit, not to be sure of it"
    while guard.breaches > CLEAR:
        assert guard.slow
        guard.watch(laps(1, 16))
    assert not guard.slow


def test_one_long_stall_is_one_breach() -> None:
    guard = LatencyGuard(0.35, 0.85)
    guard.watch(laps(500, 16))
    assert not guard.watch(laps(1, 2_000_000))
    assert guard.breaches == 1
    assert not guard.slow


def test_a_model_that_is_always_too_slow_is_found_out_at_once() -> None:
    assert LatencyGuard(0.35, 0.85).watch(laps(TRIP + 1, 400))
    assert not LatencyGuard(0.35, 0.85).watch(laps(TRIP, 400))
