"""The log of a run that goes on for months takes a bounded place."""

import gzip
from pathlib import Path

import pytest

from emp.observe import log_file
from emp.observe.log_file import LogFile


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MOST", 100)
    monkeypatch.setattr(log_file, "KEPT", 3)


def test_full_files_are_compressed_in_order_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with LogFile(path) as log:
        for k in range(100):
            log.write(f"line {k:03d}\n")
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 4
    numbers = sorted(int(n.split("-")[1].split(".")[0]) for n in names if "-" in n)
    kept = "".join(gzip.decompress((tmp_path / f"log-{n}.jsonl.gz").read_bytes()).decode() for n in numbers)
    lines = (kept + path.read_text()).splitlines()
    assert lines == [f"line {k:03d}" for k in range(100 - len(lines), 100)], "nothing in between is lost"
    assert path.stat().st_size < 100


def test_a_file_that_was_left_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for k in range(2):
        with LogFile(path) as log:
            log.write(f"{k}\n")
    assert path.read_text() == "0\n1\n"


def test_where_it_cannot_be_put_aside_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "log.jsonl"
    with LogFile(path) as log:
        with monkeypatch.context() as patched:
            patched.setattr(log_file.gzip, "open", full)
            for k in range(15):
                log.write(f"line {k:03d}\n")
        assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]
        for k in range(15, 30):
            log.write(f"line {k:03d}\n")
    (packed,) = tmp_path.glob("*.gz")
    text = gzip.decompress(packed.read_bytes()).decode() + path.read_text()
    assert text.splitlines() == [f"line {k:03d}" for k in range(30)]
