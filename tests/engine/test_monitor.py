"""The monitor: the same however events come, true to the engine, and sure of a model that fails."""

import json
import math
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from emp.app.bench.reverted import OPEN_NS, START_PX, flipped, sharpened
from emp.core.clock import LiveClock
from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.instrument import find
from emp.core.records import FORECAST, Array, empty_events
from emp.engine.choose import load_model
from emp.engine.contender import SAID, Contender, recorded_forecasts
from emp.engine.engine import Engine
from emp.engine.journal_tap import JournalTap, journalled_rows
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.monitor import Finding, Lineup, Monitor
from emp.engine.monitor_rerun import verify_monitor
from emp.engine.monitor_tap import MonitorTap
from emp.engine.rerun import Terms
from emp.engine.tap import Batch
from emp.engine.verdict import Verdict
from emp.journal.monitor_log import MONITOR, MonitorLog, read_monitor
from emp.journal.run import RunFolder
from emp.model.artifact import Artifact
from emp.observe.board import Board
from emp.observe.sequential import bet
from emp.perception.state import CORE_INPUTS
from emp.sim.flow.shipped import shipped_flow
from emp.sim.world.market import Market
from emp.sim.world.screen import Screen

GOOG, GC = find("GOOG"), find("GC")
LIMITS = EngineLimits()


def market(n: int, seed: int = 1) -> Array:
    rows = empty_events(n)
    Market(shipped_flow(), seed, START_PX, OPEN_NS).run(2**62, n, rows=rows)
    return Screen().show(rows)[0]


def named(name: str) -> LoadedModel:
    """The shipped linear model under another hash."""
    import msgspec

    model = load_model("linear")
    manifest = msgspec.structs.replace(model.artifact.manifest, hash=name)
    return model._replace(artifact=Artifact(manifest, model.artifact.tensors))


@pytest.fixture(scope="module")
def day() -> Array:
    return market(40_000)


@pytest.fixture(scope="module")
def lineup() -> Lineup:
    return Lineup(load_model("linear"), named("standby"))


@pytest.fixture(scope="module")
def ran(day: Array, lineup: Lineup) -> tuple[Engine, Array]:
    """The engine after the first events of the day, and its rows."""
    engine = Engine([GOOG], lineup.serving, LIMITS, "TEST0001")
    parts, at = [], 0
    while at < 12_000:
        output = engine.process(day[at:12_000])
        parts.append(output.rows)
        at += output.consumed
    return engine, np.concatenate(parts)


def follow(monitor: Monitor, events: Array, said: Array, sizes: int = 10**9) -> list[Finding]:
    found: list[Finding] = []
    for at in range(0, len(events), sizes):
        found += monitor.follow(at, events[at : at + sizes], said[at : at + sizes])
    return found


def test_the_model_trades_in_the_head_as_it_does_in_the_engine(
    day: Array, lineup: Lineup, ran: tuple[Engine, Array]
) -> None:
    engine, rows = ran
    monitor = Monitor([GOOG], LIMITS, lineup)
    said = np.zeros(12_000, SAID)
    assert recorded_forecasts(day[:12_000], rows, said) == len(rows)
    alone = Contender(lineup.serving, [GOOG], LIMITS).forecast(day[:12_000])
    for field in ("made", "state_events", "since_reset"):
        np.testing.assert_array_equal(said[field], alone[field])
    for field in FORECAST.names or ():
        np.testing.assert_array_equal(said["f"][field], alone["f"][field])
    monitor.take(0, day[:12_000], rows)
    ours, theirs = monitor.traders[0].desk, engine.desk
    assert theirs.shadow_lots["trips"][0] > 5
    for one, other in ((ours.shadow_lots, theirs.shadow_lots), (ours.shadow_account, theirs.shadow_account)):
        for field in one.dtype.names or ():
            np.testing.assert_array_equal(one[field], other[field], field)


def test_the_same_is_found_however_events_are_cut(day: Array, lineup: Lineup) -> None:
    events = day[:9_000]
    both = np.concatenate([events, events])  # a second instrument, a moment later
    both["instrument"][9_000:] = 1
    both["ts"][9_000:] += 1
    both = both[np.argsort(both["ts"], kind="stable")]
    said = Contender(lineup.serving, [GOOG, GC], LIMITS).forecast(both)
    whole = follow(Monitor([GOOG, GC], LIMITS, lineup), both, said)
    assert {one.instrument for one in whole if one.kind == "look"} == {"GOOG", "GC"}
    assert [one.at for one in whole] == sorted(one.at for one in whole)
    assert follow(Monitor([GOOG, GC], LIMITS, lineup), both, said, 613) == whole


def kinds(found: list[Finding]) -> dict[str, Finding]:
    """The first finding of each kind."""
    return {one.kind: one for one in reversed(found)}


def test_a_model_that_takes_up_for_down_fails_and_one_that_is_as_good_does_not(
    day: Array, lineup: Lineup
) -> None:
    said = Contender(lineup.serving, [GOOG], LIMITS).forecast(day)
    assert "failed" not in kinds(follow(Monitor([GOOG], LIMITS, lineup), day, said))
    for spoiled in (flipped(said), sharpened(said, 2.5)):
        failed = kinds(follow(Monitor([GOOG], LIMITS, lineup), day, spoiled))["failed"]
        assert failed.data["gate"].startswith("log_loss.")
        assert failed.data["model"] == lineup.serving.artifact.hash
        assert failed.at < len(day)


def test_a_model_is_not_hidden_by_new_challengers(day: Array, lineup: Lineup) -> None:
    """Offered one every 5,000 events, it is found as it is without: what was found of it stands, beside who stays."""
    every = 5_000
    said = Contender(lineup.serving, [GOOG], LIMITS).forecast(day)
    for spoiled, expected in ((flipped(said), True), (said, False)):
        kept, anew, found = Monitor([GOOG], LIMITS, lineup), Monitor([GOOG], LIMITS, lineup), []
        forgetful: list[Finding] = []
        for k, at in enumerate(range(0, len(day), every)):
            beside = lineup._replace(challenger=named(f"c{k}"))
            kept = Monitor([GOOG], LIMITS, beside, kept, kept=True)
            anew = Monitor([GOOG], LIMITS, beside, anew)
            found += kept.follow(at, day[at : at + every], spoiled[at : at + every])
            forgetful += anew.follow(at, day[at : at + every], spoiled[at : at + every])
        assert "failed" not in kinds(forgetful)
        assert ("failed" in kinds(found)) is expected
        assert sum(one.kind == "failed" for one in found) == expected, "it is told once"


def test_with_others_beside_it_what_was_found_goes_on_as_if_they_had_always_been_there(
    day: Array, lineup: Lineup
) -> None:
    """But for the looks that a newcomer's burn-in takes, and the block that was begun."""
    said = Contender(lineup.serving, [GOOG], LIMITS).forecast(day)
    first = Monitor([GOOG], LIMITS, lineup)
    looks = [one for one in first.follow(0, day[:9_000], said[:9_000]) if one.kind == "look"]
    worth = first._watched[0].worth.copy()
    second = Monitor([GOOG], LIMITS, lineup._replace(challenger=named("other")), first, kept=True)
    assert second._watched[0].worth.tolist() == [worth[0], worth[1], 0.0, worth[2]]
    assert second._watched[0].drift is first._watched[0].drift
    later = [one for one in second.follow(9_000, day[9_000:12_000], said[9_000:12_000]) if one.kind == "look"]
    told, before = later[0].data["log_evidence"], looks[-1].data["log_evidence"]
    assert set(before) - set(told) == set()
    assert told["log_loss.shares"] == pytest.approx(before["log_loss.shares"], abs=0.5)
    assert told["log_loss.shares"] != 0.0
    third = Monitor([GOOG], LIMITS, lineup._replace(standby=named("third")), second, kept=True)
    assert not [
        name for name in third._watched[0].processes if name.rpartition(".")[2] in ("standby", "challenger")
    ]
    assert "log_loss.shares" in third._watched[0].processes


def test_a_challenger_that_is_better_earns_its_promotion_and_fails_nobody(day: Array) -> None:
    lineup = Lineup(named("mine"), None, named("challenger"))
    said = Contender(lineup.serving, [GOOG], LIMITS).forecast(day)
    monitor = Monitor([GOOG], LIMITS, lineup)
    assert set(monitor.evidence()) == set()
    follow(monitor, day, sharpened(said, 1.4))
    gates = monitor.evidence()
    assert set(gates) == {
        "calibration",
        "earned.log_loss.challenger",
        "earned.value.challenger",
        "log_loss.shares",
        "value.mean_reversion",
    }
    assert gates["earned.log_loss.challenger"] > 200.0
    assert gates["earned.value.challenger"] < 200.0, "it trades alike: that is not enough"
    assert not monitor.earned


@pytest.mark.parametrize("name", ["spread", "qimbalance", "slope_bid", "sigma"])
def test_an_input_three_times_as_large_is_named_soon_however_long_it_resembles_itself(
    day: Array, lineup: Lineup, name: str
) -> None:
    monitor = Monitor([GOOG], LIMITS, lineup)
    said = Contender(lineup.serving, [GOOG], LIMITS).forecast(day)
    calm = [one for one in follow(monitor, day[:20_000], said[:20_000]) if one.kind == "drift"]
    assert len(calm) > 10
    assert not any(one.data["drifted"] or one.data["beyond"] for one in calm)
    monitor.inputs[0].scale[CORE_INPUTS.index(name)] = 3.0
    found = monitor.follow(20_000, day[20_000:26_000], said[20_000:26_000])
    first = next(one for one in found if one.kind == "drift" and one.data["drifted"])
    assert first.data["drifted"] == first.data["beyond"] == [name]
    assert math.isfinite(first.data["log_evidence"])


# --- the tap and its file


class Run:
    """A run's folder with both journals and the monitor's file, written by hand."""

    def __init__(self, folder: Path, engine: Engine, lineup: Lineup) -> None:
        manifest = {"run": "TEST0001", "model_hashes": [lineup.serving.artifact.hash], "code": "test"}
        self.folder = RunFolder.create(folder, manifest)
        self.engine, self.slow = engine, False
        self.journal = JournalTap(self.folder, [GOOG], engine.served, LiveClock())
        self.board, self.verdicts = Board(LiveClock()), deque[Verdict]()
        self.models = {"": lineup, "standby": Lineup(named("standby"))}
        self.tap = MonitorTap(
            [GOOG],
            LIMITS,
            self.models.__getitem__,
            MonitorLog(self.folder.path, self.journal.market.events),
            self.board,
            lambda: self.slow,
            self.verdicts,
        )
        self.at = self.row = 0

    def batch(self, events: Array) -> None:
        while len(events):
            output = self.engine.process(events)
            batch = Batch(
                self.at, events[: output.consumed], output.states, self.row, output.rows, output.laps
            )
            self.at += output.consumed
            self.row += len(output.rows)
            self.journal.on_batch(batch)
            self.tap.on_batch(batch)
            events = events[output.consumed :]

    def swap(self) -> None:
        from emp.engine.serving import allocate

        control = Control(action="swap", ts=0, reason="standby")
        self.journal.on_control(control, self.at)
        self.tap.on_control(control, self.at)
        self.engine.install(allocate(named("standby"), 1))

    def compare(self, lineup: Lineup) -> None:
        """The same model serves; others are compared with it."""
        self.models[lineup.serving.artifact.hash] = lineup
        control = Control(action="compare", ts=0, reason=lineup.serving.artifact.hash)
        self.journal.on_control(control, self.at)
        self.tap.on_control(control, self.at)

    def close(self) -> None:
        self.tap.close()
        self.journal.close()
        (self.folder.path / "summary.json").write_text("{}")

    def verify(self) -> int:
        models = {one.artifact.hash: one for one in (load_model("linear"), named("standby"), named("other"))}
        rows = journalled_rows(self.folder)
        return verify_monitor(self.folder, rows, lambda _: Terms([GOOG], LIMITS), models.__getitem__)


@pytest.fixture
def run(tmp_path: Path, day: Array, lineup: Lineup) -> Run:
    """With a pause for lack of time, and another model from the middle on."""
    made = Run(tmp_path / "run", Engine([GOOG], lineup.serving, LIMITS, "TEST0001"), lineup)
    for at in range(0, 9_000, 500):
        made.slow = 3_000 <= at < 3_500
        if at == 6_000:
            made.swap()
        made.batch(day[at : at + 500])
    made.close()
    return made


def test_what_was_found_is_found_again_from_the_journal(run: Run) -> None:
    told = [told for _, told in read_monitor(run.folder.path)]
    begins = [(one["at"], one["since"], one["fresh"]) for one in told if one["kind"] == "lineup"]
    assert begins == [(0, 0, True), (3_500, 3_000, False), (6_000, 6_000, False)]
    assert {one["kind"] for one in told} >= {"lineup", "look", "drift"}
    assert run.verify() == len(told) - len(begins)


def test_what_another_model_has_said_is_not_told_of_the_one_that_the_lines_name(run: Run) -> None:
    rows, serving = journalled_rows(run.folder), load_model("linear")
    models = {"standby": named("standby"), serving.artifact.hash: serving}

    def verify(second: str) -> int:
        served = [serving.artifact.hash, second]
        return verify_monitor(run.folder, rows, lambda _: Terms([GOOG], LIMITS), models.__getitem__, served)

    assert verify("standby") > 0
    with pytest.raises(JournalError, match=r"says that model standby served behind event 6000: it did not"):
        verify("other")


def test_another_challenger_begins_a_contest_of_its_own_beside_the_same_model(
    tmp_path: Path, day: Array, lineup: Lineup
) -> None:
    made = Run(tmp_path / "run", Engine([GOOG], lineup.serving, LIMITS, "TEST0001"), lineup)
    made.batch(day[:2_000])
    made.compare(lineup._replace(challenger=named("other")))
    made.batch(day[2_000:4_000])
    made.close()
    told = [told for _, told in read_monitor(made.folder.path)]
    begins = [one for one in told if one["kind"] == "lineup"]
    serving = lineup.serving.artifact.hash
    assert [(one["at"], one["serving"], one["challenger"]) for one in begins] == [
        (0, serving, ""),
        (2_000, serving, "other"),
    ]
    looks = [one for one in told if one["kind"] == "look"]
    assert ["challenger" in one["value"] for one in (looks[0], looks[-1])] == [False, True]
    assert made.verify() == len(told) - 2


def test_a_model_that_failed_is_looked_at_anew_with_others_beside_it(
    tmp_path: Path, day: Array, lineup: Lineup
) -> None:
    """Else nobody would be told again, and a standby that was named for it never serve."""
    made = Run(tmp_path / "run", Engine([GOOG], lineup.serving, LIMITS, "TEST0001"), lineup)
    made.batch(day[:1_000])
    made.compare(lineup._replace(challenger=named("other")))
    made.tap._watching.failed = "log_loss.shares"
    made.compare(lineup)
    made.close()
    begins = [told for _, told in read_monitor(made.folder.path) if told["kind"] == "lineup"]
    assert [one["kept"] for one in begins] == [False, True, False]
    assert not made.tap._watching.failed


@pytest.mark.parametrize("change", ["number", "gone", "more"])
def test_what_is_not_found_again_is_refused(run: Run, change: str) -> None:
    path = run.folder.path / MONITOR
    lines = path.read_bytes().splitlines(keepends=True)
    k = next(k for k, line in enumerate(lines) if json.loads(line)["kind"] == "look")
    if change == "number":
        told = json.loads(lines[k])
        told["value"]["serving"] += 1e-9
        lines[k] = json.dumps(told, sort_keys=True).encode() + b"\n"
    elif change == "gone":
        del lines[k]
    else:
        lines.insert(k, lines[k])
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"behind event 0 line .* is not what is found again"):
        run.verify()


@pytest.mark.parametrize("part", ["first line", "first stretch", "one within"])
def test_a_beginning_that_is_missing_is_found(tmp_path: Path, day: Array, lineup: Lineup, part: str) -> None:
    """Three stretches: others are compared twice."""
    path = tmp_path / "run" / MONITOR
    run = Run(tmp_path / "run", Engine([GOOG], lineup.serving, LIMITS, "TEST0001"), lineup)
    run.batch(day[:3_000])
    run.compare(lineup)
    run.batch(day[3_000:4_000])
    run.compare(lineup)
    run.close()
    lines = path.read_bytes().splitlines(keepends=True)
    first, second, third = [k for k, line in enumerate(lines) if json.loads(line)["kind"] == "lineup"]
    assert first == 0
    run.verify()
    cut = {
        "first line": lines[1:],
        "first stretch": lines[second:],
        "one within": lines[:second] + lines[third:],
    }
    path.write_bytes(b"".join(cut[part]))
    with pytest.raises(JournalError, match=r"what stood before line \d+ is missing"):
        run.verify()


def test_a_stretch_of_a_later_process_follows_those_before(tmp_path: Path) -> None:
    log = MonitorLog(tmp_path, 0)
    log.begin(0, serving="a")
    log.close()
    for at in (10, 20):
        log = MonitorLog(tmp_path, at)
        log.begin(at, serving="b")
        log.close()
    befores = [told["before"] for _, told in read_monitor(tmp_path)]
    assert befores[0] == 0
    assert len(set(befores)) == 3


def test_of_a_run_that_was_killed_what_the_journal_lacks_is_not_asked_for(run: Run) -> None:
    (run.folder.path / "summary.json").unlink()
    whole = run.verify()
    path = run.folder.path / MONITOR
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert run.verify() == whole - 1
    path.write_bytes(b"".join(lines) + b'{"at": 9001, "kind": "look"}\n')
    assert run.verify() == whole
    path.write_bytes(b"".join(lines[:-2] + lines[-1:]))
    with pytest.raises(JournalError):
        run.verify()


def test_a_process_that_died_left_a_beginning_and_the_next_goes_on_behind_it(
    tmp_path: Path, day: Array, lineup: Lineup
) -> None:
    run = Run(tmp_path / "run", Engine([GOOG], lineup.serving, LIMITS, "TEST0001"), lineup)
    run.batch(day[:3_000])
    run.close()
    before = read_monitor(run.folder.path)
    path = run.folder.path / MONITOR
    path.write_bytes(path.read_bytes() + b'{"at": 9999999, "kind": "look"}\n{"at": 1, "ki')
    log = MonitorLog(run.folder.path, 2_000)
    log.write(b'{"at": 2000, "kind": "lineup"}\n')
    log.close()
    kept = read_monitor(run.folder.path)
    assert [told["at"] for _, told in kept[:-1]] == [told["at"] for _, told in before if told["at"] <= 2_000]
    assert kept[-1][1] == {"at": 2000, "kind": "lineup"}


def test_a_challenger_whose_classes_are_others_wins_nothing_by_value_alone() -> None:
    monitor = Monitor([GOOG], LIMITS, Lineup(load_model("linear"), challenger=named("challenger")))
    (one,) = monitor._watched
    bet(one.process("value.linear"), 0.0)

    def win(gate: str) -> list[str]:
        for _ in range(200):
            bet(one.process(gate), 1.0)
        return [found.kind for found in monitor._verdicts("GOOG", 1, 1)]

    assert win("earned.value.challenger") == []
    assert not monitor.earned
    assert win("earned.log_loss.challenger") == ["earned"]
