"""A run that has closed only, with whatever could be loaded, hands that model to no run that may open."""

import contextlib
from pathlib import Path

import pytest

from emp.app.wiring.open_run import CLOSED_ONLY, _continued, keep_models
from emp.core.clock import SimClock
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import RunFolder, build_manifest

from .test_account import settings


@pytest.mark.parametrize("closed_only", [True, False])
def test_what_served_to_close_alone_gives_way_to_the_configured_model(
    tmp_path: Path, closed_only: bool
) -> None:
    served, configured = Models(load_model("mamba2")), Models(load_model("linear"))
    config = settings(tmp_path)
    manifest = build_manifest(
        run="TESTRUN1",
        mode="live",
        config={},
        instruments=["BTCUSDT"],
        model_hashes=[served.serving.artifact.hash],
        facts=[],
    )
    folder = RunFolder.create(tmp_path / "live-TESTRUN1", manifest)
    keep_models(folder, served)
    with contextlib.closing(Ledger(folder.ledger, run="TESTRUN1")) as ledger:
        if closed_only:
            ledger.record_note(Note(kind=CLOSED_ONLY, ts=1, data={"why": "the green weeks are old"}))
        models = _continued(folder, ledger, config, configured, SimClock())
        again = _continued(folder, ledger, config, configured, SimClock())
    chosen = configured if closed_only else served
    assert models.serving.artifact.hash == again.serving.artifact.hash == chosen.serving.artifact.hash
