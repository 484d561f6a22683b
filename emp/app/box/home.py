"""Home's side: it asks the box, over whatever pipe a command makes (`ssh trader@box`)."""

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emp.app.box.frames import (
    FETCH,
    Answer,
    Reads,
    Request,
    Shelved,
    Writes,
    hear,
    receive_files,
    say,
    send_files,
)
from emp.app.box.shelf import held, of_registry, of_runs, registry_files
from emp.core.errors import UsageError
from emp.governance.exchange import Taken, take
from emp.governance.registry import Registry

END_S = 10.0
"""How long the command may take to end once nothing is asked any more."""

Told = Callable[[int, int], None]
"""Called with the bytes that have come, and how many there are."""


class Line:
    """A connection to a box."""

    def __init__(self, heard: Reads, said: Writes) -> None:
        self._heard, self._said = heard, said

    def fetch_runs(self, into: Path, told: Told) -> tuple[int, int]:
        """Bring market data that is not here, or has grown; files and bytes. It can be broken off and done again."""
        there = self._ask(Request("runs")).files
        wanted = {one.path: one.size for one in there if of_runs(one.path) and not _is_here(into, one)}
        total = sum(wanted.values())
        self._ask(Request("send", list(wanted)))
        files = size = 0
        for one in receive_files(self._heard, into, wanted.__contains__, FETCH):
            files, size = files + 1, size + one.size
            told(size, total)
        return files, size

    def fetch_registry(self, registry: Registry) -> Taken:
        """Take what the box has signed since."""
        self._ask(Request("registry", held(registry.home)))
        with tempfile.TemporaryDirectory(prefix="emp-fetched-") as folder:
            for _ in receive_files(self._heard, Path(folder), of_registry, FETCH):
                pass
            return take(registry, Path(folder))

    def offer(self, registry: Registry) -> Answer:
        """Send what the box's registry lacks; what it says of it. It verifies all of it before anything changes."""
        had = self._ask(Request("have")).names
        with suppress(BrokenPipeError):  # it has refused something, and says what
            say(self._said, Request("take"))
            send_files(self._said, registry_files(registry.home, had))
        return self._answer()

    def _ask(self, request: Request) -> Answer:
        with suppress(BrokenPipeError):  # it has ended: what it has said before says more
            say(self._said, request)
        return self._answer()

    def _answer(self) -> Answer:
        answer = hear(self._heard, Answer)
        if answer is None:
            raise UsageError("the box has ended without an answer: is it there, and does it take this key?")
        if answer.error:
            raise UsageError(f"the box says: {answer.error}")
        return answer


def _is_here(into: Path, one: Shelved) -> bool:
    try:
        facts = (into / one.path).stat()
    except OSError:
        return False
    return (facts.st_size, facts.st_mtime_ns) == (one.size, one.mtime_ns)


@contextmanager
def line_to(address: str) -> Iterator[Line]:
    """A connection made by a command whose standard input and output are the box's.

    Raises:
        UsageError: the command cannot be started.
    """
    command = shlex.split(address)
    if not command:
        raise UsageError("the box's address is a command, as in 'ssh trader@box'")
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror}") from error
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Line(process.stdout, process.stdin)
    finally:
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):  # what was buffered has nobody left to go to
                pipe.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:  # its line is dead
            process.kill()
            process.wait()
