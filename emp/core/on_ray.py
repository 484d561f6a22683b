"""Work on the workers of a Ray cluster (extra `ray`): what each part makes, as it comes.

A worker is an actor, a process on some machine of the cluster, that imports this package from there. It refuses to work
for other sources, another Python or other compilers than its own. Parts and what is made of them travel pickled, as
between processes of one machine. Paths are opened on the machine of the worker.
"""

import hashlib
import logging
import os
import pickle
import platform
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from emp.core.code_version import code_version
from emp.core.errors import UsageError
from emp.core.numba.cache import PACKAGE

Part = TypeVar("Part")
Made = TypeVar("Made")

COMPILERS = ("numpy", "numba", "llvmlite", "torch")
"""Whose release a result may depend on, where they are installed."""

SHIPPED = ("*.safetensors", "*.npz")
"""Files of the package, beside its sources, that a result may depend on."""

IN_HAND = 2
"""Parts that are given out to each worker, so that none waits for the next."""

REACHED_WITHIN_S = 5.0
"""In which the head of a cluster takes a connection."""

SHOWN = 200
"""Characters that are shown of what Ray says."""


class Who(NamedTuple):
    """What a worker says of itself."""

    host: str
    pid: int
    runs: str  # what results may depend on, but for the kind of processor


class Actor:
    """A worker of the cluster; answers are pickled (it went well, what was made or raised)."""

    def begin(self, begun: bytes) -> bytes:
        """Say who it is, and prepare."""
        return _answered(lambda: _begin(begun))

    def make(self, make: bytes, part: bytes) -> bytes:
        """Make something of a part."""
        return _answered(lambda: pickle.loads(make)(pickle.loads(part)))


def who() -> Who:
    """This process."""
    compilers = ", ".join(f"{name} {_release(name)}" for name in COMPILERS)
    emp = f"emp {code_version()} with artifacts {shipped_hash(PACKAGE)}"
    return Who(platform.node(), os.getpid(), f"{emp}, Python {platform.python_version()}, {compilers}")


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@cache
def shipped_hash(package: Path) -> str:
    """Of models and flows that a package ships, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(one for kind in SHIPPED for one in package.rglob(kind)):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def on_ray(
    make: Callable[[Part], Made],
    parts: Iterable[Part],
    address: str,
    jobs: int,
    *,
    prepare: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[tuple[Part, Made]]:
    """Yield each part with what `make` makes of it, in the order in which they end.

    Args:
        make: as of `emp.core.spread.spread`, and `parts`, `prepare` and `given` too.
        address: of the cluster, HOST:PORT, or "auto".
        jobs: workers at most; 0, or more than the cluster has processors: one for each of them.

    Raises:
        UsageError: no cluster answers, a worker runs other code, or ended before its work was done.
        ModuleNotFoundError: Ray is not installed.
    """
    left = iter(parts)
    first = list(islice(left, 1))
    if not first:
        return  # nothing to do needs no cluster
    with _cluster(address) as ray:
        cores = int(ray.cluster_resources().get("CPU", 0))
        if not cores:
            raise UsageError(f"--ray {address}: the cluster has no processor to give")
        kind = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(Actor)
        actors = [kind.remote() for _ in range(min(jobs or cores, cores))]
        try:
            yield from _work(
                ray, actors, pickle.dumps((who().runs, prepare, given)), make, chain(first, left)
            )
        finally:
            for one in actors:
                with suppress(Exception):  # it may be gone, and the cluster too
                    ray.kill(one)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected."""
    import ray

    _reach(address)
    try:
        ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"--ray {address}: no cluster answers: {_short(error)}") from error
    _quieten(ray)
    try:
        yield ray
    finally:
        ray.shutdown()


def _quieten(ray: Any) -> None:
    """Keep off stdout, which is for results, what Ray tells there of workers that died: it is said in one line here."""
    with suppress(AttributeError):  # it has no switch for that
        ray._private.worker.print_to_stdstream = lambda *told, **more: None


def _reach(address: str) -> None:
    """See that somebody listens, at once: Ray itself would try for minutes.

    Raises:
        UsageError: nobody does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or "/" in host or not port.isdigit():
        raise UsageError(
            f"--ray {address}: must be HOST:PORT of the cluster's head, or auto on a machine of it"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(f"--ray {address}: no cluster answers: {_short(error)}") from error


def _work(
    ray: Any, actors: list[Any], begun: bytes, make: Callable[[Part], Made], parts: Iterable[Part]
) -> Iterator[tuple[Part, Made]]:
    """Give parts to each actor that has begun: one that still waits for a processor holds nothing back."""
    make_, left = pickle.dumps(make), iter(parts)
    names = dict.fromkeys(actors, "a worker of the cluster")
    beginning = {one.begin.remote(begun): one for one in actors}
    waiting: dict[Any, tuple[Any, Part]] = {}
    while beginning or waiting:
        (done,), _ = ray.wait([*waiting, *beginning], num_returns=1)
        one = beginning.pop(done, None)
        if one is not None:
            found = _fetched(ray, done, names[one])
            names[one] = f"a worker of the cluster (process {found.pid} on {found.host})"
        else:
            one, part = waiting.pop(done)
            yield part, _fetched(ray, done, names[one])
        mine = sum(other is one for other, _ in waiting.values())
        for part in islice(left, IN_HAND - mine):
            waiting[one.make.remote(make_, pickle.dumps(part))] = one, part
        if not waiting:
            return  # nothing is left, whoever has not begun yet


def _fetched(ray: Any, reference: Any, name: str) -> Any:
    """What a worker has answered; what it raised is raised here."""
    try:
        answer = ray.get(reference)
    except ray.exceptions.RayError as error:
        if "No module named 'emp'" in str(error):
            raise UsageError(
                f"{name} has no emp: install this very version on every machine of it"
            ) from error
        killed = isinstance(error, ray.exceptions.ActorDiedError) and "process" in name
        how = (
            "killed, by somebody or for lack of memory: fewer at once take less" if killed else _short(error)
        )
        raise UsageError(f"{name} ended before its work was done: {how}") from error
    try:
        well, found = pickle.loads(answer)
    except Exception as error:
        raise UsageError(f"what {name} has made cannot be read: {type(error).__name__}: {error}") from error
    if not well:
        raise found
    return found


def _begin(begun: bytes) -> Who:
    """Refuse other code before anything of it is run."""
    runs, *_ = loaded = pickle.loads(begun)
    me = who()
    if me.runs != runs:
        raise UsageError(
            f"--ray: {me.host} runs {me.runs}, here is {runs}: the same is needed on every machine"
        )
    _, prepare, given = loaded
    if prepare is not None:
        prepare(*given)
    return me


def _answered(work: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps((True, work()))
    except Exception as error:
        return pickle.dumps((False, error))


def _short(error: BaseException) -> str:
    """What Ray says, in a part of a line."""
    said = " ".join(str(error).split())
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
