"""LoRA beside a head alone: what is as good holds, what is broken, or never was, does not, and `emp ablate` fails."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_in
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.commands import ablate
from emp.app.finetune import against_head as beside
from emp.app.finetune.against_head import ADAPTER, HEAD, AgainstHead, adapt_by, against_head
from emp.app.finetune.verdicts import KEPT, LOST, UNTOLD, Retention
from emp.core.errors import UsageError
from emp.engine.load import LoadedModel, ready
from emp.governance.evidence import new_evidence
from emp.governance.gates import ByHorizon, read_gates
from emp.governance.judge import Judgement
from emp.model.artifact import Artifact
from emp.train.fit import new_heads
from emp.train.fit.arms import AdaptSettings
from emp.train.judge.ablations import WHOLE
from emp.train.judge.adaptations import in_memory
from emp.train.judge.adapted import EVENT_HORIZONS
from tests.finetune.conftest import World, small
from tests.kit.datasets import dataset


@pytest.fixture(scope="module", autouse=True)
def _little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "SETTINGS", AdaptSettings(epochs=2, head_epochs=2, length=512))
        patch.setattr("emp.train.judge.blocks.BLOCK_NS", 2_000_000_000)  # the series are minutes long
        # a linear head knows all there is to know of such a market: an adapter would find nothing to do
        patch.setattr(new_heads, "_starts", lambda *_: [("base", lambda wider: None)])
        yield


@pytest.fixture(scope="module")
def made(world: World, _little: None) -> tuple[LoadedModel, LoadedModel]:
    """The head alone and the adapter."""
    with small():
        head, adapter = (
            in_memory(adapt_by(way, world.base.artifact, world.spot, [world.equity], 0))
            for way in (HEAD, ADAPTER)
        )
    return head, adapter


def compared(world: World, head: LoadedModel, adapter: LoadedModel) -> AgainstHead:
    gates = read_gates()
    caps = ByHorizon(ev1=10.0, ev5=10.0, ev20=10.0)  # minutes of a market tell no less
    wide = replace_in(gates, gates=replace_in(gates.gates, retention_f1_drop_pct=caps))
    return against_head(world.base, head, adapter, world.spot, [world.equity], wide)


def broken(model: LoadedModel) -> LoadedModel:
    """An adapted model whose body is in disorder and whose old heads say the opposite; the new head is as it was."""
    draw = np.random.default_rng(0)
    tensors = dict(model.artifact.tensors)
    for name, tensor in tensors.items():
        if name.startswith(("backbone.", "features.")) and tensor.ndim == 2:
            tensors[name] = draw.permuted(tensor)
    tensors["heads.direct"] = np.concatenate([-tensors["heads.direct"][:-1], tensors["heads.direct"][-1:]])
    return ready(Artifact(model.artifact.manifest, tensors), Path("broken"))


def test_an_adapter_holds_and_a_broken_one_does_not(
    world: World, made: tuple[LoadedModel, LoadedModel]
) -> None:
    head, adapter = made
    good = compared(world, head, adapter)
    assert good.adapted
    assert [one.horizon for one in good.new] == [one.horizon for one in good.old] == list(EVENT_HORIZONS)
    assert good.holds, good.lines()
    bad = compared(world, head, broken(adapter))
    assert LOST in {one.verdict for one in bad.new}
    assert LOST in {one.verdict for one in bad.old}
    assert not bad.holds


def test_a_head_in_the_adapters_place_is_no_adapter(
    world: World, made: tuple[LoadedModel, LoadedModel]
) -> None:
    head, _ = made
    found = compared(world, head, head)
    assert {one.verdict for one in found.new} == {KEPT}
    assert not found.adapted
    assert not found.holds
    assert "nothing was adapted" in found.lines()[0]


def test_what_cannot_be_compared_ends_in_one_line(world: World) -> None:
    base = world.base.artifact
    with pytest.raises(UsageError, match="trained on GOOG"):
        adapt_by(HEAD, base, world.equity, [world.equity], 0)
    with pytest.raises(UsageError, match="has a head for"):
        adapt_by(HEAD, base, world.spot, [world.spot], 0)
    short = replace(world.spot, split=world.spot.split._replace(test_ns=2**62))
    with pytest.raises(UsageError, match="too short to be judged"):
        adapt_by(HEAD, base, short, [world.equity], 0)


def verdict(said: str) -> Retention:
    return Retention("S", "1ev", 0.4, 0.39, 2.5, 3.5, 3.0, said)


@pytest.mark.parametrize(
    ("lora", "code"),
    [
        (None, 0),
        (AgainstHead([verdict(KEPT)], [verdict(KEPT)], True), 0),
        (AgainstHead([verdict(LOST)], [verdict(KEPT)], True), 1),
        (AgainstHead([verdict(KEPT)], [verdict(LOST)], True), 1),
        (AgainstHead([verdict(UNTOLD)], [verdict(KEPT)], True), 1),
        (AgainstHead([verdict(KEPT)], [verdict(KEPT)], False), 1),
    ],
)
def test_the_command_fails_where_the_adapter_does(
    lora: AgainstHead | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Any = SimpleNamespace(hash="m")
    judged = ablate.Judged(WHOLE, whole, new_evidence("evaluation", "m", [], {}))
    monkeypatch.setattr(ablate, "_train_all", lambda *_: None)
    monkeypatch.setattr(ablate, "_measured", lambda *_: [judged])
    monkeypatch.setattr(ablate, "_compared", lambda *_: lora)
    passed = Judgement("m", "pass", "", "", "", ())
    monkeypatch.setattr("emp.governance.judge.judge", lambda *_: passed)
    done = CliRunner().invoke(app, ["ablate", "--data", "GOOG=none.csv", "--json"])
    assert done.exit_code == code, done.output
    assert ("beside the head alone" in done.output) == (lora is not None and lora.adapted)


def test_nothing_is_adapted_where_series_are_given_and_no_new_market_is() -> None:
    assert ablate.Asked(["GOOG=none.csv"], None, 0).market() is None


def test_the_series_is_that_of_the_new_market(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "q.csv").touch()
    data = dataset(600)
    monkeypatch.setattr("emp.train.data.data.load_dataset", lambda series, *_: (series.instrument, data))
    found = ablate.Asked(["GOOG=none.csv"], f"GBPJPY={tmp_path / 'q.csv'}", 0).market()
    assert found == ("GBPJPY", data)
