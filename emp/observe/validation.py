"""The system validation report: named checks, run one after another, green or red."""

import time
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from emp.core.errors import EmpError

Status = Literal["green", "red", "skipped"]


class SkipCheckError(EmpError):
    """A check cannot be made here; its message says what it needs."""


class Check(msgspec.Struct, frozen=True):
    """Something that must hold. `run` returns what it found, or raises.

    AssertionError says what does not hold, SkipCheckError that it cannot be told here; all else is red too.
    """

    name: str
    room: str
    run: Callable[[], str]


class Result(msgspec.Struct, frozen=True):
    """What came of a check."""

    name: str
    room: str
    status: Status
    detail: str
    ms: float


def run_check(check: Check) -> Result:
    """Run one check; whatever it raises becomes its result."""
    start = time.perf_counter()
    status: Status = "green"
    try:
        detail = check.run()
    except SkipCheckError as skip:
        status, detail = "skipped", str(skip)
    except AssertionError as failed:
        status, detail = "red", str(failed) or "does not hold"
    except Exception as failed:
        status, detail = "red", f"{type(failed).__name__}: {failed}"
    elapsed_ms = (time.perf_counter() - start) * 1e3
    return Result(check.name, check.room, status, " ".join(detail.split()), round(elapsed_ms, 1))


def run_checks(checks: Iterable[Check], told: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Run all checks in order; `told` hears of each result as it comes."""
    results = []
    for check in checks:
        results.append(run_check(check))
        told(results[-1])
    return results
