"""From a recorded run to live trading, in compressed time: days by the stamps of its events, and no other way."""

import shutil
from collections import deque
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.app.wiring.paper_days import observe_run
from emp.core.clock import LiveClock, SimClock
from emp.core.code_version import code_version
from emp.core.errors import GovernanceError, JournalError
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.journal_tap import JournalTap, journalled_rows
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.monitor import Lineup
from emp.engine.monitor_rerun import verify_monitor
from emp.engine.monitor_tap import MonitorTap
from emp.engine.rerun import Terms
from emp.engine.tap import Batch
from emp.engine.timed import decisions_by_hour, refuse_more_times
from emp.engine.verdict import Verdict
from emp.engine.watched_days import DAY_NS, WatchedDay, watched_days
from emp.governance.evidence import Evidence
from emp.governance.gates import Gates
from emp.governance.paper import judge_day, of_contest, of_day, paper_lacks
from emp.governance.paper_source import Source
from emp.governance.registry import Registry
from emp.governance.runs import of_end, of_start
from emp.governance.seal import content_address
from emp.journal.latency_log import LATENCY, Hour, read_latency
from emp.journal.monitor_log import MONITOR, MonitorLog, read_monitor
from emp.journal.run import RunFolder
from emp.model.artifact import Artifact
from emp.observe.board import Board
from tests.engine.test_monitor import market, named
from tests.governance.conftest import ask

GOOG = find("GOOG")
LIMITS = EngineLimits()
DATES = [date(2012, 6, d) for d in (21, 22, 25, 26, 27, 28, 29)] + [date(2012, 7, d) for d in (2, 3, 5)]
OPEN_S = 13 * 3_600 + 1_800  # New York's, in UTC
HOURS = 7  # of which each has a while of trading at the pace of the simulated market
A_DAY = 11_200


def untrained(name: str) -> LoadedModel:
    """A linear model that was trained on nothing: the simulated market is no drift to it."""
    model = named(name)
    manifest = msgspec.structs.replace(model.artifact.manifest, provenance={})
    return model._replace(artifact=Artifact(manifest, model.artifact.tensors))


MODELS = {name: untrained(name) for name in ("mine", "other")}


def fortnight(received: int = 0) -> list[Array]:
    """The trading days of two weeks, of some thousand messages each; they are received some days later."""
    found = []
    for k, day in enumerate(DATES):
        events = market(A_DAY, seed=k + 1)
        begin = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) + OPEN_S
        within = np.arange(len(events)) * HOURS // len(events)  # an hour's pause between whiles
        events["ts"] += (begin * 10**9 - events["ts"][0]) + within * 3_300 * 10**9
        events["ts_recv"] = events["ts"] + received * DAY_NS
        events["seq"] += 100_000 * k
        found.append(events)
    return found


def record(folder: Path, days: list[Array], slow_on: int = -1) -> RunFolder:
    """Run the engine over days, with all that a paper run has attached; on one of them it is slow."""
    manifest = {"run": "TEST0001", "mode": "paper", "model_hashes": ["mine"], "code": code_version()}
    run = RunFolder.create(folder, manifest)
    engine = Engine([GOOG], MODELS["mine"], LIMITS, "TEST0001")
    lineup = Lineup(MODELS["mine"], challenger=MODELS["other"])
    journal = JournalTap(run, [GOOG], engine.served, LiveClock())
    log, verdicts = MonitorLog(run.path, 0), deque[Verdict]()
    monitor = MonitorTap([GOOG], LIMITS, lambda _: lineup, log, Board(LiveClock()), lambda: False, verdicts)
    at = row = 0
    for k, events in enumerate(days):
        left = events
        while len(left):
            output = engine.process(left[:500])
            laps = np.full((len(output.rows), 3), 900_000 if k == slow_on else 9_000, np.int32)
            batch = Batch(at, left[: output.consumed], output.states, row, output.rows, laps)
            at, row, left = at + output.consumed, row + len(output.rows), left[output.consumed :]
            for tap in (journal, monitor):
                tap.on_batch(batch)
    for tap in (monitor, journal):
        tap.close()
    (run.path / "summary.json").write_text("{}")
    return run


def days_of_run(run: RunFolder) -> list[WatchedDay]:
    rows = journalled_rows(run)
    assert verify_monitor(run, rows, lambda _: Terms([GOOG], LIMITS), MODELS.__getitem__) > 50
    return watched_days(run, rows, lambda _: Terms([GOOG], LIMITS), MODELS.__getitem__)


def evidence_of(run: RunFolder) -> list[Evidence]:
    return [of_day(day, Source("TEST0001", "fix", code_version())) for day in days_of_run(run)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return record(tmp_path_factory.mktemp("paper") / "run", fortnight())


@pytest.fixture
def kind_gates(gates: Gates) -> Gates:
    """Gates that a linear model meets on the simulated market."""
    limits = msgspec.structs.replace(gates.gates, brier_max=0.3, ece_max=0.2)
    return msgspec.structs.replace(gates, gates=limits)


def ordinal(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def lacks(registry: Registry, gates: Gates, today: date, protocol: str = "fix") -> str:
    asked = ask("mine", ordinal(today))._replace(protocol=protocol)
    return paper_lacks(registry.store.all(), asked, gates)


def test_two_weeks_on_record_open_live_and_a_day_less_does_not(
    run: RunFolder, registry: Registry, kind_gates: Gates, gates: Gates
) -> None:
    days = evidence_of(run)
    assert [one.config["day"] for one in days] == [ordinal(day) for day in DATES]
    assert not any(one.config["alarms"] for one in days)
    source = Source("TEST0001", "fix", code_version())
    registry.store.add(of_start("mine", source, ["GOOG"], ordinal(DATES[0]) * DAY_NS))
    registry.store.add(of_end("mine", source, [ordinal(day) for day in DATES]))
    for one in days[:-1]:
        registry.store.add(one)
    assert "9 green days" in lacks(registry, kind_gates, DATES[-1])
    registry.store.add(days[-1])
    assert lacks(registry, kind_gates, DATES[-1]) == ""
    assert "brier 5ev above 0.19" in lacks(registry, gates, DATES[-1]), "the shipped gates are not met"
    assert "0 green days" in lacks(registry, kind_gates, DATES[-1], "ctrader")
    assert "9 green days" in lacks(registry, kind_gates, DATES[-2]), "a day that has not come does not count"
    assert "8 days old" in lacks(registry, kind_gates, DATES[-1] + timedelta(8))


def test_a_recording_played_in_paper_mode_opens_nothing(
    run: RunFolder, registry: Registry, kind_gates: Gates
) -> None:
    for day in days_of_run(run):
        registry.store.add(of_day(day, Source("TEST0001", "recording", code_version())))
    assert "0 green days" in lacks(registry, kind_gates, DATES[-1])


def test_days_are_those_at_which_this_machine_received_the_events(tmp_path: Path, run: RunFolder) -> None:
    late = record(tmp_path / "late", fortnight(received=3)[:2])
    assert [one.day for one in days_of_run(late)] == [ordinal(day) + 3 for day in DATES[:2]]
    first, of_run = days_of_run(late)[0].instruments["GOOG"], days_of_run(run)[0].instruments["GOOG"]
    np.testing.assert_array_equal(first.top, of_run.top)
    np.testing.assert_array_equal(first.counts, of_run.counts)


def test_what_a_day_holds_is_what_the_journal_says(run: RunFolder) -> None:
    day = days_of_run(run)[3]
    one = day.instruments["GOOG"]
    lines = [told for _, told in read_monitor(run.path) if told["kind"] == "look"]
    mine = [x for x in lines if x["ts"] // DAY_NS == day.day]
    assert one.looks == len(mine) >= 20
    assert one.value == pytest.approx(sum(x["value"]["serving"] for x in mine))
    assert one.dumb == pytest.approx(sum(x["value"]["mean_reversion"] for x in mine))
    assert one.hours == {x["ts"] % DAY_NS // (3_600 * 10**9) for x in mine}
    assert len(one.hours) >= 6
    assert one.outcomes[0] == one.top[0, :, 0].sum() > 1_000
    assert {hour.p99_ns[2] // 1_000 for hour in day.hours} == {9}


def test_a_day_on_which_decisions_were_slow_is_red(
    tmp_path: Path, registry: Registry, kind_gates: Gates
) -> None:
    slow = record(tmp_path / "slow", fortnight()[:3], slow_on=1)
    judged = [judge_day([one], kind_gates, "GOOG") for one in evidence_of(slow)]
    assert [one.colour for one in judged] == ["green", "red", "green"]
    assert "total_p99_ms above 0.85" in judged[1].why


def times(run: RunFolder) -> list[Hour]:
    return read_latency(run.path)


def test_times_are_those_of_the_decisions_in_the_action_log(run: RunFolder) -> None:
    decided = decisions_by_hour(run, journalled_rows(run), ["mine"])
    assert sum(one.n for one in times(run)) == sum(decided.values()) == len(journalled_rows(run))
    assert {("mine", one.hour) for one in times(run)} == set(decided)
    refuse_more_times(run, journalled_rows(run), ["mine"])


@pytest.mark.parametrize("how", ["a line more", "more in a line", "of another model", "an hour more"])
def test_times_of_decisions_that_were_not_made_are_refused(run: RunFolder, tmp_path: Path, how: str) -> None:
    """A million fast decisions would make a slow day's mean a fast one."""
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    lines = times(copy)
    one = lines[len(lines) // 2]
    made = {
        "a line more": [*lines, one],
        "more in a line": [*lines[:-1], msgspec.structs.replace(lines[-1], n=lines[-1].n + 1)],
        "of another model": [*lines, msgspec.structs.replace(one, model="other", n=1)],
        "an hour more": [*lines, msgspec.structs.replace(lines[-1], hour=lines[-1].hour + 1, n=1)],
    }[how]
    (copy.path / LATENCY).write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in made))
    with pytest.raises(JournalError, match=r"latency.jsonl: tells of \d+ decisions of model"):
        refuse_more_times(copy, journalled_rows(copy), ["mine"])


def test_times_that_a_crash_has_lost_or_a_clock_that_was_set_back_are_no_lie(
    run: RunFolder, tmp_path: Path
) -> None:
    copy = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    lines = times(copy)
    earlier = msgspec.structs.replace(lines[7], hour=lines[7].hour - 1)
    kept = [*lines[:3], *lines[4:7], earlier, *lines[8:]]
    (copy.path / LATENCY).write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in kept))
    refuse_more_times(copy, journalled_rows(copy), ["mine"])


def test_a_torn_monitor_file_is_no_evidence(tmp_path: Path) -> None:
    run = record(tmp_path / "run", fortnight()[:2])
    path = run.path / MONITOR
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"look"' not in line))
    with pytest.raises(JournalError, match="not what is found again"):
        days_of_run(run)


def test_a_contest_is_on_record_with_its_evidence_and_can_be_computed_again(run: RunFolder) -> None:
    source = Source("TEST0001", "fix", code_version())
    one = of_contest(days_of_run(run), source)
    assert one is not None
    assert (one.kind, one.model, one.reference) == ("contest", "other", "mine")
    assert content_address(one) == content_address(of_contest(days_of_run(run), source))
    told = {r.measure: {x.series for x in one.records if x.measure == r.measure} for r in one.records}
    assert told == {"log_evidence": {"earned.log_loss.challenger"}, "evidence": {""}}
    assert one.config["earned"] == {}, "it is the same model: it cannot be better"


@pytest.mark.parametrize(
    ("change", "why"),
    [({"mode": "mock"}, "of mode mock"), ({"code": "0.0+other"}, "observe it with that release")],
)
def test_what_is_no_paper_run_of_this_code_is_refused(
    change: dict[str, str], why: str, tmp_path: Path, gates: Gates
) -> None:
    manifest = {"run": "R", "mode": "paper", "code": code_version(), "model_hashes": ["mine"]}
    folder = RunFolder.create(tmp_path / "run", manifest | change)
    with pytest.raises(GovernanceError, match=why):
        observe_run(folder, tmp_path / "registry", gates, SimClock(), lambda *_: None)
