"""An owner who wants to cheat himself into live: by settings, a stand-by, a folder that is held, a run that is killed
and cut, a clock, facts of instruments, and a promotion that comes before the bad looks.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.app.wiring.daily import Hourly
from emp.app.wiring.governed import load_models
from emp.app.wiring.heads import refuse_cut, sign_head
from emp.app.wiring.paper_days import record_start
from emp.core.clock import LiveClock, SimClock
from emp.core.code_version import code_version
from emp.core.errors import GovernanceError, JournalError
from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.timed import Decided, untimed
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Data, Evidence, Record, Store, new_evidence
from emp.governance.gates import Gates
from emp.governance.heads import Head, heads_of, in_doubt
from emp.governance.paper import FRESH_DAYS, judge_day, paper_lacks
from emp.governance.paper_source import Source
from emp.governance.registry import Registry
from emp.governance.runs import of_end
from emp.journal.monitor_log import MONITOR
from tests.governance.conftest import ask, integrity, paper, run_of, runs
from tests.governance.test_heads import Run
from tests.governance.test_paper import MODEL, weeks
from tests.governance.test_serve import config, green_weeks
from tests.kit.promoted import promote

TODAY = LiveClock().now_ns() // DAY_NS


@pytest.fixture
def serving(registry: Registry) -> Registry:
    """A registry whose default may trade live."""
    green_weeks(registry, promote(registry, "linear"))
    return registry


# --- what serves, and what stands by


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"monitor": False}, "model.monitor is false: what serves must be watched"),
        ({"p99_ms": 0.36}, "model.p99_ms: 0.36 ms is above the 0.35 ms of the gates"),
        ({"total_p99_ms": 1e3}, "model.total_p99_ms: 1000 ms is above the 0.85 ms of the gates"),
        ({"state_ttl_s": 600.0}, "model.state_ttl_s is not the 60 s by which models are judged"),
    ],
)
def test_live_is_refused_where_a_model_would_trade_otherwise_than_it_was_judged(
    serving: Registry, model: dict[str, object], why: str
) -> None:
    """Or could not go back by itself."""
    assert load_models(config("live", registry=serving.home)).serving.artifact.hash
    with pytest.raises(GovernanceError, match=why):
        load_models(config("live", registry=serving.home, **model))
    assert load_models(config("paper", registry=serving.home, **model)).serving.artifact.hash


@pytest.mark.parametrize(
    ("days", "stands"),
    [
        ((), False),
        (
            range(TODAY - 200, TODAY - 186),
            True,
        ),  # long ago: it does not serve on paper while another one does
        (range(TODAY - 200, TODAY - 187), False),
    ],
)
def test_what_was_promoted_and_never_was_green_on_paper_does_not_stand_by_live(
    registry: Registry, days: range, stands: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of time that nothing keeps would let it trade at once."""
    mamba2 = promote(registry, "mamba2")
    green_weeks(registry, promote(registry, "linear"))
    for one in runs(mamba2, *days):
        registry.store.add(one)
    models = load_models(config("live", registry=registry.home, fallback_impl="mamba2"))
    assert (models.standby is not None) == stands
    assert ("green days" in capsys.readouterr().err) != stands


def test_evidence_that_comes_after_a_promotion_counts(serving: Registry) -> None:
    """Else whoever promotes by the good looks alone need never know of the bad ones that follow."""
    linear = load_model("linear").artifact.hash
    good, bad = integrity(linear)[0], integrity(linear, changed=1.0)[0]
    for one, fails in ((good, False), (bad, True)):
        serving.store.add(_of_instruments(one, linear))
        if not fails:
            load_models(config("live", registry=serving.home))
            continue
        with pytest.raises(GovernanceError, match="by all evidence on record it fails future_masking_max"):
            load_models(config("live", registry=serving.home))


def latency(model: str, *ms: float, **config: object) -> Evidence:
    """Of the path through the engine, by rounds of a bench or days on paper."""
    kind = "day" if config else "run"
    made = [Record(f"{p}_p99_ms", "", "", "", "", ms, kind, 999) for p in ("adapter", "model", "total")]
    return new_evidence("latency", model, made, dict(config))


def chaos(*violations: float) -> Evidence:
    return new_evidence("chaos", "", [Record("violations", "", "", "", "", violations, "run", 99)], {})


def test_what_is_too_small_to_tell_bars_nothing_and_hides_nothing(serving: Registry) -> None:
    linear = load_model("linear").artifact.hash
    for one in (chaos(*[0.0] * 10), latency(linear, 0.1, 0.1, 0.1), latency(linear, 9.0, 9.0)):
        serving.store.add(one)
        load_models(config("live", registry=serving.home))
    serving.store.add(latency(linear, *[9.0] * 8))
    with pytest.raises(GovernanceError, match=r"it fails latency_p99_ms.adapter \(9, limit 0.5\)"):
        load_models(config("live", registry=serving.home))


def test_a_look_that_is_too_small_to_pass_and_breaks_what_must_hold_always_counts(serving: Registry) -> None:
    linear = load_model("linear").artifact.hash
    bad = integrity(linear, changed=1.0)[0]
    few = [msgspec.structs.replace(one, n=99, blocks=(1.0,)) for one in bad.records]
    serving.store.add(_of_instruments(msgspec.structs.replace(bad, records=tuple(few)), linear))
    with pytest.raises(GovernanceError, match="it fails future_masking_max"):
        load_models(config("live", registry=serving.home))


def test_a_bad_day_on_paper_is_red_and_bars_no_longer_than_that(registry: Registry) -> None:
    """Whatever the looks at all days together say: the bad one would stay among them for good."""
    linear = promote(registry, "linear")
    green_weeks(registry, linear)
    days = list(range(TODAY - 40, TODAY))
    registry.store.add(latency(linear, 500.0, *[0.1] * 39, days=days, protocol="fix", of="paper"))
    load_models(config("live", registry=registry.home))


def test_what_live_asks_is_read_once(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is more of it every hour."""
    read = [0]

    def signed(self: Store, of: Callable[[Store], Any] = Store.signed) -> Any:
        read[0] += 1
        return of(self)

    green_weeks(registry, promote(registry, "mamba2"))
    green_weeks(registry, promote(registry, "linear"))
    monkeypatch.setattr(Store, "signed", signed)
    assert load_models(config("live", registry=registry.home, fallback_impl="mamba2")).standby is not None
    assert read == [1]
    for name in ("RUN1", "RUN2", "RUN3"):
        killed = Run(tmp_path / f"paper-{name}")
        path = killed.folder.path / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "run": name}))
        read[0] = 0
        record_start(type(killed.folder)(killed.folder.path), tmp_path / "new", SimClock(9 * DAY_NS))
        killed.trade(9)
        killed.tap.close()
        assert read == [1], name


def _of_instruments(one: Evidence, model: str) -> Evidence:
    """The same of every instrument of a shipped model's training, at a time that it has not seen."""
    series = load_model("linear").artifact.manifest.provenance["series"]
    made, data = [], []
    for told in series:
        name = str(told["instrument"])
        kind = find(name).asset_class.name.lower()
        data.append(Data(str(told["series"]), name, kind, 20_000, "c" * 64, (1, 2)))
        of = {"series": str(told["series"]), "instrument": name, "asset_class": kind}
        made.append(msgspec.structs.replace(one.records[0], **of))
    return new_evidence(one.kind, model, made, one.config, 0, data)


# --- runs that are held, killed or cut


def test_a_folder_that_is_held_for_weeks_keeps_no_run_from_being_missed(gates: Gates) -> None:
    """Its run was killed on the red day; a process that does nothing holds its lock."""
    day = paper(MODEL, 9)
    begun = run_of(msgspec.structs.replace(day, config={**day.config, "run": "HELD"}))[0]
    days = (*range(1, 10), *range(10, 10 + FRESH_DAYS + 2))
    for today, waits in ((9 + FRESH_DAYS, True), (9 + FRESH_DAYS + 1, False)):
        found = {f"{k}": one for k, one in enumerate(runs(MODEL, *(d for d in days if d <= today)))}
        said = paper_lacks(found | {"held": begun}, ask(MODEL, today), gates, going=lambda run: run == "HELD")
        assert ("paper run HELD began and is not told to its end" in said) != waits
        assert (said == "") == waits


def test_a_day_whose_run_could_have_been_cut_is_none(gates: Gates) -> None:
    day = paper(MODEL, 9)
    source = Source("RUN9", "fix", day.code)
    for doubtful, fewer in (([], False), ([8, 9], True), ([7], False)):
        found = weeks() | {"told RUN9": of_end(MODEL, source, [9], 0, doubtful)}
        said = paper_lacks(found, ask(MODEL, 14), gates)
        assert (said == "") != fewer
        assert ("8 green days" in said) == fewer, "that of another run too, which says nothing of this one's"
        other = ask(MODEL, 14)._replace(instruments=("GC",))
        assert "0 green days" in paper_lacks(found, other, gates)


@pytest.mark.parametrize(
    ("heads", "days"),
    [
        ([], [9]),
        ([Head(0, 50, "", ts=9 * DAY_NS), Head(50, 60, "", ts=9 * DAY_NS + 9, over="ended")], []),
        ([Head(0, 60, "", ts=9 * DAY_NS, over="ended")], []),
        ([Head(0, 50, "", ts=9 * DAY_NS, over="ended")], [9]),  # and went on
        ([Head(0, 60, "", ts=11 * DAY_NS, over="found")], [9, 10, 11]),
        ([Head(0, 60, "", ts=11 * DAY_NS, over="found"), Head(60, 60, "", ts=13 * DAY_NS, over="found")],
         [9, 10, 11]),
        ([Head(0, 50, "", ts=10 * DAY_NS, over="found"), Head(50, 60, "", ts=11 * DAY_NS)], [9, 10, 11]),
        ([Head(0, 60, "", ts=10 * DAY_NS)], [9, 10]),
        ([Head(0, 60, "", ts=900 * DAY_NS, over="found"), Head(0, 60, "", ts=11 * DAY_NS, over="found")],
         [9, 10, 11]),
        ([Head(0, 60, "", ts=900 * DAY_NS), Head(60, 60, "", ts=10 * DAY_NS, over="found")], [9, 10]),
        ([Head(0, 60, "", ts=900 * DAY_NS)], [9]),
        ([Head(0, 60, "", ts=900 * DAY_NS, over="ended")], []),
    ],
)  # fmt: skip
def test_days_are_in_doubt_until_a_run_is_found_without_a_process(heads: list[Head], days: list[int]) -> None:
    assert in_doubt(heads, 60, 9 * DAY_NS + 7, 20 * DAY_NS) == days


def test_nothing_is_in_doubt_where_no_beginning_is_on_record_nor_after_today() -> None:
    assert in_doubt([Head(0, 0, "", ts=11 * DAY_NS, over="found")], 0, 0, 20 * DAY_NS) == []
    assert in_doubt([], 0, 21 * DAY_NS, 20 * DAY_NS) == [20]


def test_a_run_that_was_found_by_a_clock_that_was_ahead_is_found_again(run: Run, tmp_path: Path) -> None:
    """Else all days until then are in doubt."""
    home = tmp_path / "registry"
    run.trade(100)
    run.tap.close()
    for day, signs in ((400, True), (400, False), (9, True), (9, False), (10, False)):
        assert (sign_head(run.folder, home, SimClock(day * DAY_NS), "found") is not None) == signs
    evidence = Store(home).all()
    journal = refuse_cut(run.folder, evidence)
    assert in_doubt(heads_of(evidence, "RUN1"), 100, journal.newest_ns, 12 * DAY_NS) == list(range(10))


def test_telling_of_a_killed_run_late_costs_no_more_than_not_telling(gates: Gates) -> None:
    """It is in doubt on all days until it was found: on each of them another run was green."""
    killed = paper(MODEL, 9)
    killed = msgspec.structs.replace(killed, config={**killed.config, "run": "KILLED"})
    found = {str(k): one for k, one in enumerate(runs(MODEL, *range(1, 31)))}
    found |= {"begun": run_of(killed)[0], "paper": killed}
    source = Source("KILLED", "fix", killed.code)
    for days, lacks in (
        (None, ""),
        (range(9, 31), ""),
        (range(9, 11), ""),
        (range(20, 31), "GOOG: the last green"),
    ):
        told = {} if days is None else {"told": of_end(MODEL, source, [9], 0, days)}
        said = paper_lacks(found | told, ask(MODEL, 31), gates)
        assert said.startswith(lacks), days
        assert bool(said) == bool(lacks), days


def test_telling_of_one_run_takes_nothing_from_what_another_one_is_told(gates: Gates) -> None:
    """Each is taken in the way that costs least: the long one as red, the short one as a day less."""
    found = {str(k): one for k, one in enumerate(runs(MODEL, *range(1, 31)))}
    for run, days in (("LONG", range(9, 25)), ("SHORT", [27])):
        one = paper(MODEL, days[0])
        one = msgspec.structs.replace(one, config={**one.config, "run": run})
        source = Source(run, "fix", one.code)
        found |= {f"{run} begun": run_of(one)[0], run: one}
        found |= {f"{run} told": of_end(MODEL, source, [days[0]], 0, days)}
    assert paper_lacks(found, ask(MODEL, 31), gates) == ""


def test_a_run_that_its_own_process_has_ended_is_in_no_doubt_and_a_killed_one_is(tmp_path: Path) -> None:
    for over, doubtful in (("ended", []), ("found", [0, *range(1, 10)])):
        home, run = tmp_path / over / "registry", Run(tmp_path / over / "run")
        run.trade(100)
        run.tap.close()
        clock = SimClock(9 * DAY_NS)
        assert sign_head(run.folder, home, clock, over) is not None  # type: ignore[arg-type]
        assert sign_head(run.folder, home, clock, over) is None  # type: ignore[arg-type]
        evidence = Store(home).all()
        journal = refuse_cut(run.folder, evidence)
        heads = heads_of(evidence, "RUN1")
        assert in_doubt(heads, journal.events, journal.newest_ns, clock.now_ns()) == doubtful


def test_the_next_run_signs_how_far_a_killed_one_had_come(tmp_path: Path) -> None:
    """So that what comes after the next start is in no doubt, though nobody tells the killed one's days for weeks."""
    home, runs_folder = tmp_path / "registry", tmp_path / "runs"
    runs_folder.mkdir()
    killed = Run(runs_folder / "paper-RUN1")
    record_start(killed.folder, home, SimClock(1 * DAY_NS))
    killed.trade(100)
    killed.tap.close()
    told = json.loads((killed.folder.path / "manifest.json").read_text())
    following = Run(runs_folder / "paper-RUN2")
    (following.folder.path / "manifest.json").write_text(json.dumps({**told, "run": "RUN2"}))
    record_start(type(killed.folder)(following.folder.path), home, SimClock(3 * DAY_NS))
    (head,) = heads_of(Store(home).all(), "RUN1")
    assert (head.end, head.over, head.ts // DAY_NS) == (100, "found", 3)
    assert heads_of(Store(home).all(), "RUN2") == []


def drift(at: int, *inputs: str, instrument: str = "GOOG") -> bytes:
    told = {"kind": "drift", "at": at, "instrument": instrument, "drifted": list(inputs), "trained": True}
    return json.dumps(told).encode() + b"\n"


def heads_signed(run: Run, lines: list[bytes], clock: SimClock) -> list[int]:
    """How often it was signed how far a run has come after each of the lines of its monitor, a minute apart."""
    signed = [0]

    def signs(*_: object) -> dict[str, object]:
        signed[0] += 1
        return {}

    hourly, found = Hourly(run.folder.path, run.folder.path, clock, signs), []
    for line in lines:
        run.trade(10)
        with (run.folder.path / MONITOR).open("ab") as file:
            file.write(line)
        before = signed[0]
        clock.advance(60 * 10**9)
        hourly.look()
        found.append(signed[0] - before)
    return found


def test_inputs_that_are_named_until_the_day_ends_are_signed_once(run: Run) -> None:
    """Every signature is evidence that all who judge must read."""
    lines = [drift(1, "spread"), drift(2, "spread"), drift(3, "spread", instrument="GC"), drift(4, "spread")]
    lines += [drift(5, "spread", "ofi"), drift(6, "spread", "ofi"), drift(7)]
    lines += [json.dumps({"kind": "failed", "at": 8, "gate": gate}).encode() + b"\n" for gate in "ab"]
    assert heads_signed(run, lines, SimClock(9 * DAY_NS + DAY_NS // 2)) == [1, 0, 1, 0, 1, 0, 0, 1, 1]


def test_what_was_told_before_midnight_and_is_read_after_it_hides_nothing_of_the_new_day(run: Run) -> None:
    clock = SimClock(10 * DAY_NS - 90 * 10**9)
    lines = [drift(k, "spread") for k in range(9)]
    assert heads_signed(run, lines, clock) == [1, 1, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("damaged", [b"{", b"\xff", b"{}", b"[]", b"7", b'{"kind": "drift"}'])
def test_what_follows_a_damaged_line_of_the_monitor_is_read(damaged: bytes, run: Run) -> None:
    lines = [damaged + b"\n" + drift(1, "spread"), drift(2, "spread")]
    assert heads_signed(run, lines, SimClock(9 * DAY_NS + DAY_NS // 2)) == [1, 0]


def test_whatever_one_look_fails_by_the_thread_looks_again(run: Run) -> None:
    for error in (KeyError("kind"), IndexError(), JournalError("no"), GovernanceError("no"), OSError()):

        def fails(*_: object, why: Exception = error) -> dict[str, object]:
            raise why

        clock = SimClock(9 * DAY_NS)
        hourly = Hourly(run.folder.path, run.folder.path, clock, fails)
        clock.advance(2 * 3600 * 10**9)
        hourly.look()


@pytest.mark.parametrize(
    ("line", "red"),
    [
        ({"kind": "failed", "at": 90, "gate": "calibration"}, True),
        ({"kind": "drift", "at": 90, "instrument": "GOOG", "drifted": ["spread"], "trained": True}, True),
        ({"kind": "drift", "at": 90, "instrument": "GOOG", "drifted": [], "trained": True}, False),
        ({"kind": "look", "at": 90}, False),
    ],
)
def test_an_alarm_is_signed_as_soon_as_the_journal_holds_it(
    line: dict[str, object], red: bool, tmp_path: Path
) -> None:
    """Else a run that is killed within the hour, and cut back to the last one, would have had none."""
    run, home, clock = Run(tmp_path / "run"), tmp_path / "registry", SimClock(9 * DAY_NS)

    def signs(path: Path, *_: object) -> dict[str, object]:
        sign_head(run.folder, home, clock)
        return {}

    hourly = Hourly(run.folder.path, home, clock, signs)
    run.trade(100, durably=False)
    (run.folder.path / MONITOR).write_bytes(json.dumps(line).encode() + b"\n")
    hourly.look()
    assert heads_of(Store(home).all(), "RUN1") == [], "a power cut could take it yet"
    run.trade(0)
    for _ in range(3):
        clock.advance(10 * 10**9)
        hourly.look()
    heads = heads_of(Store(home).all(), "RUN1")
    assert len(heads) == red
    assert all(size > 0 for one in heads for name, size, _ in one.files if name == MONITOR)


def test_what_the_monitor_tells_of_events_that_were_signed_before_is_signed_too(
    run: Run, tmp_path: Path
) -> None:
    home, path = tmp_path / "registry", run.folder.path / MONITOR
    run.trade(100)
    assert sign_head(run.folder, home, SimClock(9 * DAY_NS)) is not None
    path.write_bytes(json.dumps({"kind": "failed", "at": 90, "gate": "calibration"}).encode() + b"\n")
    assert sign_head(run.folder, home, SimClock(9 * DAY_NS)) is not None
    path.write_bytes(b"")
    with pytest.raises(Exception, match="is not what was signed"):
        refuse_cut(run.folder, Store(home).all())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


# --- times and clocks


def test_hours_whose_times_are_missing_make_no_green_day(gates: Gates) -> None:
    """A slow hour that was left out of the times would be none."""
    day = paper(MODEL, 9)
    for told, why in (
        ([9, 10], "run RUN9 has times of fewer decisions than it made, in the hours (UTC) 9, 10"),
        (None, "run RUN9 does not say whether its times are whole"),
        ([], ""),
    ):
        one = msgspec.structs.replace(day, config={**day.config, "untimed": told})
        judged = judge_day([one], gates, "GOOG")
        assert (judged.colour, judged.why) == ("short" if why else "green", why)


def test_of_an_hour_all_but_one_in_a_hundred_decisions_are_timed() -> None:
    decided = Decided({("a", 5): 1_000, ("a", 6): 1_000, ("a", 8): 1_000, ("b", 6): 10})
    assert untimed(decided, decided) == {}
    assert untimed(decided - Decided({("a", 6): 10}), decided) == {}
    assert untimed(decided - Decided({("a", 6): 11}), decided) == {"a": {6}}
    assert untimed(Decided({("a", 5): 1_400, ("a", 6): 600, ("a", 8): 1_000}), decided) == {"b": {6}}, (
        "a batch over two hours"
    )
    assert untimed(Decided({("a", 8): 3_000, ("b", 6): 10}), decided) == {"a": {5, 6}}
    assert untimed(Decided(), decided) == {"a": {5, 6, 8}, "b": {6}}


@pytest.mark.parametrize(
    ("newest", "colour"),
    [
        (0.5, "green"),
        (1.0, "green"),
        (1.0 + 1 / 24, "green"),
        (1.06, "short"),
        (0.0, "short"),
        (-1.0, "short"),
    ],
)
def test_a_day_that_the_market_did_not_have_is_none(newest: float, colour: str, gates: Gates) -> None:
    """Weeks by a clock that runs ahead, or is set ahead by a day an hour, while the market's goes on as ever."""
    span = (0, int((9 + newest) * DAY_NS))
    for instrument in ("GOOG", "GC"):
        data = (Data(instrument, instrument, "equity", 9, "a" * 64, span),)
        one = msgspec.structs.replace(paper(MODEL, 9), data=data)
        judged = judge_day([one], gates, "GOOG")
        assert judged.colour == (colour if instrument == "GOOG" else "green")
        assert judged.colour == "green" or "run RUN9 had another day by its own time" in judged.why
        if judged.colour == "short":
            how = {1.06: "1.4 h after its end", 0.0: "0.0 h before it began", -1.0: "24.0 h before it began"}
            assert f"its newest is {how[newest]}" in judged.why


def test_a_run_that_ended_before_the_market_opened_says_nothing_of_its_day(gates: Gates) -> None:
    """What it held of the market was stamped days before."""
    whole, quiet = paper(MODEL, 9), paper(MODEL, 9, looks=0.0)
    old = (Data("GOOG", "GOOG", "equity", 1, "b" * 64, (6 * DAY_NS, 6 * DAY_NS + 1)),)
    quiet = msgspec.structs.replace(quiet, config={**quiet.config, "run": "EARLY"}, data=old)
    assert judge_day([whole, quiet], gates, "GOOG").colour == "green"
    loud = msgspec.structs.replace(whole, config=quiet.config, data=old)
    assert judge_day([whole, loud], gates, "GOOG").colour == "short"


# --- code and facts


def test_other_facts_of_instruments_are_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no fees every model earns."""
    (tmp_path / "core" / "data").mkdir(parents=True)
    fees = tmp_path / "core" / "data" / "instruments.yaml"
    (tmp_path / "code.py").write_text("")
    monkeypatch.setattr("emp.core.code_version.PACKAGE", tmp_path)
    versions = []
    for text in ("taker_fee: 0.5", "taker_fee: 0.0", "taker_fee: 0.5"):
        fees.write_text(text)
        versions.append(code_version.__wrapped__())
    assert versions[0] == versions[2] != versions[1]
