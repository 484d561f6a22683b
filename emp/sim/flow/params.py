"""Parameters of every flow model in one record, so that one compiled driver runs them all."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import msgspec
import numpy as np

from emp.core.errors import DataError
from emp.core.records import Array

ZI, HAWKES, QUEUE_REACTIVE = 0, 1, 2
MODELS = ("zi", "hawkes", "qr")

IMBALANCES, SPREADS = 9, 12
KINDS = 6
LASTS = KINDS + 1  # what came last: its kind, or a market order that took the whole best price
GAPS = 5  # buckets of the gap behind the best price, for distances of deeper orders
SIZES = 6  # buckets of the quantity at a best price
PACES = 8  # buckets of the predicted gap
PAUSES = 8  # and of the predicted odds of a long one
RATES = 3  # time scales on which the event rate wanders
MEMORY = 8
GROUPS = KINDS + 2
FEATURES = GROUPS * MEMORY  # signs of trades; signed pulses of each kind; displacement of the mid
PACE_LOGS = 4
BURSTS = 3  # averages of how often market orders came, over 4, 16 and 64 events
SCALES = 3
TYPES = 12

FLOW = np.dtype(
    [
        ("model", "i8"),
        ("exp", "f8", (4096,)),  # quantiles of the unit exponential law
        # zero intelligence
        ("limit_hz", "f8"),  # limit orders per second, both sides together
        ("market_hz", "f8"),
        ("cancel_hz", "f8"),  # per resting order
        ("band", "i8"),  # limit prices fall uniformly on this many ticks from the opposite best
        ("max_qty", "i8"),  # sizes are uniform on 1..max_qty
        # marks: where and how large, shared by Hawkes and queue-reactive flow
        ("live_ref", "f8"),  # orders that usually rest
        ("spread_edges", "f8", (SPREADS - 1,)),  # spreads and distances are in ticks at the usual level
        ("size_edges", "i8", (SIZES - 1,)),
        ("in_ticks", "f8", (SPREADS, 256)),  # quantiles of the improvement of an order inside the spread
        ("deep_gaps", "f8", (GAPS - 1,)),  # edges of the gap behind the best price
        # quantiles of the distance of a deeper order, by the spread and that gap
        ("deep_ticks", "f8", (SPREADS, GAPS, 256)),
        ("limit_qty", "i8", (3, 1024)),  # by kind: inside, at, deeper
        # market orders, by the quantity at the best price: 0 takes all of it, lots below 0 more than that
        ("hit_qty", "i8", (SIZES, 1024)),
        ("age", "i8", (2, 1024)),  # age in events of a cancelled order: at best, deeper
        # queue-reactive
        ("imbalance_edges", "f8", (IMBALANCES - 1,)),
        ("kind_weight", "f8", (IMBALANCES, SPREADS, KINDS)),  # probability of each kind
        ("after", "f8", (LASTS, KINDS)),  # [last, kind]: how the last event shifts it
        ("burst_usual", "f8"),  # a market order is this often as likely as that says,
        ("burst", "f8", (BURSTS,)),  # and this more per share of market orders in the last 4, 16, 64 events
        ("side_odds", "f8", (IMBALANCES, SPREADS, KINDS)),  # log-odds that it is on the ask side
        ("size_odds", "f8", (KINDS, SIZES)),  # more by the quantity at the ask, less by that at the bid
        ("side_weight", "f8", (KINDS, FEATURES)),  # and how memory shifts them
        ("gap_weight", "f8"),  # and for market orders the log ratio of the gaps behind the best prices
        ("decay", "f8", (MEMORY,)),  # of all averages, per step of their own clock
        ("split_odds", "f8"),  # how strongly market orders follow the long order at work
        ("split_alpha", "f8"),  # tail exponent of the lengths of long orders
        ("split_longest", "f8"),  # market orders in the longest of them
        ("outside", "f8", (MEMORY,)),  # how strongly liquidity leans against flow from outside, by its age
        ("outside_qty", "f8"),  # lots that count as one
        ("unit_ticks", "f8"),  # displacement of the mid is measured in these
        ("pace_start", "f8"),  # mean log gap: where the averages begin
        # predictions of the log gap, and of the chance that it is long
        ("pace_weight", "f8", (2, PACE_LOGS)),  # per average of log gaps
        ("pace_decay", "f8", (PACE_LOGS,)),
        ("pace_last", "f8", (2, LASTS)),  # and by what came last
        ("pace_burst", "f8", (2, BURSTS)),  # and per share of market orders in the last 4, 16, 64 events
        ("pace_edges", "f8", (PACES - 1,)),
        ("pause_edges", "f8", (PACES, PAUSES - 1)),
        ("gap_ns", "i8", (PACES, PAUSES, 256)),  # quantiles of the gap at the usual rate, by both
        ("rate_tau_s", "f8", (RATES,)),  # the log rate wanders: a sum of Ornstein-Uhlenbeck processes
        ("rate_var", "f8", (RATES,)),
        ("level_var", "f8", (RATES,)),  # and so does the log of usual distances, on the same scales
        ("level_rate", "f8", (RATES,)),  # their correlation with the parts of the rate
        ("deep_elasticity", "f8"),  # how far the distances of deeper orders follow the level: as its power
        # Hawkes
        ("base_hz", "f8", (TYPES,)),
        ("jump_hz", "f8", (TYPES, SCALES, TYPES)),  # [cause, scale, effect]: rise of the effect's intensity
        ("decay_hz", "f8", (SCALES,)),
        ("branching", "f8"),  # spectral radius of the kernel's integral
        # how the market looks
        ("start_spread", "i8"),
        ("start_qty", "i8"),
    ],
    align=True,
)
"""A flow model. Quantile tables hold midpoint quantiles; a draw is one look-up."""


def params_hash(p: Array) -> str:
    """A name for a set of parameters: the hash of their values."""
    return hashlib.sha256(p.tobytes()).hexdigest()[:16]


class Source(msgspec.Struct):
    """What a flow model was estimated from: an instrument, and the first and last event's time, ns UTC.

    `levels` is how many prices per side the recording showed, 0 for all.
    """

    instrument: str = ""
    first_ns: int = 0
    last_ns: int = 0
    note: str = ""
    levels: int = 0


def save_params(path: Path, p: Array, source: Source) -> None:
    """Write a flow model, field by field, and what it was estimated from."""
    fields = {name: p[name] for name in FLOW.names or ()}
    fields["_source"] = np.frombuffer(msgspec.json.encode(source), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **fields)  # type: ignore[arg-type]


NO_MODEL = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    msgspec.DecodeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy raises of a file that is empty, cut, an array, or anything else."""


def load_params(path: Path) -> tuple[Array, Source]:
    """Read a flow model and what it was estimated from; raise DataError where the file is not one."""
    p = np.zeros(1, FLOW)
    try:
        with np.load(io.BytesIO(path.read_bytes())) as file:
            source = msgspec.json.decode(file["_source"].tobytes(), type=Source)
            known = {name: file[name] for name in file.files}
    except NO_MODEL as error:
        raise DataError(f"{path}: not a flow model: {error}") from None
    for name in FLOW.names or ():
        if name not in known or known[name].shape != p[name].shape:
            raise DataError(f"{path}: the flow model was made by another version; calibrate it again")
        p[name] = known[name]
    return p, source


def load_source(path: Path) -> Source:
    """What a flow model was estimated from."""
    return load_params(path)[1]
