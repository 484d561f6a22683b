"""Fit the linear heads to convergence: multinomial logistic, linear quantiles, ridge means; all of odd and even
inputs as the mirror demands (`emp.train.data.mirror`).

    up - flat   = a + E e + O o        down - flat = a + E e - O o
    q50         = P o                  q75 = b + F e + G o,  q25 = -(b + F e) + G o
    mean        = R o

with e and o the even and odd parts of the model input. Every horizon is fitted on its own; the penalty of each
fit is the one that does best on the calibration block. Then the classes are calibrated there
(`emp.train.fit.calibration`), and all but its tables is folded into one affine map of the model input.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from emp.core.platform import usable_cores
from emp.core.records import HORIZONS, Array
from emp.model.heads import CLASSES, MEANS_AT, OUTPUTS, QUANTILES_AT
from emp.perception.normalise import INPUTS
from emp.perception.targets import DOWN, NO_LABEL, UP
from emp.train.data.mirror import mirror_basis
from emp.train.fit.calibration import NOTHING, SHARES, Chosen, Rows, calibrate

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)
"""L2 penalties tried, on weights of inputs of unit size; the calibration block chooses."""

RIDGES = (10.0, 1.0, *PENALTIES)
"""The same for the means, whose signal is the weakest."""

SMOOTHING = (0.1, 0.02)
"""Widths, in mean moves, by which the pinball loss is smoothed: one to choose by, then down to the last."""

SHARP = 1e-4
"""Smoothing at which the pinball loss is judged."""

TRIMMED = 0.999
"""Share of moves taken at their size by the ridge; larger ones count as this quantile of the training moves."""

ITERATIONS = 80

MOST_BESIDE = 4
"""Horizons that are fitted at once: what one holds of the rows, in double precision, is large."""

STD_FLOOR = 1e-4
"""An input that varies less in training gets no weight."""


class Sample(NamedTuple):
    """Rows to fit on or to choose by."""

    x: Array  # float[n, INPUTS]
    labels: Array  # int8[n, HORIZONS], NO_LABEL where there is none
    delta_hat: Array  # float[n, HORIZONS], NaN where there is none
    weight: Array  # float64[n]
    stretch: Array  # int64[n], see `emp.train.fit.calibration.Rows`
    block: Array  # int64[n]
    whole_day: Array  # bool[n]


class Head(NamedTuple):
    """An affine map from the model input to the raw outputs of `model.heads`."""

    weight: Array  # float64[INPUTS, OUTPUTS]
    bias: Array  # float64[OUTPUTS]
    penalties: dict[str, list[float]]  # chosen, by kind of output and horizon
    calibration: list[Chosen]  # by horizon; the temperature is folded into weight and bias


class _Design(NamedTuple):
    """Even and odd parts of the inputs, even ones centred, all of unit size; one row per sample row."""

    even: torch.Tensor
    odd: torch.Tensor


class _Scaling(NamedTuple):
    even: Array  # float64[INPUTS, n_even]: basis divided by the size of each part
    odd: Array
    centre: Array  # float64[n_even]

    def design(self, x: Array) -> _Design:
        wide = x.astype(np.float64)
        return _Design(torch.from_numpy(wide @ self.even - self.centre), torch.from_numpy(wide @ self.odd))


def fit_head(train: Sample, held_out: Sample, progress: Callable[[], None]) -> Head:
    """Fit one head, horizons beside one another; `progress` is called once per horizon, from the caller's thread."""
    torch.set_num_threads(1)  # of each horizon: the same sums in the same order, whatever the machine
    scaling = _scaling(train)
    weight, bias = np.zeros((INPUTS, OUTPUTS)), np.zeros(OUTPUTS)
    fitted: list[_Fitted | None] = []

    def fit(h: int) -> _Fitted | None:
        return _fit_horizon(h, _known(train, h), _known(held_out, h), scaling, weight, bias)

    with ThreadPoolExecutor(min(MOST_BESIDE, usable_cores()), thread_name_prefix="emp-linear") as pool:
        for one in pool.map(fit, range(HORIZONS)):
            fitted.append(one)
            progress()
    chosen = {
        kind: [one.penalties[kind] for one in fitted if one is not None]
        for kind in ("classes", "quantiles", "mean")
    }
    return Head(weight, bias, chosen, [NOTHING if one is None else one.calibration for one in fitted])


class _Fitted(NamedTuple):
    """What is told of a horizon beside its weights."""

    penalties: dict[str, float]  # chosen, by kind of output
    calibration: Chosen


def _fit_horizon(
    h: int, fit: Sample, pick: Sample, scaling: _Scaling, weight: Array, bias: Array
) -> _Fitted | None:
    """Fit all outputs of a horizon and write them in its own columns; None where it has no rows."""
    if not len(fit.x) or not len(pick.x):
        return None
    inner, outer = scaling.design(fit.x), scaling.design(pick.x)
    classes, calibration = _fill_classes(h, fit, pick, inner, outer, scaling, weight, bias)
    quantiles = _fill_quantiles(h, fit, pick, inner, outer, scaling, weight, bias)
    mean = _fill_mean(h, fit, pick, inner, outer, scaling, weight)
    return _Fitted({"classes": classes, "quantiles": quantiles, "mean": mean}, calibration)


def _known(sample: Sample, h: int) -> Sample:
    rows = sample.labels[:, h] != NO_LABEL
    columns = sample._replace(labels=sample.labels[:, h], delta_hat=sample.delta_hat[:, h])
    return Sample(*(a[rows] for a in columns))


def _scaling(train: Sample) -> _Scaling:
    even, odd = mirror_basis()
    share = train.weight / train.weight.sum()
    e, o = train.x @ even, train.x @ odd
    centre = share @ e
    e_size = np.sqrt(share @ np.square(e - centre))
    o_size = np.sqrt(share @ np.square(o))
    e_scale = np.where(e_size > STD_FLOOR, 1.0 / np.maximum(e_size, STD_FLOOR), 0.0)
    o_scale = np.where(o_size > STD_FLOOR, 1.0 / np.maximum(o_size, STD_FLOOR), 0.0)
    return _Scaling(even * e_scale, odd * o_scale, centre * e_scale)


def _minimise(start: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """L-BFGS with a strong Wolfe line search, in float64."""
    w = start.clone().requires_grad_(True)
    method = torch.optim.LBFGS(
        [w], max_iter=ITERATIONS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        method.zero_grad()
        value = loss(w)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    method.step(closure)  # type: ignore[no-untyped-call]
    return w.detach()


def _best(
    size: int,
    penalties: tuple[float, ...],
    fit: Callable[[torch.Tensor, float], torch.Tensor],
    judge: Callable[[torch.Tensor], float],
) -> tuple[torch.Tensor, float]:
    """Fit with every penalty, each starting from the one before, and keep the one judged best (lowest)."""
    w = torch.zeros(size, dtype=torch.float64)
    best = (w, penalties[0])
    lowest = np.inf
    for penalty in penalties:
        w = fit(w, penalty)
        value = judge(w)
        if value < lowest:
            lowest, best = value, (w, penalty)
    return best


def _fill_classes(
    h: int,
    fit: Sample,
    pick: Sample,
    inner: _Design,
    outer: _Design,
    scaling: _Scaling,
    weight: Array,
    bias: Array,
) -> tuple[float, Chosen]:
    """Fit the class logits of one horizon, calibrate them, and write them in; the penalty and the calibration."""
    mass, target = _mass(fit), torch.from_numpy(fit.labels.astype(np.int64))
    pick_mass, pick_target = _mass(pick), torch.from_numpy(pick.labels.astype(np.int64))

    def train_loss(w: torch.Tensor, penalty: float) -> torch.Tensor:
        return _cross_entropy(_logits(inner, w), target, mass) + 0.5 * penalty * w[1:].square().sum()

    def judge(w: torch.Tensor) -> float:
        return float(_cross_entropy(_logits(outer, w), pick_target, pick_mass))

    w, penalty = _best(
        1 + inner.even.shape[1] + inner.odd.shape[1],
        PENALTIES,
        lambda start, p: _minimise(start, lambda w: train_loss(w, p)),
        judge,
    )
    calibrated = calibrate(
        Rows(_logits(outer, w).numpy(), pick.labels, pick.weight, pick.stretch, pick.block, pick.whole_day)
    )
    a, e, o = _unpack(w.numpy() / calibrated.temperature, inner)
    at = h * CLASSES
    weight[:, at + UP] = scaling.even @ e + scaling.odd @ o
    weight[:, at + DOWN] = scaling.even @ e - scaling.odd @ o
    bias[[at + UP, at + DOWN]] = a - scaling.centre @ e
    return penalty, calibrated


def _logits(design: _Design, w: torch.Tensor) -> torch.Tensor:
    n_even = design.even.shape[1]
    move = w[0] + design.even @ w[1 : 1 + n_even]
    turn = design.odd @ w[1 + n_even :]
    return torch.stack([move - turn, torch.zeros_like(move), move + turn], dim=1)


def _cross_entropy(logits: torch.Tensor, target: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    return (each * mass).sum()


def _unpack(w: Array, design: _Design) -> tuple[float, Array, Array]:
    n_even = design.even.shape[1]
    return float(w[0]), w[1 : 1 + n_even], w[1 + n_even :]


def _mass(sample: Sample) -> torch.Tensor:
    return torch.from_numpy(sample.weight / sample.weight.sum())


def _fill_quantiles(
    h: int,
    fit: Sample,
    pick: Sample,
    inner: _Design,
    outer: _Design,
    scaling: _Scaling,
    weight: Array,
    bias: Array,
) -> float:
    """Fit the three quantiles of one horizon and write them in; the penalty."""
    mass, pick_mass = _mass(fit), _mass(pick)
    moves, pick_moves = (torch.from_numpy(s.delta_hat.astype(np.float64)) for s in (fit, pick))
    size = float((moves.abs() * mass).sum())
    if size <= 0.0:
        return PENALTIES[0]
    y, pick_y = moves / size, pick_moves / size
    n_odd = inner.odd.shape[1]

    def anneal(start: torch.Tensor, penalty: float, width: float) -> torch.Tensor:
        return _minimise(
            start,
            lambda w: _pinball(inner, w, y, mass, width) + 0.5 * penalty * w[1:].square().sum(),
        )

    w, penalty = _best(
        1 + inner.even.shape[1] + 2 * n_odd,
        PENALTIES,
        lambda start, p: anneal(start, p, SMOOTHING[0]),
        lambda w: float(_pinball(outer, w, pick_y, pick_mass, SMOOTHING[0])),
    )
    for width in SMOOTHING[1:]:
        w = anneal(w, penalty, width)
    half = torch.quantile(y.abs(), 0.5)  # by the mirror, the upper quartile of moves and their mirror images
    whole = torch.zeros_like(w)
    whole[0] = half
    w = min(
        (share * w + (1.0 - share) * whole for share in SHARES),
        key=lambda v: float(_pinball(outer, v, pick_y, pick_mass, SHARP)),
    )
    w = w * size
    outer_part, median = w.numpy()[:-n_odd], w.numpy()[-n_odd:]
    b, e, o = _unpack(outer_part, inner)
    at = QUANTILES_AT + h * 3
    weight[:, at] = -(scaling.even @ e) + scaling.odd @ o
    weight[:, at + 1] = scaling.odd @ median
    weight[:, at + 2] = scaling.even @ e + scaling.odd @ o
    bias[at + 2] = b - scaling.centre @ e
    bias[at] = -bias[at + 2]
    return penalty


def _pinball(
    design: _Design, w: torch.Tensor, y: torch.Tensor, mass: torch.Tensor, width: float
) -> torch.Tensor:
    """Pinball loss of the three quantiles, the kink smoothed over `width`."""
    n_even, n_odd = design.even.shape[1], design.odd.shape[1]
    half = w[0] + design.even @ w[1 : 1 + n_even]
    tilt = design.odd @ w[1 + n_even : 1 + n_even + n_odd]
    median = design.odd @ w[-n_odd:]
    total = torch.zeros(())
    for tau, q in ((0.25, tilt - half), (0.5, median), (0.75, tilt + half)):
        u = y - q
        smooth = tau * u + width * torch.nn.functional.softplus(-u / width)
        total = total + (smooth * mass).sum()
    return total


def _fill_mean(
    h: int,
    fit: Sample,
    pick: Sample,
    inner: _Design,
    outer: _Design,
    scaling: _Scaling,
    weight: Array,
) -> float:
    """Fit the expected move of one horizon by ridge and write it in; the penalty."""
    bound = float(np.quantile(np.abs(fit.delta_hat), TRIMMED))
    y = np.clip(fit.delta_hat.astype(np.float64), -bound, bound)
    share = fit.weight / fit.weight.sum()
    odd, pick_odd = inner.odd.numpy(), outer.odd.numpy()
    gram = odd.T @ (odd * share[:, None])
    cross = odd.T @ (share * y)

    def solve(_: torch.Tensor, penalty: float) -> torch.Tensor:
        return torch.from_numpy(np.linalg.solve(gram + penalty * np.eye(len(gram)), cross))

    def judge(w: torch.Tensor) -> float:
        miss = np.clip(pick.delta_hat, -bound, bound) - pick_odd @ w.numpy()
        return float(np.average(np.square(miss), weights=pick.weight))

    w, penalty = _best(odd.shape[1], RIDGES, solve, judge)
    weight[:, MEANS_AT + h] = scaling.odd @ w.numpy()
    return penalty
