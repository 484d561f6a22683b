"""`emp explain` and `emp why` over a run: what was decided, why, and what would have changed it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.app.cli import main
from emp.app.wiring.why import moment
from emp.core.codes import Action, Reason
from emp.core.errors import UsageError
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.explain import MEANING, _more_expected, decided_again, explain, rules_of
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions, read_columns
from emp.journal.run import RunFolder, build_manifest
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, engine

pytestmark = pytest.mark.usefixtures("compiled_engine")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    e = engine(folder)
    config = {
        "limits": msgspec.to_builtins(LOOSE),
        "instrument": msgspec.to_builtins(e.instruments[0]),
    }
    manifest = build_manifest(
        run="TESTRUN0",
        mode="replay",
        config=config,
        instruments=["GOOG"],
        model_hashes=[e.model.artifact.hash],
    )
    journal = RunFolder.open_or_create(folder / "run", manifest)
    source = Events(random_events(4000, 6), e.instruments[0], 500)
    Backtest(source, e, PaperVenue(e.instruments[0], entry_ns=50_000_000), journal).run()
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> Array:
    return read_actions(run / "actions")


def emp(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], Any]:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out) if ended.value.code in (0, None) else err
    lines = [line for line in err.splitlines() if not line.startswith("compiling for this machine")]
    return int(ended.value.code or 0), lines, said


@pytest.mark.parametrize("action", [Action.POST, Action.CROSS, Action.CANCEL, Action.HOLD])
def test_a_decision_is_made_again_and_told(
    capsys: pytest.CaptureFixture[str], run: Path, rows: Array, action: Action
) -> None:
    row = rows[rows["action"] == action][-1]
    code, lines, said = emp(capsys, "explain", str(run), str(row["seq"]))
    assert code == 0
    assert said["same"]
    assert said["row"]["seq"] == row["seq"]
    assert action.name.lower() in lines[0]
    assert Reason(int(row["reason_code"])).name.lower() in lines[0]
    assert any(line.strip() == "made again from the row: the same" for line in lines)


def test_what_would_have_changed_it_does(run: Path, rows: Array, capsys: pytest.CaptureFixture[str]) -> None:
    row = rows[rows["reason_code"] == Reason.NO_EDGE][-1]
    _, lines, _ = emp(capsys, "explain", str(run), str(row["seq"]))
    [more] = [line for line in lines if line.strip().startswith("otherwise if") and "ticks more" in line]
    ticks = float(more.split()[2])
    e = json.loads((run / "manifest.json").read_text())["config"]
    rules = rules_of(msgspec.convert(e["instrument"], type(_goog())), LOOSE)
    assert decided_again(_more_expected(row, 1.0, 1.01 * ticks), rules)["action"] != row["action"]
    assert decided_again(_more_expected(row, 1.0, 0.98 * ticks), rules)["action"] == row["action"]


def _goog() -> Any:
    from emp.core.instrument import find

    return find("GOOG")


def test_a_row_decided_under_other_limits_says_so(rows: Array) -> None:
    from emp.engine.explain import explain
    from emp.engine.limits import EngineLimits

    row = rows[(rows["action"] == Action.POST) & (rows["qty"] >= 1)][-1]
    tight = rules_of(_goog(), EngineLimits(turnover_per_hour=1.0))
    told = explain(row, "GOOG", tight)
    assert "not those of the run" in told[-1]


def test_reasons_are_counted_and_listed(capsys: pytest.CaptureFixture[str], run: Path, rows: Array) -> None:
    code, _, said = emp(capsys, "why", str(run))
    assert code == 0
    assert said["rows"] == len(rows) == sum(one["n"] for one in said["reasons"])
    pairs = {(one["action"], one["reason"]): one["n"] for one in said["reasons"]}
    posts = int(((rows["action"] == Action.POST) & (rows["reason_code"] == Reason.POST_EDGE)).sum())
    assert pairs["post", "post_edge"] == posts > 0
    _, lines, listed = emp(capsys, "why", str(run), "--reason", "post_edge", "--limit", "3")
    assert [one["seq"] for one in listed["listed"]] == rows[rows["reason_code"] == Reason.POST_EDGE]["seq"][
        :3
    ].tolist()
    assert any(line.startswith("3 of") for line in lines)


def test_a_span_of_time_is_chosen(capsys: pytest.CaptureFixture[str], run: Path, rows: Array) -> None:
    middle = int(rows["ts"][len(rows) // 2])
    _, _, early = emp(capsys, "why", str(run), "--until", str(middle))
    _, _, late = emp(capsys, "why", str(run), "--since", str(middle))
    assert early["rows"] == int((rows["ts"] < middle).sum())
    assert early["rows"] + late["rows"] == len(rows)


def test_moments_are_read_as_people_write_them() -> None:
    day = 1_340_285_400_000_000_000  # 2012-06-21 13:30 UTC
    assert moment("13:30", day) == day
    assert moment("13:30:00.5", day) == day + 500_000_000
    assert moment("2012-06-21T13:30", 0) == moment("2012-06-21T15:30+02:00", 0) == day
    with pytest.raises(UsageError, match="expected HH:MM"):
        moment("noon", day)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("explain", "RUN", "99999999"), "no decision at seq 99999999; the nearest is at"),
        (("explain", "RUN", "5", "--instrument", "AAPL"), "none of this run's; it has GOOG"),
        (("why", "RUN", "--reason", "boredom"), "boredom is no reason: one of no_edge"),
        (("why", "nowhere"), "no run nowhere"),
    ],
)
def test_what_cannot_be_told_ends_in_one_line(
    capsys: pytest.CaptureFixture[str], run: Path, words: tuple[str, ...], line: str
) -> None:
    code, _, err = emp(capsys, *(str(run) if word == "RUN" else word for word in words))
    assert code != 0
    assert line in " ".join(err.split())


def test_columns_are_read_without_the_others(run: Path, rows: Array) -> None:
    few = read_columns(run / "actions", ("seq", "gain"))
    assert few.dtype.names == ("seq", "gain")
    assert np.array_equal(few["seq"], rows["seq"])
    assert np.array_equal(few["gain"], rows["gain"])


def test_every_reason_has_words() -> None:
    assert MEANING.keys() == set(Reason)


@pytest.mark.parametrize("reason", [Reason.LATENCY, Reason.REJECTS, Reason.MODEL])
def test_a_bar_and_the_room_of_the_account_are_made_again(rows: Array, reason: Reason) -> None:
    opens = np.isin(rows["action"], [Action.POST, Action.CROSS]) & (rows["inventory"] == 0)
    row = rows[opens & (rows["resting_qty"] == 0)][-1].copy()
    assert (row["barred"], row["room"]) == (0, 0), "there are no limits of the account here"
    rules = rules_of(find("GOOG"), LOOSE)
    row["barred"] = reason
    barred = decided_again(row, rules)
    assert (barred["action"], barred["reason_code"]) == (Action.HOLD, reason)
    row["action"], row["reason_code"], row["qty"] = Action.HOLD, reason, 0
    assert any("opening had not been barred" in line for line in explain(row, "GOOG", rules))
    row["barred"], row["room"], row["reason_code"] = 0, -1, Reason.GROSS_EXPOSURE
    full = decided_again(row, rules)
    assert (full["action"], full["reason_code"]) == (Action.HOLD, Reason.GROSS_EXPOSURE)
    assert any("had left room" in line for line in explain(row, "GOOG", rules))
