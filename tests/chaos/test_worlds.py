"""Whole worlds: the same every time, nothing violated, and what is broken is found."""

import asyncio
import json
from itertools import count, starmap
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from emp.app.chaos.drill import Kept, plan_of, play, prepare, result_of, shrunk, sweep
from emp.app.chaos.market import eager_model, market_rows
from emp.app.chaos.mutants import mutants, mutated
from emp.app.chaos.page import page
from emp.app.chaos.world import World
from emp.app.cli import app
from emp.bus.bus import EventBus
from emp.core.errors import UsageError
from emp.core.spread import ALONE
from emp.engine import checkpoint
from emp.engine.driver import Driver
from emp.engine.live import Live
from emp.governance.evidence import Store
from emp.journal.ledger import Ledger
from emp.journal.monitor_log import MonitorLog
from emp.sim.chaos.plan import DOORS, Fault, Plan

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    prepare()


def quiet(*faults: Fault, door: str = "mock", lasts_ms: int = 20_000) -> Plan:
    return Plan(1, door, 0, lasts_ms, 1 << 31, 2_000.0, 5_000.0, faults)


def watched(*faults: Fault, lasts_ms: int = 20_000) -> Plan:
    """One whose runs are replayed."""
    return msgspec.structs.replace(quiet(*faults, lasts_ms=lasts_ms), watched=True)


@pytest.mark.parametrize("seed", [5, 6, 8])
def test_a_seed_plays_the_same_every_time(seed: int) -> None:
    first, second = play(plan_of(seed)), play(plan_of(seed))
    assert first.told == second.told
    assert first.action_log == second.action_log
    assert first.timeline == second.timeline
    assert first.orders > 0


def test_an_answer_to_an_earlier_start_is_not_taken_for_ours() -> None:
    """The venue's word on positions, from before a crash, was sent again after a gap."""
    faults = [("power", 18_702, 16_555), ("crash_io", 21_149, 52), ("owner_restart", 23_111, 4_706)]
    plan = Plan(380, "fix44", 5_364, 37_070, 1 << 31, 200.0, 5_000.0, (*starmap(Fault, faults),))
    last = Fault("kill", 28_884, 18_554)
    assert not play(msgspec.structs.replace(plan, faults=(*plan.faults, last))).violations


def test_a_seal_that_a_new_run_rests_on_is_on_the_disk() -> None:
    """The process died while it sealed, a new run was begun, and the power took the seal back: two unfinished runs."""
    every = [
        play(quiet(Fault("crash_end", 8_000, k), Fault("power", 14_000, 500), lasts_ms=16_000))
        for k in range(15, 25)
    ]
    assert [one.violations for one in every if one.violations] == []


def test_a_start_that_dies_while_it_takes_over_has_not_forgotten() -> None:
    """The ledger of the new run was made, and what the one before had lost was not yet in it."""
    every = [play(quiet(Fault("crash_new", 9_000, k))) for k in range(42, 56, 2)]
    assert [one.violations for one in every if one.violations] == []


def test_delays_that_are_no_stalls_add_up_to_no_order_on_old_data() -> None:
    """Two instruments, and a model that takes 72 ms over each batch of either."""
    slow = [Fault("nan_model", 20_351, 7_726), Fault("slow_model", 21_712, 2_932)]
    whole = Plan(475, "fix44", 1_161, 22_866, 1 << 31, 2_000.0, 5_000.0, tuple(slow), 2, 300.0, 6e6)
    assert play(whole).violations == []


def test_another_seed_plays_otherwise() -> None:
    assert len({play(plan_of(seed)).told for seed in (5, 6)}) == 2


@pytest.mark.parametrize("ten", range(5))
def test_nothing_is_violated(ten: int) -> None:
    """Ten seeds; `emp chaos` plays as many as one likes."""
    bad = [one for one in sweep(range(10 * ten, 10 * ten + 10), workers=ALONE) if one.violations]
    assert bad == []


@pytest.mark.parametrize("door", DOORS)
def test_without_faults_it_trades(door: str) -> None:
    outcome = play(quiet(door=door))
    assert outcome.violations == []
    assert outcome.ended in ("trading", "watching")
    assert outcome.fills > 3
    assert outcome.starts == 1


def test_a_model_that_says_no_number_decides_nothing_and_its_engine_trades_again() -> None:
    whole = play(quiet(lasts_ms=30_000))
    dumb = play(quiet(Fault("nan_model", 2_000, 27_000), lasts_ms=30_000))
    assert dumb.violations == []
    assert dumb.orders < whole.orders / 2
    assert dumb.ended in ("trading", "watching")
    assert play(quiet(lasts_ms=30_000)).told == whole.told, "the model is whole again in the next world"


def test_the_market_swings_and_its_sizes_say_how() -> None:
    rows = market_rows(0, 1e9)
    wrong = market_rows(0, 0.0)
    assert (rows["ts"][1:] >= rows["ts"][:-1]).all()
    assert (rows["bid_px"][:, 0] < rows["ask_px"][:, 0]).all()
    rising = rows["bid_sz"][:, 0] > rows["ask_sz"][:, 0]
    assert 0.3 < rising.mean() < 0.7
    assert ((wrong["bid_sz"][:, 0] > wrong["ask_sz"][:, 0]) != rising).all()
    assert eager_model().artifact.hash


# --- what is broken is found ------------------------------------------------------------------------------------------


def found(plan: Plan) -> set[str]:
    return {one.check for one in play(plan).violations}


def test_a_lock_that_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emp.journal.account_file.lock", lambda _: None)
    monkeypatch.setattr("emp.journal.ledger.lock", lambda _: None)
    faults = [Fault("twice_row", 3_000, 1), Fault("second_engine", 8_000, 1), Fault("reject", 12_000, 1)]
    plan = quiet(*faults)
    assert "two_engines" in found(plan)
    least = shrunk(plan, "two_engines")
    assert [one.kind for one in least.faults] == ["second_engine"]
    assert least.lasts_ms == 9_000


def test_a_row_that_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    record: Any = Ledger.record_note
    monkeypatch.setattr(
        Ledger, "record_note", lambda self, note: 0 if note.kind == "decision" else record(self, note)
    )
    seeds = [played for k in range(6) if (played := found(quiet(Fault("power_io", 4_000 + 777 * k, 9))))]
    assert any("row_of_order" in one for one in seeds)


def test_a_batch_that_is_decided_after_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    serve = Live._serve_market

    def careless(self: Live) -> bool:
        monkeypatch.setattr(Live, "_note_stall", lambda _: False)
        try:
            return serve(self)
        finally:
            monkeypatch.setattr(Live, "_note_stall", note)

    note = Live._note_stall
    monkeypatch.setattr(Live, "_serve_market", careless)
    monkeypatch.setattr(EventBus, "overdue", lambda *_: False)
    stops = [Fault("stop", 3_000 + 4_100 * k, 700 + k) for k in range(12)]
    assert "decided_late" in found(quiet(*stops, lasts_ms=60_000))


def test_a_checkpoint_that_says_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint.checkpoint_of

    def careless(engine: Any, foreign: Any) -> checkpoint.Checkpoint:
        return msgspec.structs.replace(made(engine, foreign), foreign=["another"])

    monkeypatch.setattr(checkpoint, "checkpoint_of", careless)
    assert "checkpoint" in found(quiet())


def test_an_old_row_that_is_changed_ends_a_run_that_has_begun() -> None:
    """The start from a checkpoint does not read it; what reads it while it trades says so, and the next start."""
    outcome = play(quiet(Fault("tamper", 12_000, 3)))
    assert outcome.violations == []
    assert outcome.ended == "refused"
    said = [words for _, who, words in outcome.timeline if who == "owner" and "does not follow" in words]
    assert len(said) >= 2


def test_a_run_that_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "seal", lambda _: None)
    assert "sealed" in found(quiet())


def test_a_recovery_that_is_another_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    states = iter(range(100))
    monkeypatch.setattr("emp.app.chaos.records._state", lambda *_: (next(states),))
    assert "recovery_twice" in found(quiet())


def test_a_report_that_is_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Driver.reports

    def twice(self: Driver, updates: Any) -> None:
        reports(self, updates)
        for update in updates:
            self.engine.desk.account["position"][0] += update.side * update.filled

    monkeypatch.setattr(Driver, "reports", twice)
    assert {"checkpoint", "position", "recovery_twice"} & found(quiet())


def test_what_is_decided_on_something_that_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = watched(Fault("cut_server", 8_000, 50))
    assert "replayed" not in found(cut)
    record: Any = Driver._record
    monkeypatch.setattr(
        Driver, "_record", lambda self, one: None if one.action == "degraded" else record(self, one)
    )
    assert "replayed" in found(cut)


def test_a_finding_of_the_monitor_that_is_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    write, looks = MonitorLog.write, count()
    assert "replayed" not in found(watched(lasts_ms=100_000))

    def forgetful(self: MonitorLog, line: bytes) -> None:
        if b'"kind": "look"' not in line or next(looks):
            write(self, line)

    monkeypatch.setattr(MonitorLog, "write", forgetful)
    assert "replayed" in found(watched(lasts_ms=100_000))


@pytest.mark.parametrize("at", range(0, 80, 8))
def test_a_run_is_replayed_wherever_its_first_process_died(at: int) -> None:
    """Before it had taken over what the last run left, before it had kept its model, before it began."""
    assert found(watched(Fault("crash_new", 8_000, at))) == set()


@pytest.mark.parametrize("left", [9_000_000, 10_600_000, 11_000_000])
def test_a_run_is_replayed_that_failed_with_an_order_at_hand(left: int) -> None:
    assert found(watched(Fault("disk_full", 6_000, left))) == set()


def test_a_world_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def for_ever(_: World) -> None:
        while True:
            await asyncio.sleep(1.0)

    monkeypatch.setattr(World, "rest", for_ever)
    assert "world" in found(quiet(lasts_ms=4_000))


def test_a_call_that_slips_past_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    def impatient(self: Live) -> bool:
        time.monotonic()
        return False

    monkeypatch.setattr(Live, "_serve_control", impatient)
    assert "unhandled" in found(quiet())


def test_every_mutant_has_its_place() -> None:
    """Whatever changes the engine's sources must bring the mutants along."""
    every = mutants()
    assert len(every) >= 25
    assert len({one.name for one in every}) == len(every)
    for one in every:
        source = Path(*one.module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
        changed = mutated(source, one)
        assert changed != source
        compile(changed, one.module, "exec")
    with pytest.raises(UsageError, match="no mutant"):
        mutants("nothing of the kind")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["chaos", *arguments, "--json"])
    return done.exit_code, json.loads(done.stdout.strip().splitlines()[-1])


def test_results_of_a_file_are_no_evidence(tmp_path: Path) -> None:
    """Whoever may write it says what was violated."""
    kept, home = tmp_path / "results.jsonl", tmp_path / "registry"
    command("--seeds", "1", "--jobs", "1", "--results", str(kept))
    command("--seeds", "2", "--jobs", "1", "--results", str(kept), "--evidence", str(home))
    (one,) = Store(home).all().values()
    assert [record.n for record in one.records] == [1]


def test_results_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    kept = tmp_path / "results.jsonl"
    code, first = command("--seeds", "2", "--jobs", "1", "--results", str(kept))
    assert code == 0
    assert {"seeds", "violations", "faults", "first_failing_seed", "speed_ratio"} <= first.keys()
    assert (first["seeds"], first["played"], first["violations"]) == (2, 2, 0)
    with kept.open("ab") as file:
        file.write(b'{"seed": 2, "viol')  # the process died while it wrote
    code, second = command("--seeds", "3", "--jobs", "1", "--results", str(kept))
    assert (code, second["seeds"], second["played"]) == (0, 3, 1)
    assert len(Kept(kept).results) == 3
    kept.write_text("something else\n")
    with pytest.raises(UsageError, match="line 1 is no result"):
        Kept(kept)


def test_results_of_other_code_or_of_other_faults_are_played_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They would be signed as if these sources had stood all of it."""
    kept = tmp_path / "results.jsonl"
    command("--seeds", "1", "--jobs", "1", "--results", str(kept))
    mild = "--seeds", "1", "--jobs", "1", "--results", str(kept), "--kinds", "drop_row"
    assert command(*mild)[1]["played"] == 1
    assert Kept(kept).results.keys() == Kept(kept, ["drop_row"]).results.keys() == {0}
    monkeypatch.setattr("emp.app.chaos.drill.code_version", lambda: "0.0.1+other")
    assert Kept(kept).results == {}
    assert Kept(kept, ["drop_row"]).results == {}


def test_a_failing_seed_is_shrunk_and_can_be_played_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Ledger, "seal", lambda _: None)
    code, told = command("--seeds", "1", "--from", "4", "--jobs", "1")
    assert code == 8
    assert told["first_failing_seed"] == 4
    assert told["failing_seeds"][0] == 4
    assert told["failing"]["again"] == "emp chaos --replay 4 --only 0"
    code, again = command("--replay", "4", "--only", "0", "--page", str(tmp_path / "page.html"))
    assert code == 8
    assert again["checks"][0][0] == "sealed"
    assert "sealed" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_shows_faults_and_escapes_words() -> None:
    outcome = play(plan_of(4))
    outcome.timeline.append((5, "check", "<script>"))
    text = page(plan_of(4), outcome)
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    assert text.count("<line") >= 1


def test_a_result_is_data() -> None:
    result = result_of(6)
    assert msgspec.json.decode(msgspec.json.encode(result), type=type(result)) == result
