"""Many worlds: seed after seed over the cores of a machine, kept in a file that a later run goes on with."""

import contextlib
import ctypes
import gc
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import partial
from pathlib import Path

import msgspec

from emp.app.chaos.market import EVENTS
from emp.app.chaos.promises import Violation
from emp.app.chaos.world import Outcome, World, warm_up
from emp.core.code_version import code_version
from emp.core.errors import UsageError
from emp.core.spread import Workers, spread
from emp.sim.chaos.plan import Plan, drawn

_M_MMAP_THRESHOLD = -3


class Result(msgspec.Struct, frozen=True):
    """What one seed came to."""

    seed: int
    violations: list[Violation]
    faults: dict[str, int]
    ended: str
    virtual_s: float
    cpu_s: float
    starts: int
    orders: int
    fills: int
    told: str
    code: str = ""  # that played it, and
    kinds: tuple[str, ...] = ()  # the faults that it was given, where it was kept


def plan_of(seed: int, kinds: Sequence[str] = ()) -> Plan:
    """The plan of a seed; with `kinds` of these faults only."""
    return drawn(seed, rows=EVENTS, kinds=tuple(kinds))


def play(plan: Plan) -> Outcome:
    """One world, from its beginning to its end, in a folder of its own that is gone afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix="emp-chaos-", dir=_memory()))
    try:
        return World(plan, scratch).run()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def result_of(seed: int, kinds: Sequence[str] = ()) -> Result:
    """What a seed comes to; `cpu_s` is what it took of this process."""
    began = time.process_time()
    outcome = play(plan_of(seed, kinds))
    return Result(
        seed=seed,
        violations=outcome.violations,
        faults=outcome.faults,
        ended=outcome.ended,
        virtual_s=outcome.virtual_s,
        cpu_s=time.process_time() - began,
        starts=outcome.starts,
        orders=outcome.orders,
        fills=outcome.fills,
        told=outcome.told,
    )


def prepare() -> None:
    """Compile what worlds run; once in each process, before the first."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _give_large_memory_back()
    scratch = Path(tempfile.mkdtemp(prefix="emp-chaos-", dir=_memory()))
    try:
        warm_up(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    gc.collect()
    gc.freeze()  # what is compiled and imported stays: a world looks at its own garbage alone


def _give_large_memory_back() -> None:
    """Let what a world held in large pieces go back to the system when it is over: glibc would learn to keep it, and a
    process that plays thousands of worlds grow by megabytes with each.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 18)


def _memory() -> str | None:
    """A folder in memory, where the system has one: a world syncs all the time."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def sweep(
    seeds: Iterable[int],
    *,
    workers: Workers,
    kinds: Sequence[str] = (),
    until: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Play seeds and yield their results as they come; no new one once `until` says so."""
    most = len(seeds) if isinstance(seeds, Sized) else 0
    in_time = itertools.takewhile(lambda seed: not until(), seeds)
    for _, result in spread(partial(result_of, kinds=kinds), in_time, workers, prepare=prepare, most=most):
        yield result


class Kept:
    """Results in a file, a JSON object a line; a line that was cut is played again, and so is one of other code or of
    other kinds of faults: a drill says nothing of what it did not play.
    """

    def __init__(self, path: Path | None, kinds: Sequence[str] = ()) -> None:
        """UsageError where the file holds something else."""
        self.results: dict[int, Result] = {}
        self._path, self._code, self._kinds = path, code_version(), tuple(kinds)
        if path is None or not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                result = msgspec.json.decode(line, type=Result)
            except msgspec.MsgspecError as error:
                raise UsageError(f"{path}: line {number} is no result of emp chaos ({error})") from None
            if (result.code, result.kinds) == (self._code, self._kinds):
                self.results[result.seed] = result
        whole = b"\n".join(lines[:-1]) + b"\n" if len(lines) > 1 else b""
        if lines[-1]:
            path.write_bytes(whole)

    def add(self, result: Result) -> None:
        """Keep one more."""
        self.results[result.seed] = result
        if self._path is not None:
            stamped = msgspec.structs.replace(result, code=self._code, kinds=self._kinds)
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(stamped) + b"\n")


def shrunk(plan: Plan, check: str) -> Plan:
    """The plan with the fewest faults, and the shortest, that still breaks a check: cut one by one."""

    def breaks(candidate: Plan) -> bool:
        return any(one.check == check for one in play(candidate).violations)

    faults = list(plan.faults)
    at = 0
    while at < len(faults):
        fewer = tuple(faults[:at] + faults[at + 1 :])
        if breaks(msgspec.structs.replace(plan, faults=fewer)):
            faults = list(fewer)
        else:
            at += 1
    plan = msgspec.structs.replace(plan, faults=tuple(faults))
    last_ms = max((one.at_ms for one in faults), default=0)
    shorter = msgspec.structs.replace(plan, lasts_ms=last_ms + 1_000)
    return shorter if breaks(shorter) else plan


def kept_faults(whole: Plan, part: Plan) -> list[int]:
    """Numbers, from 1, of the whole plan's faults that a part of it has."""
    return [k for k, one in enumerate(whole.faults, 1) if one in part.faults]
