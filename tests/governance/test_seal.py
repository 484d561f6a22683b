"""Whatever was changed by one byte, or signed by a key that may not, is refused."""

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.errors import EmpError, GovernanceError
from emp.governance.chain import Chain
from emp.governance.evidence import new_evidence
from emp.governance.high_water import mark_path
from emp.governance.registry import Registry
from emp.governance.seal import Keys, Role, canonical, read_sealed, write_sealed
from emp.model.artifact import Artifact, load
from emp.perception.schema import schema_hash
from tests.governance.conftest import LINEAR, Ticking, evaluation, green_registry, plain


def ledger_of(registry: Registry, role: Role = "training") -> Chain:
    return registry.store.ledger(registry.store.keys.own(role)[0])


def every_byte_counts(path: Path, read: object) -> int:
    """Change each byte of a file in turn, and take or add some; expect the reader to refuse."""
    assert callable(read)
    whole = path.read_bytes()
    read()
    refused = 0
    for at in range(len(whole)):
        for other in (whole[at] ^ 1,):
            path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
            with pytest.raises(EmpError):
                read()
            refused += 1
        if at % 97 == 1:
            for text in (whole[:at], whole[:at] + whole[at + 1 :], whole[:at] + b" " + whole[at:]):
                path.write_bytes(text)
                with pytest.raises(EmpError):
                    read()
    path.write_bytes(whole)
    read()
    return refused


def test_every_byte_of_evidence_counts(registry: Registry) -> None:
    name = registry.store.add(new_evidence("evaluation", "m", [plain("ece", 0.1)], {"k": 0.5}))
    assert every_byte_counts(registry.store.folder / f"{name}.json", registry.store.all) > 500
    every_byte_counts(ledger_of(registry).path, registry.store.all)


def test_every_byte_of_a_verdict_and_of_the_trail_counts(registry: Registry, artifact: Artifact) -> None:
    keys = registry.store.keys
    name = write_sealed(registry.verdicts, keys.seal("verdict", {"verdict": "fail", "model": artifact.hash}))
    every_byte_counts(registry.verdicts / f"{name}.json", lambda: registry.verdict(name))
    registry.register(artifact)
    every_byte_counts(registry.audit.path, registry.standing)


def test_every_byte_of_a_model_counts(registry: Registry, artifact: Artifact) -> None:
    registry.register(artifact)
    folder = registry.folder(artifact.hash)
    found = load(folder, schema_hash())
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for at in range(len(whole)):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                changed = load(folder, schema_hash())
            except EmpError:
                continue
            # blanks and the order of names are no content: what is read is what was hashed
            assert (changed.hash, changed.manifest) == (artifact.hash, found.manifest)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("role", "kind"), [("box", "evaluation"), ("box", "audit"), ("box", "verdict"), ("training", "paper")]
)
def test_a_key_signs_only_what_its_role_may(role: str, kind: str, tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with pytest.raises(GovernanceError, match="may not sign"):
        keys.seal_as(role, kind, {})  # type: ignore[arg-type]
    sealed = keys.seal_as(role, "looks", {})  # type: ignore[arg-type]
    with pytest.raises(GovernanceError, match="may not sign"):
        keys.verify(msgspec.structs.replace(sealed, kind=kind))


def test_a_signature_does_not_pass_for_another_kind(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with pytest.raises(GovernanceError, match="was changed"):
        keys.verify(msgspec.structs.replace(keys.seal("facts", {"a": 1}), kind="evaluation"))


def test_a_key_of_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    ours, theirs = Keys(tmp_path / "a"), Keys(tmp_path / "b")
    ours.seal("facts", {})
    with pytest.raises(GovernanceError, match="not trusted here"):
        ours.verify(theirs.seal("facts", {}))


def test_a_server_with_the_public_half_alone_verifies_and_cannot_sign(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    name = write_sealed(tmp_path / "e", keys.seal("facts", {"a": 1}))
    assert (tmp_path / "training.key").stat().st_mode & 0o077 == 0
    (tmp_path / "training.key").unlink()
    assert read_sealed(tmp_path / "e", name, keys, "facts") == {"a": 1}
    with pytest.raises(GovernanceError, match="another machine's is the trusted one"):
        keys.seal("facts", {})
    keys.seal("latency", {})  # the box makes its own


def test_evidence_that_is_left_out_is_missed(registry: Registry, artifact: Artifact) -> None:
    green_registry(registry, artifact)
    some = next(registry.store.folder.glob("*.json"))
    some.rename(some.with_suffix(".gone"))
    with pytest.raises(GovernanceError, match="cannot read"):
        registry.store.all()


@pytest.mark.parametrize("keep", [slice(1, None), slice(0, -1), slice(None, None, -1), slice(0, 0)])
def test_a_ledger_that_was_cut_or_reordered_after_a_decision_is_refused(
    keep: slice, registry: Registry, artifact: Artifact, gates: object
) -> None:
    green_registry(registry, artifact)
    registry.promote(artifact, gates, LINEAR)  # type: ignore[arg-type]
    path = ledger_of(registry).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[keep]))
    with pytest.raises(GovernanceError):
        registry.check(artifact, gates, LINEAR)  # type: ignore[arg-type]


@pytest.mark.parametrize("log", ["audit", "evidence"])
@pytest.mark.parametrize("keep", [slice(0, -1), slice(0, 0), None])
def test_the_end_of_a_log_that_was_cut_off_is_missed_on_the_machine_that_has_seen_it(
    log: str, keep: slice | None, registry: Registry, artifact: Artifact, gates: object
) -> None:
    """Both logs together, back to where they fit each other, with the files that they told of."""
    green_registry(registry, artifact)
    kept = {path: path.read_bytes() for path in registry.home.rglob("*") if path.is_file()}
    registry.promote(artifact, gates, LINEAR)  # type: ignore[arg-type]
    registry.store.add(evaluation(artifact.hash, seed=7))
    chain = registry.audit if log == "audit" else ledger_of(registry)
    if keep is None:  # the whole registry, as it was
        for path in registry.home.rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()
        for path, data in kept.items():
            path.write_bytes(data)
    else:
        chain.path.write_bytes(b"".join(chain.path.read_bytes().splitlines(keepends=True)[keep]))
    for look in (registry.verify, chain.entries, registry.remember):
        with pytest.raises(GovernanceError, match="its end was cut off"):
            look()


def test_a_machine_that_only_reads_remembers_what_it_saw(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    registry.store.add(evaluation("m"))
    early = ledger_of(registry).path.read_bytes()
    registry.store.add(evaluation("n"))
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "reader"))
    registry.verify()
    ledger_of(registry).path.write_bytes(early)
    with pytest.raises(GovernanceError, match="has seen 2 lines"):
        registry.store.all()


def test_a_registry_made_anew_in_the_same_place_begins_anew(registry: Registry) -> None:
    registry.store.add(evaluation("m"))
    shutil.rmtree(registry.home)
    assert ledger_of(registry).entries() == []
    registry.store.add(evaluation("n"))
    assert len(ledger_of(registry).entries()) == 1


def test_a_writer_that_died_before_it_remembered_does_no_harm(registry: Registry) -> None:
    registry.store.add(evaluation("m"))
    mark = mark_path(ledger_of(registry).path)
    before = mark.read_bytes()
    registry.store.add(evaluation("n"))
    mark.write_bytes(before)
    registry.verify()
    assert mark.read_bytes() != before
    mark.write_bytes(b"{")
    with pytest.raises(GovernanceError, match="cannot be read"):
        registry.store.all()


def test_evidence_whose_writer_died_before_the_ledger_counts_all_the_same(registry: Registry) -> None:
    first = registry.store.add(evaluation("m"))
    ledger_of(registry).path.unlink()  # as it was before, and not yet remembered
    mark_path(ledger_of(registry).path).unlink()
    assert set(registry.store.all()) == {first}
    second = registry.store.add(evaluation("n"))
    assert [e.body["evidence"] for e in ledger_of(registry).entries()] == [first, second]
    assert registry.store.all()[second].looks == 1


def test_what_is_not_finite_cannot_be_sealed() -> None:
    with pytest.raises(GovernanceError, match="cannot be sealed"):
        canonical({"a": float("inf")})


@pytest.mark.parametrize("bad", ["half \udcff", float("nan"), float("inf"), object(), np.float64(1)])
def test_what_could_not_be_read_again_is_not_signed(bad: object, registry: Registry) -> None:
    """A file name that is not UTF-8 is text as Python has it, which JSON cannot hold."""
    registry.store.add(evaluation("m" * 64))
    with pytest.raises(GovernanceError, match="cannot be sealed"):
        registry.store.add(new_evidence("evaluation", "m" * 64, [], {"data": bad}))
    with pytest.raises(GovernanceError, match="cannot be sealed"):
        registry.audit.append("training", {"reason": bad})
    assert len(registry.store.all()) == 1
    assert registry.audit.entries() == []


def test_a_key_that_others_can_read_signs_nothing(registry: Registry) -> None:
    registry.store.add(evaluation("m" * 64))
    key = registry.home / "keys" / "training.key"
    key.chmod(0o640)
    with pytest.raises(GovernanceError, match="chmod 600"):
        registry.store.add(evaluation("n" * 64))
    assert len(registry.store.all()) == 1
    key.chmod(0o600)
    registry.store.add(evaluation("n" * 64))
    assert len(registry.store.all()) == 2


def test_a_folder_whose_name_is_no_text_is_a_registry(tmp_path: Path) -> None:
    registry = Registry(tmp_path / os.fsdecode(b"r\xff"), Ticking())
    registry.store.add(evaluation("m" * 64))
    assert len(registry.store.all()) == 1
