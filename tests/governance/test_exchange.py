"""Two machines, each with a key and logs of its own, take what is new from copies of each other."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.core.clock import SimClock
from emp.core.disk import writes_to
from emp.core.errors import EmpError, GovernanceError
from emp.core.ids import generator
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, new_evidence
from emp.governance.exchange import Taken, take
from emp.governance.gates import Gates
from emp.governance.registry import Registry
from emp.governance.seal import Role
from emp.governance.serve import refuse_live
from emp.model.artifact import Artifact
from tests.governance.conftest import LINEAR, Ticking, all_green, evaluation, make_artifact, paper, runs
from tests.governance.test_registry import Dies, Failing

SEEN_ONLY_THERE = {"latency", "drift", "paper", "contest"}


class Machine:
    """A machine with a registry, and with a memory of its own of how far logs had come."""

    def __init__(self, folder: Path, role: Role) -> None:
        self.folder, self.role = folder, role
        self.registry = Registry(folder / "registry", Ticking())

    @contextmanager
    def at(self) -> Iterator[Registry]:
        """Work on this machine."""
        before = os.environ.get("EMP_STATE")
        os.environ["EMP_STATE"] = str(self.folder / "state")
        try:
            yield self.registry
        finally:
            if before is None:
                del os.environ["EMP_STATE"]
            else:
                os.environ["EMP_STATE"] = before

    def add(self, *evidence: Evidence) -> None:
        with self.at() as registry:
            for one in evidence:
                registry.store.add(one)

    def copied(self, to: Path) -> Path:
        """What a transport brings to another machine: everything but the keys."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.registry.home, to, ignore=shutil.ignore_patterns("keys", "lock"))
        return to

    def take_from(self, other: "Machine") -> Taken:
        copy = other.copied(self.folder / "copy")
        with self.at() as registry:
            return take(registry, copy)

    def state(self) -> dict[str, bytes]:
        """Everything that counts in the registry."""
        home = self.registry.home
        found = [p for p in home.rglob("*") if p.is_file() and "keys" not in p.parts and p.name != "lock"]
        return {str(path.relative_to(home)): path.read_bytes() for path in found}


@pytest.fixture
def home(tmp_path: Path) -> Machine:
    return paired(tmp_path)[0]


@pytest.fixture
def box(home: Machine) -> Machine:
    return Machine(home.folder.parent / "box", "box")


def paired(folder: Path) -> tuple[Machine, Machine]:
    """A machine that trains and one that trades, each of which trusts the other's key for its role."""
    home, box = Machine(folder / "home", "training"), Machine(folder / "box", "box")
    for one, other in ((home, box), (box, home)):
        _, public = other.registry.store.keys.own(other.role)
        one.registry.store.keys.trust(other.role, public)
    return home, box


def evaluated(home: Machine, artifact: Artifact) -> None:
    with home.at() as registry:
        registry.register(artifact)
    home.add(*(one for one in all_green(artifact.hash) if one.kind not in SEEN_ONLY_THERE))


def observed(box: Machine, artifact: Artifact, days: int = 14) -> None:
    box.add(*(one for one in all_green(artifact.hash) if one.kind in SEEN_ONLY_THERE))
    box.add(*runs(artifact.hash, *range(1, days + 1)))


def promoted(home: Machine, artifact: Artifact, gates: Gates) -> str:
    with home.at() as registry:
        return registry.promote(artifact, gates, LINEAR)[0].verdict


def default(machine: Machine) -> str:
    with machine.at() as registry:
        return registry.standing().default


def test_a_model_goes_from_home_to_the_market_on_evidence_of_both(
    home: Machine, box: Machine, artifact: Artifact, gates: Gates
) -> None:
    evaluated(home, artifact)
    assert promoted(home, artifact, gates) == "fail"  # nobody has seen it trade
    found = box.take_from(home)
    assert (found.models, found.decisions, found.own) == ((artifact.hash,), 2, 0)
    observed(box, artifact)
    with box.at() as registry, pytest.raises(GovernanceError, match="no training key here"):
        registry.promote(artifact, gates, LINEAR)
    assert home.take_from(box).evidence == 47
    assert promoted(home, artifact, gates) == "pass"
    assert default(box) == ""
    assert box.take_from(home).decisions == 1
    assert default(box) == artifact.hash
    with box.at() as registry:
        refuse_live(registry.home, artifact.hash, SimClock(15 * DAY_NS), "fix", ["GOOG"])
        assert registry.verify() == 54
    assert home.state() == box.state()
    assert box.take_from(home) == home.take_from(box) == Taken(0, 0, (), 0)


def test_each_machine_signs_its_own_ledger_and_no_other(home: Machine, box: Machine) -> None:
    home.add(evaluation("m"))
    box.add(paper("m", 1))
    box.take_from(home)
    with box.at() as registry:
        ledgers = registry.store.ledgers()
        assert {len(found) for found in ledgers.values()} == {1}
        assert all(entry.key == key for key, found in ledgers.items() for entry in found)
        mine, _ = registry.store.keys.own("box")
        (theirs,) = set(ledgers) - {mine}
        with pytest.raises(GovernanceError, match="is not the log of key"):
            registry.store.ledger(theirs).append("box", {})
        lines = registry.store.ledger(mine).text()
        registry.store.ledger(theirs).path.write_bytes(lines)
        with pytest.raises(GovernanceError, match="not by"):
            registry.store.all()
    with pytest.raises(GovernanceError, match="another machine's is the trusted one"):
        box.add(evaluation("m"))
    with pytest.raises(GovernanceError, match="another machine's is the trusted one"):
        home.add(paper("m", 2))


def test_evidence_of_another_machine_counts_when_its_ledger_tells_of_it(home: Machine, box: Machine) -> None:
    """Copied alone, the good days would come without the bad one."""
    box.add(paper("m", 1), paper("m", 2, "failed: calibration"))
    home.add(evaluation("m"))
    for path in box.registry.store.folder.glob("*.json"):
        if b"failed" not in path.read_bytes():
            shutil.copy(path, home.registry.store.folder)
    with home.at() as registry:
        assert {one.kind for one in registry.store.all().values()} == {"evaluation"}
    home.take_from(box)
    with home.at() as registry:
        assert sorted(one.kind for one in registry.store.all().values()) == ["evaluation", "paper", "paper"]


def test_a_chain_that_was_rolled_back_is_refused(home: Machine, box: Machine) -> None:
    box.add(paper("m", 1))
    early = box.copied(box.folder / "early")
    box.add(paper("m", 2, "failed: calibration"))
    home.take_from(box)
    before = home.state()
    with home.at() as registry, pytest.raises(GovernanceError, match=r"was rolled back: .* 1 lines more"):
        take(registry, early)
    home.registry.store.ledger(box.registry.store.keys.own("box")[0]).path.unlink()  # and here as well
    with home.at() as registry, pytest.raises(GovernanceError, match="its end was cut off"):
        take(registry, early)
    home.take_from(box)
    assert home.state() == before


def test_a_chain_that_has_forked_is_refused_on_either_side(home: Machine, box: Machine) -> None:
    box.add(paper("m", 1))
    put_aside = shutil.copytree(box.folder, box.folder.with_name("aside"))
    box.add(paper("m", 2, "failed: calibration"))
    home.take_from(box)
    again = Machine(put_aside, "box")  # the box as it was, its memory too
    again.add(paper("m", 2))
    before, theirs = home.state(), again.state()
    with pytest.raises(GovernanceError, match="has forked"):
        home.take_from(again)
    with pytest.raises(GovernanceError, match="has forked"):
        again.take_from(home)
    assert (home.state(), again.state()) == (before, theirs)


def test_decisions_that_have_forked_are_refused(
    home: Machine, box: Machine, artifact: Artifact, tmp_path: Path
) -> None:
    evaluated(home, artifact)
    aside = Machine(shutil.copytree(home.folder, home.folder.with_name("aside")), "training")
    with home.at() as registry:
        registry.register(make_artifact(tmp_path, 1))
    box.take_from(home)
    with aside.at() as registry:
        registry.register(make_artifact(tmp_path, 2))
    with pytest.raises(GovernanceError, match="has forked"):
        box.take_from(aside)


def test_a_machine_that_was_put_back_takes_its_own_lines_back(home: Machine, box: Machine) -> None:
    box.add(paper("m", 1))
    put_aside = shutil.copytree(box.folder, box.folder.with_name("aside"))
    box.add(paper("m", 2, "failed: calibration"))
    home.take_from(box)
    again = Machine(put_aside, "box")
    assert again.take_from(home).own == 1
    again.add(paper("m", 3))
    assert home.take_from(again).evidence == 1
    assert home.state() == again.state()


def test_a_decision_names_how_far_the_other_machine_had_come(
    home: Machine, box: Machine, artifact: Artifact
) -> None:
    """So that a machine that was put back cannot take decisions that rest on what it has forgotten."""
    box.add(paper("m", 1))
    home.take_from(box)
    evaluated(home, artifact)
    copy = home.copied(box.folder / "copy")
    shutil.rmtree(box.folder / "state")
    shutil.rmtree(box.registry.home / "ledgers")
    shutil.rmtree(copy / "ledgers")
    (copy / "ledgers").mkdir()
    with (
        box.at() as registry,
        pytest.raises(GovernanceError, match="evidence that a decision rested on is gone"),
    ):
        take(registry, copy)


def test_a_copy_that_lacks_or_changes_any_file_is_refused_whole(
    home: Machine, box: Machine, artifact: Artifact, gates: Gates
) -> None:
    evaluated(home, artifact)
    promoted(home, artifact, gates)
    copy = home.copied(box.folder / "copy")
    files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    assert len(files) >= 7
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        changed: list[bytes | None] = [
            whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            whole[:-5],
        ]
        if path.name != "audit.jsonl":  # without which it is as of a machine that has decided nothing yet
            changed.append(None)
        for text in changed:
            path.unlink()
            if text is not None:
                path.write_bytes(text)
            with box.at() as registry, pytest.raises(EmpError):
                take(registry, copy)
            path.write_bytes(whole)
        assert not [name for name in box.state() if name.endswith(".jsonl")], path
    with box.at() as registry:
        take(registry, copy)
    assert box.state() == home.state()


@pytest.mark.parametrize("fault", [lambda: OSError(28, "No space left on device"), Dies])
def test_taking_can_be_broken_off_anywhere_and_done_again(
    fault: Callable[[], BaseException], tmp_path: Path, artifact: Artifact, gates: Gates
) -> None:
    home, box = paired(tmp_path / "pair")
    evaluated(home, artifact)
    promoted(home, artifact, gates)
    untouched = shutil.copytree(box.folder, tmp_path / "untouched")
    for at in range(1, 400):
        shutil.rmtree(box.folder)
        shutil.copytree(untouched, box.folder)
        try:
            with writes_to(Failing(at, fault)):
                box.take_from(home)
        except (EmpError, OSError, Dies):
            with box.at() as registry:
                registry.verify()  # whatever is there is whole
            box.take_from(home)
            assert box.state() == home.state(), at
        else:
            break
    assert at > 60


def test_what_a_box_withdraws_is_withdrawn_everywhere_until_it_is_promoted_anew(
    home: Machine, box: Machine, artifact: Artifact, gates: Gates, tmp_path: Path
) -> None:
    new = make_artifact(tmp_path, 1)
    for one in (artifact, new):
        evaluated(home, one)
    box.take_from(home)
    for one in (artifact, new):
        observed(box, one)
    home.take_from(box)
    for one in (artifact, new):
        assert promoted(home, one, gates) == "pass"
    box.take_from(home)
    with box.at() as registry:
        assert registry.rollback("three in the morning") == (new.hash, artifact.hash)
        assert registry.standing().status[new.hash] == "retired"
        with pytest.raises(GovernanceError, match="no earlier"):
            registry.rollback("again")
    assert default(home) == new.hash  # has not heard of it
    assert default(box) == artifact.hash
    box.take_from(home)
    assert default(box) == artifact.hash  # what home still holds changes nothing
    home.take_from(box)
    assert default(home) == artifact.hash
    assert promoted(home, new, gates) == "pass"
    box.take_from(home)
    assert default(box) == default(home) == new.hash


def test_a_withdrawal_of_a_decision_that_is_not_there_is_refused(home: Machine, box: Machine) -> None:
    for after in ([1, "a" * 64], [0, ""], ["1", "a"], None):
        config = {"after": after}
        machine = Machine(box.folder.with_name(f"box{hash(str(after))}"), "box")
        machine.add(new_evidence("withdrawal", "m", [], config))
        with machine.at() as registry, pytest.raises(GovernanceError, match="withdraw"):
            registry.standing()


def test_keys_are_trusted_for_one_role_and_by_their_public_half(home: Machine, box: Machine) -> None:
    ours, theirs = home.registry.store.keys, box.registry.store.keys
    name, public = theirs.own("box")
    assert ours.trust("box", public) == name  # again
    for text in ("", "zz", public[:-2], public.upper(), public + "00"):
        with pytest.raises(GovernanceError, match="is not the public half of a key"):
            ours.trust("box", text)
    with pytest.raises(GovernanceError, match="one key has one role"):
        ours.trust("training", public)
    stranger = Machine(home.folder.with_name("stranger"), "training")
    _, other = stranger.registry.store.keys.own("training")
    with pytest.raises(GovernanceError, match="has a training key of its own"):
        ours.trust("training", other)
    stranger.add(evaluation("m"))
    with pytest.raises(GovernanceError, match="which is not trusted here"):
        box.take_from(stranger)


def test_a_key_whose_maker_died_before_it_was_trusted_serves(home: Machine) -> None:
    keys = home.registry.store.keys
    name, _ = keys.own("training")
    trusted = home.registry.home / "keys" / "trusted.json"
    trusted.unlink()
    assert keys.own("training")[0] == name
    home.add(evaluation("m"))
    assert len(home.registry.store.all()) == 1


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_order_both_come_to_the_same(seed: int, tmp_path: Path, artifact: Artifact) -> None:
    chance = generator(seed, "exchange")
    home, box = paired(tmp_path)
    with home.at() as registry:
        registry.register(artifact)
    for k in range(12):
        match int(chance.integers(4)):
            case 0:
                home.add(evaluation(artifact.hash, seed=k))
            case 1:
                box.add(paper(artifact.hash, k))
            case 2:
                home.take_from(box)
            case 3:
                box.take_from(home)
    home.take_from(box)
    box.take_from(home)
    assert home.state() == box.state()
    with box.at() as registry:
        assert registry.standing().status == {artifact.hash: "candidate"}


def test_the_commands_pair_two_machines_and_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, artifact: Artifact
) -> None:
    run = CliRunner().invoke
    home, box = tmp_path / "home", tmp_path / "box"
    for one, other, role in ((home, box, "box"), (box, home, "training")):
        public = run(app, ["gates", "key", role, "--registry", str(other)]).stdout.strip()
        assert run(app, ["gates", "trust", role, public, "--registry", str(one)]).exit_code == 0
    assert run(app, ["models", "add", str(tmp_path / "artifact-0"), "--registry", str(home)]).exit_code == 0
    found = run(app, ["gates", "take", str(home), "--registry", str(box), "--json"])
    assert msgspec.json.decode(found.stdout.splitlines()[-1]) == {
        "evidence": 0,
        "decisions": 1,
        "models": [artifact.hash],
        "own": 0,
    }
    assert not (box / "keys" / "training.key").exists()
    nothing = run(app, ["gates", "take", str(tmp_path / "nothing"), "--registry", str(box)])
    assert nothing.exit_code != 0
    assert "is no copy of a registry" in str(nothing.exception or nothing.output)
