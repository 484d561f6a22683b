"""The models that `emp bench revert` trains on the simulated flow, and one day that they are looked at on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emp.core.records import Array
    from emp.engine.monitor import Finding, Lineup

OPEN_NS = 1_340_285_400_000_000_000
"""A trading day's open in New York."""
START_PX = 100_000
TRAINED_ON = 4
"""Days that each of the two models is trained and calibrated on."""
WORSE = 1.05
"""Log loss of the worsened model, in that of the model."""
SCALE = 3.0


class Drill:
    """Two trained models and the days that they are looked at on."""

    def __init__(self, events: int, seed: int) -> None:
        from emp.core.instrument import find
        from emp.engine.limits import EngineLimits

        self._events, self._seed = events, seed
        self._goog = find("GOOG")
        self._limits = EngineLimits()
        self._lineup: Lineup | None = None
        self._sharper = 1.0

    def market(self, k: int) -> "Array":
        """EVENT rows of a day; days below 0 are for training."""
        from emp.core.records import empty_events
        from emp.sim.flow.shipped import shipped_flow
        from emp.sim.world.market import Market
        from emp.sim.world.screen import Screen

        rows = empty_events(self._events)
        number = 1_000_003 * (self._seed + 1) + k
        Market(shipped_flow(), number, START_PX, OPEN_NS).run(2**62, self._events, rows=rows)
        return Screen().show(rows)[0]

    # --- models

    def train(self, folder: Path, report: Callable[[str, float], None]) -> float:
        """Train the model that serves and the one that stands by, each on days of its own, into a folder; return how
        much sharper the first must speak to be WORSE.
        """
        for k, name in enumerate(("serving", "standby")):
            self._train(folder / name, -1 - TRAINED_ON * k, report)
        self.load(folder, 1.0)
        day = self.market(-1 - 2 * TRAINED_ON)
        low, high = 1.0, 16.0
        loss = self._loss(day, 1.0)
        for _ in range(12):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._loss(day, middle) < WORSE * loss else (low, middle)
        return 0.5 * (low + high)

    def load(self, folder: Path, sharper: float) -> None:
        """Take the models that `train` has left in a folder, and what it has returned."""
        from emp.engine.load import load_folder
        from emp.engine.monitor import Lineup

        self._lineup = Lineup(load_folder(folder / "serving"), load_folder(folder / "standby"))
        self._sharper = sharper

    def _train(self, into: Path, first: int, report: Callable[[str, float], None]) -> None:
        from emp.model.artifact import save
        from emp.train.data.data import label
        from emp.train.data.table import extract_features, zero_encoder
        from emp.train.fit.fit import train_linear

        datasets = []
        for k in range(first, first - TRAINED_ON, -1):
            seen = extract_features([self.market(k)], self._goog, zero_encoder())
            name = f"day{-k}"
            files = ({"name": name, "sha256": name},)
            datasets.append(label(name, self._goog, files, seen, 0.5))
        trained = train_linear(datasets, 0.5, 0, report)
        save(into, trained.manifest, trained.tensors)

    @property
    def _compared(self) -> "Lineup":
        assert self._lineup is not None
        return self._lineup

    def _said(self, day: "Array") -> "Array":
        """What the model that serves says of a day, as the engine would record it."""
        from emp.engine.contender import Contender

        return Contender(self._compared.serving, [self._goog], self._limits).forecast(day)

    def _loss(self, day: "Array", power: float) -> float:
        """Log loss over a day of a model that speaks so much more sharply."""
        losses = [
            one.data["loss"]["shares"][0] for one in self._looks(day, sharpened(self._said(day), power))
        ]
        return float(sum(losses) / len(losses))

    def _looks(self, day: "Array", said: "Array") -> "Iterator[Finding]":
        from emp.engine.monitor import Lineup, Monitor

        alone = Monitor([self._goog], self._limits, Lineup(self._compared.serving))
        return (one for one in alone.follow(0, day, said) if one.kind == "look")

    # --- days

    def day(self, k: int) -> tuple[dict[str, int], str]:
        """What was found on an undisturbed day: the event of the first alarm of each kind, and what the model failed
        by.
        """
        from emp.engine.monitor import Monitor

        day = self.market(k)
        monitor = Monitor([self._goog], self._limits, self._compared)
        return alarms(monitor.follow(0, day, self._said(day))), monitor.failed

    def delay(self, k: int, fault: str) -> int | None:
        """Events from a fault half-way through a day to the verdict; None where it was not found."""
        from emp.engine.monitor import Monitor
        from emp.perception.state import CORE_INPUTS

        day = self.market(k)
        said = self._said(day)
        half = len(day) // 2
        spoiled = said.copy()
        if fault == "worse":
            spoiled[half:] = sharpened(said[half:], self._sharper)
        elif fault == "flipped":
            spoiled[half:] = flipped(said[half:])
        monitor = Monitor([self._goog], self._limits, self._compared)
        before = alarms(monitor.follow(0, day[:half], said[:half]))
        if fault in CORE_INPUTS:
            monitor.inputs[0].scale[CORE_INPUTS.index(fault)] = SCALE
        found = alarms(monitor.follow(half, day[half:], spoiled[half:]))
        verdict = found.get("drift" if fault in CORE_INPUTS else "failed")
        return None if verdict is None or before else verdict - half


def alarms(findings: "list[Finding]") -> dict[str, int]:
    """The event of the first alarm of each kind."""
    found: dict[str, int] = {}
    for one in findings:
        if one.kind in ("failed", "behind") or (one.kind == "drift" and one.data["drifted"]):
            found.setdefault(one.kind, one.at)
    return found


def sharpened(said: "Array", power: float) -> "Array":
    """SAID[n] whose class probabilities are raised to a power and brought to a sum of 1 again."""
    out = said.copy()
    raised = out["f"]["p"].astype(float) ** power
    out["f"]["p"] = raised / raised.sum(axis=2, keepdims=True).clip(1e-30)
    return out


def flipped(said: "Array") -> "Array":
    """SAID[n] of a model that takes up for down."""
    out = said.copy()
    out["f"]["p"] = said["f"]["p"][:, :, ::-1]
    out["f"]["mean"] = -said["f"]["mean"]
    out["f"]["q"] = -said["f"]["q"][:, :, ::-1]
    out["f"]["interval"] = -said["f"]["interval"][:, :, ::-1]
    return out
