"""What is kept is read back, made again where it is damaged, and removed when nobody uses it."""

import os
from pathlib import Path

import numpy as np
import pytest

from emp.core.numba.cache import UNUSED_DAYS
from emp.train.data.cached import ARRAYS, cached, content_key

DAY_S = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    return tmp_path / "kind"


class Work:
    """Counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.times += 1
        return {"x": np.arange(3), "y": np.array([1.5])}


def test_work_is_done_once(cache: Path) -> None:
    work = Work()
    for _ in range(3):
        got = cached("kind", "a", work)
        assert got["x"].tolist() == [0, 1, 2]
        assert got["y"].tolist() == [1.5]
    assert work.times == 1


@pytest.mark.parametrize("damage", [b"", b"PK no archive", b"neither"])
def test_damaged_arrays_are_made_again(cache: Path, damage: bytes) -> None:
    work = Work()
    cached("kind", "a", work)
    (cache / "a" / ARRAYS).write_bytes(damage)
    assert cached("kind", "a", work)["x"].tolist() == [0, 1, 2]
    assert cached("kind", "a", work)["x"].tolist() == [0, 1, 2]
    assert work.times == 2


def test_what_nobody_uses_is_removed(cache: Path) -> None:
    work = Work()
    for key in ("old", "used", "young"):
        cached("kind", key, work)
    long_ago = (cache / "old").stat().st_mtime - (UNUSED_DAYS + 1) * DAY_S
    for key in ("old", "used"):
        os.utime(cache / key, (long_ago, long_ago))
    cached("kind", "used", work)  # used again
    cached("kind", "new", work)  # whoever writes tidies up
    assert sorted(folder.name for folder in cache.iterdir()) == ["new", "used", "young"]


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("EMP_CACHE", str(blocked))
    monkeypatch.setenv("HOME", str(blocked))
    work = Work()
    assert cached("kind", "a", work)["x"].tolist() == [0, 1, 2]
    assert cached("kind", "a", work)["x"].tolist() == [0, 1, 2]
    assert work.times == 2


def test_a_key_names_content(tmp_path: Path) -> None:
    file = tmp_path / "source.py"
    file.write_text("one")
    first = content_key(np.arange(3), file, 1)
    assert content_key(np.arange(3), file, 1) == first
    assert content_key(np.arange(3.0), file, 1) != first
    assert content_key(np.arange(3), file, 2) != first
    file.write_text("two")
    assert content_key(np.arange(3), file, 1) != first
