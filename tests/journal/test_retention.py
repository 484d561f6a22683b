"""Runs that ended in order give way, oldest first; nothing else does."""

import os
from pathlib import Path

import pytest

from emp.core.errors import JournalError
from emp.journal.retention import KEPT_DAYS, make_room, size_of
from emp.journal.run import RunFolder

DAY_S = 86_400
NOW_S = 1_000 * DAY_S


def run(runs: Path, name: str, *, days_ago: float, ended: bool = True) -> Path:
    folder = RunFolder.create(runs / name, {"run": name})
    (folder.path / "data.bin").write_bytes(os.urandom(1 << 20))
    if ended:
        folder.write_summary({})
        os.utime(folder.path / "summary.json", (NOW_S - days_ago * DAY_S,) * 2)
    return folder.path


def names(runs: Path) -> list[str]:
    return sorted(path.name for path in runs.iterdir())


def test_the_oldest_that_have_ended_give_way(tmp_path: Path) -> None:
    for k, days in enumerate((30, 10, 20)):
        run(tmp_path, f"live-{k}", days_ago=days)
    run(tmp_path, "live-9", days_ago=0, ended=False)
    one = size_of(tmp_path / "live-0")
    assert [removed.name for removed in make_room(tmp_path, int(2.5 * one), NOW_S)] == ["live-0", "live-2"]
    assert names(tmp_path) == ["live-1", "live-9"]


@pytest.mark.parametrize("days", [0.0, KEPT_DAYS - 0.1])
def test_what_has_just_ended_stays_whatever_it_takes(tmp_path: Path, days: float) -> None:
    run(tmp_path, "live-1", days_ago=days)
    assert list(make_room(tmp_path, 0, NOW_S)) == []
    assert names(tmp_path) == ["live-1"]


def test_what_did_not_end_in_order_or_is_no_run_stays(tmp_path: Path) -> None:
    run(tmp_path, "live-1", days_ago=90, ended=False)
    (run(tmp_path, "live-2", days_ago=90) / "manifest.json").write_text("{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "fix-sequence").write_text("1")
    assert list(make_room(tmp_path, 0, NOW_S)) == []
    assert names(tmp_path) == ["fix-sequence", "live-1", "live-2", "notes"]


def test_within_the_budget_nothing_is_removed(tmp_path: Path) -> None:
    run(tmp_path, "live-1", days_ago=90)
    assert list(make_room(tmp_path, size_of(tmp_path / "live-1"), NOW_S)) == []


def test_what_a_process_that_died_had_begun_to_remove_goes(tmp_path: Path) -> None:
    run(tmp_path, "live-1", days_ago=90).rename(tmp_path / ".removed-live-1")
    assert list(make_room(tmp_path, 1 << 40, NOW_S)) == []
    assert names(tmp_path) == []


def test_one_that_cannot_be_removed_ends_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "live-1", days_ago=90)

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(JournalError, match=r"journal\.keep_gb"):
        list(make_room(tmp_path, 0, NOW_S))
