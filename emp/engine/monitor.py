"""What watches the model that serves, event by event: its inputs (H.2), the dumb baseline (H.3), and the models beside
it (I.2).

    monitor = Monitor(instruments, limits, lineup)
    for finding in monitor.take(first, events, rows): ...

Everything is a function of the events, of the rows that the engine wrote and of the rolls between them (`finance`),
however they are cut into batches: a replay of the journal finds the same, byte for byte. After every BLOCK events of an
instrument with a forecast there is a look: what the model's probabilities cost beside those of the others on the same
outcomes, what one lot traded on its forecasts brought beside theirs, and how far its confidence lies from its hits.
Each is a sequential test (`emp.observe.sequential`); their mean is one too, and the model has failed where that reaches
1 / LEVEL: with probability LEVEL, ever, where it is as good as the others and its calibration error within the limit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.contracts import Control
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent
from emp.core.records import DECISION, HORIZONS, Array, empty_events
from emp.engine.contender import SAID, Contender, Trader, recorded_forecasts
from emp.engine.inputs import InputStream, reference_of
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.reversion import NAME, reversion_model
from emp.engine.serving import synthetic_events
from emp.model.artifact import Artifact, trained_on
from emp.model.scoring import BINS as CONFIDENCE_BINS
from emp.model.scoring import SEEN, SHARES, clear, excess, new_scoring, score_all
from emp.observe.drift import DriftLook, DriftWatch, count_rows
from emp.observe.psi import BINS
from emp.observe.sequential import bet, log_evidence, new_process
from emp.perception.normalise import CLIP, CORE
from emp.perception.state import CORE_INPUTS

BLOCK = 256
"""Events of an instrument between two looks."""

LEVEL = 0.005
"""Probability that a model which is as good as the others is reverted all the same, ever; drift has as much, a day."""

MARGIN = 0.01
"""Share of its log loss by which another model must be better to count as better at all."""

SAME_CLASSES = 0.1
"""Share by which the class thresholds of two models may differ: models trained on other days never have the same."""

ECE_LIMIT = 0.08
"""The roadmap's limit of the calibration error."""

LOG_LOSS, VALUE, DRIFT = "log_loss", "value", "drift"
FAILED, BEHIND, EARNED = "failed", "behind", "earned"
"""Kinds of findings, beside DRIFT and "look"."""

BOUND = 1.001 * CLIP
"""Beyond which no input can lie: the normalisation makes none larger than CLIP, but for rounding."""

CALIBRATION = "calibration"
"""The test that the calibration error of the model that serves is at most ECE_LIMIT, at every horizon."""
CHALLENGED = (f"{EARNED}.{LOG_LOSS}.challenger", f"{EARNED}.{VALUE}.challenger")
"""The comparisons in both of which a challenger must be better."""
BASELINE = f"{VALUE}.{NAME}"
"""The comparison with the dumb trader."""

SHARES_NAME = "shares"
"""The forecaster that says the shares of the outcomes so far, whatever the event."""


class Lineup(NamedTuple):
    """The model that serves and those that it is held against."""

    serving: LoadedModel
    standby: LoadedModel | None = None
    challenger: LoadedModel | None = None
    linear: LoadedModel | None = None

    @property
    def others(self) -> dict[str, LoadedModel]:
        """By role, each artifact once and never the one that serves."""
        seen = {self.serving.artifact.hash}
        found = {}
        for role in ("standby", "challenger", "linear"):
            model = getattr(self, role)
            if model is not None and model.artifact.hash not in seen:
                seen.add(model.artifact.hash)
                found[role] = model
        return found

    @property
    def hashes(self) -> dict[str, str]:
        """Artifacts by role; "" where nobody has it."""
        models = self._asdict().items()
        return {role: "" if model is None else model.artifact.hash for role, model in models}


class Finding(NamedTuple):
    """Something found after event `at` of the run."""

    at: int
    kind: str  # "drift", "look", "failed", "behind" or "earned"
    instrument: str
    ts: int
    data: Mapping[str, Any]


class _Watched:
    """What is known of one instrument."""

    def __init__(self, lineup: Lineup, instrument: Instrument, share: float, inputs: InputStream) -> None:
        """`share` is the instrument's of the level."""
        artifact = lineup.serving.artifact
        head = head_of(artifact, instrument)
        reference = reference_of(artifact, head)
        self.inputs = inputs
        self.drift = None if reference is None else DriftWatch(reference, LEVEL * share, BOUND)
        self.drifted: tuple[int, ...] = ()
        manifest = artifact.manifest
        self.trained = instrument.name in trained_on(manifest)
        self.scoring = new_scoring(np.array([manifest.thresholds[head]]), manifest.k_sigma)
        self.hits: Array = np.zeros((HORIZONS, CONFIDENCE_BINS, 3))  # sums of all looks so far
        self.filled = 0
        self.worth: Array = np.zeros(0)  # of each trader at the last look
        self.processes: dict[str, Array] = {}

    def process(self, name: str, k: int = 0, n: int = 1) -> Any:
        """The k-th of the n processes of a comparison."""
        if name not in self.processes:
            self.processes[name] = new_process(n)
        return self.processes[name][k]

    def take_over(self, before: "_Watched", others: set[str]) -> None:
        """Go on with what was found of the same model beside everybody but those in `others`, roles."""
        self.drift, self.drifted, self.hits = before.drift, before.drifted, before.hits
        kept = before.processes.items()
        self.processes = {name: all_ for name, all_ in kept if name.rpartition(".")[2] not in others}

    def evidence(self, name: str) -> float:
        """Mean evidence of the processes of a comparison; 0 where there was no bet."""
        if name not in self.processes:
            return 0.0
        return float(np.mean([math.exp(log_evidence(one)) for one in self.processes[name]]))


class Monitor:
    """See the module's docstring."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        limits: EngineLimits,
        lineup: Lineup,
        before: "Monitor | None" = None,
        *,
        kept: bool = False,
    ) -> None:
        """`before` is who watched so far, with another lineup: what it knows of the market is taken over. With `kept`
        the same model serves and nothing was missed: what was found of it beside those who are still there stands. A
        contest with a challenger begins anew, whoever that is.
        """
        self._instruments = tuple(instruments)
        self.lineup = lineup
        others = lineup.others
        known = None if before is None else before.perception
        stays = before._staying(lineup) if before is not None and kept else {}
        serving = lineup.serving
        manifest = serving.artifact.manifest
        dumb = reversion_model(instruments, manifest.k_sigma, manifest.warmup_events)
        models = {"serving": serving, **others, NAME: dumb}
        self._names = list(models)
        beside: list[Contender | None] = []
        self.traders: list[Trader] = []
        for role, model in models.items():
            if role in stays:
                forecaster, trader, _ = stays[role]
            else:
                forecaster = None if role == "serving" else Contender(model, instruments, limits, known)
                trader = Trader(model, instruments, limits, known)
            beside.append(forecaster)
            self.traders.append(trader)
        self._contenders = [one for one in beside if one is not None]
        if before is not None:
            for trader in self.traders:
                trader.desk.financing[:] = before.traders[0].desk.financing
        self._same = {
            c: [same_classes(serving.artifact, model.artifact, one) for one in instruments]
            for c, model in enumerate(others.values(), start=1)
        }
        inputs = [InputStream(one) for one in instruments] if before is None else before.inputs
        share = 1.0 / len(instruments)
        self._watched = [
            _Watched(lineup, one, share, seen) for one, seen in zip(instruments, inputs, strict=True)
        ]
        self.failed = ""  # why, once the model has
        self.earned = False  # whether the challenger has proved better
        self.behind = False  # whether the model has proved worse than the dumb trader
        for i, one in enumerate(self._watched):
            one.worth = np.array([stays[role][2][i] if role in stays else 0.0 for role in self._names])
        if before is not None and kept:
            self.failed, self.behind = before.failed, before.behind
            gone = {"standby", "challenger", "linear"} - stays.keys()
            for one, old in zip(self._watched, before._watched, strict=True):
                one.take_over(old, gone)
        self._warm_up()

    def _staying(self, lineup: Lineup) -> dict[str, tuple[Contender | None, Trader, list[float]]]:
        """By role, who is there with another lineup beside the same model too, and what it had brought by the last
        look, of each instrument.
        """
        now, then = lineup.hashes, self.lineup.hashes
        same = {role for role in now if now[role] == then[role]} - {"challenger"} | {NAME}
        beside = [None, *self._contenders]
        return {
            role: (beside[c], self.traders[c], [float(one.worth[c]) for one in self._watched])
            for c, role in enumerate(self._names)
            if role in same and (role in lineup.others or role in ("serving", NAME))
        }

    @property
    def perception(self) -> Array:
        """PERCEPTION[instruments]: what is known of the market."""
        return self.traders[0].desk.perception

    @property
    def inputs(self) -> list[InputStream]:
        """The streams of inputs, by instrument."""
        return [one.inputs for one in self._watched]

    def _warm_up(self) -> None:
        """Compile, or load, every kernel."""
        score_all(self._watched[0].scoring[0], np.zeros(0, SEEN))
        bet(new_process()[0], 0.0)
        log_evidence(new_process()[0])
        none = np.zeros(0, SAID)
        gather(none, np.zeros(0, np.int64), np.zeros(0, SEEN), 0)
        recorded_forecasts(empty_events(0), np.zeros(0, DECISION), none)
        rows, _ = InputStream(self._instruments[0]).take(synthetic_events(1))
        count_rows(np.zeros((CORE, BINS), np.int64), rows[:0], np.zeros((CORE, BINS - 1)))

    def finance(self, control: Control) -> None:
        """A roll is told, or has come, before the next event: every lot that is held in the head is financed."""
        i = next(i for i, one in enumerate(self._instruments) if one.name == control.instrument)
        for trader in self.traders:
            trader.finance(i, control)

    def take(self, first: int, events: Array, rows: Array) -> list[Finding]:
        """What EVENT[n], before which the run had `first`, and the DECISION rows that they led to, show."""
        served = np.zeros(len(events), SAID)
        recorded_forecasts(events, rows, served)
        return self.follow(first, events, served)

    def follow(self, first: int, events: Array, served: Array) -> list[Finding]:
        """The same, where SAID[n] is what the model that serves has said of the events."""
        if not len(events):
            return []
        said = [served, *(one.forecast(events) for one in self._contenders)]
        worth = np.array([t.trade(events, one) for t, one in zip(self.traders, said, strict=True)])
        del said[-1]  # of the dumb trader no forecast is judged
        found = [one for i in range(len(self._watched)) for one in self._look_at_inputs(i, first, events)]
        found += self._look_at_forecasts(first, events, said, worth)
        return sorted(found, key=lambda one: one.at)

    # --- inputs

    def _look_at_inputs(self, i: int, first: int, events: Array) -> Iterator[Finding]:
        one = self._watched[i]
        if one.drift is None:
            return
        places = np.flatnonzero(events["instrument"] == i)
        if not len(places):
            return
        inputs, ages = one.inputs.take(np.ascontiguousarray(events[places]))
        warm = ages[:, 1] > self.lineup.serving.artifact.manifest.warmup_events
        inputs, ages = inputs[warm], ages[warm]
        at = 0
        while at < len(inputs):
            day = ages[at, 2]
            same = int(np.argmax(ages[at:, 2] != day)) or len(inputs) - at
            end = at + min(one.drift.room, same)
            look = one.drift.add(inputs[at:end], int(day))
            at = end
            if look is not None:
                k = int(places[ages[at - 1, 0]])
                yield self._drift_found(i, look, first + k + 1, int(events["ts"][k]))

    def _drift_found(self, i: int, look: DriftLook, at: int, ts: int) -> Finding:
        data = {
            "rows": look.rows,
            "psi": _by_input(look.psi),
            "chance": _by_input(look.chance),
            "log_evidence": _number(look.log_evidence),
            "drifted": [CORE_INPUTS[j] for j in look.drifted],
            "beyond": [CORE_INPUTS[j] for j in look.beyond],
            "trained": self._watched[i].trained,
        }
        return Finding(at, "drift", self._instruments[i].name, ts, data)

    # --- forecasts and value

    def _look_at_forecasts(
        self, first: int, events: Array, said: Sequence[Array], worth: Array
    ) -> Iterator[Finding]:
        """Score what was said, instrument by instrument, and look in the order of the events."""
        seen = [self._seen(i, events, said) for i in range(len(self._watched))]
        ends = []
        for i, one in enumerate(self._watched):
            full = range(BLOCK - one.filled, len(seen[i]) + 1, BLOCK)
            ends += [(int(seen[i]["at"][end - 1]), i, end) for end in full]
        done = [0] * len(seen)
        for k, i, end in sorted(ends):
            score_all(self._watched[i].scoring[0], seen[i][done[i] : end])
            done[i], self._watched[i].filled = end, 0
            yield from self._look(i, worth[:, k], first + k + 1, int(events["ts"][k]))
        for i, one in enumerate(self._watched):
            score_all(one.scoring[0], seen[i][done[i] :])
            one.filled += len(seen[i]) - done[i]

    def _seen(self, i: int, events: Array, said: Sequence[Array]) -> Array:
        """SEEN[m]: events of an instrument of which every forecaster, past its burn-in, has said something."""
        usable = (events["instrument"] == i) & np.all([one["made"] for one in said], axis=0)
        youngest = np.min([one["state_events"] for one in said], axis=0)
        places = np.flatnonzero(usable & (youngest > self.lineup.serving.artifact.manifest.warmup_events))
        seen = np.zeros(len(places), SEEN)
        chosen = events[places]
        seen["at"], seen["ts"] = places, chosen["ts"]
        seen["bid"], seen["ask"] = chosen["bid_px"][:, 0], chosen["ask_px"][:, 0]
        for c, one in enumerate(said):
            gather(one, places, seen, c)
        return seen

    def _look(self, i: int, worth: Array, at: int, ts: int) -> Iterator[Finding]:
        one = self._watched[i]
        losses = {role: self._losses(i, c) for c, role in enumerate(self._names[1:-1], start=1)}
        losses[SHARES_NAME] = self._losses(i, SHARES)
        self._bet_on_calibration(one)
        clear(one.scoring)
        brought = worth - one.worth
        one.worth = worth.copy()
        values = {role: float(x) for role, x in zip(self._names, brought, strict=True)}
        for role, pair in losses.items():
            if pair is not None:
                gate = LOG_LOSS if role != "challenger" else f"earned.{LOG_LOSS}"
                bet(one.process(f"{gate}.{role}"), pair[0] - (1.0 + MARGIN) * pair[1])
        for role in self._names[1:]:
            gain = values[role] - values["serving"]
            bet(one.process(f"{VALUE if role != 'challenger' else f'earned.{VALUE}'}.{role}"), gain)
        name = self._instruments[i].name
        told = {gate: _logarithm(one.evidence(gate)) for gate in sorted(one.processes)}
        yield Finding(at, "look", name, ts, {"loss": losses, "value": values, "log_evidence": told})
        yield from self._verdicts(name, at, ts)

    def _bet_on_calibration(self, one: _Watched) -> None:
        now = one.scoring["top"][0].copy()
        for h, x in enumerate(excess(one.hits, now, ECE_LIMIT)):
            if now[h].any() and one.hits[h].any():
                bet(one.process(CALIBRATION, h, HORIZONS), float(x))
        one.hits += now

    def _losses(self, i: int, c: int) -> tuple[float, float] | None:
        """Log loss since the last look of the model that serves and of forecaster c, over the horizons at which both
        mean the same by their classes; None where there is none.
        """
        scoring = self._watched[i].scoring[0]
        where = self._same[c][i] if c != SHARES else np.ones(HORIZONS, bool)
        outcomes = int(scoring["outcomes"][where].sum())
        if not outcomes:
            return None
        mine, theirs = (float(scoring["loss"][where, k].sum()) / outcomes for k in (0, c))
        return mine, theirs

    def _verdicts(self, name: str, at: int, ts: int) -> Iterator[Finding]:
        """What the looks so far say of the model that serves, and of the challenger."""
        told = self.evidence()
        against = {gate: e for gate, e in told.items() if not gate.startswith("earned.")}
        if not self.failed and np.mean(list(against.values())) >= 1.0 / LEVEL:
            self.failed = max(against, key=lambda gate: against[gate])
            e = math.log(float(np.mean(list(against.values()))))
            data = {"gate": self.failed, "model": self.lineup.serving.artifact.hash, "log_evidence": e}
            yield Finding(at, FAILED, name, ts, data)
        if not self.behind and against.get(BASELINE, 0.0) >= 1.0 / LEVEL:
            self.behind = True
            yield Finding(at, BEHIND, name, ts, {"log_evidence": math.log(against[BASELINE])})
        # where classes differ no log loss is compared, and nothing is won
        mine = min(told.get(gate, 0.0) for gate in CHALLENGED)
        if not self.earned and mine >= 1.0 / LEVEL:
            self.earned = True
            data = {"model": self.lineup.hashes["challenger"], "log_evidence": math.log(mine)}
            yield Finding(at, EARNED, name, ts, data)

    def evidence(self) -> dict[str, float]:
        """By comparison, the mean over instruments: at most 1 on average while the model is as good as the others."""
        gates = sorted({gate for one in self._watched for gate in one.processes})
        return {gate: float(np.mean([one.evidence(gate) for one in self._watched])) for gate in gates}


@kernel
def gather(said: Any, places: Any, seen: Any, c: int) -> None:
    """Copy the probabilities that a forecaster gave at some of SAID[n] into place c of SEEN[m]; those of the first say
    sigma and breaks, too.
    """
    said, places, seen = lent(said), lent(places), lent(seen)
    for k in range(places.size):
        one, to = said[places[k]], seen[k]
        for h in range(one.f.p.shape[0]):
            for j in range(one.f.p.shape[1]):
                to.p[c, h, j] = one.f.p[h, j]
        if c == 0:
            to.sigma_ticks, to.broken = one.sigma_ticks, one.since_reset == 1


def head_of(artifact: Artifact, instrument: Instrument) -> int:
    """Index of the head that serves an instrument."""
    return artifact.domain(
        instrument.asset_class.name.lower(), instrument.venue.name.lower(), instrument.name
    )


def same_classes(a: Artifact, b: Artifact, instrument: Instrument) -> Array:
    """Horizons at which up, flat and down mean nearly the same to two models, so that their log losses may be compared:
    bool[HORIZONS].
    """
    edges = [np.array(one.manifest.thresholds[head_of(one, instrument)]) for one in (a, b)]
    near: Array = np.abs(edges[0] - edges[1]) <= SAME_CLASSES * np.maximum(*edges)
    return near & (a.manifest.k_sigma == b.manifest.k_sigma)


def _by_input(values: Array) -> dict[str, float | None]:
    return {name: _number(float(x)) for name, x in zip(CORE_INPUTS, values, strict=True)}


def _logarithm(x: float) -> float | None:
    """Natural logarithm as JSON can have it; None of 0."""
    return math.log(x) if x > 0.0 else None


def _number(x: float) -> float | None:
    """A number as JSON can have it."""
    return x if math.isfinite(x) else None
