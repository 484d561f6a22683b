"""A stretch of recorded events through the whole live path on paper, in a folder that is thrown away, and again.

The path is that of `emp run`: access, bus, driver, ledger, journal and taps; only the pace is not kept. What the run
has written is made again from its journal, as `emp replay RUN` does, and its forecasts are those that evaluation makes
of the same events: both bit for bit.
"""

import asyncio
import tempfile
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emp.access.paper.access import PaperAccess, Playback
from emp.access.port import Source
from emp.app.wiring.live import assemble_live, open_log
from emp.app.wiring.rerun import assemble_rerun
from emp.core.clock import Clock
from emp.core.config.config import SystemConfig
from emp.core.errors import EmpError
from emp.core.instrument import Instrument
from emp.core.records import FORECAST, UNHASHED, Array, fieldwise_bytes
from emp.engine.journal_tap import journalled_events, journalled_rows
from emp.engine.load import LoadedModel
from emp.engine.succession import Models
from emp.journal.run import RunFolder
from emp.observe import logs
from emp.observe.board import Board
from emp.train.data.table import extract_features
from emp.train.judge.forecasts import forecast_table, serving_head

SPEED = 1e9
"""Recorded seconds per second: as fast as the loop takes events."""


class Played(NamedTuple):
    """What came of a run."""

    rows: int  # of its action log
    differing: list[bool]  # by row, whether replay or evaluation does not find it again, and `why`
    why: str  # why the replay ended early; "" where it did not


def play(model: LoadedModel, source: Source, clock: Clock) -> Played:
    """Run a source on paper through the live path, and look for every row that it wrote in other ways."""
    with tempfile.TemporaryDirectory(prefix="emp-played-") as scratch:
        folder = _run(model, source, clock, Path(scratch))
        recorded = journalled_rows(folder)
        again, why = _again(folder)
        events = np.concatenate(list(journalled_events(folder)))
    replayed = differing_rows(recorded, again)
    judged = otherwise_judged(recorded, evaluated(model, source.instrument, events))
    differing = [a or b for a, b in zip_longest(replayed, judged, fillvalue=True)]
    return Played(len(recorded), differing + [True] * bool(why), why)


def _run(model: LoadedModel, source: Source, clock: Clock, scratch: Path) -> RunFolder:
    instrument = source.instrument
    access = PaperAccess(Playback([source], clock, speed=SPEED), clock, speed=SPEED)
    models, config = Models(model), _config(instrument, scratch)
    running = assemble_live(config, [instrument], models, access, Board(clock), clock)
    with open_log(running.folder) as stream, logs.configured(stream, clock):
        running.live.prepare()
        asyncio.run(running.live.run())
    return running.folder


def _config(instrument: Instrument, scratch: Path) -> SystemConfig:
    """The owner's defaults, on a recording, with nothing that stands by: one model makes every row."""
    return SystemConfig.model_validate(
        {
            "mode": "paper",
            "instruments": {"names": [instrument.name]},
            "access": {"connection_protocol": "recording", "recording": scratch / "none", "speed": SPEED},
            "model": {"fallback_impl": "none", "monitor": False},
            "run_dir": scratch,
        }
    )


def _again(folder: RunFolder) -> tuple[Array, str]:
    """The rows of a replay of a run as far as it goes, and why it ended early."""
    rerun = assemble_rerun(folder)
    parts, why = [journalled_rows(folder)[:0]], ""
    try:
        parts += (rows.copy() for rows in rerun.rows(lambda _: None))
    except EmpError as error:
        why = str(error)
    return np.concatenate(parts), why


def evaluated(model: LoadedModel, instrument: Instrument, events: Array) -> Array:
    """Forecasts as `emp evaluate` makes them of EVENT rows: FORECAST[n], one for every visible event."""
    seen = extract_features([events], instrument, model.encoder)
    return forecast_table(model, instrument.name, serving_head(model, instrument), seen)


def differing_rows(recorded: Array, again: Array) -> list[bool]:
    """Of each row of two action logs whether it differs in any byte that counts; what is missing differs."""
    return [
        one is None or other is None or fieldwise_bytes(one, UNHASHED) != fieldwise_bytes(other, UNHASHED)
        for one, other in zip_longest(_single(recorded), _single(again))
    ]


def otherwise_judged(recorded: Array, said: Array) -> list[bool]:
    """Of each row of an action log whether its forecast is not bit for bit that of FORECAST[n]."""
    n = min(len(recorded), len(said))
    other = np.ones(max(len(recorded), len(said)), bool)
    other[:n] = False
    for name in FORECAST.names or ():
        mine, theirs = (np.ascontiguousarray(one[name][:n]).view(np.uint8) for one in (recorded, said))
        other[:n] |= (mine != theirs).reshape(n, -1).any(axis=1)
    return [bool(one) for one in other]


def _single(rows: Array) -> list[Array]:
    return [rows[k : k + 1] for k in range(len(rows))]
