"""Skill of a model that is there, on markets that it was not trained on, and the evidence of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.leave_out import _judge_artifacts, _passed_over
from emp.core.code_version import code_version
from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES
from emp.engine.choose import load_model
from emp.governance import foreign
from emp.governance.evidence import Evidence, Store
from emp.governance.gates import Rule, read_gates, rules
from emp.governance.judge import Case, Verdict, judge_gate
from emp.governance.outside import OF_MARKET, SKILL
from emp.journal.files import file_sha256
from emp.train.judge.leave_out import Budget
from tests.kit.datasets import market, write_quotes

GROUPS = {"AAPL": "a", "MSFT": "a", "IBM": "b", "BAC": "c", "TSLA": "d", "TAQ_XXX": "e", "GOOG": "f"}
"""Markets by instrument; the shipped models were trained on the last."""


def test_it_is_judged_on_what_it_was_not_trained_on_with_groups_as_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    monkeypatch.setenv("EMP_DATA", str(tmp_path))
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    entries = {}
    for k, (instrument, group) in enumerate(GROUPS.items()):
        write_quotes(market(3_000, k, 0.5), str(tmp_path / f"m{k}.csv"))
        entries[f"m{k}"] = {"instrument": instrument, "group": group, "paths": [f"m{k}.csv"]}
    entries["gone"] = {"instrument": "ES", "group": "g", "paths": ["gone.csv"]}
    catalogue = tmp_path / "c.yaml"
    catalogue.write_text(yaml.safe_dump({"markets": entries}))
    call = ["evaluate", "--leave-out", "--catalogue", str(catalogue), "--artifact", "mamba2", "--json"]
    done = CliRunner().invoke(app, [*call, "--evidence", str(tmp_path / "registry")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    ((name, one),) = Store(tmp_path / "registry").all().items()
    assert told["evidence"] == [name], "the linear model beside it speaks for nothing"
    mamba = load_model("mamba2").artifact
    assert (one.model, one.reference) == (mamba.hash, load_model("linear").artifact.hash)
    assert {data.instrument for data in one.data} == set(GROUPS) - {"GOOG"}
    assert "m6" not in {row["market"] for row in told["table"]}

    rows = [row for row in told["table"] if row["model"] == "mamba2"]
    for horizon in HORIZON_NAMES[:3]:
        (record,) = [r for r in one.records if (r.measure, r.horizon) == (SKILL, horizon)]
        by_group: dict[str, list[float]] = {}
        for row in rows:
            if row["horizon"] == horizon:
                by_group.setdefault(row["group"], []).append(100.0 * row["bss"])
        assert record.blocks == pytest.approx([np.mean(x) for x in by_group.values()], abs=1e-3)
        assert len(record.blocks) == 5
        assert record.kind_of_block == "group"
    assert {r.series for r in one.records if r.measure == OF_MARKET} == {f"m{k}" for k in range(6)}

    def judged(rule: Rule, one: Evidence) -> Verdict:
        return judge_gate(rule, Case(mamba.manifest, {name: one}, one.reference, code_version()), 0.95)

    assert (one.config["chosen"], one.config["skipped"], one.config["passed_over"]) == ([], ["gone"], [])
    whole = msgspec.structs.replace(one, config={**one.config, "skipped": []})
    for rule in rules(read_gates()):
        if rule.measure == SKILL:
            monkeypatch.undo()
            assert "another catalogue" in judged(rule, whole).why
            monkeypatch.setattr(foreign, "CATALOGUE_SHA256", file_sha256(catalogue))
            assert "were not all read" in judged(rule, one).why
            said = judged(rule, whole)
            assert said.evidence == (name,)
            (record,) = [r for r in one.records if (r.measure, r.horizon) == (SKILL, rule.horizon)]
            assert said.value == pytest.approx(np.mean(record.blocks))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--artifact", "mamba2", "--artifact", "shares=linear"], "is a baseline"),
        (["--artifact", "x=linear", "--artifact", "x=mamba2"], "different kinds"),
        (["--artifact", "mamba2", "--market", "m0", "--evidence", "registry"], "is of all markets"),
    ],
)
def test_what_cannot_be_told_apart_or_was_chosen_is_refused(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    monkeypatch.setenv("EMP_DATA", str(tmp_path))
    entries = {}
    for k, instrument in enumerate(("AAPL", "IBM")):
        write_quotes(market(1_500, k, 0.5), str(tmp_path / f"m{k}.csv"))
        entries[f"m{k}"] = {"instrument": instrument, "group": instrument, "paths": [f"m{k}.csv"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"markets": entries}))
    call = ["evaluate", "--leave-out", "--catalogue", str(tmp_path / "c.yaml")]
    refused = CliRunner().invoke(app, [*call, *words])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, UsageError)
    assert why in str(refused.exception)
    assert "\n" not in str(refused.exception)


def test_a_model_that_does_not_say_what_it_was_trained_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "untold.py").write_text("def silent(x, forecast): pass\n")
    asked = SimpleNamespace(artifacts=[f"mine={tmp_path}/untold.py:silent"])
    with pytest.raises(UsageError, match=r"--leave-out: mine does not say what it .* were trained on"):
        _judge_artifacts(asked, [], Budget())  # type: ignore[arg-type]


def test_markets_that_another_model_keeps_from_being_judged_are_told() -> None:
    markets: Any = [
        SimpleNamespace(name=name, data=SimpleNamespace(instrument=SimpleNamespace(name=name)))
        for name in ("GOOG", "BAC", "IBM")
    ]
    by = {"linear": ["GOOG"], "mine": ["GOOG", "IBM"], "other": ["GOOG", "BAC"]}
    fold = {"trained_on": ["BAC", "GOOG", "IBM"], "trained_on_by": by}
    assert _passed_over(fold, "mine", markets) == ["BAC"]
    assert _passed_over(fold, "linear", markets) == ["BAC", "IBM"]
    assert _passed_over({"trained_on": ["GOOG"]}, "mine", markets) == []
