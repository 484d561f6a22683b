"""How far a paper run had come is signed while it goes on: one that is cut, or told too soon, is noticed."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.wiring.daily import AWAKE_S, Hourly
from emp.app.wiring.heads import durable_events, refuse_cut, sign_head
from emp.app.wiring.paper_days import observe_run, record_start
from emp.core.clock import LiveClock, SimClock
from emp.core.code_version import code_version
from emp.core.errors import GovernanceError, JournalError
from emp.core.instrument import find
from emp.core.records import DECISION, MARKET_STATE, Array, empty_events
from emp.engine.journal_tap import JournalTap, journalled_events
from emp.engine.tap import Batch
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Store
from emp.governance.gates import Gates
from emp.governance.heads import Head, Unsigned, heads_of, of_head, unsigned_of
from emp.governance.paper import judge_day, paper_lacks
from emp.governance.paper_source import Source
from emp.governance.runs import of_end
from emp.governance.seal import Keys
from emp.journal.digest import digest
from emp.journal.latency_log import HOUR_NS, LATENCY, LatencyLog, read_latency
from emp.journal.market import MarketJournal
from emp.journal.monitor_log import MONITOR
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL
from tests.governance.conftest import ask, paper, run_of
from tests.governance.test_paper import MODEL, weeks

CLOCK = SimClock(9 * DAY_NS)
GOOG = find("GOOG")


def book(first: int, n: int) -> Array:
    rows = empty_events(n)
    rows["seq"] = rows["ts"] = rows["ts_recv"] = np.arange(first, first + n)
    rows["bid_px"][:, 0] = rows["seq"] % 97
    return rows


def batch(first: int, events: Array) -> Batch:
    states = np.zeros(len(events), MARKET_STATE)
    return Batch(first, events, states, 0, np.zeros(0, DECISION), np.zeros((0, 3), np.int32))


class Run:
    """A paper run whose journal is written by hand."""

    def __init__(self, path: Path) -> None:
        access = {"connection_protocol": "fix"}
        told = {"run": "RUN1", "mode": "paper", "code": code_version(), "model_hashes": [MODEL]}
        self.folder = RunFolder.create(path, {**told, "instruments": ["GOOG"], "config": {"access": access}})
        self.tap = JournalTap(self.folder, [GOOG], [MODEL], LiveClock())
        self.at = 0

    def trade(self, n: int, *, durably: bool = True) -> None:
        self.tap.on_batch(batch(self.at, book(self.at, n)))
        self.at += n
        self.tap.on_idle()
        if durably:
            self.tap._flush()

    def cut_to(self, n: int) -> None:
        """Once the run has ended."""
        journal = MarketJournal(self.folder.market, [GOOG])
        journal.truncate_to(n)
        journal.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def test_what_is_signed_is_what_is_new_and_lasts(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "registry"
    assert sign_head(run.folder, home, CLOCK) is None, "nothing has come yet"
    run.trade(100)
    name = sign_head(run.folder, home, CLOCK)
    assert name is not None
    assert sign_head(run.folder, home, CLOCK) is None
    run.trade(50, durably=False)
    assert sign_head(run.folder, home, CLOCK) is None, "a power cut could take it yet"
    run.trade(7)
    sign_head(run.folder, home, CLOCK)
    evidence = Store(home).all()
    assert [(one.first, one.end) for one in heads_of(evidence, "RUN1")] == [(0, 100), (100, 157)]
    assert heads_of(evidence, "RUN2") == []
    assert refuse_cut(run.folder, evidence).events == 157
    run.tap.close()
    assert refuse_cut(run.folder, evidence).events == 157
    assert {one.kind for one in evidence.values()} == {"reached"}
    assert evidence[name].config["day"] == 9
    assert Store(home).keys.may("box")


def test_a_line_that_a_full_disk_has_torn_is_not_signed(run: Run, tmp_path: Path) -> None:
    """The next process takes it away: the run would count as changed for good."""
    run.trade(100)
    with (run.folder.path / LATENCY).open("ab") as file:
        file.write(b'{"hour": 1, "model": "ab')
    sign_head(run.folder, tmp_path / "registry", CLOCK)
    run.tap.close()
    LatencyLog(run.folder.path).close()
    assert refuse_cut(run.folder, Store(tmp_path / "registry").all()).events == 100


@pytest.mark.parametrize("ends", [False, True])
def test_times_are_not_written_before_the_rows_that_they_are_of(run: Run, ends: bool) -> None:
    """After a crash there would be times of decisions that the action log never had."""
    for hour in (5, 6):
        events = book(run.at, 4)
        events["ts_recv"] += hour * HOUR_NS
        rows, laps = np.zeros(4, DECISION), np.full((4, 3), 9_000, np.int32)
        run.tap.on_batch(batch(run.at, events)._replace(rows=rows, laps=laps, first_row=run.at))
        run.at += 4
    run.tap.on_idle()
    assert read_latency(run.folder.path) == [], "a power cut can take the rows yet"
    if ends:
        run.tap.close()
    else:
        run.tap._flush()
    assert [one.n for one in read_latency(run.folder.path)] == [4, 4][: 1 + ends]


def test_a_next_process_leaves_the_file_of_times_as_it_lies(run: Run) -> None:
    run.trade(10)
    run.tap.close()
    path = run.folder.path / LATENCY
    path.write_bytes(path.read_bytes() + b"{}" + b" " * 253 + b"\n")
    before = path.stat()
    LatencyLog(run.folder.path).close()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_is_signed_of_a_run_after_it_was_copied_is_not_missed_in_the_copy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: Gates
) -> None:
    home = tmp_path / "registry"
    run.trade(100)
    sign_head(run.folder, home, CLOCK)

    def copied(folder: RunFolder, to: Path) -> RunFolder:
        shutil.copytree(folder.path, to)
        run.trade(50)
        sign_head(run.folder, home, CLOCK)
        return RunFolder(to)

    seen: list[int] = []

    def verified(folder: RunFolder, progress: object) -> None:
        seen.append(sum(len(one) for one in journalled_events(folder)))
        raise GovernanceError("far enough")

    monkeypatch.setattr("emp.app.wiring.paper_days.is_served", lambda path: True)
    monkeypatch.setattr("emp.app.wiring.paper_days.snapshot", copied)
    monkeypatch.setattr("emp.app.wiring.paper_days.verify_run", verified)
    with pytest.raises(GovernanceError, match="far enough"):
        observe_run(run.folder, home, gates, CLOCK, lambda *_: None)
    assert seen == [100]


def test_a_journal_that_ends_before_what_was_signed_is_refused(
    run: Run, tmp_path: Path, gates: Gates
) -> None:
    home = tmp_path / "registry"
    run.trade(100)
    sign_head(run.folder, home, CLOCK)
    run.trade(20)
    run.tap.close()
    run.cut_to(100)
    assert refuse_cut(run.folder, Store(home).all()).events == 100, "nobody has signed more"
    run.cut_to(99)
    why = "its end was cut off: it holds 99 events of 100 that were signed"
    with pytest.raises(JournalError, match=why):
        refuse_cut(run.folder, Store(home).all())
    with pytest.raises(JournalError, match=why):
        observe_run(run.folder, home, gates, CLOCK, lambda *_: None)
    with pytest.raises(JournalError, match=why):
        sign_head(run.folder, home, CLOCK)
    assert [one.kind for one in Store(home).all().values()] == ["reached"], "nothing was signed"


def test_other_events_than_were_signed_are_refused(run: Run, tmp_path: Path, gates: Gates) -> None:
    home = tmp_path / "registry"
    run.trade(60)
    sign_head(run.folder, home, CLOCK)
    run.trade(40)
    sign_head(run.folder, home, CLOCK)
    run.tap.close()
    other = Run(tmp_path / "other")
    other.trade(70)
    other.tap.on_batch(batch(70, book(71, 30)))
    other.tap.close()
    for name in ("market", "actions"):
        for path in (run.folder.path / name).glob("*"):
            path.unlink()
        for path in (other.folder.path / name).glob("*"):
            path.rename(run.folder.path / name / path.name)
    with pytest.raises(JournalError, match="events 60 to 100 are not those that were signed"):
        observe_run(run.folder, home, gates, CLOCK, lambda *_: None)


@pytest.mark.parametrize("name", [MONITOR, LATENCY])
def test_what_lies_beside_the_journal_is_signed_with_it(
    run: Run, tmp_path: Path, gates: Gates, name: str
) -> None:
    """What a day was worth, and how long its decisions took, nobody can make better afterwards."""
    home, path = tmp_path / "registry", run.folder.path / name
    lines = [json.dumps({"at": at, "kind": "look"}).encode() + b"\n" for at in (5, 9, 11)]
    path.write_bytes(b"".join(lines))
    run.trade(10)
    sign_head(run.folder, home, CLOCK)
    evidence = Store(home).all()
    with path.open("ab") as file:
        file.write(lines[2])
    assert refuse_cut(run.folder, evidence).events == 10, "what came later is not signed yet"
    path.write_bytes(b"".join(lines[1:]) + lines[2])
    with pytest.raises(JournalError, match=f"{name}: is not what was signed while the run went on"):
        observe_run(run.folder, home, gates, CLOCK, lambda *_: None)
    path.unlink()
    with pytest.raises(JournalError, match=name):
        refuse_cut(run.folder, evidence)


def test_lines_that_tell_of_events_that_are_not_signed_are_not_either(run: Run, tmp_path: Path) -> None:
    home, path = tmp_path / "registry", run.folder.path / MONITOR
    lines = [json.dumps({"at": at, "kind": "look"}).encode() + b"\n" for at in (5, 11)]
    path.write_bytes(b"".join(lines))
    run.trade(10)
    sign_head(run.folder, home, CLOCK)
    (head,) = heads_of(Store(home).all(), "RUN1")
    assert {name: size for name, size, _ in head.files} == {
        MONITOR: len(lines[0]),
        LATENCY: (run.folder.path / LATENCY).stat().st_size,
    }


def test_a_run_whose_manifest_says_another_market_than_when_it_began_is_refused(
    run: Run, tmp_path: Path, gates: Gates
) -> None:
    """A recording that is played would be told as a live market."""
    home, path = tmp_path / "registry", run.folder.path / "manifest.json"
    record_start(run.folder, home, CLOCK)
    before = path.read_text()
    path.write_text(before.replace('"fix"', '"ctrader"'))
    with pytest.raises(GovernanceError, match="is not what was signed when the run began"):
        observe_run(RunFolder(run.folder.path), home, gates, CLOCK, lambda *_: None)
    path.write_text(before)
    run.tap.close()
    with pytest.raises(JournalError, match="no ledger at"):  # now it was let through
        observe_run(RunFolder(run.folder.path), home, gates, CLOCK, lambda *_: None)


def test_the_manifest_that_is_held_against_what_was_signed_is_the_one_that_is_used(
    run: Run, tmp_path: Path, gates: Gates
) -> None:
    """One that is put back between two reads would be told of another market."""
    home, path = tmp_path / "registry", run.folder.path / "manifest.json"
    record_start(run.folder, home, CLOCK)
    run.trade(10)
    run.tap.close()
    before = path.read_text()
    path.write_text(before.replace('"fix"', '"ctrader"'))
    read = RunFolder(run.folder.path)
    path.write_text(before)
    why = "is not what was signed when the run began"
    with pytest.raises(GovernanceError, match=why):
        observe_run(read, home, gates, CLOCK, lambda *_: None)
    with pytest.raises(GovernanceError, match=why):
        sign_head(read, home, CLOCK)
    path.write_text(before.replace('"fix"', '"ctrader"'))
    record_start(run.folder, tmp_path / "another", CLOCK)
    (begun,) = Store(tmp_path / "another").all().values()
    assert begun.config["manifest_sha256"] == hashlib.sha256(before.encode()).hexdigest()


def test_where_the_tail_says_less_than_the_parts_it_is_believed(run: Run) -> None:
    run.trade(30)
    before = (run.folder.path / TAIL).read_bytes()
    run.trade(30)
    assert durable_events(run.folder) == 60
    (run.folder.path / TAIL).write_bytes(before)
    assert durable_events(run.folder) == 30, "a next process would go on from there"


def test_a_run_that_trades_on_after_it_was_told_to_its_end_is_not_told(gates: Gates) -> None:
    day = paper(MODEL, 9)
    day = msgspec.structs.replace(day, config={**day.config, "run": "ON", "over": True})
    source = Source("ON", "fix", day.code)
    head = of_head(MODEL, source, Head(0, 500, "0" * 64), 9 * DAY_NS)
    for events, whole in ((0, False), (499, False), (500, True), (501, True)):
        told = of_end(MODEL, source, [9], events)
        found = weeks() | {"on": run_of(day)[0], "day": day, "told": told, "head": head}
        said = paper_lacks(found, ask(MODEL, 14), gates)
        assert (said == "") == whole, events
        assert ("paper run ON began and is not told to its end" in said) == (not whole)


def test_the_key_of_the_box_signs_it_and_no_other(tmp_path: Path) -> None:
    with pytest.raises(GovernanceError, match="a training key may not sign reached"):
        Keys(tmp_path).seal_as("training", "reached", {})


def test_the_command_signs_it(run: Run, tmp_path: Path) -> None:
    run.trade(10)
    words = [
        "gates",
        "observe",
        str(run.folder.path),
        "--registry",
        str(tmp_path / "r"),
        "--reached",
        "--json",
    ]
    first, again = (CliRunner().invoke(app, words) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert len(json.loads(first.stdout.splitlines()[-1])["evidence"]) == 1
    assert json.loads(again.stdout.splitlines()[-1])["evidence"] == []
    manifest = run.folder.path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "mode": "live"}))
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, GovernanceError)
    assert "says nothing of paper trading" in str(refused.exception)


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 30), st.integers(0, 30))
def test_a_digest_does_not_depend_on_how_events_are_cut(sizes: list[int], first: int, end: int) -> None:
    whole = book(0, sum(sizes))
    pieces = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    chosen = whole[first:end]
    expected = digest(0, [chosen], 0, 99)
    assert digest(0, pieces, first, end) == expected
    assert digest(5, pieces, first + 5, end + 5) == expected
    if len(chosen):
        other = chosen.copy()
        other["ask_px"][-1, -1] += 1
        assert digest(0, [other], 0, 99) != expected
        assert digest(0, [chosen[:-1]], 0, 99) != expected


def test_events_are_read_from_the_journal_in_their_order(run: Run) -> None:
    run.trade(10)
    run.trade(5, durably=False)
    assert np.concatenate(list(journalled_events(run.folder)))["seq"].tolist() == list(range(15))


# --- hours of which nothing was signed

MINUTE = 60 * 10**9


def hours(received: list[int], *heads: tuple[int, int]) -> list[int]:
    """Of times, minutes of the day, those hours of which nothing was signed; heads: events so far, and the minute."""
    found = []
    for cut in (1, 7, len(received)):
        one = Unsigned(Head(0, end, "", (), at * MINUTE) for end, at in heads)
        for begin in range(0, len(received), cut):
            one.take(np.array(received[begin : begin + cut], np.int64) * MINUTE)
        found.append(unsigned_of(one.hours(), 0))
    assert found[0] == found[1] == found[2]
    return found[0]


def test_a_run_that_signs_every_hour_has_no_hour_unsigned() -> None:
    through = list(range(600))
    signed = [(end - 1, end) for end in range(65, 600, 65)]  # what a power cut could take comes later
    assert hours(through, *signed) == []
    assert hours(list(range(115))) == [], "a run of less than two hours"
    late = [(end - 1, end) for end in (65, 180, 245, 310, 420, 485, 550)]
    assert hours(through, *late) == [], "it was busy for most of an hour"


def test_hours_of_which_nothing_was_signed_are_named() -> None:
    through = list(range(600))
    assert hours(through) == list(range(10))
    assert hours(through, (60, 60), (121, 121), (500, 500), (560, 560)) == [2, 3, 4, 5, 6, 7, 8]
    assert hours(through, (60, 60), (120, 120)) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_many_heads_at_once_sign_no_hour_that_has_gone() -> None:
    """From copies that were cut at every hour."""
    through = list(range(600))
    assert hours(through, *((end, 600) for end in range(60, 600, 60))) == list(range(8))


def test_what_nobody_traded_need_not_be_signed() -> None:
    """A closed market, a machine that slept or was off: heads lie an hour of trading apart, whatever the clock says."""
    assert hours([*range(30), *range(1_200, 1_230), *range(1_300, 1_330)], (60, 1_240)) == []
    asleep = [minute for begin in range(0, 1_400, 200) for minute in range(begin, begin + 20)]
    assert hours(asleep, (61, 601), (121, 1_201)) == []
    down = [*range(60), *range(900, 960)]
    assert hours(down, (60, 900), (118, 960)) == [], "the next process signs what the one before it has left"
    assert hours([*range(60), *range(10, 70)], (70, 70)) == [], "a clock that was set back"


def test_one_time_ahead_hides_nothing() -> None:
    """Of an event, or of each hour's first: what comes after it lies behind."""
    through = list(range(600))
    assert hours([1_430, *through]) == [23], "as the days are told"
    assert hours([0, 100_000, *through, 100_000]) == [0]
    ahead = [minute + 240 * (minute % 60 == 0) for minute in through]
    assert hours(ahead)
    assert hours([0, 1_430, *through], *((end, 600) for end in range(60, 600, 60))), "many heads at once"


def test_times_that_lie_a_little_behind_pass_once() -> None:
    """Of two feeds of which one lags."""
    lagging = [minute - 3 * (minute % 2) for minute in range(10, 125)]
    assert hours(lagging) == []


def test_hours_told_in_bursts_are_hours() -> None:
    bursts = [60 * hour for hour in range(24) for _ in range(50)]
    assert hours(bursts) == list(range(24))
    assert hours(bursts, (1_199, 1_439)) == list(range(24))
    assert hours(bursts, *((end, 1_439) for end in range(50, 1_200, 50))) == list(range(20)), "at once"
    assert hours(bursts, *((50 * hour, 60 * hour) for hour in range(1, 24))) == []


@pytest.mark.parametrize(("awake_s", "asleep_s"), [(240, 1_200), (180, 600), (600, 1_200), (60, 3_600)])
def test_a_machine_that_naps_often_signs(awake_s: int, asleep_s: int, tmp_path: Path) -> None:
    clock, received, heads = SimClock(9 * DAY_NS), list[int](), list[Head]()

    def signs(*_: object) -> dict[str, object]:
        heads.append(Head(heads[-1].end if heads else 0, len(received), "", (), clock.now_ns()))
        return {}

    hourly = Hourly(tmp_path, tmp_path, clock, signs)
    while clock.now_ns() < 10 * DAY_NS:
        for second in range(awake_s):
            received.append(clock.now_ns())
            if second % AWAKE_S == 0:
                hourly.look()
            clock.advance(10**9)
        clock.advance(asleep_s * 10**9)
    one = Unsigned(heads)
    one.take(np.array(received, np.int64))
    assert one.hours() == set()


def test_an_hour_that_lasts_longer_than_the_day_is_of_both_days() -> None:
    one = Unsigned([])
    one.take(np.arange(1_300, 1_700, dtype=np.int64) * MINUTE)
    assert unsigned_of(one.hours(), 0) == [21, 22, 23]
    assert unsigned_of(one.hours(), 1) == [0, 1, 2, 3, 4]


def test_a_day_with_hours_that_were_not_signed_does_not_count(gates: Gates) -> None:
    """Though all else of it is green: it was not seen while it went on."""
    day = paper(MODEL, 9)
    for told, why in (
        ([9, 10], r"run RUN9 was not signed while it went on, in the hours \(UTC\) 9, 10"),
        (None, "run RUN9 does not say whether its hours were signed"),
        ([], ""),
    ):
        one = msgspec.structs.replace(day, config={**day.config, "unsigned": told})
        judged = judge_day([one], gates, "GOOG")
        assert judged.colour == ("short" if why else "green")
        assert re.search(why, judged.why)


def test_hours_come_from_the_journal_and_its_heads(run: Run, tmp_path: Path) -> None:
    def minutes(n: int) -> None:
        events = book(run.at, n)
        events["ts_recv"] = (events["seq"] + 9 * 1_440) * MINUTE
        run.tap.on_batch(batch(run.at, events))
        run.tap._flush()
        run.at += n

    home, clock = tmp_path / "registry", SimClock(9 * DAY_NS)
    for n in (60, 60, 240):
        minutes(n)
        clock.set(9 * DAY_NS + run.at * MINUTE)
        sign_head(run.folder, home, clock)
    assert unsigned_of(refuse_cut(run.folder, Store(home).all()).unsigned, 9) == [2, 3, 4, 5]
