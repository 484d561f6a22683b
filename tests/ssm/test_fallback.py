"""Mamba-3 gives way to Mamba-2, another kind with states of another size, in an engine and in a run that dies."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest, Planned
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from emp.journal.swaps import Swap
from tests.kit.control import degrade
from tests.kit.events import random_events
from tests.kit.models import Events
from tests.ssm.test_repeats import artifact

AT = 700


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, LoadedModel]:
    folder = tmp_path_factory.mktemp("models")
    three, two = (load_model(artifact(folder / impl, impl)) for impl in ("mamba3", "mamba2"))
    assert three.state_size != two.state_size
    return three, two


def quiet(model: LoadedModel) -> Engine:
    e = Engine([find("GOOG")], model, EngineLimits(), "FALLBACK")
    degrade(e)
    return e


def test_the_fallback_says_what_it_would_have_said_had_it_begun_there(models) -> None:
    three, two = models
    market = random_events(1_500, 4)
    e, alone = quiet(three), quiet(two)
    ready = e.prepare(two)
    first = e.process(market[:AT]).rows
    e.install(ready)
    rows = e.process(market[AT:]).rows
    alone.process(market[:AT])
    before = alone.table.clone_state(0)
    alone.desk.stream["events"] = 0  # perception goes on, the state begins here
    same = alone.process(market[AT:]).rows
    assert before.any()
    assert e.served != alone.served
    for name in ("p", "q", "mean", "state_events", "since_reset"):
        np.testing.assert_array_equal(rows[name], same[name], name)
    assert set(first["model_id"]) == {0}
    assert set(rows["model_id"]) == {1}
    assert e.table.rows.shape == (1, two.state_size)


def test_a_run_that_dies_after_the_fallback_took_over_goes_on_the_same(models, tmp_path: Path) -> None:
    three, two = models
    market = random_events(1_500, 4)
    swap = Swap(
        instrument="GOOG",
        seq=int(market["seq"][AT]),
        ts=int(market["ts"][AT]),
        before=three.artifact.hash,
        after=two.artifact.hash,
        reason="latency",
    )

    def backtest(name: str) -> Backtest:
        manifest = build_manifest(
            run="FALLBACK", mode="replay", config={}, instruments=["GOOG"], model_hashes=[three.artifact.hash]
        )
        folder = RunFolder.open_or_create(tmp_path / name, manifest)
        facts = find("GOOG")
        engine = Engine([facts], three, EngineLimits(), "FALLBACK")
        return Backtest(Events(market, facts, 200), engine, PaperVenue(facts), folder, [Planned(swap, two)])

    class Death(BaseException):
        pass

    def die(events: int, _: object) -> None:
        if events == 1_000:
            raise Death

    whole = backtest("whole").run()
    dying = backtest("dying")
    with pytest.raises(Death):
        dying.run(die)
    assert dying.journal is not None
    dying.journal.ledger.close()
    again = backtest("dying").run()
    assert again["action_log_sha256"] == whole["action_log_sha256"]
    assert again["model_hash"] == two.artifact.hash
    rows = read_actions(tmp_path / "dying" / "actions")
    assert np.count_nonzero(np.diff(rows["model_id"])) == 1
