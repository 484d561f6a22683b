"""Which head forecasts, and what its forecasts have been worth: what the page and `/health` are told of it."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.instrument import find
from emp.core.records import DECISION, HORIZON_NAMES
from emp.engine.engine import Engine
from emp.engine.step import run_all
from emp.engine.view_parts import head_view
from emp.observe.board import HeadView
from tests.kit.events import random_events
from tests.kit.models import LOOSE, eager_model

pytestmark = pytest.mark.usefixtures("compiled_engine")


def engine_trained_on(folder: Path, *instruments: str) -> Engine:
    model = eager_model(folder)
    model.artifact.manifest.provenance["series"] = [{"instrument": name} for name in instruments]
    return Engine([find("GOOG")], model, LOOSE, "TESTRUN0")


def view_of(engine: Engine) -> HeadView:
    return head_view(engine.desk, engine.model.artifact.manifest.domains, 0)


def test_a_rule_in_a_models_place_is_taken_at_its_word(tmp_path: Path) -> None:
    assert view_of(engine_trained_on(tmp_path)) == HeadView()


def test_a_head_is_trained_where_its_model_saw_the_instrument(tmp_path: Path) -> None:
    seen, unseen = engine_trained_on(tmp_path, "GOOG", "AAPL"), engine_trained_on(tmp_path, "AAPL")
    assert view_of(seen) == HeadView(name="shared", scale=dict.fromkeys(HORIZON_NAMES, 1.0))
    assert view_of(unseen) == HeadView(name="shared", trained=False, scale=dict.fromkeys(HORIZON_NAMES, 0.0))


def test_forecasts_of_a_market_without_memory_end_off_their_ground(tmp_path: Path) -> None:
    engine = engine_trained_on(tmp_path, "GOOG")
    events = random_events(30_000, 7)
    engine.extend_calendar(int(events["ts"][0]), int(events["ts"][-1]))
    rows, laps = np.zeros(512, DECISION), np.zeros((512, 3), np.int32)
    steps = []
    for part in np.array_split(events, 10):
        run_all(engine.held, part, rows, laps)
        steps.append(view_of(engine).off_ground)
    view = view_of(engine)
    assert view.outcomes > 512
    assert view.scale.keys() == set(HORIZON_NAMES)
    assert all(0.0 <= slope < 0.25 for slope in view.scale.values())
    assert (steps[0], steps[-1]) == (False, True)
