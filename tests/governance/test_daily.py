"""Evidence of a run that goes on: of each day once it is over, once, and what the ended run says of that day."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.soak.record import paper_record
from emp.app.wiring.daily import Daily, Hourly, newest_day, observe_apart, telling_days
from emp.app.wiring.governed import _goes_on
from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.paper_days import observe_run, record_start
from emp.app.wiring.rerun import verify_run
from emp.app.wiring.snapshot import snapshot
from emp.core.clock import Clock, LeaseClock, LiveClock, SimClock
from emp.core.code_version import code_version
from emp.core.config.config import SystemConfig
from emp.core.config.secrets import Secret
from emp.core.errors import GovernanceError, JournalError, VenueError
from emp.core.instrument import find
from emp.decision.standing import crossing_standing
from emp.engine.control_socket import goes_on
from emp.engine.earned import earned_note, earned_of
from emp.engine.journal_tap import journalled_rows
from emp.engine.live import Live
from emp.engine.succession import Models
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Gates, read_gates
from emp.governance.paper import Asked, days_of, paper_lacks, told_whole
from emp.journal.held import held
from emp.journal.latency_log import LATENCY
from emp.journal.monitor_log import read_monitor
from emp.journal.run import RunFolder
from emp.observe.board import Board
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.markets import Toy
from tests.governance.conftest import paper
from tests.kit.datasets import market, write_quotes
from tests.kit.hosted import hosting
from tests.kit.killed import Forgetful
from tests.kit.models import eager_model
from tests.live.world import BTC, book

pytestmark = [
    pytest.mark.usefixtures("compiled_engine"),
    pytest.mark.earns,
]  # a run of the module, and processes

TICKS = 600
"""Events of a day: two looks of the monitor."""


class OverMidnight(Forgetful):
    """A market whose days the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.day_ns = 0
        self._rng = np.random.default_rng(1)

    def tick(self, n: int = 1, spread: int = 2) -> None:
        self._seq += n
        rows = book(self._seq - n + 1, LiveClock().now_ns() + self.day_ns, n, spread)
        rows["bid_px"][:, 0] += self._rng.integers(0, 3, n)
        rows["ask_px"][:, 0] = rows["bid_px"][:, 0] + self._rng.integers(1, 4, n)
        self.feed.put_nowait(rows)


def assembled(folder: Path, venue: OverMidnight) -> Running:
    config = SystemConfig(
        mode="paper",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": ["BTCUSDT"]},
        access={"connection_protocol": "fix"},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        journal={"flush_seconds": 0.4},
    )
    clock = LiveClock()
    running = assemble_live(config, [BTC], Models(eager_model(folder / "model")), venue, Board(clock), clock)
    # as an earlier run would have left it, so that every process that reads this run finds it
    earned = earned_of(crossing_standing()[0], running.engine.model.artifact.hash)
    running.live._ledger.record_note(earned_note(BTC.name, earned, clock.now_ns()))
    return running


async def a_day(running: Running, venue: OverMidnight, ticks: int = TICKS) -> None:
    """Let events come, and wait until journal and monitor have them."""
    for _ in range(ticks):
        venue.tick()
        await asyncio.sleep(0.001)
    before = running.journal.market.events
    while running.journal.market.events < venue._seq:
        await asyncio.sleep(0.02)
    assert before <= venue._seq
    while not any(told["at"] > venue._seq - 2 * 256 for _, told in read_monitor(running.folder.path)):
        await asyncio.sleep(0.02)


def observed(run: RunFolder, home: Path, gates: Gates) -> dict[str, Any]:
    return observe_run(run, home, gates, SimClock(30_000 * DAY_NS), lambda *_: None)


class Played(msgspec.Struct):
    """What was found of a run of three days while it went on, and after it."""

    run: Path
    home: Path
    first: dict[str, Any]  # on the first day
    second: dict[str, Any]  # on the second
    again: dict[str, Any]
    last: dict[str, Any]  # when it had ended
    closed: tuple[
        float, float, float
    ]  # lots, what was expected of them, what they brought, as the engine had it


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, compiled_engine: object) -> Played:
    folder = tmp_path_factory.mktemp("daily")
    venue, home, gates = OverMidnight(), folder / "registry", read_gates()
    running = assembled(folder, venue)
    found: list[dict[str, Any]] = []

    record_start(running.folder, home, SimClock(LiveClock().now_ns() - 3 * DAY_NS))

    async def both() -> None:
        run = asyncio.create_task(running.live.run())
        await running.live.connected.wait()
        for day in range(3):
            venue.day_ns = (day - 3) * DAY_NS  # nothing is signed for a day that has not come
            await a_day(running, venue)
            if day == 0:
                found.append(await asyncio.to_thread(observed, running.folder, home, gates))
            elif day == 1:  # as the run itself would
                told = await asyncio.to_thread(observe_apart, running.folder.path, home, threading.Event())
                found.append(told)
        found.append(await asyncio.to_thread(observed, running.folder, home, gates))
        found.append(await asyncio.to_thread(observed, running.folder, home, gates))
        running.live.owner.stop()
        await run

    asyncio.run(both())
    running.folder.write_summary({})
    clock = SimClock(30_000 * DAY_NS)
    last = observe_run(running.folder, home, gates, clock, lambda *_: None, ending=True)
    first, second, third, again = found
    assert len(third["evidence"]) == 1
    lots = running.engine.desk.lots[0]
    closed = float(lots["lots"]), float(lots["believed"]), float(lots["brought"])
    return Played(running.folder.path, home, first, second, again, last, closed)


def of_days(home: Path) -> dict[int, list[Evidence]]:
    found: dict[int, list[Evidence]] = {}
    for one in Store(home).all().values():
        if one.kind != "paper":
            continue
        found.setdefault(int(one.config["day"]), []).append(one)
    return found


def test_a_day_is_told_once_it_is_over_and_only_once(played: Played) -> None:
    assert played.first["evidence"] == [], "the first day goes on"
    assert len(played.second["evidence"]) == 1
    assert len({one["day"] for one in played.second["days"]}) == 1
    assert played.again["evidence"] == []
    assert len(played.last["evidence"]) == 2, "the last day, when the run has ended, and that all are told"
    days = of_days(played.home)
    assert [len(parts) for parts in days.values()] == [1, 1, 1]
    assert [one.config["over"] for _, (one,) in sorted(days.items())] == [True, True, False]


def test_what_is_told_on_the_way_is_what_the_ended_run_says(
    played: Played, tmp_path: Path, gates: Gates
) -> None:
    observed(RunFolder(played.run), tmp_path / "registry", gates)
    afterwards = of_days(tmp_path / "registry")
    for day, (one,) in of_days(played.home).items():
        (other,) = afterwards[day]
        assert one.config == other.config
        assert [r.measure for r in one.records] == [r.measure for r in other.records]
        for mine, theirs in zip(one.records, other.records, strict=True):
            np.testing.assert_allclose(mine.blocks, theirs.blocks, rtol=1e-9, atol=1e-12)
        assert one.data == other.data


def test_times_of_more_decisions_than_were_made_are_not_told(
    played: Played, tmp_path: Path, gates: Gates
) -> None:
    run = RunFolder(shutil.copytree(played.run, tmp_path / "run"))
    path = run.path / LATENCY
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])
    with pytest.raises(JournalError, match="the action log has"):
        observed(run, tmp_path / "registry", gates)
    assert not (tmp_path / "registry" / "evidence").exists(), "nothing is signed"


def test_lots_that_were_closed_stand_on_their_days(played: Played) -> None:
    run = verify_run(RunFolder(played.run), lambda *_: None)
    assert sum(run.closed.values()) == pytest.approx(np.array(played.closed))
    assert len(run.closed) == 3
    assert played.closed[0] > 0, "nothing was traded: the test shows nothing"
    told = {
        day: [r for r in one.records if r.measure == "missed_bps_lots"]
        for day, (one,) in of_days(played.home).items()
    }
    for (day, _, _), (lots, expected, brought) in run.closed.items():
        assert len(told[day]) == (lots > 0)
        if lots:
            (record,) = told[day]
            assert record.n == lots
            assert record.blocks[0] == pytest.approx((expected - brought) / 100_002 * 1e4, rel=1e-3)


def test_a_run_is_on_record_from_its_beginning_to_its_end(played: Played, gates: Gates) -> None:
    found = Store(played.home).all()
    begun, told = (next(one for one in found.values() if one.kind == kind) for kind in ("begun", "told"))
    days = sorted(of_days(played.home))
    assert told.config["days"] == days
    assert begun.config["day"] == days[0]
    assert (begun.model, begun.config["instruments"]) == (of_days(played.home)[days[0]][0].model, ["BTCUSDT"])
    asked = Asked(begun.model, code_version(), "fix", ("BTCUSDT",), days[-1] + 1)
    run = played.run.name.removeprefix("paper-")
    assert f"run {run} began" not in paper_lacks(found, asked, gates)
    name = next(key for key, one in found.items() if one.kind == "told")
    gone = {key: one for key, one in found.items() if key != name}
    last = f"day {days[-1]} was red: paper run {run} began and is not told to its end"
    assert last in paper_lacks(gone, asked, gates), "deleted before its last day was told"


def test_days_that_have_not_come_are_not_signed(played: Played, tmp_path: Path, gates: Gates) -> None:
    """The clock was ahead while the run went on, and was set right before it was observed."""
    clock = SimClock(min(of_days(played.home)) * DAY_NS)
    with pytest.raises(GovernanceError, match="2 days ahead of this machine's clock: nothing is signed"):
        observe_run(RunFolder(played.run), tmp_path / "registry", gates, clock, lambda *_: None)
    assert not (tmp_path / "registry" / "evidence").exists()


def test_a_run_that_ended_before_it_traded_is_told(tmp_path: Path, gates: Gates) -> None:
    running, home = assembled(tmp_path, OverMidnight()), tmp_path / "registry"
    record_start(running.folder, home, LiveClock())
    running.live._ledger.close()
    found = observed(running.folder, home, gates)
    assert (len(found["evidence"]), found["days"]) == (1, [])
    assert [one.kind for one in Store(home).all().values()] == ["begun", "reached", "told"]
    assert observed(running.folder, home, gates)["evidence"] == []


def test_a_run_that_a_process_has_and_does_not_serve_is_not_told(tmp_path: Path, gates: Gates) -> None:
    """While it starts and ends, and where somebody has removed its socket: else it could trade on and be deleted."""
    running, home = assembled(tmp_path, OverMidnight()), tmp_path / "registry"
    path = running.folder.path
    record_start(running.folder, home, LiveClock())
    assert goes_on(path)
    with pytest.raises(GovernanceError, match=r"starting or ending .* once it trades or has ended"):
        observed(running.folder, home, gates)
    with held(path):
        clock = SimClock(30_000 * DAY_NS)
        with pytest.raises(GovernanceError, match="starting or ending"):  # the process has stopped serving it
            observe_run(running.folder, home, gates, clock, lambda *_: None, ending=True)
        running.live._ledger.close()
        assert goes_on(path), "its days are yet to be told"
        with pytest.raises(GovernanceError, match="starting or ending"):
            observed(running.folder, home, gates)
        assert [one.kind for one in Store(home).all().values()] == ["begun"]
        found = observe_run(running.folder, home, gates, clock, lambda *_: None, ending=True)
    assert len(found["evidence"]) == 1
    assert not goes_on(path)


def test_the_ledger_of_another_run_tells_nothing(tmp_path: Path, gates: Gates) -> None:
    running = assembled(tmp_path, OverMidnight())
    running.live._ledger.close()
    manifest = {**running.folder.manifest, "run": "OTHER"}
    (running.folder.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(GovernanceError, match="is the ledger of run"):
        observed(RunFolder(running.folder.path), tmp_path / "registry", gates)


def test_of_two_that_observe_a_run_at_once_one_signs(
    played: Played, tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other has signed everything once this one has looked."""
    home, run, look = tmp_path / "registry", RunFolder(played.run), Store.all
    done: list[dict[str, Any]] = []

    def all_and_then_another(store: Store) -> dict[str, Evidence]:
        known = look(store)
        monkeypatch.setattr(Store, "all", look)
        done.append(observed(run, home, gates))
        return known

    monkeypatch.setattr(Store, "all", all_and_then_another)
    found = observed(run, home, gates)
    assert len(done) == 1
    assert len(done[0]["evidence"]) == 4
    assert found["evidence"] == []
    assert [len(parts) for parts in of_days(home).values()] == [1, 1, 1]


SAYS_WHETHER_IT_GOES_ON = """
import sys
import emp.app.commands.run as run
from emp.app.cli import main
from emp.engine.control_socket import goes_on, is_served
observed = run._observed
def saying(folder, *rest):
    told = observed(folder, *rest)
    print("replayed", is_served(folder.path), goes_on(folder.path), file=sys.stderr)
    return told
run._observed = saying
main()
"""
"""`emp`, which says once its last replay is over whether the run is served, and whether it counts as going on."""


def test_emp_run_signs_its_beginning_and_its_end_and_does_not_begin_where_it_cannot(tmp_path: Path) -> None:
    write_quotes(market(1_500, 2, 0.5), str(tmp_path / "GOOG_quotes.csv"))
    (tmp_path / "emp.yaml").write_text(
        f"mode: paper\nrun_dir: {tmp_path / 'runs'}\ninstruments: {{names: [GOOG]}}\nhttp: {{port: 0}}\n"
        f"access: {{connection_protocol: recording, recording: {tmp_path / 'GOOG_quotes.csv'}, speed: 1000000}}\n"
        f"model: {{ssm_impl: linear, fallback_impl: none, registry: {tmp_path / 'registry'}}}\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-W", "ignore", "-c", SAYS_WHETHER_IT_GOES_ON]
        words += ["run", "--config", str(tmp_path / "emp.yaml")]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").glob("paper-*")
    assert "replayed False True" in done.stderr
    assert not goes_on(folder)
    kinds = [one.kind for one in Store(tmp_path / "registry").all().values()]
    assert (kinds[0], kinds[-1]) == ("begun", "told")
    assert of_kind(tmp_path / "registry", "told")[0].config["doubtful"] == [], "it has signed its end"
    (tmp_path / "registry" / "keys" / "box.key").unlink()
    refused = run()
    assert refused.returncode != 0
    assert "no box key here" in refused.stderr
    assert len(list((tmp_path / "runs").glob("paper-*"))) == 2
    assert len(Store(tmp_path / "registry").all()) == len(kinds)


def of_kind(home: Path, kind: str) -> list[Evidence]:
    return [one for one in Store(home).all().values() if one.kind == kind]


def signed(home: Path) -> list[str]:
    """Kinds of all that a registry tells of; none where there is no registry yet."""
    return [one.kind for one in Store(home).all().values()] if home.exists() else []


def paper_at(port: int, tmp_path: Path) -> list[str]:
    """Words that start a paper run behind a FIX venue of this machine, with evidence into `registry`."""
    (tmp_path / "emp.yaml").write_text(
        f"mode: paper\nrun_dir: {tmp_path / 'runs'}\ninstruments: {{names: [EURUSD]}}\nhttp: {{port: 0}}\n"
        f"access: {{connection_protocol: fix, host: 127.0.0.1, port: {port}, tls: false, dialect: mock,"
        " sender_comp_id: EMP, target_comp_id: EMPVENUE}\n"
        f"model: {{ssm_impl: linear, fallback_impl: none, registry: {tmp_path / 'registry'}}}\n"
    )
    return ["run", "--config", str(tmp_path / "emp.yaml")]


def test_a_paper_run_that_is_ended_while_it_compiles_never_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: Live) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("EMP_FIX_USERNAME", "EMP")
    monkeypatch.setenv("EMP_FIX_PASSWORD", "wrong")
    monkeypatch.setattr(Live, "prepare", interrupted)
    ended = CliRunner().invoke(app, paper_at(9, tmp_path))
    assert isinstance(ended.exception, SystemExit | KeyboardInterrupt), ended.exception
    assert len(list((tmp_path / "runs").glob("paper-*"))) == 1
    assert signed(tmp_path / "registry") == []


def test_a_paper_run_whose_logon_is_refused_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eurusd = find("EURUSD")

    async def start() -> tuple[FixVenue, int]:
        venue = FixVenue(Toy([eurusd]), [eurusd], VenueSettings(password=Secret("secret")))
        return venue, await venue.start()

    monkeypatch.setenv("EMP_FIX_USERNAME", "EMP")
    monkeypatch.setenv("EMP_FIX_PASSWORD", "wrong")
    with hosting() as host:
        venue, port = host.do(start())
        refused = CliRunner().invoke(app, paper_at(port, tmp_path))
        host.do(venue.close())
    assert isinstance(refused.exception, VenueError)
    assert "invalid credentials" in str(refused.exception)
    assert signed(tmp_path / "registry") == ["begun", "reached", "told"]


def test_of_the_run_that_goes_on_nothing_is_held_against_the_record_and_of_a_dead_one_it_is(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(shutil.copytree(played.run, tmp_path / played.run.name))
    manifest = {
        **run.manifest,
        "config": {**run.manifest["config"], "model": {"registry": str(tmp_path / "r")}},
    }
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    record_start(run, tmp_path / "r", LiveClock())
    now = LiveClock().now_ns()
    assert f"run {manifest['run']} began" in paper_record(RunFolder(run.path), now).lacks
    with held(run.path):  # in its last replay nobody serves it
        assert "BTCUSDT: 0 green days" in paper_record(RunFolder(run.path), now).lacks
        assert "began" not in paper_record(RunFolder(run.path), now).lacks
        assert _goes_on(run.path.parent, manifest["run"])
    assert not _goes_on(run.path.parent, manifest["run"])
    monkeypatch.setattr("emp.engine.control_socket.is_served", lambda path: path == run.path)
    assert "began" not in paper_record(RunFolder(run.path), now).lacks


def test_a_run_is_not_changed_by_being_observed(played: Played, tmp_path: Path) -> None:
    run = RunFolder(played.run)
    assert (run.path / "summary.json").exists()
    with pytest.raises(JournalError, match="holds nothing yet"):
        snapshot(run, tmp_path / "copy")  # an ended run has no tail: it is read itself
    assert len(journalled_rows(run)) == 3 * TICKS


def test_what_was_told_before_a_day_was_over_counts_no_more_afterwards() -> None:
    def told(over: bool, run: str = "RUN1", **figures: float) -> Evidence:
        one = paper("m", 1, **figures)
        return msgspec.structs.replace(one, config={**one.config, "run": run, "over": over})

    asked = Asked("m", code_version(), "fix", ("GOOG",), 2)
    part, whole, other = told(False, looks=3.0), told(True), told(False, "RUN2")
    assert days_of({"a": part, "b": whole, "c": other}, asked) == {1: [whole, other]}
    assert days_of({"a": part, "c": other}, asked) == {1: [part, other]}
    assert told_whole({"b": whole}, part)
    assert not told_whole({"a": part}, whole)
    assert not told_whole({"b": whole}, other)


# --- the thread that sees that a day is over


class Looks:
    """Stands in for the process that observes."""

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self.asked = 0
        self._answers = list(answers)

    def __call__(self, run: Path, registry: Path, ended: threading.Event) -> dict[str, Any]:
        self.asked += 1
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_it_looks_once_for_each_day_and_again_where_something_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, Any] = {"days": [], "open": []}
    day = [5]
    monkeypatch.setattr("emp.app.wiring.daily.newest_day", lambda _: day[0])
    looks = Looks(nothing, JournalError("busy"), {"days": [], "open": [5]}, nothing)
    clock = SimClock(5 * DAY_NS)
    daily = Daily(tmp_path, tmp_path, clock, looks)
    daily.look()
    daily.look()
    assert looks.asked == 1
    day[0] = 6
    daily.look()
    assert looks.asked == 1, "it is still that day"
    clock.set(6 * DAY_NS)
    for _ in range(5):
        daily.look()
    assert looks.asked == 4


def test_how_far_the_journal_has_come_is_signed_every_hour_and_again_where_it_failed(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"days": [], "open": []}
    signs = Looks(JournalError("busy"), nothing, nothing)
    clock = SimClock(5 * DAY_NS)
    hourly = Hourly(tmp_path, tmp_path, clock, signs)
    for minutes, signed in ((0, 0), (59, 0), (60, 1), (65, 2), (70, 2), (124, 2), (125, 3)):
        clock.set(5 * DAY_NS + minutes * 60 * 10**9)
        hourly.look()
        assert signs.asked == signed, minutes


@pytest.mark.parametrize("continued", [False, True])
def test_a_process_that_goes_on_with_a_run_begins_with_what_is_not_signed(
    tmp_path: Path, continued: bool
) -> None:
    (tmp_path / "market").mkdir()
    if continued:
        (tmp_path / "market" / "part-00000.parquet").touch()
    signs = Looks({"days": [], "open": []})
    hourly = Hourly(tmp_path, tmp_path, SimClock(5 * DAY_NS), signs)
    hourly._ended.set()
    hourly.run()
    assert signs.asked == continued


def test_a_process_that_goes_on_and_cannot_sign_tries_again_soon(tmp_path: Path) -> None:
    (tmp_path / "market").mkdir()
    (tmp_path / "market" / "part-00000.parquet").touch()
    nothing: dict[str, Any] = {"days": [], "open": []}
    signs, clock = Looks(JournalError("busy"), nothing, nothing), SimClock(5 * DAY_NS)
    hourly = Hourly(tmp_path, tmp_path, clock, signs)
    hourly._ended.set()
    hourly.run()
    for minutes, signed in ((1, 1), (5, 2), (10, 2), (64, 2), (65, 3)):
        clock.set(5 * DAY_NS + minutes * 60 * 10**9)
        hourly.look()
        assert signs.asked == signed, minutes


def test_hours_pass_while_the_machine_sleeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[Clock] = []

    class Seen(Hourly):
        def __init__(self, run: Path, registry: Path, clock: Clock) -> None:
            super().__init__(run, registry, clock)
            clocks.append(clock)

    monkeypatch.setattr("emp.app.wiring.daily.Hourly", Seen)
    with telling_days(tmp_path, tmp_path, SimClock()):
        pass
    assert isinstance(clocks[0], LeaseClock)


def test_what_goes_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no run") as caught:
        observe_apart(tmp_path / "nowhere", tmp_path, threading.Event())
    assert "\n" not in str(caught.value)


def test_a_run_without_a_tail_has_no_newest_day(tmp_path: Path) -> None:
    assert newest_day(tmp_path) is None
