"""What may leave a machine, and what may be put there: by name, and nothing that a name does not say."""

import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from emp.app.box.frames import Shelved

_RUNS = re.compile(r"\w[\w.-]*/(manifest\.json|market/part-\d{5,}\.parquet)")
_LOGS = re.compile(r"audit\.jsonl|ledgers/\w+\.jsonl")
_HELD = re.compile(r"(evidence|verdicts)/[0-9a-f]{64}\.json|models/[0-9a-f]{64}/\w[\w.-]*")


def of_runs(path: str) -> bool:
    """Whether a path below the runs is market data or what names it: the one kind of file that training needs."""
    return _RUNS.fullmatch(path) is not None and ".." not in path


def of_registry(path: str) -> bool:
    """Whether a path below a registry is a log, or something that logs tell of; keys are neither."""
    return (_LOGS.fullmatch(path) or _HELD.fullmatch(path)) is not None and ".." not in path


def shelved_runs(runs: Path) -> list[Shelved]:
    """Market journals of all runs, each with its manifest. The newest part of a run that goes on grows: its size and
    time say whether it is another than before.
    """
    found = [*runs.glob("*/manifest.json"), *runs.glob("*/market/part-*.parquet")]
    named = [(path.relative_to(runs).as_posix(), path) for path in sorted(found) if not path.is_symlink()]
    shelf = []
    for name, path in named:
        with suppress(FileNotFoundError):  # it has gone meanwhile
            if of_runs(name):
                facts = path.stat()
                shelf.append(Shelved(name, facts.st_size, facts.st_mtime_ns))
    return shelf


def held(registry: Path) -> list[str]:
    """Names of evidence, verdicts and models of a registry: what is named by its content, and never changes."""
    found = [path for part in ("evidence", "verdicts", "models") for path in (registry / part).rglob("*")]
    names = [path.relative_to(registry).as_posix() for path in sorted(found) if path.is_file()]
    return [name for name in names if _HELD.fullmatch(name)]


def logs(registry: Path) -> list[str]:
    """Names of a registry's logs: the trail first."""
    return [
        path.relative_to(registry).as_posix()
        for path in (registry / "audit.jsonl", *sorted((registry / "ledgers").glob("*.jsonl")))
        if path.is_file()
    ]


def registry_files(registry: Path, had: Collection[str]) -> Iterator[tuple[str, Path]]:
    """A registry's logs, and what it holds beside `had`. The logs are sent before anything else is listed: whatever
    they tell of is there by then.
    """
    for name in logs(registry):
        yield name, registry / name
    known = set(had)
    for name in held(registry):
        if name not in known:
            yield name, registry / name
