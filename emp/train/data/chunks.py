"""From labelled series to training windows: burn-in, carried state, several streams in a batch.

A sequence is a stretch of one unbroken segment, at most `length` events long. Its first `burn_in` events only
build up state; the rest is cut into windows over which gradients flow, the state being carried, detached,
from one to the next. Sequences of a group run side by side. The plan of an epoch is a pure function of seed
and epoch, so a resumed run sees what the first would have seen.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Several
from typing import NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.records import HORIZONS, Array
from emp.perception.normalise import INPUTS
from emp.perception.targets import CLASSES, NO_LABEL
from emp.train.data.auxiliary import Auxiliary, mirrored
from emp.train.data.mirror import mirror_matrix

BURN_IN = 512
WINDOW = 2048
MOST_ROWS = 130_000
"""Rows of one series that an epoch takes."""

_MIRROR = mirror_matrix().astype(np.float32)


class Stream(NamedTuple):
    """A series to train on; n rows in order of time, all of its training part."""

    name: str
    domain: int  # head of its own
    broader: tuple[int, ...]  # heads of wider use that it trains in turn
    x: Array  # float32[n, INPUTS]
    delta_hat: Array  # float32[n, HORIZONS], NaN where there is no label
    labels: Array  # int8[n, HORIZONS], NO_LABEL where there is none
    use: Array  # bool[n]: rows that are trained on
    segment: Array  # int64[n], rising: unbroken stretches
    pos_weight: Array  # float32[days, HORIZONS, CLASSES]
    day: Array  # int64[n], row of `pos_weight`
    weight: float  # of every row in the loss
    auxiliary: Auxiliary


class Sequence(NamedTuple):
    """Rows [start, end) of a stream are trained on after rows [start - burn, start) have built up state."""

    stream: int
    start: int
    end: int
    burn: int
    mirror: bool


class Batch(NamedTuple):
    """One window of a group: B sequences by T events, padded with rows that do not count."""

    x: Array  # float32[B, T, INPUTS]
    domain: Array  # int64[B]
    broader: Array  # int64[B]: the head of wider use that this sequence trains
    delta_hat: Array  # float32[B, T, HORIZONS], NaN where it does not count
    labels: Array  # int64[B, T, HORIZONS], NO_LABEL where it does not count
    pos_weight: Array  # float32[B, T, HORIZONS, CLASSES]
    weight: Array  # float32[B, T], 0 where the row does not count
    auxiliary: Auxiliary  # arrays [B, T]


def plan_epoch(
    streams: Several[Stream],
    length: int,
    lanes: int,
    seed: int,
    epoch: int,
    most: int = MOST_ROWS,
    quotas: Several[int] | None = None,
) -> list[list[Sequence]]:
    """Groups of at most `lanes` sequences that cover every usable row once, in random order.

    Sequences of a group have about as many windows, so that few lanes idle. Half of all sequences are seen in
    the mirror (`emp.train.data.mirror`), chosen at random. Of a series of more than `most` rows an epoch takes
    sequences drawn at random until it has that many, so that one long series does not take most of the time.
    With `quotas` an epoch takes so many rows of each stream, drawn at random, and again where there are fewer.
    """
    rng = generator(seed, "plan", epoch)
    found: list[Sequence] = []
    for at in range(len(streams)):
        if quotas is not None:
            found += _drawn(at, streams[at], length, quotas[at], rng)
            continue
        pieces = _cut(at, streams[at], length, rng)
        taken = 0
        for i in rng.permutation(len(pieces)):
            if taken < most:
                found.append(pieces[i])
                taken += pieces[i].end - pieces[i].start
    order = rng.permutation(len(found))
    found = sorted((found[i] for i in order), key=windows, reverse=True)
    groups = [found[i : i + lanes] for i in range(0, len(found), lanes)]
    return [groups[i] for i in rng.permutation(len(groups))]


def quotas_of(streams: Several[Stream], shares: Several[float], most: int = MOST_ROWS) -> list[int]:
    """Rows that an epoch takes of each stream, so that each has its share of them.

    The stream of the largest share is taken whole, up to `most` rows.

    Args:
        shares: by stream, above 0; they sum to 1.
    """
    if len(shares) != len(streams) or min(shares) <= 0.0 or abs(sum(shares) - 1.0) > 1e-9:
        raise ValueError(
            f"shares of {len(streams)} streams must be above 0 and sum to 1, were {list(shares)}"
        )
    first = max(range(len(shares)), key=lambda i: shares[i])
    rows = min(len(streams[first].x), most) / shares[first]
    return [max(1, round(share * rows)) for share in shares]


def _drawn(at: int, stream: Stream, length: int, quota: int, rng: np.random.Generator) -> list[Sequence]:
    """Sequences of a stream drawn at random, `quota` rows of them; the last is cut where the quota ends."""
    found: list[Sequence] = []
    left = quota
    while left > 0 and (pieces := _cut(at, stream, length, rng)):
        for i in rng.permutation(len(pieces)):
            piece = pieces[i]._replace(end=min(pieces[i].end, pieces[i].start + left))
            left -= piece.end - piece.start
            if stream.use[piece.start : piece.end].any():
                found.append(piece)
            if left <= 0:
                break
    return found


def _cut(at: int, stream: Stream, length: int, rng: np.random.Generator) -> list[Sequence]:
    """Cut every segment of a stream into sequences, the first of random length."""
    pieces = []
    edges = np.flatnonzero(np.diff(stream.segment)) + 1
    for first, end in zip(np.r_[0, edges], np.r_[edges, len(stream.segment)], strict=True):
        start = int(first)
        cut = start + int(rng.integers(length // 4, length + 1))
        while start < end:
            stop = min(cut, int(end))
            if stream.use[start:stop].any():
                burn = min(BURN_IN, start - int(first))
                pieces.append(Sequence(at, start, stop, burn, bool(rng.random() < 0.5)))
            start, cut = stop, stop + length
    return pieces


def windows(sequence: Sequence) -> int:
    """Windows of a sequence."""
    return -(-(sequence.end - sequence.start) // WINDOW)


def spans(group: Several[Sequence], window: int) -> list[range]:
    """Rows of every sequence's `window`-th window; empty where it is over."""
    starts = [(start + window * WINDOW, end) for _, start, end, _, _ in group]
    return [range(start, min(start + WINDOW, end)) for start, end in starts]


def burn_in(streams: Several[Stream], group: Several[Sequence]) -> tuple[Array, Array]:
    """Inputs before a group's first window: float32[B, BURN_IN, INPUTS], and how many of each row are real.

    The real ones stand at the end.
    """
    x = np.zeros((len(group), BURN_IN, INPUTS), np.float32)
    for lane, (at, start, _, burn, mirror) in enumerate(group):
        if burn:
            rows = streams[at].x[start - burn : start]
            x[lane, BURN_IN - burn :] = rows @ _MIRROR if mirror else rows
    return x, np.array([sequence.burn for sequence in group])


def window_batch(
    streams: Several[Stream], group: Several[Sequence], window: int, shape: tuple[int, int] | None = None
) -> Batch:
    """The `window`-th window of a group: as many sequences, as long as the longest of them, or of a given shape."""
    rows = spans(group, window)
    batch = _empty(*(shape or (len(group), max(map(len, rows)))))
    for lane, (sequence, span) in enumerate(zip(group, rows, strict=True)):
        if span:
            _fill(batch, lane, streams[sequence.stream], np.arange(span.start, span.stop), sequence.mirror)
        stream = streams[sequence.stream]
        batch.domain[lane] = stream.domain
        batch.broader[lane] = broader_head(stream, sequence)
    return batch


def broader_head(stream: Stream, sequence: Sequence) -> int:
    """The head of wider use that a sequence trains."""
    return stream.broader[sequence.start % len(stream.broader)]


def row_batches(
    streams: Several[Stream], size: int, seed: int, epoch: int, most: int = MOST_ROWS
) -> Iterator[Batch]:
    """Usable rows in random order, `size` of one stream to a batch: for what needs no memory.

    As in `plan_epoch` half of the batches are seen in the mirror, and a long series gives `most` rows to an epoch.
    """
    rng = generator(seed, "rows", epoch)
    drawn = [rng.permutation(np.flatnonzero(stream.use))[:most] for stream in streams]
    batches = [(at, first) for at, rows in enumerate(drawn) for first in range(0, len(rows), size)]
    for i in rng.permutation(len(batches)):
        at, first = batches[i]
        rows = drawn[at][first : first + size]
        batch = _empty(1, len(rows))
        _fill(batch, 0, streams[at], rows, bool(rng.random() < 0.5))
        batch.domain[0] = streams[at].domain
        batch.broader[0] = streams[at].broader[i % len(streams[at].broader)]
        yield batch


def _empty(lanes: int, size: int) -> Batch:
    none = np.full((lanes, size), NO_LABEL, np.int64)
    return Batch(
        x=np.zeros((lanes, size, INPUTS), np.float32),
        domain=np.zeros(lanes, np.int64),
        broader=np.zeros(lanes, np.int64),
        delta_hat=np.full((lanes, size, HORIZONS), np.nan, np.float32),
        labels=np.full((lanes, size, HORIZONS), NO_LABEL, np.int64),
        pos_weight=np.ones((lanes, size, HORIZONS, CLASSES), np.float32),
        weight=np.zeros((lanes, size), np.float32),
        auxiliary=Auxiliary(none.copy(), np.full((lanes, size), np.nan, np.float32), none.copy()),
    )


def _fill(batch: Batch, lane: int, stream: Stream, rows: Array, mirror: bool) -> None:
    """Write rows of a stream into a lane, seen in the mirror where asked."""
    used = slice(0, len(rows))
    use = stream.use[rows]
    x, delta_hat, labels = stream.x[rows], stream.delta_hat[rows], stream.labels[rows].astype(np.int64)
    pos_weight = stream.pos_weight[stream.day[rows]]
    auxiliary = Auxiliary(*(a[rows] for a in stream.auxiliary))
    if mirror:
        x, delta_hat, pos_weight = x @ _MIRROR, -delta_hat, pos_weight[..., ::-1]
        labels = np.where(labels == NO_LABEL, NO_LABEL, CLASSES - 1 - labels)
        auxiliary = mirrored(auxiliary)
    batch.x[lane, used] = x
    batch.delta_hat[lane, used] = np.where(use[:, None], delta_hat, np.nan)
    batch.labels[lane, used] = np.where(use[:, None], labels, NO_LABEL)
    batch.pos_weight[lane, used] = pos_weight
    batch.weight[lane, used] = use * stream.weight
    for mine, theirs in zip(batch.auxiliary, auxiliary, strict=True):
        mine[lane, used] = theirs
