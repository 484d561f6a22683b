"""Two processes, one that compiles and one that loads what it compiled, say the same bits of the same events."""

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from emp.engine.choose import load_model
from emp.model.artifact import Manifest, save
from emp.perception.schema import schema_hash
from tests.ssm.nets import DOMAINS, IMPLS, network, tensors

SMALL = {"d_model": 16, "layers": 2, "d_state": 8, "headdim": 8, "attention_heads": 2, "window": 8}

SCRIPT = """
import hashlib, sys
import numpy as np
from pathlib import Path
from emp.core.contracts import Control
from emp.core.instrument import find
from emp.core.records import UNHASHED, fieldwise_bytes
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import load_folder
from tests.kit.events import random_events

engine = Engine([find("GOOG")], load_folder(Path(sys.argv[1])), EngineLimits(), "REPEATS0")
engine.control(Control(action="degraded", ts=0, reason="test", value=1.0))
rows = engine.process(random_events(2_000, 11)).rows
print(len(rows), hashlib.sha256(fieldwise_bytes(rows, UNHASHED)).hexdigest())
print(float(rows["p"].std()))
"""


def artifact(folder, impl):
    net = network(impl, **SMALL)
    shipped = load_model("linear").artifact.tensors
    encoder = {name: tensor for name, tensor in shipped.items() if name.startswith("encoder.")}
    manifest = Manifest(
        kind=impl,
        schema=schema_hash(),
        domains=list(DOMAINS),
        k_sigma=0.5,
        thresholds=[[0.5] * 6] * 2,
        warmup_events=8,
        config={"model": msgspec.to_builtins(net.config)},
    )
    save(folder, manifest, {k: np.asarray(t, np.float32) for k, t in (tensors(net) | encoder).items()})
    return folder


@pytest.mark.long
@pytest.mark.parametrize("impl", IMPLS)
def test_two_processes_say_the_same_bits(impl, tmp_path):
    folder = artifact(tmp_path / impl, impl)
    said = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        said.append(ran.stdout)
    assert said[0] == said[1]
    rows, spread = int(said[0].split()[0]), float(said[0].split()[-1])
    assert rows > 1_000
    assert spread > 0.01, "it says something"
