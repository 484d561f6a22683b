"""What a stretch vouches for: only what its key could say without it."""

from pathlib import Path

import msgspec
import pytest

from emp.core.errors import GovernanceError
from emp.governance import evidence as module
from emp.governance.chain import START, Chain, Entry, exclusive
from emp.governance.evidence import Evidence, Store
from emp.governance.registry import Registry
from emp.governance.seal import Envelope, Keys, Role, canonical, content_address
from emp.governance.stretches import KIND, Stretches, _stretch
from tests.governance.conftest import Ticking, runs

MODEL = "a" * 64
LINES = 5


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES", LINES)


def days(value: float) -> list[Evidence]:
    return runs(MODEL, *range(6, 6 + LINES), value=value)[:LINES]


def write(home: Path, key: str, role: Role, lines: list[bytes], pack: list[bytes], head: str = "") -> None:
    """A ledger of these lines and their evidence, and a stretch that seals them, rightly signed."""
    bodies = [msgspec.json.decode(line)["body"] for line in lines]
    names = [body["entry"]["evidence"] for body in bodies]
    for folder in ("evidence", "ledgers"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, pack, strict=True):
        (home / "evidence" / f"{name}.json").write_bytes(text)
    (home / "ledgers" / f"{key}.jsonl").write_bytes(b"".join(lines))
    entries = [Entry(n, content_address(body), body["entry"], key) for n, body in enumerate(bodies)]
    if head:
        entries[-1] = entries[-1]._replace(hash=head)
    folder = home / "sealed" / key
    folder.mkdir(parents=True, exist_ok=True)
    keys = Keys(home / "keys")
    sealed = _stretch(key, entries, START, b"".join(lines), b"".join(pack))
    path = folder / f"{len(lines):09d}.jsonl"
    path.write_bytes(canonical(keys.seal_as(role, KIND, sealed)) + b"\n" + b"".join(pack))


def told(
    keys: Keys, role: Role, found: list[Evidence], signature: str = ""
) -> tuple[list[bytes], list[bytes]]:
    """Lines of a ledger that tell of evidence, and its stored texts, unsigned where a signature is given."""
    key, previous = keys.own(role)[0], START
    lines, pack = [], []
    for n, one in enumerate(found):
        entry = {
            "evidence": content_address(one),
            "kind": one.kind,
            "model": one.model,
            "data": [],
            "spans": [],
        }
        line = keys.seal_as(role, "looks", {"n": n, "previous": previous, "entry": entry})
        previous = content_address(line.body)
        lines.append(canonical(line) + b"\n")
        plain = msgspec.to_builtins(one)
        stored = Envelope(plain, key, one.kind, signature) if signature else keys.seal_as(role, one.kind, one)
        pack.append(canonical(stored) + b"\n")
    return lines, pack


def test_a_key_seals_no_evidence_that_it_may_not_sign(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    lines, pack = told(keys, "training", days(10.0), signature="00")
    write(tmp_path, keys.own("training")[0], "training", lines, pack)
    with pytest.raises(GovernanceError, match="may not sign"):
        Store(tmp_path).signed()


def test_lines_behind_which_marks_were_made_are_not_replaced_below_them(tmp_path: Path) -> None:
    """The stretch names the head that other machines know; its lines are others, which do not lead there."""
    keys = Keys(tmp_path / "keys")
    key = keys.own("box")[0]
    red, _ = told(keys, "box", days(-10.0))
    green, pack = told(keys, "box", days(10.0))
    head = content_address(msgspec.json.decode(red[-1])["body"])
    mixed = []
    for mine, others in zip(red, green, strict=True):
        line = msgspec.json.decode(mine)
        line["body"]["entry"] = msgspec.json.decode(others)["body"]["entry"]
        mixed.append(canonical(line) + b"\n")
    write(tmp_path, key, "box", mixed, pack, head)
    with pytest.raises(GovernanceError):
        Store(tmp_path).signed()


def test_evidence_that_is_not_what_its_name_says_is_not_served_from_a_stretch(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    lines, _ = told(keys, "box", days(-10.0))
    _, pack = told(keys, "box", days(10.0))
    write(tmp_path, keys.own("box")[0], "box", lines, pack)
    with pytest.raises(GovernanceError, match="not what its name says"):
        Store(tmp_path).signed()


@pytest.mark.parametrize("pack", [b"", b"\xff\n" * LINES, b"[]\n" * LINES, b"{}\n" * (LINES + 1)])
def test_what_cannot_be_read_behind_a_seal_is_verified_one_by_one(tmp_path: Path, pack: bytes) -> None:
    keys = Keys(tmp_path / "keys")
    key = keys.own("box")[0]
    lines, stored = told(keys, "box", days(10.0))
    write(tmp_path, key, "box", lines, stored)
    entries = Store(tmp_path).ledger(key).entries()
    (path,) = (tmp_path / "sealed" / key).iterdir()
    sealed = _stretch(key, entries, START, b"".join(lines), pack)
    path.write_bytes(canonical(keys.seal_as("box", KIND, sealed)) + b"\n" + pack)
    assert len(Store(tmp_path).signed()) == LINES


@pytest.mark.parametrize("line", [b"\xff\n", b"[]\n", b"{}\n", b"[" * 100_000 + b"\n"])
def test_lines_that_cannot_be_read_are_refused_as_unsealed_ones_are(tmp_path: Path, line: bytes) -> None:
    keys = Keys(tmp_path / "keys")
    key = keys.own("box")[0]
    lines, stored = told(keys, "box", days(10.0))
    write(tmp_path, key, "box", lines, stored)
    entries = Store(tmp_path).ledger(key).entries()
    lines[2] = line
    sealed = _stretch(key, entries, START, b"".join(lines), b"".join(stored))
    (path,) = (tmp_path / "sealed" / key).iterdir()
    path.write_bytes(canonical(keys.seal_as("box", KIND, sealed)) + b"\n" + b"".join(stored))
    (tmp_path / "ledgers" / f"{key}.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(GovernanceError):
        Store(tmp_path).signed()


def unsealed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of two stretches that nobody has sealed yet."""
    store = Store(home)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "seal", lambda _: None)
        for one in runs(MODEL, *range(6, 10))[: 2 * LINES]:
            store.add(one)
    (ledger,) = store.ledgers_folder.iterdir()
    return ledger


def test_of_two_that_seal_at_once_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = unsealed(tmp_path, monkeypatch).stem
    alone, plain = list[bool](), Stretches.seal

    def seal(stretches: Stretches, *what: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("emp.governance.chain.PATIENCE_S", 0.0)
            with pytest.raises(GovernanceError, match="another process"), exclusive(tmp_path):
                pass
        alone.append(True)
        plain(stretches, *what)  # type: ignore[arg-type]

    monkeypatch.setattr(Stretches, "seal", seal)
    Registry(tmp_path, Ticking()).remember()
    assert alone == [True, True]
    assert Store(tmp_path).stretches(key).sealed() == 2 * LINES


def test_what_is_sealed_is_the_text_that_was_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody without a key changes the ledger between two reads of it."""
    ledger = unsealed(tmp_path, monkeypatch)
    good = ledger.read_bytes()
    reads = list[bytes]()

    def text(chain: Chain) -> bytes:
        if chain.path != ledger:
            return b""
        reads.append(good if not reads else good.replace(MODEL.encode(), b"f" * 64))
        return reads[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Chain, "text", text)
        Store(tmp_path).seal()
    found = Store(tmp_path).stretches(ledger.stem).beginning(good)
    assert len(found.entries) in (LINES, 2 * LINES)


@pytest.mark.parametrize("public", ["zz", "AB" * 32])
def test_a_list_of_keys_that_holds_none_is_refused_in_words(tmp_path: Path, public: str) -> None:
    (tmp_path / "trusted.json").write_bytes(canonical({"zz": {"role": "box", "public": public}}))
    with pytest.raises(GovernanceError, match="public half"):
        Keys(tmp_path).trusted()
