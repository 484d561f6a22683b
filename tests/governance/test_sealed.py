"""Stretches of a ledger that are sealed as a whole: what was changed behind them is never served, and a start does not
verify years again.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emp.core.code_version import code_version
from emp.core.errors import GovernanceError
from emp.engine.watched_days import DAY_NS
from emp.governance import evidence as module
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Gates
from emp.governance.heads import Head, of_head
from emp.governance.paper import paper_lacks
from emp.governance.paper_source import Source
from emp.governance.registry import Registry
from emp.governance.seal import Keys, canonical
from emp.governance.stretches import KIND
from tests.governance.conftest import Ticking, ask, runs

MODEL = "a" * 64
LINES = 5
TODAY = 20
ALTER = ("flip", "cut", "gone", "twice", "of another", "swap lines", "drop line")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES", LINES)


def told(*, red: bool) -> list[Evidence]:
    """Two weeks of runs of a day each with a signed hour, one of them red or none."""
    days = range(TODAY - 14, TODAY)
    found = runs(MODEL, *days, value=10.0) if not red else runs(MODEL, *days, ece=0.5)
    heads = [
        of_head(MODEL, Source(f"RUN{day}", "fix", code_version()), Head(0, 0, "0" * 64), day * DAY_NS)
        for day in days
    ]
    return [*found, *heads]


def filled(home: Path, *, red: bool) -> Path:
    registry = Registry(home, Ticking())
    for one in told(red=red):
        registry.store.add(one)
    return home


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Path]:
    """Registries whose days are green, and red."""
    folder = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LINES", LINES)
        return {red: filled(folder / f"red{red}", red=red) for red in (False, True)}


def sealed_of(home: Path) -> list[Path]:
    return sorted((home / "sealed").rglob("*.jsonl"))


def copied(home: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(home, to))


def test_what_is_sealed_is_what_is_verified_one_by_one(kept: Mapping[bool, Path]) -> None:
    home = kept[False]
    assert len(sealed_of(home)) == len(told(red=False)) // LINES
    one_by_one = Store(home, one_by_one=True)
    assert Store(home).signed() == one_by_one.signed()
    assert Store(home).ledgers() == one_by_one.ledgers()
    assert list(Store(home).signed()) == list(one_by_one.signed()), "in the order of the ledger too"


def test_a_start_verifies_only_what_came_since(
    kept: Mapping[bool, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = list[str]()
    plain = Keys.verifier

    def counting(keys: Keys, trusted: object) -> object:
        verify = plain(keys, trusted)  # type: ignore[arg-type]
        return lambda envelope: (verified.append(envelope.kind), verify(envelope))

    monkeypatch.setattr(Keys, "verifier", counting)
    store = Store(kept[False])
    lines = len(store.signed())
    since = lines % LINES
    assert verified.count("looks") == since
    assert len([kind for kind in verified if kind not in ("looks", KIND)]) == since
    assert set(verified) >= {KIND}


def altered(path: Path, how: str, at: int, beside: Path) -> bool:
    """Change a file in one way; whether that changes anything."""
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    k = at % len(lines)
    if how == "flip":
        data = bytearray(before)
        data[at % len(data)] ^= 1 << at % 7
        after = bytes(data)
    elif how == "cut":
        after = before[: at % len(before)]
    elif how == "twice":
        after = before + lines[k]
    elif how == "of another":
        after = beside.read_bytes()
    elif how == "swap lines":
        lines[k], lines[k - 1] = lines[k - 1], lines[k]
        after = b"".join(lines)
    elif how == "drop line":
        after = b"".join(lines[:k] + lines[k + 1 :])
    else:
        path.unlink()
        return True
    path.write_bytes(after)
    return after != before


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    red=st.booleans(),
    part=st.sampled_from(("ledgers", "evidence", "sealed")),
    how=st.sampled_from(ALTER),
    which=st.integers(0, 10_000),
    at=st.integers(0, 10_000_000),
)
def test_whatever_is_changed_removed_or_moved_nothing_else_is_served_and_an_audit_finds_it(
    kept: Mapping[bool, Path],
    tmp_path: Path,
    gates: Gates,
    red: bool,
    part: str,
    how: str,
    which: int,
    at: int,
) -> None:
    """Either it is refused, or what is read is what was signed: so no fail becomes a pass."""
    home = copied(kept[red], tmp_path / "registry")
    files = sorted(path for path in (home / part).rglob("*.json*") if path.is_file())
    path = files[which % len(files)]
    changed = altered(path, how, at, files[which % len(files) - 1])
    signed = Store(kept[red], one_by_one=True).all()
    before = paper_lacks(signed, ask(MODEL, TODAY), gates)
    assert (before == "") == (not red)
    sealed_again = part == "sealed" and how == "gone"  # what is gone costs time, and is made anew
    if changed and not sealed_again:
        with pytest.raises(GovernanceError):
            Registry(home, Ticking()).verify()
    home = copied(home, tmp_path / "again")
    try:
        found = Store(home).all()
    except GovernanceError:
        return
    cut = part == "ledgers" and changed
    assert not cut, "a ledger that is another is refused"
    assert list(found.items()) == list(signed.items())


def test_a_ledger_cut_behind_what_is_sealed_is_refused_by_a_machine_that_never_saw_more(
    kept: Mapping[bool, Path], tmp_path: Path
) -> None:
    home = copied(kept[False], tmp_path / "registry")
    (ledger,) = (home / "ledgers").iterdir()
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[: LINES + 1]))
    with pytest.raises(GovernanceError, match="its end was cut off"):
        Store(home).all()


@pytest.mark.parametrize("how", ["stranger", "key of another role"])
def test_a_stretch_that_another_key_has_sealed_counts_for_nothing(
    how: str, kept: Mapping[bool, Path], tmp_path: Path
) -> None:
    home = copied(kept[True], tmp_path / "registry")
    good = Store(kept[False])
    (ledger,) = (home / "ledgers").iterdir()
    store = Store(home)
    if how == "stranger":
        keys = Keys(tmp_path / "keys")
        role = "box"
    else:
        keys, role = store.keys, "training"
    forged = sealed_of(home)[0]
    (other,) = (kept[False] / "ledgers").iterdir()
    pack = forged.parent / forged.name
    seal, _, rest = sealed_of(kept[False])[0].read_bytes().partition(b"\n")
    body = msgspec.json.decode(seal)["body"] | {"ledger": ledger.stem}
    pack.write_bytes(canonical(keys.seal_as(role, KIND, body)) + b"\n" + rest)
    ledger.write_bytes(other.read_bytes())
    assert good.all()
    with pytest.raises(GovernanceError):
        Store(home).all()


def test_a_key_that_is_trusted_no_more_seals_nothing(kept: Mapping[bool, Path], tmp_path: Path) -> None:
    home = copied(kept[False], tmp_path / "registry")
    (home / "keys" / "trusted.json").write_bytes(b"{}\n")
    with pytest.raises(GovernanceError, match="not trusted here"):
        Store(home).all()


def test_what_cannot_be_sealed_is_verified_one_by_one(tmp_path: Path) -> None:
    home = tmp_path / "registry"
    home.mkdir()
    (home / "sealed").write_bytes(b"no folder")
    filled(home, red=False)
    assert len(Store(home).all()) == len(told(red=False))
