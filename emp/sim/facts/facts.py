"""The twenty stylised facts: target, source, value, verdict.

Each fact is measured by the same code on recordings and on simulated flow. A target is the literature's; where
our recordings themselves lie outside it, the band reaches to the values of the recordings that the model was
not fitted to (widened by a tenth), and says so. Facts about our own orders exist only where orders can be
sent, so a recording has no value there.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.records import Array
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, DEEP, HIT, IN, KINDS
from emp.sim.measure import estimators as est
from emp.sim.measure.observe_market import DEPTH_TICKS, Tape

MINIMUM = (1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 17, 18, 19)


class Value(msgspec.Struct):
    """One number, or several that belong together; `part` names them."""

    value: float
    low: float = -np.inf
    high: float = np.inf
    part: str = ""
    fixed: bool = False  # the band may not be widened by recordings


class Row(msgspec.Struct):
    """A row of the table."""

    fact: int
    name: str
    target: str
    source: str
    real: dict[str, float | None]
    simulated: float | None
    low: float
    high: float
    passed: bool
    minimum: bool


class Fact(msgspec.Struct):
    """A fact and how to measure it on a tape."""

    number: int
    name: str
    target: str
    source: str
    measure: Callable[[Tape], list[Value]]


def _returns(tape: Tape) -> list[Value]:
    r = np.diff(est.on_grid(tape.obs, 1.0))
    a = est.acf(r, 30)
    noise = max(0.05, 2.0 / np.sqrt(len(r)))
    return [
        Value(float(np.abs(a[5:]).max()), 0.0, noise, "max |acf|, lags 5-30"),
        Value(float(a[1]), -0.3, 0.05, "acf lag 1"),
    ]


def _tails(tape: Tape) -> list[Value]:
    moves = [np.diff(est.on_grid(tape.obs, h)) for h in (1.0, 60.0)]
    kurt = [est.kurtosis(m) for m in moves]
    return [
        Value(est.hill(moves[1], 0.1), 2.0, 5.0, "tail index of 1 min moves"),
        Value(kurt[0], 3.0, np.inf, "excess kurtosis, 1 s", True),
        Value(kurt[0] / max(kurt[1], 1e-9), 1.0, np.inf, "kurtosis 1 s over 60 s", True),
        Value(kurt[1], 0.5, np.inf, "excess kurtosis, 60 s", True),
    ]


def _clustering(tape: Tape) -> list[Value]:
    moves = np.abs(np.diff(est.on_grid(tape.obs, 10.0)))
    v = est.acf(moves, 100)
    return [
        Value(float(v[1:11].mean()), 0.05, 1.0, "mean acf of |moves|, 10-100 s", True),
        Value(float(v[11:51].mean()), 0.01, 1.0, "mean acf of |moves|, 110-500 s", True),
        Value(est.memory_exponent(moves), 0.2, 0.4, "decay exponent, local Whittle"),
    ]


def _signs(tape: Tape) -> dict[str, Array]:
    obs = tape.obs
    kind = obs["type"] % KINDS
    side = np.where(obs["type"] >= KINDS, -1, 1)
    return {
        "market": obs["sign"][obs["sign"] != 0],
        "limit": side[kind <= DEEP],
        "cancel": side[(kind == CANCEL_AT) | (kind == CANCEL_DEEP)],
    }


def _sign_memory(tape: Tape) -> list[Value]:
    out = []
    for name, x in _signs(tape).items():
        a = est.acf(x, 100)
        out.append(Value(float(a[10]), 0.02, 1.0, f"{name}: acf lag 10", True))
        out.append(Value(est.memory_exponent(x), 0.36, 0.77, f"{name}: exponent, local Whittle"))
        out.append(Value(est.dfa(x), 0.6, 0.85, f"{name}: Hurst"))
    return out


def _cross_market(tape: Tape) -> list[Value]:
    return [Value(est.dfa(_signs(tape)["market"]), 0.55, 0.9, "Hurst of market order signs")]


def _placement(tape: Tape) -> list[Value]:
    deep = tape.obs["dist"][tape.obs["type"] % KINDS == DEEP]
    if len(deep) < 500:
        return []
    return [Value(est.hill(deep.astype(float), 0.05), 1.0, 4.0, "tail index of distance")]


def _shape(tape: Tape) -> list[Value]:
    qty = tape.depth["qty"].mean(axis=0)
    if qty[1:].max() <= 0:
        return []
    smooth = np.convolve(qty[1:], np.ones(4) / 4, "valid")
    peak = int(smooth.argmax()) + 1
    return [Value(float(peak), 2.0, float(DEPTH_TICKS), "peak of mean depth, ticks from best")]


def _branching(tape: Tape) -> list[Value]:
    mid = est.mids(tape.obs)
    times = tape.obs["ts"][1:][np.diff(mid) != 0] / 1e9
    return [Value(est.branching(times, 60.0), 0.7, 1.0, "branching ratio of mid changes, 60 s windows")]


def _gaps(tape: Tape) -> list[Value]:
    gap = np.diff(tape.obs["ts"]) / 1e9
    logs = np.log10(np.maximum(gap, 1e-6))
    density, edges = np.histogram(logs, 40)
    mode = 10 ** (edges[density.argmax()] + (edges[1] - edges[0]) / 2)
    return [
        Value(float(gap.std() / gap.mean()), 1.5, np.inf, "coefficient of variation (exponential: 1)", True),
        Value(float(np.median(gap) / gap.mean()), 0.0, 0.3, "median over mean (exponential: 0.69)", True),
        Value(float(mode / gap.mean()), 0.0, 0.1, "mode of log gap over mean (exponential: 1)", True),
    ]


def _ofi(tape: Tape) -> list[Value]:
    slope, r2 = est.ofi_regression(tape.obs, 10.0)
    return [
        Value(slope, 0.3, 1.0, "correlation of OFI and move, 10 s"),
        Value(r2, 0.35, 0.85, "R2, 10 s"),
    ]


def _imbalance(tape: Tape) -> list[Value]:
    auc, monotone = est.imbalance_signal(tape.obs)
    return [
        Value(auc, 0.53, 0.9, "area under the curve, next mid move"),
        Value(monotone, 0.99, 1.0, "share of rising steps over fifths", True),
    ]


def _diffusive(tape: Tape) -> list[Value]:
    return [Value(est.signature(tape.obs), 0.5, 2.0, "variance per second, 1 s over 500 s")]


def _price_gaps(tape: Tape) -> list[Value]:
    gaps = np.concatenate([tape.depth["gap_bid"], tape.depth["gap_ask"]]).astype(float)
    gaps = gaps[gaps > 0]
    if len(gaps) < 200 or gaps.max() < 10:
        return []
    return [Value(est.hill(gaps, 0.05), 2.0, 4.5, "tail index of the gap behind the best")]


def _mix(tape: Tape) -> list[Value]:
    kind = tape.obs["type"] % KINDS
    trades = float((kind == HIT).mean())
    limits = float(np.isin(kind, (IN, AT, DEEP)).mean())
    ages = tape.obs["age"][tape.obs["age"] > 0].astype(float)
    out = [
        Value(trades, 0.005, 0.1, "share of market orders"),
        Value(limits, 0.4, 0.6, "share of limit orders"),
    ]
    if len(ages) > 500:
        ratio = float(np.quantile(ages, 0.99) / np.quantile(ages, 0.5))
        out.append(Value(ratio, 10.0, np.inf, "time to cancel, 99 % over median (exponential: 6.6)", True))
    return out


def _volume(tape: Tape) -> list[Value]:
    obs = tape.obs
    edges = np.arange(int(obs["ts"][0]), int(obs["ts"][-1]), 300 * 10**9)
    at = np.searchsorted(obs["ts"], edges)
    volume = np.add.reduceat(np.where(obs["sign"] != 0, obs["qty"], 0), at)[:-1]
    volume = np.minimum(volume, np.quantile(volume, 0.99))
    mid = est.mids(obs)
    moved = np.add.reduceat(np.abs(np.diff(mid, append=mid[-1])), at)[:-1]
    spread = np.add.reduceat(obs["ask"] - obs["bid"], at)[:-1] / np.maximum(1, np.diff(at))
    return [
        Value(float(np.corrcoef(volume, moved)[0, 1]), 0.1, 1.0, "volume and volatility, 5 min"),
        Value(float(np.corrcoef(volume, spread)[0, 1]), -1.0, 0.0, "volume and spread, 5 min"),
    ]


def _responses(tape: Tape) -> list[Value]:
    curves = est.responses(tape.obs)
    bands = {"market": (0.0, np.inf), "limit": (0.0, np.inf), "cancel": (-0.1, np.inf)}
    return [
        Value(v, bands[k.split(",")[0]][0], np.inf, f"{k}, spreads after 20 events", True)
        for k, v in curves.items()
        if np.isfinite(v)
    ]


def _adverse(tape: Tape) -> list[Value]:
    obs = tape.obs
    hits = obs["sign"] != 0
    half = float(((obs["ask"] - obs["bid"])[hits] / 2).mean())
    after = est.markouts(obs)
    lost = 1.0 - np.array(after) / half
    return [
        Value(float(lost[0]), 0.2, np.inf, "share of the half spread lost 1 s after a maker's fill"),
        Value(float(lost[1]), 0.2, np.inf, "share lost 10 s after"),
    ]


FACTS = (
    Fact(1, "no linear memory of returns", "|acf| <= 0.05 beyond 5 s", "Cont 2001", _returns),
    Fact(2, "heavy tails, fading with the horizon", "tail index 2-5", "Cont 2001", _tails),
    Fact(3, "volatility clusters", "acf > 0, exponent 0.2-0.4", "Cont 2001", _clustering),
    Fact(4, "long memory of order signs", "exponent 0.36-0.77, H 0.7", "Lillo & Farmer 2004", _sign_memory),
    Fact(5, "long memory in every market", "H > 0.5", "arXiv 1504.04354", _cross_market),
    Fact(6, "power-law placement", "tail of distance", "Zovko & Farmer 2002; BMP 2002", _placement),
    Fact(7, "humped mean depth", "peak off the best", "Bouchaud-Mezard-Potters 2002", _shape),
    Fact(8, "events breed events", "branching 0.7-1", "arXiv 1302.1405, 1201.3572", _branching),
    Fact(9, "gaps are not exponential", "cv > 1, mode at latency", "arXiv 2603.24137", _gaps),
    Fact(10, "OFI moves price", "R2 about 0.65", "arXiv 1011.6402", _ofi),
    Fact(11, "imbalance foretells the next move", "monotone", "arXiv 1512.03492", _imbalance),
    Fact(13, "diffusive price", "ratio 0.5-2", "signature plot", _diffusive),
    Fact(14, "gaps behind the best", "tail about 3.2", "arXiv 1405.1247", _price_gaps),
    Fact(15, "event mix and lifetimes", "trades few %", "LOBSTER", _mix),
    Fact(16, "volume, volatility and spread", "signs + and -", "arXiv 1912.04941", _volume),
    Fact(18, "responses to single events", "positive", "arXiv 2502.09172", _responses),
    Fact(19, "makers are picked off", "markout below half spread", "measured", _adverse),
)
"""Facts that a tape alone shows; 12, 17, 18 (metaorder), 19 (maker) and 20 need more and come from `world`."""


def widen(low: float, high: float, real: list[float]) -> tuple[float, float]:
    """The band, reaching a tenth beyond the recordings' own values."""
    known = [v for v in real if v is not None and np.isfinite(v)]
    if not known:
        return low, high
    slack = 0.1 * max(abs(v) for v in known)
    return min(low, min(known) - slack), max(high, max(known) + slack)


def tape_rows(simulated: Tape, real: dict[str, Tape]) -> list[Row]:
    """Rows of all facts that a tape alone shows."""
    rows = []
    for fact in FACTS:
        known = {name: {v.part: v.value for v in fact.measure(tape)} for name, tape in real.items()}
        for v in fact.measure(simulated):
            values = {name: parts.get(v.part) for name, parts in known.items()}
            finite = [x for x in values.values() if x is not None]
            low, high = (v.low, v.high) if v.fixed else widen(v.low, v.high, finite)
            rows.append(
                Row(
                    fact.number,
                    f"{fact.name}: {v.part}",
                    fact.target,
                    fact.source,
                    values,
                    v.value,
                    low,
                    high,
                    bool(np.isfinite(v.value) and low <= v.value <= high),
                    fact.number in MINIMUM,
                )
            )
    return rows
