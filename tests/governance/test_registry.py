"""Promotion leaves the old default or the new one, whatever fails, and both where two promote at once."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.app.governed import named_artifact
from emp.core.clock import SimClock
from emp.core.disk import MachineDisk, writes_to
from emp.core.errors import EmpError, GovernanceError
from emp.engine.watched_days import DAY_NS
from emp.governance.gates import Gates
from emp.governance.registry import Registry
from emp.governance.seal import content_address
from emp.governance.serve import GATES_SHA256, refuse_live
from emp.model.artifact import Artifact, load
from tests.governance.conftest import LINEAR, Ticking, green_registry, make_artifact, paper, runs

CALLS = ("open", "write", "sync", "close", "replace", "make_folder", "sync_folder")


class Dies(BaseException):
    """The process is gone."""


class Failing(MachineDisk):
    """A disk on which the n-th call fails: by an error, or by the end of the process."""

    def __init__(self, at: int, fault: Callable[[], BaseException]) -> None:
        self.calls, self._at, self._fault = 0, at, fault


def _counted(name: str) -> Callable[..., object]:
    def call(self: Failing, *arguments: object) -> object:
        self.calls += 1
        if self.calls == self._at:
            if name == "close":
                os.close(arguments[0])  # type: ignore[arg-type]
            raise self._fault()
        return getattr(MachineDisk, name)(self, *arguments)

    return call


for _name in CALLS:
    setattr(Failing, _name, _counted(_name))


@pytest.fixture
def two(
    registry: Registry, artifact: Artifact, gates: Gates, tmp_path: Path
) -> tuple[Registry, Artifact, Artifact]:
    green_registry(registry, artifact)
    registry.promote(artifact, gates, LINEAR)
    other = make_artifact(tmp_path, 1)
    return green_registry(registry, other), artifact, other


@pytest.mark.parametrize("fault", [lambda: OSError(28, "No space left on device"), Dies])
def test_a_fault_at_every_call_leaves_the_old_or_the_new(
    fault: Callable[[], BaseException], two: tuple[Registry, Artifact, Artifact], gates: Gates
) -> None:
    registry, old, new = two
    for what in ("promote", "rollback"):
        start, target = (old, new) if what == "promote" else (new, old)
        for at in range(1, 200):
            assert registry.standing().default == start.hash
            failing = Failing(at, fault)
            try:
                with writes_to(failing):
                    if what == "promote":
                        registry.promote(new, gates, LINEAR)
                    else:
                        registry.rollback("drill")
            except (EmpError, OSError, Dies):
                pass
            default = registry.standing().default
            assert default in (start.hash, target.hash)
            registry.verify()
            if default == target.hash:
                break
        assert at > 3
        assert registry.standing().default == target.hash


@pytest.mark.parametrize("fault", [lambda: OSError(28, "No space left on device"), Dies])
def test_a_fault_at_every_call_leaves_a_model_whole_or_not_there(
    fault: Callable[[], BaseException], registry: Registry, artifact: Artifact
) -> None:
    """Else a half of it would stay for good: what is there is not written again."""
    for at in range(1, 200):
        failing = Failing(at, fault)
        try:
            with writes_to(failing):
                registry.register(artifact)
        except (EmpError, OSError, Dies):
            pass
        folder = registry.folder(artifact.hash)
        if folder.exists():
            assert load(folder, artifact.manifest.schema).hash == artifact.hash, at
        if artifact.hash in registry.standing().status:
            break
    assert at > 10
    registry.verify()


def test_two_promotions_at_once_happen_one_after_the_other(
    two: tuple[Registry, Artifact, Artifact],
    gates: Gates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, old, new = two
    check, inside, most = Registry.check, [0], [0]

    def slowly(self: Registry, *asked: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.3)
        inside[0] -= 1
        return check(self, *asked)

    monkeypatch.setattr(Registry, "check", slowly)
    third = make_artifact(tmp_path, 2)
    green_registry(registry, third)
    together = threading.Barrier(2)

    def promote(one: Artifact) -> None:
        together.wait()
        Registry(registry.home, Ticking()).promote(one, gates, LINEAR)

    threads = [threading.Thread(target=promote, args=(one,)) for one in (new, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    promoted = [e.body["model"] for e in registry.audit.entries() if e.body["action"] == "promote"]
    assert most == [1], "both were judging at once"
    assert promoted[0] == old.hash
    assert sorted(promoted[1:]) == sorted([new.hash, third.hash])
    assert registry.standing().default == promoted[-1]


def test_candidate_approved_retired(two: tuple[Registry, Artifact, Artifact], gates: Gates) -> None:
    registry, old, new = two
    assert registry.standing().status == {old.hash: "approved", new.hash: "candidate"}
    assert registry.promote(new, gates, LINEAR)[0].verdict == "pass"
    assert registry.find("APPROVED_DEFAULT") == new.hash
    assert registry.rollback("worse") == (new.hash, old.hash)
    assert registry.standing().status == {old.hash: "approved", new.hash: "retired"}
    with pytest.raises(GovernanceError, match="no earlier"):
        registry.rollback("again")
    assert [e.body["action"] for e in registry.audit.entries()] == [
        "register",
        "promote",
        "register",
        "promote",
        "rollback",
    ]


def test_a_model_that_fails_is_refused_and_the_trail_says_so(
    registry: Registry, artifact: Artifact, gates: Gates
) -> None:
    with pytest.raises(GovernanceError, match="not registered"):
        registry.promote(artifact, gates, LINEAR)
    registry.register(artifact)
    judgement, name = registry.promote(artifact, gates, LINEAR)
    assert judgement.verdict == "fail"
    assert registry.standing().default == ""
    assert registry.audit.entries()[-1].body["action"] == "refuse"
    assert registry.verdict(name)["verdict"] == "fail"


def live(registry: Registry, model: str, day: int = 15) -> None:
    refuse_live(registry.home, model, SimClock(day * DAY_NS), "fix", ["GOOG"])


def test_live_takes_what_was_promoted_after_two_green_weeks(
    two: tuple[Registry, Artifact, Artifact],
) -> None:
    registry, old, new = two
    with pytest.raises(GovernanceError, match="is not what"):
        live(registry, new.hash)
    with pytest.raises(GovernanceError, match="GOOG: 0 green days"):
        live(registry, old.hash)
    for one in (
        *runs(old.hash, 1, 2, 3, 4, 5, 8, 9, 10, 11),
        *runs(new.hash, 14),
    ):  # the last: another model's
        registry.store.add(one)
    with pytest.raises(GovernanceError, match="9 green days of paper trading over 11 days"):
        live(registry, old.hash)
    registry.store.add(paper(old.hash, 14))
    live(registry, old.hash)
    registry.store.add(paper(old.hash, 9, "failed: log_loss.shares"))  # red wins over green of the same day
    with pytest.raises(GovernanceError, match=r"3 green days .* day 9 was red: failed: log_loss.shares"):
        live(registry, old.hash)


@pytest.mark.parametrize("change", ["looser", "left out"])
def test_what_other_gates_have_promoted_serves_on_paper_and_not_live(
    change: str, registry: Registry, artifact: Artifact, gates: Gates
) -> None:
    green_registry(registry, artifact)
    green_weeks(registry, artifact.hash)
    if change == "looser":
        other = msgspec.structs.replace(gates, gates=msgspec.structs.replace(gates.gates, ece_max=0.09))
    else:
        other = msgspec.structs.replace(gates, left_out=("psi_max",))
    assert registry.promote(artifact, other, LINEAR)[0].verdict == "pass"
    assert registry.standing().default == artifact.hash
    with pytest.raises(GovernanceError, match="promoted by other gates than this release's"):
        live(registry, artifact.hash)


def test_a_promotion_without_a_verdict_of_that_model_counts_for_nothing(
    two: tuple[Registry, Artifact, Artifact], gates: Gates
) -> None:
    registry, old, new = two
    [passed] = [one.body["verdict"] for one in registry.audit.entries() if one.body["action"] == "promote"]
    registry._say("promote", new.hash, verdict=passed, previous=old.hash)
    with pytest.raises(GovernanceError, match="rests on no verdict of it"):
        live(registry, new.hash)


def green_weeks(registry: Registry, model: str) -> None:
    for one in runs(model, *range(1, 15)):
        registry.store.add(one)


def test_the_default_is_promoted_anew_where_it_was_by_other_gates(
    registry: Registry, artifact: Artifact, gates: Gates, tmp_path: Path
) -> None:
    green_registry(registry, artifact)
    green_weeks(registry, artifact.hash)
    looser = msgspec.structs.replace(gates, gates=msgspec.structs.replace(gates.gates, ece_max=0.09))
    registry.promote(artifact, looser, LINEAR)
    for _ in range(2):  # the second changes nothing
        registry.promote(artifact, gates, LINEAR)
        live(registry, artifact.hash)
        assert [e.body["action"] for e in registry.audit.entries()].count("promote") == 2
    with pytest.raises(GovernanceError, match="no earlier"):
        registry.rollback("it is its own predecessor")
    other = green_registry(registry, make_artifact(tmp_path, 1))
    other.promote(make_artifact(tmp_path, 1), gates, LINEAR)
    assert registry.rollback("worse")[1] == artifact.hash == registry.standing().default


def test_what_was_promoted_by_other_code_is_not_for_live(
    registry: Registry, artifact: Artifact, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        for module in ("registry", "evidence"):
            before.setattr(f"emp.governance.{module}.code_version", lambda: "0.0.1+other")
        green_registry(registry, artifact)
        assert registry.promote(artifact, gates, LINEAR)[0].verdict == "pass"
    green_weeks(registry, artifact.hash)
    with pytest.raises(GovernanceError, match="promoted by other code"):
        live(registry, artifact.hash)


def test_a_reference_that_could_be_chosen_is_not_for_live(
    registry: Registry, artifact: Artifact, gates: Gates, tmp_path: Path
) -> None:
    """A bad model beside which any looks good."""
    straw = msgspec.structs.replace(LINEAR, provenance={"series": []})
    green_registry(registry, artifact)
    green_weeks(registry, artifact.hash)
    judgement, _ = registry.promote(artifact, gates, straw)
    assert (judgement.verdict, judgement.likeness) == ("pass", "other")
    with pytest.raises(GovernanceError, match="beside a reference that was chosen"):
        live(registry, artifact.hash)
    other = make_artifact(tmp_path, 1)
    assert registry.check(other, gates, artifact.manifest).likeness == "same training"
    strange = msgspec.structs.replace(artifact.manifest, kind="mamba2")
    assert registry.check(other, gates, strange).likeness == "other", (
        "what it has passed was beside a straw man"
    )
    registry.promote(artifact, gates, LINEAR)
    live(registry, artifact.hash)
    assert registry.check(other, gates, strange).likeness == "promoted"


@pytest.mark.parametrize("change", ["retired", "code"])
def test_a_reference_that_is_not_approved_by_this_code_is_one_that_was_chosen(
    change: str,
    two: tuple[Registry, Artifact, Artifact],
    gates: Gates,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry, _, new = two
    reference = msgspec.structs.replace(new.manifest, kind="mamba2")
    other = make_artifact(tmp_path, 2)
    registry.promote(new, gates, LINEAR)
    assert registry.check(other, gates, reference).likeness == "promoted"
    if change == "retired":
        registry.rollback("worse")
    else:
        monkeypatch.setattr("emp.governance.registry.code_version", lambda: "0.0.1+other")
    assert registry.check(other, gates, reference).likeness == "other"


def test_gates_that_were_changed_where_they_lie_open_nothing(
    registry: Registry, artifact: Artifact, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    looser = msgspec.structs.replace(gates, gates=msgspec.structs.replace(gates.gates, ece_max=0.09))
    monkeypatch.setattr("emp.governance.serve.read_gates", lambda: looser)
    green_registry(registry, artifact)
    green_weeks(registry, artifact.hash)
    registry.promote(artifact, looser, LINEAR)
    with pytest.raises(GovernanceError, match="gates of this installation are not those of its release"):
        live(registry, artifact.hash)


def test_the_gates_of_the_release_are_the_shipped_ones(gates: Gates) -> None:
    assert content_address(gates) == GATES_SHA256


@pytest.mark.parametrize("what", ["own.py", "folder", "kind"])
def test_what_is_no_artifact_is_refused_in_one_line(
    registry: Registry, artifact: Artifact, gates: Gates, tmp_path: Path, what: str
) -> None:
    """A model or a rule of the user's own: nobody can say of it what it does."""
    if what == "kind":
        manifest = msgspec.structs.replace(artifact.manifest, kind="own")
        registry.register(artifact)
        with pytest.raises(GovernanceError, match="no gate judges a model of kind 'own'") as refused:
            registry.promote(Artifact(manifest, artifact.tensors), gates, LINEAR)
        assert registry.standing().default == ""
    else:
        own = tmp_path / what
        own.mkdir() if what == "folder" else own.write_text("def model(x, forecast): ...\n")
        with pytest.raises(GovernanceError, match="is no artifact: models and rules of your own") as refused:
            named_artifact(registry, str(own))
    assert "\n" not in str(refused.value)
    with pytest.raises(GovernanceError, match="no such model"):
        named_artifact(registry, str(tmp_path / "nothing"))
