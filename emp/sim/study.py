"""Recordings and models brought together: tapes of recordings, flow models, the table of facts."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from emp.core.errors import DataError, UsageError
from emp.core.records import Array
from emp.sim.anchor import STEPS, anchored
from emp.sim.calibrate import calibrate
from emp.sim.facts import Row, tape_rows
from emp.sim.flow.params import MODELS, load_params
from emp.sim.flow.zi import zi_params
from emp.sim.market import Market
from emp.sim.metaorder import Impact
from emp.sim.observe_market import Tape, observe_market, observe_plan
from emp.sim.recording import Recording, load_recording
from emp.sim.replay import Plan, plan
from emp.sim.verify import Report, verify
from emp.sim.world_facts import distance_rows, fill_rows, impact_rows, maker_rows

Progress = Callable[[str], None]


class Studied(msgspec.Struct):
    """A recording made ready, with the verification of its book where it has one."""

    recording: Recording
    plan: Plan
    tape: Tape
    report: Report | None


def study(path: Path) -> Studied:
    """Read a recording, reconstruct its book and observe its events."""
    recording = load_recording(path)
    if recording.book is not None:
        report, made = verify(recording)
    else:
        report, made = None, plan(recording)
    tape = observe_plan(made, recording.name)
    tape.obs = _open_market(tape.obs)
    if len(tape.obs) == 0:
        raise DataError(f"{path}: no event with an uncrossed book")
    return Studied(recording, made, tape, report)


def _open_market(obs: Array) -> Array:
    """Events since the book was last crossed or locked: before an opening orders only gather."""
    crossed = np.flatnonzero(obs["bid"] >= obs["ask"])
    return obs[crossed[-1] + 1 :] if len(crossed) else obs


def fit(obs: Array, model: str, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Array:
    """Estimate a flow model; queue-reactive flow takes its two simulated moments, FIT_STEPS calls of progress."""
    if model not in MODELS:
        raise DataError(f"unknown flow model {model!r}: choose {', '.join(MODELS)}")
    p = calibrate(obs, model)
    return anchored(p, obs, seed, progress) if model == "qr" else p


FIT_STEPS = STEPS


def named_flow(name: str) -> Array:
    """The FLOW record that a name stands for: "zi", or a file written by `emp sim calibrate`."""
    if name == "zi":
        return zi_params()
    if not Path(name).exists():
        raise UsageError(
            f"no flow model file {name}: estimate one with `emp sim calibrate RECORDING --out {name}`, "
            "or use --model zi"
        )
    return load_params(Path(name))[0]


class FactTable(msgspec.Struct):
    """Everything that `emp sim facts` says of one model."""

    model: str
    rows: list[Row]
    impact: Impact
    tape: Tape

    @property
    def passed(self) -> list[int]:
        """Facts of which every part passed."""
        return sorted({r.fact for r in self.rows} - set(self.failed))

    @property
    def failed(self) -> list[int]:
        """Facts of which a part failed."""
        return sorted({r.fact for r in self.rows if not r.passed})

    @property
    def minimum_passed(self) -> bool:
        """Whether every fact of the minimum set passed."""
        return all(r.passed for r in self.rows if r.minimum)


def fact_table(
    params: Array,
    name: str,
    held_out: list[Studied],
    events: int = 600_000,
    seed: int = 1,
    progress: Progress = lambda _: None,
) -> FactTable:
    """Measure all facts on a model, beside recordings; bands reach to the held-out ones only."""
    start = max(10_000, int(held_out[0].tape.obs["bid"][0]) if held_out else 100_000)

    def market(k: int) -> Market:
        return Market(params, k, start)

    progress("tape")
    tape = observe_market(market(seed), events, name)
    real = {s.tape.name: s.tape for s in held_out}
    rows = tape_rows(tape, real)
    hits = tape.obs[tape.obs["sign"] != 0]
    qty = max(1, int(np.median(hits["qty"]))) if len(hits) else 1
    progress("impact")
    warm = market(seed + 1)
    warm.run(2**62, 20_000)
    more, impact = impact_rows(warm, qty, seed)
    rows += more
    progress("distances")
    for s in held_out:
        rows += distance_rows(tape, s.tape)
    progress("maker")
    hz = len(tape.obs) / (tape.hours * 3600)
    rows += maker_rows(market, hz, (0.0, 0.0), 6)
    progress("fills")
    probe = market(seed + 2)
    probe.run(2**62, 20_000)
    reference = next((s for s in held_out if s.recording.levels != 1), None)
    rows += fill_rows(probe, reference.plan if reference else None, reference.tape.name if reference else "")
    return FactTable(name, sorted(rows, key=lambda r: r.fact), impact, tape)
