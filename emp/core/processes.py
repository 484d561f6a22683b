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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from emp.core.errors import UsageError

Part = TypeVar("Part")
Made = TypeVar("Made")

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
        jobs: how many processes, at least 1. Each begins by `prepare(*given)`.

    Raises:
        UsageError: a process ended before its work was done.
    """
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), _begin, (prepare, given)
    )
    left = iter(parts)
    waiting: dict[concurrent.futures.Future[Made], Part] = {}
    try:
        while True:
            for part in islice(left, jobs * IN_HAND - len(waiting)):
                waiting[pool.submit(make, part)] = part
            if not waiting:
                break
            done, _ = concurrent.futures.wait(waiting, return_when=concurrent.futures.FIRST_COMPLETED)
            for one in done:
                yield waiting.pop(one), one.result()
    except BaseException as error:
        _end(pool)
        if isinstance(error, BrokenProcessPool):
            raise UsageError(
                "a process ended before its work was done, for lack of memory or killed:"
                f" try fewer than {jobs} at once"
            ) from error
        raise
    pool.shutdown()


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
