"""What one machine's registry takes from a copy of another's: its ledger of evidence, its decisions, its models.

Each machine adds to its own logs alone, so a copy of another's either goes on from what is here, or something is wrong:
a copy that is shorter was rolled back, and one that differs has forked. Either is refused, and nothing is taken.
A copy of this machine's own log that goes on from what is here was signed here before: the machine was put back to an
earlier state, and takes its own lines back. Whose keys count is what this machine trusts; the copy is not asked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from emp.core.errors import GovernanceError
from emp.governance.chain import Chain, Entry, exclusive, log_text
from emp.governance.registry import Registry
from emp.governance.seal import read_envelope, write_sealed
from emp.governance.standing import Withdrawal, fold, refuse_cut_ledgers, withdrawal
from emp.model.artifact import load, read_manifest


class Taken(NamedTuple):
    """What was new."""

    evidence: int
    decisions: int
    models: tuple[str, ...]
    own: int  # lines of this machine's own that it had lost


class _Log(NamedTuple):
    """A log of the registry beside the copy of it."""

    chain: Chain
    text: bytes  # the longer of the two
    entries: list[Entry]  # its lines
    had: int  # lines that are here already
    own: bool  # whether this machine signs it


def take(registry: Registry, copy: Path) -> Taken:
    """Take what is new in a copy of another machine's registry. It can be broken off anywhere and done again.

    Raises:
        GovernanceError: a log of it was rolled back, has forked from what is here, is of a key that is not trusted
            here, or tells of what the copy lacks; or something in it is not what was signed. No log has changed then.
    """
    with exclusive(registry.home):
        logs = _logs(registry, copy)
        ledgers, trail = logs
        evidence = _new_evidence(registry, copy, ledgers)
        refuse_cut_ledgers(trail.entries, {key: log.entries for key, log in ledgers.items()})
        fold(trail.entries, _withdrawals(registry, copy, ledgers))
        verdicts = [str(e.body["verdict"]) for e in trail.entries[trail.had :] if "verdict" in e.body]
        for name in verdicts:
            read_envelope(copy / "verdicts", name, registry.store.keys, "verdict")
        models = _new_models(registry, copy, trail)
        for model in models:
            folder = copy / "models" / model
            registry.keep(
                load(folder, read_manifest(folder).schema)
            )  # whether it can serve is asked where it serves
        for into, names in ((registry.store.folder, evidence), (registry.verdicts, verdicts)):
            for name in names:
                write_sealed(into, read_envelope(copy / into.name, name, registry.store.keys))
        changed = [log for log in (*ledgers.values(), trail) if len(log.entries) > log.had]
        for log in changed:  # the trail last: it names lines of the ledgers
            log.chain.replace(log.text, log.entries)
    return Taken(
        evidence=len(evidence),
        decisions=len(trail.entries) - trail.had,
        models=tuple(models),
        own=sum(len(log.entries) - log.had for log in changed if log.own),
    )


def _logs(registry: Registry, copy: Path) -> tuple[dict[str, _Log], _Log]:
    """Every ledger, by key, and the trail."""
    store = registry.store
    held, trusted = store.keys.held(), store.keys.trusted()
    there = {path.stem for path in (copy / "ledgers").glob("*.jsonl")}
    others = {path.name for path in copy.iterdir()} - {"keys", "lock"} if copy.is_dir() else {""}
    if not there and others and "audit.jsonl" not in others:  # an empty one has yet to begin
        raise GovernanceError(f"{copy}: is no copy of a registry: it holds no log")
    strange = sorted(there - set(trusted))
    if strange:
        raise GovernanceError(
            f"{copy}: holds the ledger of key {strange[0]}, which is not trusted here: see `emp gates trust`"
        )
    ledgers = {
        key: _beside(store.ledger(key), copy / "ledgers" / f"{key}.jsonl", key in held)
        for key in sorted(there | set(store.keys_told()))
    }
    decides = any(key in held and one.role == "training" for key, one in trusted.items())
    return ledgers, _beside(registry.audit, copy / "audit.jsonl", decides)


def _beside(chain: Chain, copy: Path, own: bool) -> _Log:
    here, there = chain.text(), log_text(copy)
    had = here.count(b"\n")
    if there.startswith(here):
        return _Log(chain, there, chain.verified(there, str(copy)), had, own)
    if not here.startswith(there):
        raise GovernanceError(
            f"{copy}: has forked from {chain.path}: other lines stand where this machine has seen some; whoever signs"
            " it has signed two histories"
        )
    if not own:
        gone = len(here[len(there) :].splitlines())
        raise GovernanceError(f"{copy}: was rolled back: this machine has seen {gone} lines more")
    return _Log(chain, here, chain.verified(here, str(chain.path)), had, own)


def _new_evidence(registry: Registry, copy: Path, ledgers: Mapping[str, _Log]) -> list[str]:
    """Names of evidence that new lines tell of and that is not here yet, verified where it lies."""
    found: list[str] = []
    for key, log in ledgers.items():
        for entry in log.entries[log.had :]:
            name, kind = str(entry.body.get("evidence")), str(entry.body.get("kind"))
            folder = _where(registry, copy, name)
            registry.store.read(name, kind, key, folder)
            if folder != registry.store.folder:
                found.append(name)
    return found


def _withdrawals(registry: Registry, copy: Path, ledgers: Mapping[str, _Log]) -> list[Withdrawal]:
    told = [
        (key, str(entry.body.get("evidence")))
        for key, log in ledgers.items()
        for entry in log.entries
        if entry.body.get("kind") == "withdrawal"
    ]
    read = registry.store.read
    return [
        withdrawal(read(name, "withdrawal", key, _where(registry, copy, name)), name) for key, name in told
    ]


def _where(registry: Registry, copy: Path, name: str) -> Path:
    """Where a piece of evidence lies: here, or else in the copy."""
    here = registry.store.folder
    return here if (here / f"{name}.json").exists() else copy / "evidence"


def _new_models(registry: Registry, copy: Path, trail: _Log) -> list[str]:
    """Models of new decisions that are not here; none that was retired, which need not be kept anywhere."""
    status = fold(trail.entries).status
    told = dict.fromkeys(str(one.body["model"]) for one in trail.entries[trail.had :])
    found = [one for one in told if status.get(one) != "retired" and not registry.folder(one).exists()]
    for model in found:
        folder = copy / "models" / model
        if read_manifest(folder).hash != model:
            raise GovernanceError(f"{folder}: holds another model than its name says")
    return found
