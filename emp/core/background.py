"""What runs beside the event loop comes through this port: threads on a machine, steps of a virtual clock in a drill.

Taps, the watchdog and the writers of the journal ask for it here and never make a thread themselves, so that a whole
run, threads and all, can be driven step by step by one seed (`emp.sim.chaos`).
"""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

SLICE_S = 0.0002
"""How long another thread may hold the interpreter while the loop has something to do; Python's own 5 ms are long."""

Step = Callable[[bool], bool]
"""Work done again and again; its argument is True in the last call. It returns False where it wants to be the last."""


class Repeated(Protocol):
    """Work that is done every so often."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Do it one last time, unless it has ended by itself, and return when that is over."""


class Worker(Protocol):
    """One thread's worth of jobs, done in order."""

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        """Let a job be done; the future says when it is, or what stopped it."""

    def shutdown(self) -> None:
        """Return when everything is done; nothing may be submitted after it."""


class Background(Protocol):
    """Makes what runs beside the loop."""

    def every(self, seconds: float, step: Step, name: str) -> Repeated:
        """Call `step(False)` every so many seconds, once it is started."""

    def worker(self, name: str) -> Worker:
        """A thread for jobs."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """While trading: no long collection of garbage, and short slices for other threads."""


class _Thread:
    def __init__(self, seconds: float, step: Step, name: str) -> None:
        self._seconds, self._step = seconds, step
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            last = self._end.wait(self._seconds)
            if not self._step(last):
                return


class _Executor:
    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        return self._pool.submit(job)

    def shutdown(self) -> None:
        self._pool.shutdown()


class Threads:
    """The machine's threads."""

    def every(self, seconds: float, step: Step, name: str) -> Repeated:
        """A daemon thread that waits between two steps."""
        return _Thread(seconds, step, name)

    def worker(self, name: str) -> Worker:
        """A pool of one thread."""
        return _Executor(name)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """What is there now is frozen: a full collection later must not walk it."""
        gc.collect()
        gc.freeze()
        before = sys.getswitchinterval()
        sys.setswitchinterval(SLICE_S)
        try:
            yield
        finally:
            sys.setswitchinterval(before)
            gc.unfreeze()


_current: Background = Threads()


def background() -> Background:
    """What makes threads here."""
    return _current


@contextmanager
def runs_on(other: Background) -> Iterator[None]:
    """Let everything that is made in this block run beside the loop as `other` has it."""
    global _current
    before, _current = _current, other
    try:
        yield
    finally:
        _current = before
