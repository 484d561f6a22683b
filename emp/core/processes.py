"""Work spread over processes of this machine: what each part makes, as it comes.

    for part, made in in_processes(play, seeds, jobs=4):
        ...

A process that dies ends the work in one line. Ctrl-C is the caller's alone: the processes are ended, and say nothing.
They end as well where the caller is killed.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from emp.core.errors import UsageError

Part = TypeVar("Part")
Made = TypeVar("Made")

ENDS_WITHIN_S = 5.0
"""In which a pool that is broken ends its processes."""

_unprepared: Exception | None = None
"""What `prepare` has raised in this process."""

THREADS = "OMP_NUM_THREADS"

IN_HAND = 2
"""Parts that are given out for each process, so that none waits for the next."""


def in_processes(
    make: Callable[[Part], Made],
    parts: Iterable[Part],
    jobs: int,
    *,
    prepare: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[tuple[Part, Made]]:
    """Yield each part with what `make` makes of it, in the order in which they end.

    Parts are taken from their iterable as processes come free, so it may have no end, or end when it likes.

    Args:
        make: a function of a module, called in a process that knows nothing of this one; what it raises is raised here.
        jobs: how many processes, at least 1. Each begins by `prepare(*given)`; what that raises is raised here too.

    Raises:
        UsageError: a process ended before its work was done: by which signal, or with which code.
    """
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _begin, (prepare, given)
    )
    left = iter(parts)
    started: dict[int, BaseProcess] = {}  # the pool forgets those that have ended
    waiting: dict[concurrent.futures.Future[Made], Part] = {}
    try:
        while True:
            for part in islice(left, jobs * IN_HAND - len(waiting)):
                with _one_thread():
                    waiting[pool.submit(_make, make, part)] = part
                started.update(pool._processes or {})
            if not waiting:
                break
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for one in done:
                yield waiting.pop(one), one.result()
    except BaseException as error:
        broken = isinstance(error, BrokenProcessPool)
        # a cause is said where not a process has ended, but what it sent cannot be read
        said = str(error.__cause__ or "").strip("'\" \n").splitlines()
        how = "" if not broken else said[-1] if said else _how_ended(list(started.values()), jobs)
        _end(pool)
        if not broken:
            raise
        told = (
            "what a process has made cannot be read" if said else "a process ended before its work was done"
        )
        raise UsageError(f"{told}: {how}") from error
    pool.shutdown()


@contextmanager
def _one_thread() -> Iterator[None]:
    """A process that is begun meanwhile computes with one thread, unless told otherwise: the others are at work too."""
    told = THREADS in os.environ
    os.environ.setdefault(THREADS, "1")
    try:
        yield
    finally:
        if not told:
            del os.environ[THREADS]


def _how_ended(processes: Sequence[BaseProcess], jobs: int) -> str:
    """What is known of the first that has ended by itself: the pool ends the others, by SIGTERM."""
    until = time.monotonic() + ENDS_WITHIN_S
    while any(one.exitcode is None for one in processes) and time.monotonic() < until:
        time.sleep(0.01)  # not joined: the pool's own thread joins them, and of two the second learns nothing
    codes = [one.exitcode for one in processes if one.exitcode]
    code = next((one for one in codes if one != -signal.SIGTERM), codes[0] if codes else 0)
    if code == -signal.SIGKILL:
        return f"killed (SIGKILL), by somebody or for lack of memory: fewer than {jobs} at once take less"
    if code < 0:
        return f"signal {_signal_name(-code)}"
    return f"exit code {code}" if code else "nobody knows how"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _end(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """End a pool without waiting for what its processes are at: nobody will ask for it."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for one in processes:
        one.terminate()
    for one in processes:
        one.join()


def _begin(prepare: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    """What a process does first."""
    global _unprepared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        try:
            prepare(*given)
        except Exception as error:  # the pool would only say that a process ended
            _unprepared = error


def _make(make: Callable[[Part], Made], part: Part) -> Made:
    """What a process makes of a part, or what it could not be prepared for."""
    if _unprepared is not None:
        raise _unprepared
    return make(part)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
