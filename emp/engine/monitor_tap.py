"""The monitor as a tap of a live run: it finds, writes down, alarms, and hands verdicts to the loop.

Where it cannot keep up, or the model is too slow and the machine has better things to do, it begins anew behind what it
missed: its file says so, and a replay does the same.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from emp.core.contracts import Control
from emp.core.instrument import Instrument
from emp.engine.limits import EngineLimits
from emp.engine.monitor import DRIFT, Finding, Lineup, Monitor
from emp.engine.tap import Batch, Tap
from emp.engine.verdict import Verdict
from emp.journal.monitor_log import MonitorLog, line_of
from emp.observe.board import Board, DriftView

ROLLS = ("roll", "finance")
"""Kinds of lines that tell what was given to the monitor, not what it found: a roll was told, or has come."""

_log = structlog.get_logger(__name__)


class MonitorTap(Tap):
    """See the module's docstring."""

    name = "monitor"

    def __init__(
        self,
        instruments: Sequence[Instrument],
        limits: EngineLimits,
        lineup: Callable[[str], Lineup],
        log: MonitorLog,
        board: Board,
        slow: Callable[[], bool],
        verdicts: deque[Verdict],
        own_market: bool = False,
    ) -> None:
        """`lineup` gives who is compared while the model of a hash serves ("": the first), `slow` says whether the
        model that serves is too slow, `verdicts` takes what is to be acted on. In a built-in market (`own_market`), on
        which no model was trained, drift is told and nothing follows.
        """
        self._instruments, self._limits = tuple(instruments), limits
        self._lineup = lineup
        self._log, self._board = log, board
        self._slow = slow
        self._next = log.events  # event that is expected
        self._verdicts = verdicts
        self._own_market = own_market
        self.drift: dict[str, DriftView] = {}
        self.evidence: Mapping[str, float] = {}
        self.restarts = 0
        self._monitor: Monitor | None = None
        self._begin(lineup(""), log.events)

    def _begin(self, lineup: Lineup, at: int, *, kept: bool = False) -> None:
        """Begin anew before event `at`; the events since the one that was expected were not seen. With `kept`, and none
        of those, only who is compared is another.
        """
        fresh = self._monitor is None
        kept = kept and at == self._next and not self._watching.failed  # one that failed is to be found again
        self._log.begin(at, since=self._next, fresh=fresh, kept=kept, **lineup.hashes)
        self._monitor = Monitor(self._instruments, self._limits, lineup, self._monitor, kept=kept)
        self._next = at

    @property
    def _watching(self) -> Monitor:
        assert self._monitor is not None
        return self._monitor

    # --- the tap

    def on_batch(self, batch: Batch) -> None:
        """Look at events, unless the machine has no time for it."""
        if self._slow() or not len(batch.events):
            return  # the next batch shows that something is missing
        if batch.first != self._next:
            self.restarts += 1
            _log.warning("the monitor begins anew", missed=batch.first - self._next)
            self._begin(self._watching.lineup, batch.first)
        self._next = batch.first + len(batch.events)
        for finding in self._watching.take(batch.first, batch.events, batch.rows):
            self._log.write(line_of_finding(finding))
            self._tell(finding)
        self.evidence = self._watching.evidence()

    def on_control(self, control: Control, at: int) -> None:
        """Another model serves: what was found before says nothing of it. Or it is compared with others: what was found
        of it beside those who stay stands. Rolls are noted and taken.
        """
        if control.action in ROLLS:
            self._log.write(line_of_roll(control, at))
            self._watching.finance(control)
        if control.action == "swap":
            for name in ("baseline", "drift", "model"):
                self._board.clear_alarm(name)
        if control.action in ("swap", "compare"):
            lineup = self._lineup(control.reason)
            same = lineup.serving.artifact.hash == self._watching.lineup.serving.artifact.hash
            self._begin(lineup, at, kept=same and control.action == "compare")

    def on_missed(self, messages: int) -> None:
        """The next batch shows which events are missing."""

    def on_idle(self) -> None:
        """Write on."""
        self._log.flush()

    def close(self) -> None:
        """End the file."""
        self._log.close()

    # --- what follows from a finding

    def _tell(self, finding: Finding) -> None:
        if finding.kind == DRIFT:
            self._tell_drift(finding)
        elif finding.kind == "failed":
            gate = str(finding.data["gate"])
            words = f"the model does worse than it must: {gate.replace('.', ' beside ')}"
            self._decide(finding, gate, words)
        elif finding.kind == "behind":
            words = (
                "the dumb mean-reversion trader has earned more with one lot than the model, beyond chance"
            )
            self._board.raise_alarm("baseline", words)
            _log.warning(words, log_evidence=finding.data["log_evidence"])
        elif finding.kind == "earned":
            _log.warning("the challenger has proved better than the model that serves", **finding.data)

    def _tell_drift(self, finding: Finding) -> None:
        data = finding.data
        before = self.drift.get(finding.instrument)
        trained = bool(data["trained"]) and not self._own_market
        view = DriftView(
            psi={name: x for name, x in data["psi"].items() if x is not None},
            chance={name: x for name, x in data["chance"].items() if x is not None},
            drifted=tuple(data["drifted"]),
            trained=trained,
        )
        self.drift[finding.instrument] = view
        if view.drifted == (before.drifted if before else ()):
            return
        if not view.drifted:
            _log.info("the inputs look as in training again", instrument=finding.instrument)
            self._show_drift()
            return
        shown = ", ".join(_in_words(name, view, data["beyond"]) for name in view.drifted)
        _log.warning("the inputs have drifted", instrument=finding.instrument, inputs=shown, trained=trained)
        self._show_drift()
        if trained:
            self._decide(finding, DRIFT, f"{finding.instrument}: inputs do not look as in training: {shown}")

    def _show_drift(self) -> None:
        drifted = {name: one.drifted for name, one in self.drift.items() if one.drifted and one.trained}
        if drifted:
            words = "; ".join(f"{name}: {', '.join(inputs)}" for name, inputs in drifted.items())
            self._board.raise_alarm("drift", f"inputs do not look as in training: {words}")
        else:
            self._board.clear_alarm("drift")

    def _decide(self, finding: Finding, gate: str, why: str) -> None:
        _log.error("the model has failed", gate=gate, why=why)
        model = self._watching.lineup.serving.artifact.hash
        evidence = float(finding.data["log_evidence"])
        self._verdicts.append(Verdict(model, gate, finding.instrument, evidence, why))


def _in_words(name: str, view: DriftView, beyond: Sequence[str]) -> str:
    """An input that has drifted, and what says so."""
    bound = ", larger than any that is made" if name in beyond else ""
    return f"{name} (PSI {view.psi[name]:.2f}, by chance {view.chance[name]:.2f}{bound})"


def line_of_roll(control: Control, at: int) -> bytes:
    """The line that says what the monitor was told of a roll."""
    told = {
        "instrument": control.instrument,
        "ts": control.ts,
        "side": control.reason,
        "ticks": control.value,
    }
    return line_of(at, control.action, **told)


def roll_of(told: Mapping[str, Any]) -> Control:
    """The control input of which such a line tells."""
    return Control(
        action=told["kind"],
        ts=told["ts"],
        instrument=told["instrument"],
        reason=told["side"],
        value=told["ticks"],
    )


def line_of_finding(finding: Finding) -> bytes:
    """The line that a finding makes."""
    data: dict[str, Any] = dict(finding.data)
    return line_of(finding.at, finding.kind, instrument=finding.instrument, ts=finding.ts, **data)
