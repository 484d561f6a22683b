"""The engine broken in planted ways: a world that does not notice is no proof of anything.

A mutant is a change of one place of a source file, made while the module is imported, in a process of its own. Only
Python is changed, no compiled kernel, so that no cached code is stale. Worlds are played until one is violated.
"""

import concurrent.futures
import importlib.abc
import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emp.app.chaos.mutations import MUTANTS, Mutant
from emp.core.errors import UsageError

LONGEST_S = 1_800.0


class Hunted(msgspec.Struct, frozen=True):
    """What became of a mutant."""

    name: str
    killed: bool
    seed: int | None = None
    seeds_needed: int | None = None
    check: str = ""


def mutants(part: str = "") -> list[Mutant]:
    """All mutants, or those whose name holds `part`; UsageError where there is none."""
    found = [one for one in MUTANTS if part in one.name]
    if not found:
        raise UsageError(f"no mutant {part!r}; there are {', '.join(one.name for one in MUTANTS)}")
    return found


def hunt(chosen: Sequence[Mutant], seeds: int, jobs: int) -> Iterator[Hunted]:
    """Play up to so many seeds against each mutant, `jobs` of them at a time, until it is killed."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(_hunt_one, one, seeds) for one in chosen]
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()


def _hunt_one(mutant: Mutant, seeds: int) -> Hunted:
    command = [sys.executable, "-W", "ignore", "-m", __name__, mutant.name, str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    try:
        return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Hunted)
    except (IndexError, msgspec.MsgspecError):
        why = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        return Hunted(mutant.name, killed=False, check=f"could not be hunted: {why}")


# --- in the process of one mutant -------------------------------------------------------------------------------------


class _Source(importlib.machinery.SourceFileLoader):
    """Loads a module with its change; never from, and never into, a cache of bytecode."""

    change: Mutant

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return compile(mutated(Path(path).read_text(encoding="utf-8"), self.change), path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        loader = _Source(fullname, spec.origin)
        loader.change = self._mutant
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the change; UsageError where it has no such place any more, or several."""
    if source.count(mutant.old) != 1:
        raise UsageError(f"mutant {mutant.name}: {mutant.module} has {source.count(mutant.old)} such places")
    return source.replace(mutant.old, mutant.new)


class _Tried(NamedTuple):
    seed: int
    check: str


def _killer(mutant: Mutant, seeds: int) -> _Tried | None:
    from emp.app.chaos.drill import prepare, result_of

    try:
        prepare()
    except Exception as error:  # it cannot even begin
        return _Tried(0, f"the start: {type(error).__name__}")
    for seed in range(seeds):
        violations = result_of(seed, mutant.kinds).violations
        if violations:
            return _Tried(seed, violations[0].check)
    return None


def main(name: str, seeds: int) -> None:
    """Hunt one mutant in this process, and print what became of it."""
    (mutant,) = [one for one in MUTANTS if one.name == name]
    if mutant.module in sys.modules:
        raise UsageError(f"{mutant.module} is imported already: it cannot be changed any more")
    sys.meta_path.insert(0, _Finder(mutant))
    killer = _killer(mutant, seeds)
    if killer is None:
        print(json.dumps({"name": name, "killed": False}))
    else:
        found = {"seed": killer.seed, "seeds_needed": killer.seed + 1, "check": killer.check}
        print(json.dumps({"name": name, "killed": True, **found}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
