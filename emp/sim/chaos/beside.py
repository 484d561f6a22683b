"""What a process has beside its loop, in virtual time: its clock and its threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from emp.core.background import Repeated, Step, Worker
from emp.sim.chaos.loop import Process, VirtualLoop

SELDOM = 0.1
"""Seconds between two steps of a thread, where it asks for less: how threads are scheduled is nobody's promise."""

VIEWER = "tap view"
VIEWED = 5.0
"""Seconds between two steps of the one that makes pictures for the console, at which nobody looks."""


class VirtualClock:
    """Wall and monotonic time of one machine of a world."""

    def __init__(self, loop: VirtualLoop, wall_ns: int) -> None:
        self._loop = loop
        self.offset_ns = wall_ns - loop.now_ns

    def now_ns(self) -> int:
        """Wall time."""
        return self._loop.now_ns + self.offset_ns

    def monotonic_ns(self) -> int:
        """Monotonic time."""
        return self._loop.now_ns

    def step(self, ns: int) -> None:
        """Step the wall clock."""
        self.offset_ns += ns


class _Repeated:
    def __init__(self, loop: VirtualLoop, seconds: float, step: Step) -> None:
        self._loop, self._ns, self._step = loop, int(max(seconds, SELDOM) * 1e9), step
        self._process: Process = loop.process
        self._over = False

    def start(self) -> None:
        self._loop.schedule(self._process, self._loop.now_ns + self._ns, self._run)

    def _run(self) -> None:
        if not self._over:
            self._over = not self._step(False)
            self.start()

    def stop(self) -> None:
        if not self._over:
            self._over = True
            self._step(True)


class _Inline:
    def submit(self, job: Callable[[], None]) -> "Future[None]":
        future: Future[None] = Future()
        try:
            job()
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def shutdown(self) -> None:
        pass


class VirtualThreads:
    """`emp.core.background.Background` on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def every(self, seconds: float, step: Step, name: str) -> Repeated:
        """A timer of the process."""
        return _Repeated(self._loop, VIEWED if name == VIEWER else seconds, step)

    def worker(self, name: str) -> Worker:
        """Jobs are done where they are handed over."""
        return _Inline()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Nobody disturbs."""
        yield
