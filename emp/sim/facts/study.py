"""Recordings and models brought together: tapes of recordings, flow models, the table of facts."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from emp.core.errors import DataError, UsageError
from emp.core.records import Array
from emp.sim.facts.distances import distance_rows
from emp.sim.facts.facts import Row, tape_rows
from emp.sim.facts.world_facts import MAKERS, fill_rows, impact_rows, maker_rows
from emp.sim.fit.anchor import STEPS as MOMENT_STEPS
from emp.sim.fit.anchor import anchored
from emp.sim.fit.calibrate import calibrate
from emp.sim.fit.leaning import STEPS as LEANING_STEPS
from emp.sim.fit.leaning import leaning
from emp.sim.flow.params import MODELS, Source, load_source
from emp.sim.flow.shipped import flow_file
from emp.sim.measure.metaorder import Impact
from emp.sim.measure.observe_market import Tape, observe_market, observe_plan
from emp.sim.tape.recording import Recording, load_recording
from emp.sim.tape.replay import Plan, plan
from emp.sim.tape.verify import Report, verify
from emp.sim.world.market import Market

Progress = Callable[[str], None]

EVENTS = 1_500_000


class Studied(msgspec.Struct):
    """A recording made ready, with the verification of its book where it has one."""

    recording: Recording
    plan: Plan
    tape: Tape
    report: Report | None
    fitted: Array | None = (
        None  # events that the model was fitted to; the tape then holds only what came after
    )


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
    """Estimate a flow model; what queue-reactive flow takes from simulations calls `progress` FIT_STEPS times."""
    if model not in MODELS:
        raise DataError(f"unknown flow model {model!r}: choose {', '.join(MODELS)}")
    p = calibrate(obs, model)
    if model != "qr":
        return p
    return leaning(anchored(p, obs, seed, progress), max(10_000, int(obs["bid"][0])), seed, progress)


FIT_STEPS = MOMENT_STEPS + LEANING_STEPS
OPENING_NS = 30 * 60 * 10**9


def fit_part(obs: Array, share: float) -> Array:
    """The events to fit to: the first `share`, without the opening half hour of a recording of two hours or more.

    After the opening auction a market is another one (Huang, Lehalle and Rosenbaum leave out an hour on each side).
    """
    used = obs[: int(share * len(obs))]
    span = int(obs["ts"][-1] - obs["ts"][0])
    return used[used["ts"] >= used["ts"][0] + OPENING_NS] if span >= 4 * OPENING_NS else used


def without_fitted(made: Studied, source: Source) -> Studied:
    """Leave out of a recording everything up to the last event that the model was fitted to."""
    obs = made.tape.obs
    if made.tape.name != source.instrument or int(obs["ts"][0]) > source.last_ns:
        return made
    inside = (obs["ts"] >= source.first_ns) & (obs["ts"] <= source.last_ns)
    later = obs["ts"] > source.last_ns
    if not later.any():
        raise UsageError(
            f"{made.tape.name}: the model was fitted to all of this recording; give it another one"
        )
    share = float(later.mean())
    depth = made.tape.depth[int((1 - share) * len(made.tape.depth)) :]
    tape = Tape(made.tape.name, obs[later], depth)
    return Studied(made.recording, made.plan, tape, made.report, obs[inside])


def named_source(name: str) -> Source:
    """What the model was fitted to; nothing for "zi"."""
    return Source() if name == "zi" else load_source(flow_file(name))


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


def _distances(tape: Tape, held: Studied, held_out: list[Studied], levels: int) -> list[Row]:
    """Fact 17 beside one recording; beside another instrument, with how far the fitted events themselves are."""
    seen = min(filter(None, (held.recording.levels, levels)), default=0)
    rows = distance_rows(tape, held.tape, held.fitted, seen)
    origin = next((s for s in held_out if s.fitted is not None), None)
    if origin is None or origin.fitted is None or origin is held:
        return rows
    own = Tape(origin.tape.name, origin.fitted, origin.tape.depth)
    known = {r.name: r.simulated for r in distance_rows(own, held.tape, None, seen)}
    for row in rows:
        row.real[f"{own.name}, fitted part"] = known.get(row.name)
    return rows


def fact_table(
    params: Array,
    name: str,
    held_out: list[Studied],
    events: int = EVENTS,
    seed: int = 1,
    progress: Progress = lambda _: None,
    levels: int = 0,
) -> FactTable:
    """Measure all facts on a model, beside recordings; bands reach to the held-out ones only.

    `levels` is how many prices per side the recording showed that the model was fitted to, 0 for all.
    """
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
        rows += _distances(tape, s, held_out, levels)
    progress("maker")
    hz = len(tape.obs) / (tape.hours * 3600)
    rows += maker_rows(market, hz, (0.0, 0.0), MAKERS)
    progress("fills")
    probe = market(seed + 2)
    probe.run(2**62, 20_000)
    reference = next((s for s in held_out if s.recording.levels != 1), None)
    if reference is None:
        rows += fill_rows(probe, None, "", 0)
    else:
        rows += fill_rows(probe, reference.plan, reference.tape.name, int(reference.tape.obs["ts"][0]))
    return FactTable(name, sorted(rows, key=lambda r: r.fact), impact, tape)
