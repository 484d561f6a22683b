"""Home and box: market data one way, what was signed both ways, nothing else, wherever it is broken off."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from emp.app.box.alone import alone
from emp.app.box.frames import OFFER, Answer, Request, Shelved
from emp.app.box.home import Line, line_to
from emp.app.box.serve import Box
from emp.app.cli import app
from emp.core.errors import EmpError, GovernanceError, UsageError
from emp.governance.gates import Gates
from emp.model.artifact import Artifact
from tests.governance.conftest import paper
from tests.governance.test_exchange import Machine, default, evaluated, observed, paired, promoted

PARTS = {"paper-A/market/part-00000.parquet": b"first" * 900, "paper-A/market/part-00001.parquet": b"second"}
SECRET = {
    "paper-A/ledger.sqlite": b"ledger",
    "paper-A/market/.part-00002.parquet.tmp": b"half",
    "paper-A/actions/part-00000.parquet": b"actions",
    "account.json": b"account",
}


@pytest.fixture
def home(tmp_path: Path) -> Machine:
    return paired(tmp_path)[0]


@pytest.fixture
def box(home: Machine) -> Machine:
    return Machine(home.folder.parent / "box", "box")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return written(tmp_path / "runs", {"paper-A/manifest.json": b"{}", **PARTS, **SECRET})


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def line(box: Machine, runs: Path) -> Iterator[Line]:
    """A connection to a real process of the box, as SSH makes one."""
    state, root = box.folder / "state", Path(__file__).resolve().parents[2]
    serve = f"{sys.executable} -m emp box serve --runs {runs} --registry {box.registry.home}"
    with line_to(f"env EMP_STATE={state} PYTHONPATH={root} {serve}") as one:
        yield one


def nothing(done: int, total: int) -> None:
    pass


def test_market_data_goes_home_and_nothing_else_does(
    home: Machine, box: Machine, runs: Path, tmp_path: Path
) -> None:
    into, market = tmp_path / "into", {"paper-A/manifest.json": b"{}", **PARTS}
    with line(box, runs) as one:
        assert one.fetch_runs(into, nothing) == (3, sum(map(len, market.values())))
        assert content(into) == market
        assert one.fetch_runs(into, nothing) == (0, 0)
        grown = {
            "paper-A/market/part-00001.parquet": b"second, longer",
            "paper-A/market/part-00002.parquet": b"3",
        }
        written(runs, grown)
        assert one.fetch_runs(into, nothing) == (2, sum(map(len, grown.values())))
        assert content(into) == market | grown
        os.utime(runs / "paper-A/market/part-00000.parquet", ns=(1, 1))  # as long as before, and another one
        assert one.fetch_runs(into, nothing)[0] == 1


def test_a_model_goes_to_the_box_and_what_was_seen_of_it_comes_home(
    home: Machine, box: Machine, runs: Path, artifact: Artifact, gates: Gates
) -> None:
    evaluated(home, artifact)
    with line(box, runs) as one:
        with home.at() as registry:
            answer = one.offer(registry)
        assert (answer.models, answer.decisions, answer.error) == ([artifact.hash], 1, "")
        observed(box, artifact)
        with home.at() as registry:
            assert one.fetch_registry(registry).evidence == 47
        assert promoted(home, artifact, gates) == "pass"
        assert default(box) == ""
        with home.at() as registry:
            assert one.offer(registry).decisions == 1
            again = one.offer(registry)
        assert (again.evidence, again.decisions, again.models) == (0, 0, [])
    assert default(box) == artifact.hash
    assert home.state() == box.state()


def test_what_was_rolled_back_is_refused_in_one_line_and_changes_nothing(
    home: Machine, box: Machine, runs: Path, artifact: Artifact
) -> None:
    evaluated(home, artifact)
    with line(box, runs) as one, home.at() as registry:
        one.offer(registry)
    before = box.state()
    trail = home.registry.home / "audit.jsonl"
    trail.write_bytes(b"")
    with line(box, runs) as one, home.at() as registry, pytest.raises(UsageError, match="was rolled back"):
        one.offer(registry)
    assert box.state() == before


def served(box: Machine, runs: Path, *asked: bytes) -> list[bytes]:
    """What a box says to these bytes."""
    said = io.BytesIO()
    with box.at() as registry:
        Box(runs, registry, lambda _: []).serve(io.BytesIO(b"".join(asked)), said)
    return said.getvalue().splitlines(keepends=True)


def asks(ask: str, *paths: str) -> bytes:
    return msgspec.json.encode(Request(ask, list(paths))) + b"\n"


def frame(path: str, size: int, sent: bytes) -> bytes:
    return msgspec.json.encode(Shelved(path, size)) + b"\n" + sent


@pytest.mark.parametrize(
    "path",
    [
        "paper-A/ledger.sqlite",
        "paper-A/actions/part-00000.parquet",
        "paper-A/market/.part-00002.parquet.tmp",
        "account.json",
        "../runs/paper-A/market/part-00000.parquet",
        "paper-A/../paper-A/market/part-00000.parquet",
        "../market/part-00000.parquet",
        "/etc/passwd",
        "./manifest.json",
        ".removed-paper-A/manifest.json",
        "linked/market/part-00000.parquet",
    ],
)
def test_nothing_but_market_data_of_runs_can_be_asked_for(box: Machine, runs: Path, path: str) -> None:
    written(runs.parent, {"elsewhere/market/part-00000.parquet": b"not of a run"})
    (runs / "linked").symlink_to(runs.parent / "elsewhere")
    found = served(box, runs, asks("send", path))
    assert len(found) == 1
    assert "is no market data of a run" in json.loads(found[0])["error"]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (frame("keys/box.key", 1, b"x"), "not asked for"),
        (frame("evidence/../keys/box.key", 1, b"x"), "not asked for"),
        (frame("models/" + "a" * 64 + "/..", 1, b"x"), "not asked for"),
        (frame("/audit.jsonl", 1, b"x"), "not asked for"),
        (frame("audit.jsonl", OFFER.file + 1, b"x"), "more than is taken"),
        (frame("audit.jsonl", -1, b"x"), "more than is taken"),
        (b'{"path":"audit.jsonl","size":0,"mtime_ns":99999999999999999999}\n', "more than is taken"),
        (b'{"path":"audit.jsonl","size":0,"mtime_ns":9223372036854775808}\n', "more than is taken"),
        (frame("evidence/" + "a" * 64 + ".json", 0, b"") * (OFFER.total // 4096 + 1), "more than is taken"),
        (frame("models/" + "a" * 64 + "/.", 0, b""), "not asked for"),
        (b'{"path":"\xff"}\n', "no answer"),
        (b"[" * 100_000 + b"\n", "no answer"),
        (frame("audit.jsonl", 60_000, b"[" * 59_999 + b"\n") + frame("", 0, b""), "audit.jsonl"),
        (
            frame("audit.jsonl", 600_000, b"[" * 599_999 + b"\n") + frame("", 0, b""),
            "longer than any of ours",
        ),
        (frame("audit.jsonl", 100, b"x"), "ended in the middle"),
        (frame("audit.jsonl", 1, b"x") + frame("", 0, b""), "audit.jsonl"),
        (b"nonsense\n", "no answer"),
        (b"", "ended in the middle"),
    ],
)
def test_nothing_but_a_registry_can_be_brought_to_the_box(
    home: Machine, box: Machine, runs: Path, sent: bytes, why: str
) -> None:
    before = box.state()
    found = served(box, runs, asks("take"), sent)
    assert len(found) == 1
    assert why in json.loads(found[0])["error"]
    assert box.state() == before


def test_folders_that_are_made_or_removed_are_not_on_the_shelf(box: Machine, runs: Path) -> None:
    written(runs, {".new.tmp/manifest.json": b"{}", ".removed-paper-B/market/part-00000.parquet": b"old"})
    (found,) = served(box, runs, asks("runs"))
    assert [one["path"].split("/")[0] for one in json.loads(found)["files"]] == ["paper-A"] * 3


def test_one_connection_is_served_at_a_time(box: Machine, runs: Path, tmp_path: Path) -> None:
    with alone(runs), line(box, runs) as one, pytest.raises(UsageError, match="ended without an answer"):
        one.fetch_runs(tmp_path / "into", nothing)
    with line(box, runs) as one:
        assert one.fetch_runs(tmp_path / "into", nothing)[0] == 3


def test_two_fetches_at_once_leave_whole_files(box: Machine, runs: Path, tmp_path: Path) -> None:
    """Each writes under a name of its own: one that is broken off spoils nothing of the other's."""
    market = {"paper-A/manifest.json": b"{}", **PARTS}
    whole = b"".join([*served(box, runs, asks("runs")), *served(box, runs, asks("send", *market))])
    slow = Line(io.BytesIO(whole[:-3000]), io.BytesIO())
    into = tmp_path / "into"

    class Meanwhile(io.BytesIO):
        """Lets the other fetch everything while a file comes."""

        def read(self, n: int | None = -1) -> bytes:
            if not (into / "paper-A/market/part-00001.parquet").exists():
                Line(io.BytesIO(whole), io.BytesIO()).fetch_runs(into, nothing)
            return super().read(n)

    slow._heard = Meanwhile(whole[: len(whole) // 2])
    with pytest.raises(UsageError):
        slow.fetch_runs(into, nothing)
    assert content(into) == market


@pytest.mark.parametrize("word", ["halt", "order", "reload", "", "keys"])
def test_the_box_knows_no_word_for_anything_else(box: Machine, runs: Path, word: str) -> None:
    found = served(box, runs, asks(word), asks("have"))
    assert len(found) == 1
    assert "no such request" in json.loads(found[0])["error"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_wherever_it_is_broken_off_files_are_whole_and_the_next_time_goes_on(
    box: Machine, runs: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    market = {"paper-A/manifest.json": b"{}", **PARTS}
    shelf = served(box, runs, asks("runs"))
    whole = b"".join([*shelf, *served(box, runs, asks("send", *market))])
    into = tmp_path_factory.mktemp("into")
    cut = whole[: int(len(whole) * share)]
    with pytest.raises(EmpError):
        Line(io.BytesIO(cut), io.BytesIO()).fetch_runs(into, nothing)
    here = {name: sent for name, sent in content(into).items() if not name.rpartition("/")[2].startswith(".")}
    assert here.items() <= market.items()
    asked = io.BytesIO()
    missing = [name for name in market if name not in here]
    rest = b"".join([*shelf, *served(box, runs, asks("send", *missing))])
    assert Line(io.BytesIO(rest), asked).fetch_runs(into, nothing)[0] == len(missing)
    assert sorted(msgspec.json.decode(asked.getvalue().splitlines()[1], type=Request).paths) == sorted(
        missing
    )
    assert content(into) == market


def test_evidence_that_comes_while_it_is_copied_is_told_of_the_next_time(
    home: Machine, box: Machine, runs: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs are read first, so none tells of what is not there."""
    from emp.app.box import shelf

    observed(box, artifact)
    held = shelf.held

    def and_another(registry: Path) -> list[str]:
        box.add(paper(artifact.hash, 15))
        return held(registry)

    monkeypatch.setattr(shelf, "held", and_another)
    said = b"".join(served(box, runs, asks("registry")))
    monkeypatch.undo()
    with home.at() as registry:
        assert Line(io.BytesIO(said), io.BytesIO()).fetch_registry(registry).evidence == 47


def test_a_stranger_s_registry_is_refused(
    home: Machine, box: Machine, runs: Path, artifact: Artifact
) -> None:
    stranger = Machine(home.folder.parent / "stranger", "training")
    evaluated(stranger, artifact)
    before = box.state()
    with (
        line(box, runs) as one,
        stranger.at() as registry,
        pytest.raises(UsageError, match="not trusted here"),
    ):
        one.offer(registry)
    assert box.state() == before


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "is a command"),
        ("/no/such/program", "No such file"),
        ("true", "ended"),
        ("echo hello", "no answer"),
    ],
)
def test_a_box_that_is_not_there_is_one_line(tmp_path: Path, address: str, why: str) -> None:
    done = CliRunner().invoke(app, ["box", "fetch", address, "--registry", str(tmp_path / "registry")])
    assert isinstance(done.exception, UsageError)
    assert why in str(done.exception)
    assert "\n" not in str(done.exception)


def test_what_a_box_says_of_itself_is_not_believed(
    home: Machine, box: Machine, artifact: Artifact, tmp_path: Path
) -> None:
    """A file that was not asked for, and a log that the box's key has not signed."""
    shelf = msgspec.json.encode(Answer(files=[Shelved("a/manifest.json", 1, 1)])) + b"\n"
    sent = msgspec.json.encode(Answer()) + b"\n" + frame("../b", 1, b"x")
    with pytest.raises(UsageError, match="not asked for"):
        Line(io.BytesIO(shelf + sent), io.BytesIO()).fetch_runs(tmp_path / "into", nothing)
    observed(box, artifact)
    said = b"".join(served(box, tmp_path, asks("registry"))).replace(b'"paper"', b'"drift"')
    with home.at() as registry, pytest.raises(GovernanceError):
        Line(io.BytesIO(said), io.BytesIO()).fetch_registry(registry)
