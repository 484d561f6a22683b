"""Work over workers: the same whoever does it; where it is this process, nothing is begun beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emp.core.errors import UsageError
from emp.core.on_ray import on_ray, shipped_hash, who
from emp.core.spread import ALONE, Workers, spread

_given: list[int] = []


def _take(number: int) -> None:
    _given[:] = [number]


def _who(part: int) -> tuple[int, int, str]:
    return part + _given[0], os.getpid(), os.environ.get("OMP_NUM_THREADS", "")


@pytest.mark.parametrize(("workers", "processes"), [(ALONE, 1), (Workers(2), 2), (Workers(7), 3)])
def test_each_part_is_made_by_as_many_as_there_is_work_for(workers: Workers, processes: int) -> None:
    made = dict(spread(_who, range(3), workers, prepare=_take, given=(10,)))
    assert {part: found[0] for part, found in made.items()} == {0: 10, 1: 11, 2: 12}
    pids = {found[1] for found in made.values()}
    assert len(pids) <= processes
    assert (os.getpid() in pids) == (workers == ALONE)


def test_as_many_as_are_told_where_parts_have_no_number() -> None:
    made = [found for _, found in spread(_who, iter(range(3)), Workers(9), prepare=_take, given=(1,), most=1)]
    assert {pid for _, pid, _ in made} == {os.getpid()}


def test_a_process_computes_with_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, found in (("", "1"), ("3", "3")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if told:
            monkeypatch.setenv("OMP_NUM_THREADS", told)
        made = [one for _, one in spread(_who, range(2), Workers(2), prepare=_take, given=(1,))]
        assert {threads for _, _, threads in made} == {found}
        assert os.environ.get("OMP_NUM_THREADS", "") == told, "this process is told too"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "must be HOST:PORT"),
        ("ray://127.0.0.1:10001", "must be HOST:PORT"),
        ("127.0.0.1:1", "no cluster answers"),
    ],
)
def test_an_address_that_is_none_ends_at_once_in_one_line(address: str, said: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'emp-alphatrade[ray]'")
    with pytest.raises(UsageError, match=said) as told:
        list(on_ray(_who, [1], address, 1))
    assert "\n" not in str(told.value)


def test_nothing_to_do_needs_no_cluster() -> None:
    assert list(on_ray(_who, [], "127.0.0.1:1", 1)) == []


def test_a_worker_says_whatever_a_result_may_depend_on(tmp_path: Path) -> None:
    assert all(name in who().runs for name in ("emp ", "artifacts ", "Python ", "numpy ", "torch "))
    (tmp_path / "m.safetensors").write_bytes(b"1")
    before = shipped_hash.__wrapped__(tmp_path)
    (tmp_path / "m.safetensors").write_bytes(b"2")
    assert shipped_hash.__wrapped__(tmp_path) != before


def test_without_ray_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\", name='ray')\n")
    words = ["sim", "ablate", "--model", "goog", "--instrument", "GOOG", "--sessions", "5", "--ray", "auto"]
    done = subprocess.run(
        [sys.executable, "-m", "emp", *words],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("emp: ")]
    assert "ray is not installed (extra ray): " in line
    assert "pip install 'ray>=" in line or "emp-alphatrade[ray]" in line
