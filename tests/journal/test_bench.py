"""The benchmark of the journal prints the figures it promises."""

import json
from pathlib import Path

import pytest

from emp.app.bench.journal import journal


def test_the_last_line_is_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal(folder=tmp_path, intents=100, rounds=1, as_json=True)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["intent_us"]["p50"] <= result["intent_us"]["p99"]
    assert result["append_rows_per_s"] > result["durable_rows_per_s"] > 0
    assert result["limits"].keys() == {"fdatasync", "sha256"}
    assert list(tmp_path.iterdir()) == []
