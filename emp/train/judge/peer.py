"""Train a peer network on the split, labels and events of a dataset, calibrate it as our models are, let it forecast.

It costs a hundred times the work per event of a model that carries a state, so it sees a budget of windows drawn
at random from the training part. The calibration part stops it early and gives its temperatures.
"""

import copy
import inspect
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.records import HORIZONS, Array
from emp.perception.targets import CLASSES, NO_LABEL, classes
from emp.train import net
from emp.train.data import books as book_windows
from emp.train.data.books import Books, windows
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset, Part
from emp.train.net.deeplob import WINDOW
from emp.train.net.peers import PEERS

BATCH = 64
RATE = 1e-3
"""Learning rate of Adam after WARM_UP; it falls to zero over the budget as a cosine."""

WARM_UP = 0.05
"""Share of the steps in which the rate rises to it."""

CHECKS = 12
"""How often the calibration part is looked at over the budget."""

PATIENCE = 3
"""Checks without improvement after which training stops."""

CHECK_ROWS = 2_000
CALIBRATE_ROWS = 16_000
FORECAST_BATCH = 256

Report = Callable[[str, float], None]
"""Called with what is being done and the share that is done."""


class PeerForecast(NamedTuple):
    """What a peer said of rows of the test part of a series."""

    rows: Array  # int64[m]
    p: Array  # float32[m, HORIZONS, CLASSES]
    network: nn.Module
    facts: dict[str, Any]


class Fit(NamedTuple):
    """A trained network and how it came about."""

    network: nn.Module
    losses: list[float]  # on the calibration part, check by check
    windows: int
    seconds: float
    cpu_seconds: float


def forecast_peer(
    name: str,
    data: Dataset,
    books: Books,
    threshold: Array,
    seed: int,
    budget: int,
    report: Report,
    judged: Array | None = None,
) -> PeerForecast:
    """Train a network of `PEERS` on a series (or take what it said from the cache) and forecast its test part.

    Args:
        name: of the network.
        data: the series.
        books: of its rows.
        threshold: float[HORIZONS], the class thresholds of the model it is compared with.
        seed: names the run of random numbers.
        budget: windows to train on.
        report: told of progress.
        judged: int64[m], the rows of the test part to forecast; all of it where not given.

    Raises:
        UsageError: a part of the series has no row.
    """
    rows = {part: data.part(part) for part in ("train", "calibrate", "test")}
    if judged is not None:
        rows["test"] = judged
    labels = {part: _labels(data, part, rows[part], threshold) for part in ("train", "calibrate")}
    for part, mine in rows.items():
        if len(mine) == 0:
            raise UsageError(f"{data.series}: no row of its {part} part is past the warm-up")
    sources = [Path(str(book_windows.__file__)), *sources_of(name), Path(__file__)]
    settings = [name, seed, budget, torch.__version__]
    inputs = (*books, *rows.values(), *labels.values())
    key = content_key(*sources, settings, *inputs)

    def make() -> dict[str, Array]:
        found = train(name, books, rows, labels, seed, budget, report)
        temperature, p = _calibrated(found.network, books, rows, labels["calibrate"])
        facts = _facts(found, books, len(rows["train"]), temperature)
        weights = {f"network.{name}": w.numpy() for name, w in found.network.state_dict().items()}
        return {"p": p, "facts": np.array(json.dumps(facts)), **weights}

    stored = cached("peers", key, make)
    network = PEERS[name](books.levels)
    weights = {name: torch.from_numpy(stored[f"network.{name}"]) for name in network.state_dict()}
    network.load_state_dict(weights)
    return PeerForecast(rows["test"], stored["p"], network.eval(), json.loads(str(stored["facts"])))


def known_peers(names: Sequence[str]) -> tuple[str, ...]:
    """Names of peers, each once.

    Raises:
        UsageError: there is no such network.
    """
    for name in names:
        if name not in PEERS:
            raise UsageError(f"--peer {name}: must be one of {', '.join(PEERS)}")
    return tuple(dict.fromkeys(names))


def sources_of(name: str) -> list[Path]:
    """The file of a network, and those of the networks' folder that it stands on."""
    folder = Path(str(net.__file__)).parent
    own = Path(str(inspect.getfile(type(PEERS[name](1)))))
    return [own, folder / "bilinear.py", folder / "deeplob.py"]


def _labels(data: Dataset, part: Part, rows: Array, threshold: Array) -> Array:
    return classes(data.delta_hat(part, rows), threshold)


def train(
    name: str,
    books: Books,
    rows: dict[str, Array],
    labels: dict[str, Array],
    seed: int,
    budget: int,
    report: Report,
) -> Fit:
    """Train on windows drawn without replacement, epoch by epoch; keep the state that calibrates best."""
    rng = generator(seed, "deeplob")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PEERS[name](books.levels)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = max(1, budget // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, steps))
    check = _thinned(len(rows["calibrate"]), CHECK_ROWS)
    losses: list[float] = []
    best = copy.deepcopy(network.state_dict())
    order: Array = np.zeros(0, np.int64)
    began, cpu_began = time.perf_counter(), time.thread_time()
    step = 0
    for step in range(1, steps + 1):
        if len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(rows["train"]))])
        mine, order = order[:BATCH], order[BATCH:]
        loss = _loss(network, books, rows["train"][mine], labels["train"][mine])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step * CHECKS // steps > (step - 1) * CHECKS // steps:
            said = class_logits(network, books, rows["calibrate"][check])
            losses.append(_cross_entropy(said, labels["calibrate"][check]))
            if losses[-1] == min(losses):
                best = copy.deepcopy(network.state_dict())
            elif len(losses) - int(np.argmin(losses)) > PATIENCE:
                break
        speed = step * BATCH / (time.perf_counter() - began)
        report(f"{name}, {speed:,.0f} windows/s, loss {min(losses, default=np.nan):.4f}", step / steps)
    seconds, cpu_seconds = time.perf_counter() - began, time.thread_time() - cpu_began
    network.load_state_dict(best)
    torch.set_num_threads(threads)
    return Fit(network.eval(), losses, step * BATCH, seconds, cpu_seconds)


def share_of_rate(step: int, steps: int) -> float:
    """Share of RATE that a step (from 0) is taken with."""
    rising = (step + 1) / max(1.0, WARM_UP * steps)
    return min(1.0, rising) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _thinned(n: int, most: int) -> Array:
    return np.arange(0, n, max(1, -(-n // most)))


def _tensor(books: Books, rows: Array) -> Tensor:
    return torch.from_numpy(windows(books, rows, WINDOW))


def _loss(network: nn.Module, books: Books, rows: Array, labels: Array) -> Tensor:
    network.train()
    logits = network(_tensor(books, rows))
    target = torch.from_numpy(labels.astype(np.int64))
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=NO_LABEL)


def class_logits(network: nn.Module, books: Books, rows: Array) -> Tensor:
    """Class logits of the books up to each row, before calibration: [rows, HORIZONS, CLASSES]."""
    network.eval()
    with torch.inference_mode():
        batches = np.array_split(rows, max(1, len(rows) // FORECAST_BATCH))
        return torch.cat([network(_tensor(books, batch)) for batch in batches])


def _cross_entropy(logits: Tensor, labels: Array) -> float:
    target = torch.from_numpy(labels.astype(np.int64))
    return float(functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=NO_LABEL))


def _calibrated(
    network: nn.Module, books: Books, rows: dict[str, Array], labels: Array
) -> tuple[list[float], Array]:
    """Temperature by horizon from the calibration part, and the probabilities of the test part."""
    held = _thinned(len(rows["calibrate"]), CALIBRATE_ROWS)
    logits = class_logits(network, books, rows["calibrate"][held])
    temperatures = [temperature(logits[:, h].double(), labels[held, h]) for h in range(HORIZONS)]
    said = class_logits(network, books, rows["test"]) / torch.tensor(temperatures)[:, None]
    p = said.softmax(-1).numpy().reshape(-1, HORIZONS, CLASSES)
    return temperatures, p


def temperature(logits: Tensor, labels: Array) -> float:
    """What the logits [n, CLASSES] are to be divided by for the least log loss; 1 without a label."""
    known = labels != NO_LABEL
    if not known.any():
        return 1.0
    mine, target = logits[torch.from_numpy(known)].clone(), torch.from_numpy(labels[known].astype(np.int64))
    log_t = torch.zeros(1, dtype=mine.dtype, requires_grad=True)
    method = torch.optim.LBFGS([log_t], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        method.zero_grad()
        loss = functional.cross_entropy(mine * torch.exp(-log_t), target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    method.step(closure)  # type: ignore[no-untyped-call]
    return float(torch.exp(log_t.detach()))


def _facts(found: Fit, books: Books, train_rows: int, temperatures: list[float]) -> dict[str, Any]:
    return {
        "params": sum(p.numel() for p in found.network.parameters()),
        "levels": books.levels,
        "window": WINDOW,
        "train_rows": train_rows,
        "trained_windows": found.windows,
        "train_seconds": round(found.seconds, 1),
        "train_events_per_s": round(found.windows / found.seconds),
        "train_events_per_cpu_s": round(found.windows / found.cpu_seconds),
        "calibration_losses": [round(loss, 5) for loss in found.losses],
        "temperature": [round(t, 4) for t in temperatures],
    }
