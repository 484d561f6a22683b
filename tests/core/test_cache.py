"""A cache loses what nobody uses, and nothing else."""

import os
from pathlib import Path

import pytest

from emp.core.clock import LiveClock
from emp.core.numba import jit
from emp.core.numba.cache import mark_used, prune

DAY_NS = 86_400_000_000_000


def aged(folder: Path, days: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "code").write_text("x")
    then = LiveClock().now_ns() - int(days * DAY_NS)
    os.utime(folder, ns=(then, then))
    return folder


def test_folders_go_when_they_were_not_used_for_so_long(tmp_path: Path) -> None:
    old, young, used = (aged(tmp_path / name, days) for name, days in (("a", 8), ("b", 6), ("c", 30)))
    mark_used(used)
    (tmp_path / "file").write_text("not a folder")
    assert prune(tmp_path, 7.0) == [old]
    assert not old.exists()
    assert (young / "code").exists()
    assert (used / "code").exists()
    assert (tmp_path / "file").exists()
    assert prune(tmp_path / "none", 7.0) == []
    mark_used(tmp_path / "none")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = aged(tmp_path / "target", 100)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "link").symlink_to(target)
    assert prune(cache, 7.0) == []
    assert (target / "code").exists()


def test_compiling_marks_its_folder_and_removes_code_of_older_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    mine = aged(tmp_path / "numba" / jit.closure_hash(Path(__file__).resolve()), 20)
    older, recent = aged(tmp_path / "numba/older", 20), aged(tmp_path / "numba/recent", 2)

    @jit.kernel
    def one(x: int) -> int:
        return x + 1

    assert one(1) == 2
    assert (mine / "code").exists()
    assert mine.stat().st_mtime_ns > LiveClock().now_ns() - DAY_NS
    assert list(mine.glob("*/*.nbc"))
    assert not older.exists()
    assert recent.exists()
