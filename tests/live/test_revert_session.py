"""A model that is spoiled serves a paper session: what watches it finds that, what stands by takes over between two
events, and no event is missed.
"""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.access.paper.access import PaperAccess, Playback
from emp.app.wiring.live import assemble_live
from emp.app.wiring.rerun import verify_run
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.instrument import find
from emp.core.records import HORIZONS
from emp.engine.choose import load_model
from emp.engine.inputs import PREFIX
from emp.engine.journal_tap import journalled_events, journalled_rows
from emp.engine.load import LoadedModel, load_folder
from emp.engine.succession import Models
from emp.journal.reader import LedgerReader
from emp.journal.swaps import read_swaps
from emp.model.artifact import save
from emp.model.heads import CLASSES, LOGITS
from emp.observe.board import Board
from emp.train.judge.stretch import Stretch
from tests.engine.test_monitor import market

GOOG = find("GOOG")
EVENTS = 30_000
SECONDS = 20.0


def spoiled(how: str, folder: Path) -> LoadedModel:
    """The shipped linear model without a reference of its inputs: as it is, its sign turned, or much too sure."""
    artifact = load_model("linear").artifact
    tensors = {name: one.copy() for name, one in artifact.tensors.items() if not name.startswith(PREFIX)}
    for name in ("weight", "bias"):
        logits = tensors[name][..., :LOGITS]
        if how == "turned":
            shaped = logits.reshape(*logits.shape[:-1], HORIZONS, CLASSES)
            tensors[name][..., :LOGITS] = shaped[..., ::-1].reshape(logits.shape)
        elif how == "too sure":
            tensors[name][..., :LOGITS] = logits * np.float32(2.5)
    provenance = {**artifact.manifest.provenance, "series": [], "how": how}
    save(folder / how, msgspec.structs.replace(artifact.manifest, provenance=provenance), tensors)
    return load_folder(folder / how)


@pytest.mark.long
@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("how", ["turned", "too sure"])
def test_a_spoiled_model_gives_way_in_a_running_session_and_no_event_is_missed(
    how: str, tmp_path: Path
) -> None:
    events, clock = market(EVENTS), LiveClock()
    speed = float(np.ptp(events["ts"])) / 1e9 / SECONDS
    config = SystemConfig.model_validate(
        {
            "mode": "paper",
            "run_dir": tmp_path / "runs",
            "instruments": {"names": ["GOOG"]},
            "access": {"connection_protocol": "recording", "recording": tmp_path / "none", "speed": speed},
            "risk": {"stale_after_ms": 60_000},
        }
    )
    access = PaperAccess(Playback([Stretch(GOOG, events)], clock, speed=speed), clock, speed=speed)
    models = Models(spoiled(how, tmp_path), spoiled("as it is", tmp_path))
    running = assemble_live(config, [GOOG], models, access, Board(clock), clock)
    running.live.prepare()
    asyncio.run(running.live.run())
    assert models.standby is not None
    ledger = LedgerReader(running.folder.ledger)
    (swap,) = read_swaps(ledger)
    assert (swap.before, swap.after) == (models.serving.artifact.hash, models.standby.artifact.hash)
    assert swap.reason == "failed"
    (breach,) = ledger.notes("risk_breach")
    assert breach.data["reason"] == "model_failed"
    ledger.close()
    seen = np.concatenate(list(journalled_events(running.folder)))
    counts = running.bus.counts(0)
    assert (counts.received, counts.conflated) == (len(events), 0)
    np.testing.assert_array_equal(seen["seq"], events["seq"])
    rows = journalled_rows(running.folder)
    (change,) = np.flatnonzero(np.diff(rows["model_id"]))
    assert rows["seq"][change] == swap.seq
    running.folder.write_summary({})
    assert verify_run(running.folder, lambda *_: None).summary["equal"]
