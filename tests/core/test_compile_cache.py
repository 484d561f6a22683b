"""The cache of compiled code: what is wrong with it costs time and one line, and time only once where it can."""

import concurrent.futures
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emp.core.clock import LiveClock
from emp.core.numba import cache, jit
from emp.core.numba.cache import DAY_NS, cache_root, prune, size_bytes, unusable

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
from emp.core.numba.jit import kernel

@kernel
def twice(x):
    return 2 * x

print(twice(21), "loaded" if twice.stats.cache_hits else "compiled")
"""


class Starts:
    """Starts a program that compiles one kernel, in processes of their own, with the cache in a folder."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.home = folder / "home"
        self.home.mkdir()
        self.program = folder / "program.py"
        self.program.write_text(PROGRAM)

    def __call__(self, before: Callable[[], None] | None = None, **environment: str) -> tuple[str, list[str]]:
        """What it printed, and the lines on stderr."""
        done = subprocess.run(
            [sys.executable, str(self.program)],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=before,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOME": str(self.home),
                "EMP_CACHE": str(self.cache),
                **environment,
            },
        )
        return done.stdout.strip(), done.stderr.strip().splitlines()


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    return Starts(tmp_path)


COMPILED, LOADED = ("42 compiled", []), ("42 loaded", [])


def test_the_second_start_loads_also_where_the_times_of_the_sources_changed(starts: Starts) -> None:
    assert starts() == COMPILED
    os.utime(starts.program, (1, 1))
    assert starts() == LOADED


def test_compiling_is_said_once_and_loading_never(starts: Starts) -> None:
    before, after = PROGRAM.split("print", 1)
    told = "from emp.core.numba.announce import announce_compiling"
    starts.program.write_text(
        f"{told}\n{before}announce_compiling('it takes long')\ntwice(0.5)\nprint{after}"
    )
    assert starts() == ("42 compiled", ["it takes long"])
    assert starts() == LOADED


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_a_full_disk_is_one_line_and_heals(starts: Starts) -> None:
    said, (line,) = starts(full_disk)
    assert said == "42 compiled"
    assert line.startswith(f"emp: compiled code cannot be kept in {starts.cache}/numba (")
    assert "EMP_CACHE" in line
    assert starts() == COMPILED
    assert starts() == LOADED
    assert starts(full_disk) == LOADED


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_remains_of_a_crash_are_compiled_again_once(starts: Starts, pattern: str) -> None:
    starts()
    damaged = list(starts.cache.rglob(pattern))
    assert damaged
    for path in damaged:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert starts() == COMPILED
    assert starts() == LOADED


def test_code_of_two_cpus_lies_side_by_side(starts: Starts) -> None:
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert starts() == COMPILED
    assert starts(**other) == COMPILED
    assert starts() == LOADED
    assert starts(**other) == LOADED


def test_a_folder_that_cannot_be_made_gives_way_to_the_users_own(starts: Starts) -> None:
    starts.cache.write_text("a file stands where the folder should")
    said, (line,) = starts()
    assert said == "42 compiled"
    assert line == (
        f"emp: {starts.cache} cannot be made (file exists): compiled code is kept in {starts.home}/.cache/emp"
        " instead (EMP_CACHE names another folder)"
    )
    assert starts() == LOADED


def test_where_nothing_can_be_written_every_start_says_that_it_compiles(starts: Starts) -> None:
    starts.cache.write_text("")
    starts.home.rmdir()
    starts.home.write_text("")
    for _ in range(2):
        said, (line,) = starts()
        assert said == "42 compiled"
        assert "every start compiles for about a minute" in line


def test_where_every_folder_is_another_users_nothing_of_it_is_run(starts: Starts) -> None:
    assert starts() == COMPILED
    theirs = "from emp.core.numba import cache\ncache.is_ours = lambda facts: False\n"
    starts.program.write_text(theirs + PROGRAM)  # as root may write there, and sudo leads to
    kept = sorted(starts.cache.rglob("*"))
    for _ in range(2):
        said, (line,) = starts()
        assert said == "42 compiled"
        assert f"({starts.cache} belongs to another user)" in line
    assert sorted(starts.cache.rglob("*")) == kept


def test_a_user_without_a_home_has_a_folder_of_his_own_among_temporary_files(starts: Starts) -> None:
    nowhere = "from pathlib import Path\ndef none():\n    raise RuntimeError\nPath.home = none\n"
    starts.program.write_text(nowhere + PROGRAM)
    starts.cache.write_text("a file stands where the folder should")
    said, (line,) = starts(TMPDIR=str(starts.home))
    assert said == "42 compiled"
    assert f"is kept in {starts.home}/emp-cache-{os.geteuid()} instead" in line
    assert starts(TMPDIR=str(starts.home)) == LOADED


def test_code_of_another_user_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("EMP_CACHE", str(theirs))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cache, "is_ours", lambda facts: facts.st_ino != theirs.stat().st_ino)
    assert cache_root() == tmp_path / ".cache/emp"
    assert "belongs to another user" in capsys.readouterr().err
    assert unusable(theirs)


def used(folder: Path, days_ago: float) -> Path:
    folder.mkdir()
    then = LiveClock().now_ns() - int(days_ago * DAY_NS)
    os.utime(folder, ns=(then, then))
    return folder


def test_a_long_pause_or_a_clock_far_ahead_empties_nothing(tmp_path: Path) -> None:
    mine, old = used(tmp_path / "mine", 400), used(tmp_path / "old", 410)
    assert prune(tmp_path, 7.0) == [old]
    assert mine.exists()


def test_marks_from_a_clock_that_ran_ahead_age_again(tmp_path: Path) -> None:
    mine, ahead = used(tmp_path / "mine", 1), used(tmp_path / "ahead", -900)
    assert prune(tmp_path, 7.0) == []
    assert ahead.stat().st_mtime_ns <= LiveClock().now_ns()
    assert mine.exists()


def test_size_is_that_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_bytes(b"12345")
    (tmp_path / "d").write_bytes(b"67")
    assert size_bytes(tmp_path) == 7
    assert size_bytes(tmp_path / "none") == 0


TOGETHER = """
import sys
import time
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from emp.core.numba.jit import is_kept, kernel

save = IndexDataCacheFile._save_index

def save_slowly(self, overloads):  # so that the two do meet
    time.sleep(0.2)
    save(self, overloads)

IndexDataCacheFile._save_index = save_slowly

@kernel
def total(values):
    sum = values[0]
    for value in values[1:]:
        sum += value
    return sum

before = is_kept(total)
kinds = {"ints": (int,), "floats": (float,), "both": (int, float)}[sys.argv[1]]
here = Path(__file__).parent
(here / sys.argv[1]).touch()
while not ((here / "ints").exists() and (here / "floats").exists()):
    time.sleep(0.01)
for n in range(2, 12):
    for kind in kinds:
        assert total((kind(n),) * n) == n * n
print(before, sum(total.stats.cache_misses.values()))
"""


def test_processes_that_compile_the_same_kernel_at_once_keep_what_each_has_compiled(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TOGETHER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EMP_CACHE": str(tmp_path / "cache")}

    def start(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(program), kind]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    together = [start("ints"), start("floats")]
    assert [one.communicate()[0].split()[1] for one in together] == ["10", "10"]
    assert start("both").communicate()[0].split() == ["True", "0"]


def test_threads_that_make_kernels_beside_one_another_each_have_their_cache(tmp_path: Path) -> None:
    """Numba reads the folder from a variable of the process: another thread's must never be in it, nor stay there."""

    class Slow:
        def __init__(self, function: Any) -> None:
            told = jit.CONFIG.CACHE_DIR
            time.sleep(0.002)
            assert told == jit.CONFIG.CACHE_DIR == str(function)

    before = jit.CONFIG.CACHE_DIR
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = [
            pool.submit(jit._cache_at, Slow, folder, folder)
            for folder in map(tmp_path.joinpath, "abcdefghij")
        ]
    assert [one.exception() for one in made] == [None] * 10
    assert before == jit.CONFIG.CACHE_DIR
