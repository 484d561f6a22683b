"""Files as they arrive: cut, mixed, re-encoded, re-delimited. A sound book or one line, nothing else."""

from pathlib import Path

import pytest

from tests.access.mutations import Subject, judge, made_up, recorded, run, truth_of
from tests.access.spelled import SPELLINGS


def test_mutations_of_a_made_up_market(tmp_path: Path) -> None:
    outcomes, wrong = run(made_up(), 300, 7, tmp_path)
    assert not wrong
    assert outcomes["read"] > 60
    assert outcomes["refused"] > 60


@pytest.mark.real_data
def test_mutations_of_recorded_heads(data_dir: Path, tmp_path: Path) -> None:
    _, wrong = run(list(recorded(data_dir)), 120, 11, tmp_path)
    assert not wrong


def test_the_judge_sees_a_wrong_book_and_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject("q.csv", "EURUSD", SPELLINGS["base"].encode())
    truth = truth_of(subject, tmp_path)
    assert judge(subject, subject.data, truth, tmp_path).outcome == "read"
    wrong = subject.data.replace(b"1.08", b"1.07")
    assert judge(subject, wrong, truth, tmp_path).outcome == "wrong book"
    monkeypatch.setattr("tests.access.mutations.open_recording", lambda *_: 1 / 0)
    assert judge(subject, subject.data, truth, tmp_path).outcome == "traceback"
