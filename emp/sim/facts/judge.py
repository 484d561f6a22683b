"""A flow held against sequences of a recording by LOB-Bench's scores, beside the recording against itself.

Sequences are the recording's last ones, after everything that the flow was fitted to. Every second sequence is the real
side; those between them, as many, are what real data of the same hours is worth. The flow's own are cut the same way
from one run, and are conditioned on nothing. Sequences spread over what the flow was fitted to are scored in its place
too: a flow that only ever repeated its recording would come to that. Rows of a book without a bid or without an ask are
left out of both before the cut and counted: LOB-Bench's placeholder prices would make a spread of thousands of ticks,
beside which none counts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.records import LEVELS, Array
from emp.sim.facts.conditional import CONDITIONS, conditional, midnight_before
from emp.sim.facts.losses import SEED, Loss, l1, w1
from emp.sim.facts.response import CLASSES, differences, responses
from emp.sim.facts.scores import SCORES, Stretch, sample, stretch
from emp.sim.flow.params import Source
from emp.sim.tape.recording import Recording, utc
from emp.sim.world.market import Market
from emp.sim.world.printed import printed

ROWS = 500
"""Messages of a sequence."""

WARM = 20_000
"""Events that a flow runs before its first sequence."""


class Verdict(msgspec.Struct):
    """One score of the flow, and of real sequences in its place; NaN where LOB-Bench has no number."""

    name: str
    l1: float
    w1: float
    l1_99: tuple[float, float]
    w1_99: tuple[float, float]
    real_l1: float
    real_w1: float
    fitted_l1: float = float("nan")  # of the part of the recording that the flow was fitted to, in its place
    fitted_w1: float = float("nan")


class Impact(msgspec.Struct):
    """Difference of the responses to one kind of event, ticks, summed over the lags at which every side has events.

    LOB-Bench's own number where these are all 21; it has none where sequences are too short for the longest.
    """

    name: str
    value: float
    real: float
    lags: int


OLDER = 16
"""The first scores, without trades and order-flow imbalance: those that LOBS5's table of 2024 has."""


class Judged(msgspec.Struct):
    """All scores of a flow, with the share of rows left out for a side that was empty."""

    model: str
    recording: str
    since: str  # UTC, of the first sequence
    sequences: int
    one_sided: float  # of the flow
    real_one_sided: float
    scores: list[Verdict]
    conditional: list[Verdict]
    impact: list[Impact]

    def mean(self, of: str, first: int = len(SCORES)) -> float:
        """Mean of a column over the first unconditional scores; NaN where one has no number, as LOB-Bench has it."""
        return float(np.mean([getattr(one, of) for one in self.scores[:first]]))

    def mean_impact(self, of: str) -> float:
        """Mean over kinds of events, ticks."""
        return float(np.mean([getattr(one, of) for one in self.impact]))


class Comparison(NamedTuple):
    """Two sides by everything that LOB-Bench looks at."""

    scores: dict[str, tuple[Loss, Loss]]  # L1 and W1
    conditional: dict[str, tuple[Loss, Loss]]
    real_response: Array  # float64[CLASSES, LAGS], ticks
    response: Array


def compare(real: Sequence[Stretch], made: Sequence[Stretch]) -> Comparison:
    """Compare two sides; resamples are drawn by one generator for L1 and one for W1, score after score."""
    first, second = (np.random.default_rng(SEED) for _ in range(2))
    scores = {}
    for score in SCORES:
        a, b = sample(score, real), sample(score, made)
        scores[score.name] = l1(a, b, score.discrete, first), w1(a, b, second)
    midnight = midnight_before(int(real[0].ts[0]))
    given = {c.name: conditional(c, real, made, midnight, first, second) for c in CONDITIONS}
    return Comparison(scores, given, responses(real), responses(made))


def _impact(found: Comparison, known: Comparison) -> list[Impact]:
    real = found.real_response
    everywhere = np.isfinite(real) & np.isfinite(found.response) & np.isfinite(known.response)
    out = []
    for k, name in enumerate(CLASSES):
        at = everywhere[k]
        value, usual = (float(differences(real[k, at], x.response[k, at])) for x in (found, known))
        out.append(Impact(name, value, usual, int(at.sum())))
    return out


def _cut(made: Recording, first: int, sequences: int) -> tuple[list[Stretch], list[Stretch]]:
    """Sequences of ROWS rows from a row on, taken in turn for one side and the other."""
    cut = [stretch(made, first + ROWS * k, ROWS) for k in range(2 * sequences)]
    return cut[0::2], cut[1::2]


def _fitted(recording: Recording, source: Source, sequences: int) -> list[Stretch]:
    """Sequences spread evenly over what the flow was fitted to; none where it is too short or another recording."""
    if recording.name != source.instrument:
        return []
    ts = recording.msgs["ts"]
    begin, end = np.searchsorted(ts, source.first_ns), np.searchsorted(ts, source.last_ns, "right")
    if end - begin < ROWS * sequences:
        return []
    return [stretch(recording, int(at), ROWS) for at in np.linspace(begin, end - ROWS, sequences)]


def two_sided(made: Recording) -> Recording:
    """The rows of a recording whose book has a bid and an ask."""
    assert made.book is not None
    kept = (made.book[:, 0] != 0) & (made.book[:, 2] != 0)
    return Recording(made.name, made.tick, made.msgs[kept], made.book[kept], made.ignored)


def held_out(recording: Recording, source: Source, sequences: int) -> int:
    """Row of the first of the recording's last `2 * sequences` sequences.

    Raises `UsageError` where too few rows come after what the flow was fitted to.
    """
    own = recording.name == source.instrument
    begin = int(np.searchsorted(recording.msgs["ts"], source.last_ns, "right")) if own else 0
    rows = len(recording.msgs)
    pairs = (rows - begin) // (2 * ROWS)
    if pairs < sequences:
        raise UsageError(
            f"{recording.name}: {rows - begin} rows that the flow was not fitted to make {pairs} pairs of sequences,"
            f" not {sequences}"
        )
    return rows - 2 * ROWS * sequences


def simulate(market: Market, rows: int, name: str) -> tuple[Recording, float]:
    """At least `rows` rows of two-sided books from a market, and the share of rows left out.

    Raises `UsageError` where the market shows such a book less than an eighth of the time.
    """
    for printed_rows in (rows + rows // 16, 2 * rows, 8 * rows):
        made = printed(market.clone(), printed_rows, name)
        kept = two_sided(made)
        if len(kept.msgs) >= rows:
            return kept, 1 - len(kept.msgs) / printed_rows
    raise UsageError(f"{name}: a side of its book is empty most of the time; there is nothing to compare")


def judge(
    params: Array,
    source: Source,
    model: str,
    recorded: Recording,
    sequences: int,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Judged:
    """Score `sequences` sequences of a flow against as many of a recording with ten-level books.

    Raises `UsageError` where the recording has no such books or too few rows.
    """
    if recorded.levels < LEVELS:
        raise UsageError(
            f"{recorded.name}: the judge reads books of {LEVELS} levels, and this recording has {recorded.levels}"
        )
    recording = two_sided(recorded)
    first = held_out(recording, source, sequences)
    real, other = _cut(recording, first, sequences)
    progress(0.1)
    assert recording.book is not None
    since = int(recording.msgs["ts"][first])
    market = Market(params, seed, int(recording.book[first, 0]), start_ns=since)
    market.run(2**62, WARM)
    simulated, empty = simulate(market, 2 * ROWS * sequences, model)
    made, _ = _cut(simulated, 0, sequences)
    progress(0.3)
    found = compare(real, made)
    progress(0.7)
    known = compare(real, other)
    progress(0.9)
    seen = _fitted(recording, source, sequences)
    learned = compare(real, seen).scores if seen else {}
    progress(1.0)
    left_out = 1 - len(recording.msgs) / len(recorded.msgs)
    return Judged(
        model,
        recorded.name,
        utc(since),
        sequences,
        empty,
        left_out,
        _verdicts(found.scores, known.scores, learned),
        _verdicts(found.conditional, known.conditional),
        _impact(found, known),
    )


def _verdicts(
    found: dict[str, tuple[Loss, Loss]],
    known: dict[str, tuple[Loss, Loss]],
    learned: dict[str, tuple[Loss, Loss]] | None = None,
) -> list[Verdict]:
    return [
        Verdict(
            name,
            a.value,
            b.value,
            a.interval,
            b.interval,
            *(loss.value for loss in known[name]),
            *(loss.value for loss in (learned or {}).get(name, ())),
        )
        for name, (a, b) in found.items()
    ]
