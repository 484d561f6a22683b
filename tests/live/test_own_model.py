"""`emp run` with a model of the user's own: it forecasts, is marked, is replayed, is refused live, and fails flat."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emp
from emp.app.wiring.explained import rules_of_run
from emp.app.wiring.governed import load_models
from emp.app.wiring.rerun import replay_run
from emp.app.wiring.whatif import Asked, answer
from emp.core.config.config import SystemConfig
from emp.core.errors import ArtifactError, ConfigError, UsageError
from emp.engine.choose import load_model
from emp.engine.explain import ANSWER, NOT_DECIDED, decided_again, explain
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from emp.journal.swaps import read_swaps

from .test_run import start

pytestmark = pytest.mark.earns  # a run in a process of its own

MINE = """
import numba

import emp

AT = emp.INPUT_NAMES.index("qimbalance")


@numba.njit
def lean(seen, own, mine):
    mine[0] = 0.9 * mine[0] + 0.1 * seen.qimbalance
    own[0] = mine[0]


def leaning(x, forecast, mine):
    mine[0] += 1.0
    for h in range(6):
        forecast.mean[h] = 0.3 * x[AT] + 0.2 * x[-1] + 0.0 * mine[0]


model = emp.Model(leaning, memory=1, features=emp.Features(lean, ["lean"], memory=1))


def breaking(x, forecast, mine):
    mine[0] += 1.0
    if mine[0] > 1500:
        raise RuntimeError("out of ideas")
    forecast.mean[0] = 0.1


fails = emp.Model(breaking, memory=1)


def leaving(x, forecast, mine):
    mine[0] += 1.0
    if mine[0] > 1500:
        raise SystemExit("bad weights")
    forecast.mean[0] = 0.1


leaves = emp.Model(leaving, memory=1)
"""

RULE = """
import numba

import emp


@numba.njit
def rule(seen, request):
    if seen.order_state == 0 and seen.position < 2:
        emp.cross(request, 1, 1)
"""


def ran(folder: Path, model: str, standby: str = "none", **more: str) -> dict[str, Any]:
    (folder / "mine.py").write_text(MINE)
    (folder / "buys.py").write_text(RULE)
    own_standby = standby.startswith("mine.py:")
    with start(
        folder,
        "--seconds",
        "16",
        "--json",
        EMP_ACCESS__SPEED="200",
        **(more or {"EMP_DECISION__RULE": f"{folder}/buys.py:rule"}),
        EMP_MODEL__ARTIFACT=f"{folder}/{model if model.endswith('.onnx') else f'mine.py:{model}'}",
        **{
            "EMP_MODEL__FALLBACK_ARTIFACT"
            if own_standby
            else "EMP_MODEL__FALLBACK_IMPL": f"{folder}/{standby}" if own_standby else standby
        },
        EMP_MODEL__P99_MS="1000",  # not because a busy machine is slow
        EMP_MODEL__TOTAL_P99_MS="1000",
    ) as process:
        out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    return summary


def test_it_forecasts_is_marked_and_is_replayed(tmp_path: Path) -> None:
    summary = ran(tmp_path, "model")
    folder = RunFolder(str(summary["run_folder"]))
    (serving,) = folder.manifest["model_hashes"]
    assert folder.manifest["model_standing"] == {serving: "candidate"}
    said = (folder.path / "log.jsonl").read_text()
    assert "standing of a model" in said
    rows = read_actions(folder.actions)
    assert np.abs(rows["mean"]).max() > 0.0
    again = replay_run(folder, lambda *_: None)
    assert again["action_log_sha256"] == summary["action_log_sha256"]

    (tmp_path / "mine.py").write_text(MINE.replace("0.3 *", "0.4 *"))
    with pytest.raises(ArtifactError, match="a model of your own, leaning: it has changed since it served"):
        replay_run(folder, lambda *_: None)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(ArtifactError, match=r"a model of your own, leaning: .*no such file"):
        replay_run(folder, lambda *_: None)


@pytest.mark.parametrize(
    ("model", "said_of"),
    [
        ("fails", ("model breaking, at event ", "RuntimeError: out of ideas (mine.py, line")),
        ("leaves", ("SystemExit: bad weights",)),
    ],
)
def test_one_that_fails_with_nothing_behind_it_is_closed_and_halted(
    tmp_path: Path, model: str, said_of: tuple[str, ...]
) -> None:
    summary = ran(tmp_path, model)
    folder = RunFolder(str(summary["run_folder"]))
    reader = LedgerReader(folder.ledger)
    fills = reader.fills()
    reader.close()
    assert fills
    assert sum(f.side * f.qty for f in fills) == 0
    said = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    (failed,) = [one for one in said if one["event"] == "the model failed"]
    assert all(words in failed["error"] for words in said_of)
    assert read_actions(folder.actions)["halted"][-1]
    assert replay_run(folder, lambda *_: None)["action_log_sha256"] == summary["action_log_sha256"]


@pytest.mark.parametrize("standby", ["linear", "mine.py:model"])
def test_what_stands_by_takes_over_from_one_that_fails(tmp_path: Path, standby: str) -> None:
    summary = ran(tmp_path, "fails", standby=standby)
    folder = RunFolder(str(summary["run_folder"]))
    reader = LedgerReader(folder.ledger)
    (swap,) = read_swaps(reader)
    reader.close()
    assert swap.reason == "failed"
    assert (
        swap.after
        == load_model(f"{tmp_path}/{standby}" if ":" in standby else standby, own=True).artifact.hash
    )
    rows = read_actions(folder.actions)
    assert not rows["halted"][-1]
    assert np.isfinite(rows["mean"][-1]).all()
    assert replay_run(folder, lambda *_: None)["action_log_sha256"] == summary["action_log_sha256"]


def test_its_decisions_are_explained_and_played_on(tmp_path: Path) -> None:
    summary = ran(tmp_path, "fails", EMP_BUS__MAX_AGE_MS="60000")  # by the built-in rule, never too late
    folder = RunFolder(str(summary["run_folder"]))
    rows = read_actions(folder.actions)
    early = rows[(rows["state_events"] > 512) & (rows["state_events"] < 1400)]
    early = early[
        ~np.isin(early["reason_code"], [int(one) for one in NOT_DECIDED]) & (early["working_state"] == 0)
    ]
    row, rules = early[len(early) // 2], rules_of_run(folder, "GOOG")
    seq, again = int(row["seq"]), decided_again(row, rules)
    assert all(again[name] == row[name] for name in ANSWER)
    assert "made again from the row: the same" in " ".join(explain(row, "GOOG", rules))
    asked = Asked(folder, seq, None, "hold", 0, 0, None, (), "goog", 2, 1.0, "time", 1)
    found = answer(asked, lambda *_: None)
    assert found.fields["pairs"] == 2
    beyond = asked._replace(seconds=300.0)  # in which it fails
    with pytest.raises(UsageError, match=r"model breaking, at event .*out of ideas"):
        answer(beyond, lambda *_: None)


def test_on_paper_it_is_a_candidate_whatever_a_registry_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    model = {"artifact": f"{tmp_path}/mine.py:model", "registry": str(tmp_path / "registry")}
    settings: dict[str, Any] = {"instruments": {"names": ["GC"]}, "model": model}
    settings["access"] = {"connection_protocol": "fix", "host": "h", "port": 1}
    models = load_models(SystemConfig(mode="paper", **settings))
    assert models.standing[models.serving.artifact.hash] == "candidate"
    assert models.standby is not None  # the linear model
    named = {**settings, "model": {"challenger": f"{tmp_path}/mine.py:model"}}
    with pytest.raises(
        ArtifactError, match=r"model.challenger: .*a model of your own: here only what emp train"
    ):
        load_models(SystemConfig(mode="paper", **named))


def test_of_a_network_the_run_keeps_a_copy(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    tensor, made = onnx.TensorProto, onnx.helper
    x = made.make_tensor_value_info("x", tensor.FLOAT, [1, len(emp.INPUT_NAMES)])
    mean = made.make_tensor_value_info("mean", tensor.FLOAT, [1, 6])
    nodes = [
        made.make_node("Constant", [], ["to"], value=made.make_tensor("to", tensor.INT64, [1], [6])),
        made.make_node("Constant", [], ["from"], value=made.make_tensor("from", tensor.INT64, [1], [0])),
        made.make_node("Constant", [], ["axis"], value=made.make_tensor("axis", tensor.INT64, [1], [1])),
        made.make_node("Slice", ["x", "from", "to", "axis"], ["mean"]),
    ]
    graph = made.make_graph(nodes, "first six", [x], [mean])
    network = made.make_model(graph, opset_imports=[made.make_opsetid("", 18)], ir_version=9)
    (tmp_path / "net.onnx").write_bytes(network.SerializeToString())
    summary = ran(tmp_path, "net.onnx")
    (tmp_path / "net.onnx").unlink()
    again = replay_run(RunFolder(str(summary["run_folder"])), lambda *_: None)
    assert again["action_log_sha256"] == summary["action_log_sha256"]


def test_money_is_not_put_at_a_model_that_no_gate_has_seen() -> None:
    access = {"connection_protocol": "fix", "host": "h", "port": 1}
    for model in (
        {"artifact": "mine.py:model"},
        {"artifact": "net.onnx"},
        {"fallback_artifact": "mine:model"},
    ):
        settings: dict[str, Any] = {"instruments": {"names": ["GC"]}, "access": access, "model": model}
        with pytest.raises(ConfigError, match="a model of your own trades in mock and paper only"):
            load_models(SystemConfig(mode="live", **settings))
