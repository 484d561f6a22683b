"""`emp train --seed`: two processes make the same artifact, of every kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emp.app.commands.train import Model
from tests.kit.datasets import market, write_quotes

SETTINGS = """
model: {d_model: 16, layers: 2, d_state: 8, headdim: 8, attention_heads: 2, window: 8}
train: {features_epochs: 1, curriculum: [[256, 1]], rows: 2000}
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", list(Model))
def test_two_processes_train_to_the_same_artifact(kind: Model, tmp_path: Path) -> None:
    recording, settings = tmp_path / "GOOG_day.csv", tmp_path / "how.yaml"
    write_quotes(market(4_000, 3, 0.5), str(recording))
    settings.write_text(SETTINGS)
    how = [] if kind is Model.LINEAR else ["--settings", str(settings)]
    made = []
    for hashes, threads in (("1", "1"), ("2", "2")):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "emp", "train", "--model", kind.value, "--seed", "3", "--json"),
                *("--data", f"GOOG={recording}", "--device", "cpu", *how),
                *("--out", str(tmp_path / hashes)),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": threads},
        )
        assert done.returncode == 0, done.stderr
        made.append(json.loads(done.stdout.splitlines()[-1]))
    assert made[0]["model_hash"] == made[1]["model_hash"]
    stages = {"recordings", "linear"} | (
        set() if kind is Model.LINEAR else {"features", "sequences", "calibration", "check"}
    )
    assert set(made[0]["stages"]) == stages
