"""Work spread over workers: processes of this machine, or those of a Ray cluster where an address is given.

    for part, made in spread(play, seeds, Workers(jobs=4)):
        ...

What is made depends on the part alone, never on who makes it: random numbers are seeded by the part, and what comes in
the order in which it ends is put in its place by the part that comes with it. So results are equal on one process, on
many, and on a cluster of machines of one kind.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple, TypeVar

from emp.core.platform import usable_cores
from emp.core.processes import in_processes

Part = TypeVar("Part")
Made = TypeVar("Made")


class Workers(NamedTuple):
    """Who does the work."""

    jobs: int = 0  # how many at once; 0: as many as there are cores, here or in the cluster
    ray: str = (
        ""  # address of a cluster, or "auto" for the one of this machine; "": processes of this machine
    )


ALONE = Workers(1)
"""This process itself."""


def spread(
    make: Callable[[Part], Made],
    parts: Iterable[Part],
    workers: Workers,
    *,
    prepare: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
    most: int = 0,
) -> Iterator[tuple[Part, Made]]:
    """Yield each part with what `make` makes of it, in the order in which they end.

    Parts are taken from their iterable as workers come free. One worker alone, of this machine, is this process.

    Args:
        make: a function of a module of this package, called by a worker that knows nothing of this process.
        parts: what can be pickled, as what is made of it.
        workers: who does it.
        prepare: `prepare(*given)` is called once by each worker, before its first part.
        given: its arguments.
        most: no more workers than this are begun; 0: than there are parts, where they know their number.

    Raises:
        UsageError: a worker ended before its work was done, runs other code, or there is no such cluster.
        Exception: what `make` or `prepare` raised first.
    """
    most = most or (len(parts) if isinstance(parts, Sized) else 0)
    if workers.ray:
        from emp.core.on_ray import on_ray

        jobs = min(workers.jobs, most) if workers.jobs and most else workers.jobs or most
        yield from on_ray(make, parts, workers.ray, jobs, prepare=prepare, given=given)
        return
    jobs = workers.jobs or usable_cores()
    jobs = min(jobs, most) if most else jobs
    if jobs > 1:
        yield from in_processes(make, parts, jobs, prepare=prepare, given=given)
        return
    if prepare is not None:
        prepare(*given)
    for part in parts:
        yield part, make(part)
