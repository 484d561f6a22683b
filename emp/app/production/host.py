"""The machine that is examined: its files below a root, and what its own programs say of it.

What cannot be looked at raises UnseenError, and the examination counts it as bad: nothing passes unseen.
"""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from emp.core.disk import disk
from emp.core.small_file import read_small

PATIENCE_S = 20.0
"""Longest that a program is waited for; one that restores a copy may take longer and says so itself."""


ANSWER_S = 10.0


class UnseenError(Exception):
    """Something could not be looked at; the text says what and why."""


class Answer(NamedTuple):
    """What a program said."""

    code: int
    out: str
    err: str


Runner = Callable[[Sequence[str], Mapping[str, str], float], Answer]


def run_program(words: Sequence[str], environ: Mapping[str, str], seconds: float) -> Answer:
    """Run a program of this machine to its end; OSError or subprocess.TimeoutExpired where it has none."""
    done = subprocess.run(
        list(words),
        env={**os.environ, "LC_ALL": "C.UTF-8", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def fetch(url: str) -> bytes:
    """What an address on this machine answers, well or not; OSError where nothing does."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=ANSWER_S) as answer:
            return bytes(answer.read())
    except HTTPError as error:
        return error.read()


class Host:
    """A machine, or a folder that stands for one."""

    def __init__(
        self,
        now_ns: int,
        root: Path = Path("/"),
        run: Runner = run_program,
        fetch: Callable[[str], bytes] = fetch,
        superuser: int = 0,
    ) -> None:
        """`superuser` is the user that owns what root owns; `now_ns` the wall time that ages are counted to."""
        self.root, self._run, self._fetch = root, run, fetch
        self.superuser, self.now_ns = superuser, now_ns

    def path(self, name: str) -> Path:
        """Where a file of the machine lies; `name` begins with a slash."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """A small file's text; UnseenError where there is none or it cannot be read."""
        try:
            return read_small(self.path(name)).decode("utf-8", "replace")
        except OSError as error:
            raise UnseenError(_why(name, error)) from None

    def facts(self, name: str) -> os.stat_result:
        """Owner, mode and times of what a name leads to; UnseenError where it leads nowhere."""
        try:
            return self.path(name).stat()
        except OSError as error:
            raise UnseenError(_why(name, error)) from None

    def is_there(self, name: str) -> bool:
        """Whether a name is there; UnseenError where that cannot be told."""
        try:
            os.lstat(self.path(name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return False
            raise UnseenError(_why(name, error)) from None
        return True

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; UnseenError where it cannot be listed."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError as error:
            raise UnseenError(_why(folder, error)) from None

    def ask(
        self, *words: str, environ: Mapping[str, str] | None = None, seconds: float = PATIENCE_S
    ) -> Answer:
        """What a program says, whatever its exit code; UnseenError where it is not there or does not end."""
        try:
            return self._run(words, environ or {}, seconds)
        except FileNotFoundError:
            raise UnseenError(f"{words[0]} is not installed") from None
        except OSError as error:
            raise UnseenError(_why(words[0], error)) from None
        except subprocess.TimeoutExpired:
            raise UnseenError(f"{' '.join(words[:2])} has not answered within {seconds:.0f} s") from None

    def told(self, *words: str, environ: Mapping[str, str] | None = None, seconds: float = PATIENCE_S) -> str:
        """What a program prints; UnseenError where it fails."""
        answer = self.ask(*words, environ=environ, seconds=seconds)
        if answer.code:
            said = (answer.err or answer.out).strip().splitlines()
            raise UnseenError(f"{' '.join(words[:2])}: {said[-1] if said else f'exit code {answer.code}'}")
        return answer.out

    def answer(self, url: str) -> bytes:
        """What an address on this machine answers; UnseenError where nothing does."""
        try:
            return self._fetch(url)
        except OSError as error:
            raise UnseenError(f"{url} does not answer: {error}") from None

    def files(self, name: str) -> int:
        """How many files an ordinary user may still make where a name lies; UnseenError where that cannot be asked."""
        try:
            return disk().room(self.path(name)).files
        except OSError as error:
            raise UnseenError(_why(name, error)) from None

    def free(self, name: str) -> tuple[int, float]:
        """Bytes that an ordinary user may still write where a name lies, and the share of the disk that they are."""
        try:
            used = shutil.disk_usage(self.path(name))
        except OSError as error:
            raise UnseenError(_why(name, error)) from None
        return used.free, used.free / used.total


def open_to_others(facts: os.stat_result) -> bool:
    """Whether anybody but its owner can do anything with a file."""
    return bool(stat.S_IMODE(facts.st_mode) & 0o077)


def _why(name: str, error: OSError) -> str:
    return f"{name}: {(error.strerror or str(error)).lower()}"
