"""Says that something is being compiled. Apart from `jit.py`, so that kernels do not hang on its words."""

from typing import Any

from numba.core import event

from emp.core.platform import say


class _Announcement(event.Listener):
    """Says its line when the first kernel is compiled, as opposed to read from the cache."""

    def __init__(self, line: str) -> None:
        self._line = line

    def on_start(self, event: Any) -> None:
        line, self._line = self._line, ""
        if line:
            say(line)

    def on_end(self, event: Any) -> None:
        pass


def announce_compiling(line: str) -> None:
    """Say a line once, on stderr, as soon as this process compiles anything: that takes minutes the first time."""
    register: Any = event.register  # numba has no types
    register("numba:compile", _Announcement(line))
