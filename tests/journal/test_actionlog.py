"""The action log: the same rows give the same hash however they were cut, and come back bit by bit."""

import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.codes import Action, Reason
from emp.core.errors import JournalError
from emp.core.records import DECISION, UNHASHED, Array
from emp.journal import actionlog, parts
from emp.journal.action_schema import canonical_bytes
from emp.journal.actionlog import ActionLog, actions_sha256, read_actions


def rows(n: int, seed: int = 0) -> Array:
    """Rows of random bytes in every column and in the padding, with codes that exist."""
    rng = np.random.default_rng(seed)
    made = np.frombuffer(rng.bytes(n * DECISION.itemsize), DECISION).copy()
    made["action"] = rng.integers(0, len(Action), n)
    made["reason_code"] = rng.integers(0, len(Reason), n)
    made["instrument"] = rng.integers(0, 2, n)
    made["model_id"] = 0
    for name in (one for one in DECISION.names or () if DECISION[one] == np.bool_):
        made[name] = rng.random(n) < 0.5
    return made


def log(folder: Path, instruments: tuple[str, ...] = ("GOOG", "MSFT")) -> ActionLog:
    return ActionLog(folder, instruments, ["abc123"], resumable=RESUMABLE[0])


def same(a: Array, b: Array) -> bool:
    return all(a[name].tobytes() == b[name].tobytes() for name in DECISION.names or ())


RESUMABLE = [False]


@pytest.fixture(autouse=True, params=[False, True], ids=["read again", "resumable"])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of few rows, of logs that are read again to go on, and of those that are not."""
    monkeypatch.setattr(actionlog, "PART_ROWS", 64)
    monkeypatch.setattr(sys.modules[__name__], "RESUMABLE", [request.param])


def test_rows_come_back_bit_by_bit_with_readable_columns(tmp_path: Path) -> None:
    sent = rows(150)
    writer = log(tmp_path)
    writer.append(sent)
    digest = writer.close()
    assert same(read_actions(tmp_path), sent)
    assert actions_sha256(tmp_path) == digest
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"part-{n:05d}.parquet" for n in range(3)]
    table = pq.read_table(tmp_path / "part-00000.parquet")
    assert table.num_rows == 64
    assert table["action_name"].to_pylist() == [Action(a).name.lower() for a in sent["action"][:64]]
    assert table["reason"].to_pylist() == [Reason(r).name.lower() for r in sent["reason_code"][:64]]
    assert table["instrument_name"].to_pylist() == [("GOOG", "MSFT")[i] for i in sent["instrument"][:64]]
    assert set(table["model_hash"].to_pylist()) == {"abc123"}
    assert set(DECISION.names or ()) <= set(table.column_names)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 200), max_size=8), flush_at=st.integers(0, 8))
def test_the_hash_does_not_depend_on_batches(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], flush_at: int
) -> None:
    sent = rows(200)
    whole = log(tmp_path_factory.mktemp("a"))
    whole.append(sent)
    cut = log(tmp_path_factory.mktemp("b"))
    for n, part in enumerate(np.split(sent, sorted(cuts))):
        cut.append(part)
        if n == flush_at:
            cut.flush()
    assert cut.close() == whole.close()
    assert same(read_actions(cut.folder), sent)


def test_every_hashed_column_enters_the_hash_and_no_other_byte(tmp_path: Path) -> None:
    sent = rows(3)
    before = canonical_bytes(sent).tobytes()
    for name in DECISION.names or ():
        changed = sent.copy()
        raw = changed.view(np.uint8).reshape(3, DECISION.itemsize)
        raw[1, (DECISION.fields or {})[name][1]] ^= 1
        assert (canonical_bytes(changed).tobytes() == before) == (name in UNHASHED), name
    unpadded = np.zeros(3, DECISION)
    for name in set(DECISION.names or ()) - UNHASHED:
        unpadded[name] = sent[name]
    assert canonical_bytes(unpadded).tobytes() == before


def test_the_meaning_of_the_codes_enters_the_hash(tmp_path: Path) -> None:
    assert log(tmp_path / "a").close() == log(tmp_path / "b").close()
    assert log(tmp_path / "a").close() != log(tmp_path / "c", ("MSFT", "GOOG")).close()


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 65, 100, 128, 150])
def test_a_resumed_log_ends_as_an_uninterrupted_one(tmp_path: Path, keep: int) -> None:
    sent = rows(150)
    whole = log(tmp_path / "whole")
    whole.append(sent)
    killed = log(tmp_path / "killed")
    killed.append(sent)
    killed.flush()
    (tmp_path / "killed" / ".part-00003.parquet.tmp").write_bytes(b"torn")
    resumed = log(tmp_path / "killed")
    with pytest.raises(JournalError, match="holds rows already"):
        resumed.append(sent[:1])
    resumed.truncate_to(keep)
    assert resumed.rows == keep
    assert same(read_actions(tmp_path / "killed"), sent[:keep])
    resumed.append(sent[keep:])
    assert resumed.close() == whole.close()
    assert actions_sha256(tmp_path / "killed") == actions_sha256(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("*.tmp"))


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
def test_both_kinds_of_log_go_on_with_each_other_and_have_one_hash(
    tmp_path: Path, written: bool, resumed: bool
) -> None:
    sent = rows(200)
    whole = log(tmp_path / "whole")
    whole.append(sent)
    digest = whole.close()
    first = ActionLog(tmp_path / "log", ("GOOG", "MSFT"), ["abc123"], resumable=written)
    first.append(sent[:100])
    first.close()
    second = ActionLog(tmp_path / "log", ("GOOG", "MSFT"), ["abc123"], resumable=resumed)
    second.truncate_to(second.rows_in_parts())
    second.append(sent[100:])
    assert second.close() == digest == actions_sha256(tmp_path / "log")


def test_a_resumable_log_reads_no_row_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However old the run is, its start takes the same time and memory."""
    writer = ActionLog(tmp_path, ("GOOG", "MSFT"), ["abc123"], resumable=True)
    writer.append(rows(1000))
    writer.close()
    opened: list[Path] = []
    footer = parts.read_footer

    def looked_at(path: Path, what: str) -> parts.Footer:
        opened.append(path)
        return footer(path, what)

    monkeypatch.setattr(parts, "read_footer", looked_at)
    monkeypatch.setattr(actionlog, "read_footer", looked_at)
    monkeypatch.setattr(actionlog, "read_parts", lambda which, _: iter(which and [pytest.fail("read")]))
    again = ActionLog(tmp_path, ("GOOG", "MSFT"), ["abc123"], resumable=True)
    again.truncate_to(again.rows_in_parts())
    assert again.rows == 1000
    assert {path.name for path in opened} == {"part-00015.parquet"}


def test_a_log_that_lost_rows_cannot_be_resumed(tmp_path: Path) -> None:
    writer = log(tmp_path)
    writer.append(rows(150))
    writer.close()
    with pytest.raises(JournalError, match="has 150 rows, not the 151"):
        log(tmp_path).truncate_to(151)
    with pytest.raises(JournalError, match="other instruments or models"):
        log(tmp_path, ("AAPL",)).truncate_to(150)
    (tmp_path / "part-00001.parquet").unlink()
    with pytest.raises(JournalError, match="lacks part-00001"):
        log(tmp_path)


def test_a_damaged_part_ends_in_one_line(tmp_path: Path) -> None:
    writer = log(tmp_path)
    writer.append(rows(64))
    writer.close()
    part = tmp_path / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-40])
    with pytest.raises(JournalError, match="cannot be read") as caught:
        read_actions(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_log_has_a_hash_and_no_rows(tmp_path: Path) -> None:
    assert len(log(tmp_path).close()) == 64
    assert len(read_actions(tmp_path)) == 0
    with pytest.raises(JournalError, match="no action log"):
        actions_sha256(tmp_path)


def test_a_place_that_cannot_be_written_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot write action log"):
        log(tmp_path / "file" / "actions")


def test_a_disk_that_fills_is_reported_and_leaves_only_whole_parts(tmp_path: Path) -> None:
    writer = log(tmp_path)
    writer.append(rows(64))
    writer.flush()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(JournalError, match="cannot write action log"):
            writer.append(rows(128))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    with pytest.raises(JournalError, match="cannot write action log"):
        writer.close()
    assert same(read_actions(tmp_path), rows(64))


@pytest.mark.parametrize("first", [0, 1, 64, 100])
@pytest.mark.parametrize("cut", [30, 100, 150])
def test_a_model_that_comes_later_begins_a_part_and_enters_the_hash(
    tmp_path: Path, first: int, cut: int
) -> None:
    def write(folder: Path, upto: int, resumed: bool = False) -> ActionLog:
        writer = log(folder)
        if resumed:
            writer.truncate_to(upto)
        for start, end in ((0, first), (first, len(sent))):
            if start == first:
                writer.know("def456")
                writer.know("def456")
            todo = sent[max(start, upto) if resumed else start : end if resumed else min(end, upto)]
            writer.append(todo)
        return writer

    sent = rows(150)
    sent["model_id"][first:] = 1
    whole = write(tmp_path / "whole", 150)
    digest = whole.close()
    assert whole.model_hashes == ["abc123", "def456"]
    assert actions_sha256(tmp_path / "whole") == digest
    names = [
        n for p in sorted((tmp_path / "whole").iterdir()) for n in pq.read_table(p)["model_hash"].to_pylist()
    ]
    assert names == ["abc123"] * first + ["def456"] * (150 - first)
    write(tmp_path / "cut", cut).close()
    again = write(tmp_path / "cut", cut, resumed=True)
    assert again.close() == digest == actions_sha256(tmp_path / "cut")
    assert same(read_actions(tmp_path / "cut"), sent)
    alone = log(tmp_path / "alone")
    alone.append(sent[:first])
    alone.know("def456")
    assert alone.close() != digest
