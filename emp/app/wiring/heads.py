"""Wiring of what is signed of a paper run's journal while it goes on, and of holding the journal against it."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from emp.core.clock import Clock
from emp.core.code_version import code_version
from emp.core.disk import disk
from emp.core.errors import GovernanceError, JournalError
from emp.core.platform import exists
from emp.engine.journal_tap import journalled_events
from emp.governance.evidence import Evidence, Store
from emp.governance.heads import Head, Over, Unsigned, heads_of, of_head
from emp.governance.paper_source import source_of
from emp.governance.runs import manifests, start_ns
from emp.journal.digest import Digest, digest
from emp.journal.latency_log import LATENCY
from emp.journal.market import journalled_parts, parts_from
from emp.journal.monitor_log import MONITOR, read_monitor
from emp.journal.run import MANIFEST, RunFolder
from emp.journal.tail import TAIL, read_tail


def sign_head(
    folder: RunFolder,
    home: Path,
    clock: Clock,
    over: Over = "",
    evidence: Mapping[str, Evidence] | None = None,
) -> str | None:
    """Sign how far the journal of a paper run has come since that was last signed, and whether it is `over`; the name
    of the evidence, None where nothing was added. What a power cut could still take from it is left out. `evidence` is
    all that there is of it, read where it is not given.

    Raises:
        GovernanceError: it is no paper run, was made by other code, its manifest is not what was signed when it began,
            or this machine cannot sign there.
        JournalError: the journal cannot be read, or is shorter than what was signed of it.
    """
    refuse_other(folder)
    store, source = Store(home), source_of(folder.manifest)
    evidence = store.all() if evidence is None else evidence
    refuse_changed(folder, evidence)
    known = heads_of(evidence, source.run)
    first = max((one.end for one in known), default=0)
    end = durable_events(folder)
    if end < first:
        raise _cut(folder, end, first)
    told = _told(folder, end)
    news = end > first or told > max(
        (size for one in known for name, size, _ in one.files if name == MONITOR), default=0
    )
    if not news and (not over or any(_says_over(one, end, clock.now_ns()) for one in known)):
        return None
    files = (_prefix(folder.path / MONITOR, told), _prefix(folder.path / LATENCY))
    at, pieces = parts_from(folder.market, first) if end > first else (first, iter(()))
    head = Head(first, end, digest(at, pieces, first, end), files, over=over)
    return store.add(of_head(str(folder.manifest["model_hashes"][0]), source, head, clock.now_ns()))


def _says_over(head: Head, end: int, now_ns: int) -> bool:
    """Whether a head says that nothing comes after `end`, and, where that depends on it, since a time that was."""
    return head.end >= end and (head.over == "ended" or (head.over == "found" and head.ts <= now_ns))


def refuse_other(folder: RunFolder) -> None:
    """Raise GovernanceError unless a run is one of paper trading, by this code."""
    manifest = folder.manifest
    if manifest["mode"] != "paper":
        raise GovernanceError(
            f"{folder.path}: a run of mode {manifest['mode']} says nothing of paper trading"
        )
    if manifest["code"] != code_version():
        raise GovernanceError(
            f"{folder.path}: made by {manifest['code']}, this is {code_version()}: observe it with that release"
        )


def refuse_changed(folder: RunFolder, evidence: Mapping[str, Evidence]) -> None:
    """Raise GovernanceError where a run's manifest, which says where its market came from, is not what it was when it
    began.
    """
    signed = manifests(evidence, str(folder.manifest["run"]))
    if signed - {folder.manifest_sha256}:
        raise GovernanceError(f"{folder.path / MANIFEST}: is not what was signed when the run began")


def durable_events(folder: RunFolder) -> int:
    """Events that a run's journal holds whatever happens to the machine: those of its parts, as far as its tail, from
    which a next process goes on, says so too.
    """
    units = read_tail(folder.path / TAIL)
    held = journalled_parts(folder.market)
    return min(held, units[0].first) if units else held


def _told(folder: RunFolder, end: int) -> int:
    """Bytes of the monitor's lines that tell of nothing behind the first `end` events."""
    return sum(len(line) for line, told in read_monitor(folder.path) if told["at"] <= end)


def _prefix(path: Path, n: int | None = None) -> tuple[str, int, str]:
    """Name, length and SHA-256 of the first bytes of a file, of its whole lines by default, once they are durable; of
    nothing where there is none.
    """
    if not exists(path):
        return path.name, 0, hashlib.sha256(b"").hexdigest()
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1 if n is None else n]  # the next process takes a torn line away
    file = disk().open(path, os.O_RDONLY)
    try:
        disk().sync(file)  # after it was read: what comes in between is not signed
    finally:
        disk().close(file)
    return path.name, len(data), hashlib.sha256(data).hexdigest()


class Journal(NamedTuple):
    """A run's journal that is what was signed of it."""

    events: int
    unsigned: frozenset[int]  # hours since 1970 of which nothing was signed while they went by
    newest_ns: int  # when its newest event was received; where there is none, when the run began


def refuse_cut(folder: RunFolder, evidence: Mapping[str, Evidence]) -> Journal:
    """Hold a run's journal against what was signed of it.

    Raises:
        JournalError: they are fewer than were signed while the run went on, or others.
    """
    run = str(folder.manifest["run"])
    heads = heads_of(evidence, run)
    again, n = [Digest(head.first, head.end) for head in heads], 0
    unsigned = Unsigned(heads)
    for events in journalled_events(folder):
        unsigned.take(events["ts_recv"])
        for one in again:
            one.take(n, events)
        n += len(events)
    for head, one in zip(heads, again, strict=True):
        if head.end > n:
            raise _cut(folder, n, head.end)
        if one.hexdigest() != head.sha256:
            raise JournalError(
                f"{folder.path}: events {head.first} to {head.end} are not those that were signed while it went on"
            )
        for name, size, signed in head.files:
            if _prefix(folder.path / name, size)[1:] != (size, signed):
                raise JournalError(f"{folder.path / name}: is not what was signed while the run went on")
    newest = unsigned.latest_ns if n else start_ns(evidence, run)
    return Journal(n, frozenset(unsigned.hours()), newest)


def _cut(folder: RunFolder, n: int, signed: int) -> JournalError:
    return JournalError(
        f"{folder.path}: its end was cut off: it holds {n} events of {signed} that were signed"
    )
