"""What outcomes allow outlives its process: a stop is no less a stop after a restart."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.app.wiring.live import Running
from emp.core.records import ACCOUNT, Array
from emp.decision.outcomes import new_lots, take_fills
from emp.decision.standing import STANDING, new_standing
from emp.engine.checkpoint import record_checkpoint
from emp.engine.earned import EARNED, earned_note, earned_of, restore_earned
from emp.engine.engine import Engine
from emp.engine.rebuild import _resume_lots, begin
from emp.engine.serving import allocate
from emp.engine.upkeep import ACCOUNT_NS
from emp.journal.reader import LedgerReader
from emp.journal.records import Note
from tests.kit.models import LOOSE, eager_model
from tests.live.test_account import gone, later, look, run, settings, started
from tests.live.world import BTC, Venue

MOMENTS = ("one_lot", "left_bid", "left_ask", "carry_buy", "carry_sell")
"""Fields that say nothing a later process could use."""


def learned(seed: int) -> Array:
    """STANDING[1] of some history."""
    rng, made = np.random.default_rng(seed), new_standing()
    flat = made.view("u1")
    flat[:] = rng.integers(0, 256, flat.shape)
    for name in ("one_lot", "may_cross"):
        made[name] = rng.random() < 0.5
    for name in STANDING.names or ():
        kind = STANDING[name]
        for part in kind.names or (None,):
            field = made[name] if part is None else made[name][part]
            if field.dtype.kind == "f":
                field[:] = rng.normal(0.0, 1e3)
    return made


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_back_bit_by_bit_whatever_was_learned(seed: int) -> None:
    made, again = learned(seed), new_standing()
    note = msgspec.json.decode(msgspec.json.encode(earned_note("X", earned_of(made[0], "m"), 5)), type=Note)
    restore_earned(again, note.data, "m")
    fresh = new_standing()
    for name in STANDING.names or ():
        wanted = fresh if name in MOMENTS else made
        assert again[name].tobytes() == wanted[name].tobytes(), name


def test_by_another_model_nothing_is_earned_and_a_stop_stands() -> None:
    for lots in (0, 7):
        made = learned(3)
        made["lots"], made["may_cross"] = lots, True
        again = new_standing()
        restore_earned(again, earned_of(made[0], "before"), "now")
        assert again["lots"] == min(lots, 1)
        assert not again["may_cross"]
        assert all(again[name]["sum"] == 0.0 for name in ("earned", "short", "regained", "crossed"))
        assert again["slope"] == made["slope"]


@pytest.mark.usefixtures("compiled_engine")
def test_a_model_that_takes_over_has_earned_nothing(tmp_path: Path) -> None:
    first, other = eager_model(tmp_path / "a"), eager_model(tmp_path / "b", seed=5)
    e = Engine([BTC], first, LOOSE, "RUN")
    e.desk.standing["lots"] = 5
    e.install(allocate(first, 1))
    assert e.desk.standing["lots"] == 5, "the same one again"
    e.install(allocate(other, 1))
    assert e.desk.standing["lots"] == 1
    assert not e.desk.standing["may_cross"]


def stop(standing: Array) -> None:
    standing["lots"], standing["stops"], standing["slope"] = 0, 1, 0.25
    standing["n"] = 40.0


async def stopped(running: Running, venue: Venue) -> None:
    """Its lots have brought less than was believed of them."""
    stop(running.engine.desk.standing[0])
    await look(running, venue)
    running.live._upkeep.look(connected=True)


def known(running: Running) -> tuple[int, int, float]:
    standing = running.engine.desk.standing[0]
    return int(standing["lots"]), int(standing["stops"]), float(standing["slope"])


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.earns
def test_a_stop_holds_over_clean_restarts(tmp_path: Path) -> None:
    venue = Venue()
    first = run(settings(tmp_path / "runs"), venue, stopped)
    assert known(first) == (0, 1, 0.25)
    seen = []

    async def see(running: Running, venue: Venue) -> None:
        seen.append(known(running))

    second = run(settings(tmp_path / "runs"), later(venue, "p1-"), see)
    assert second.folder.path != first.folder.path
    assert seen == [(0, 1, 0.25)]


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.earns
def test_a_stop_that_came_just_before_the_end_is_recorded(tmp_path: Path) -> None:
    """A run that failed is gone on with from its ledger alone."""

    async def script(running: Running, venue: Venue) -> None:
        await look(running, venue)
        stop(running.engine.desk.standing[0])

    ended = run(settings(tmp_path / "runs"), Venue(), script)
    last = LedgerReader(ended.folder.ledger).notes(EARNED)[-1]
    assert (last.data["lots"], last.data["stops"]) == (0, 1)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.earns
def test_no_more_is_earned_than_the_owner_allows_now(tmp_path: Path) -> None:
    running = started(settings(tmp_path / "runs"), Venue())
    running.engine.desk.standing["lots"] = 5
    running.live._upkeep.look(connected=True)
    tight = msgspec.structs.replace(LOOSE, max_order_lots=2)
    again = Engine([BTC], running.engine.model, tight, running.engine.run)
    begin(LedgerReader(running.folder.ledger), again)
    assert again.desk.standing["lots"] == 2
    gone(running)


def test_what_a_run_had_won_before_a_restart_is_no_outcome_of_what_it_holds(tmp_path: Path) -> None:
    """540 won and 40 in fees, then a lot bought at 1,000 and still held; it is sold at 1,003 after the restart."""
    account, lots = np.zeros(1, ACCOUNT)[0], new_lots()[0]
    account["position"], account["cash"], account["fees"] = 1, 540.0 - 1_000.0, 40.0
    _resume_lots(lots, account, 1_000.0, 0)
    assert not take_fills(lots, account, 5)
    assert (lots["entry"], lots["belief"], lots["position"]) == (1_000.0, 0.0, 1)
    account["position"], account["cash"], account["fees"] = 0, account["cash"] + 1_003.0, 41.0
    assert take_fills(lots, account, 9)
    assert (lots["last"]["brought"], lots["last"]["believed"]) == (2.0, 0.0)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.earns
def test_a_stop_holds_over_a_death(tmp_path: Path) -> None:
    """What the ledger says is all that is left; read whole, or from a checkpoint."""
    running = started(settings(tmp_path / "runs"), Venue())
    ledger, upkeep = running.live._ledger, running.live._upkeep
    upkeep.look(connected=True)
    assert not ledger.notes(EARNED), "nothing has changed"
    stop(running.engine.desk.standing[0])
    upkeep.look(connected=False)
    assert not ledger.notes(EARNED), "before it is recovered what it knows is not what is known"
    upkeep.look(connected=True)
    upkeep.look(connected=True)
    assert len(ledger.notes(EARNED)) == 1
    found = []
    for summed_up in (False, True):
        if summed_up:
            record_checkpoint(running.engine, ledger, (), 1)
        again = Engine([BTC], running.engine.model, LOOSE, running.engine.run)
        begin(LedgerReader(running.folder.ledger), again)
        found.append(again.desk.standing[0].tobytes())
        assert (again.desk.standing["lots"], again.desk.standing["stops"]) == (0, 1)
    assert found[0] == found[1]
    gone(running)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.earns
def test_what_is_behind_it_is_recorded_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = started(settings(tmp_path / "runs"), Venue())
    upkeep, now = running.live._upkeep, [10 * ACCOUNT_NS]
    monkeypatch.setattr(upkeep._clock, "monotonic_ns", lambda: now[0], raising=False)
    for k in range(120):
        running.engine.desk.standing["n"] += 1.0
        now[0] += ACCOUNT_NS // 30
        upkeep.look(connected=True)
        assert len(running.live._ledger.notes(EARNED)) == 1 + k // 30
    gone(running)
