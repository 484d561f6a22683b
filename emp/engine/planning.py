"""A planner in an engine: a rule of its own kind, and who switches it off and on by the time that its searches take.

    rule = PlannedRule(artifact, budget_ms=0.5)
    rule.attach(engine)
    watch = PlannerWatch(rule)                     # live: what a replay is told by the ledger
    change = watch.look()                          # after every batch: None, or on and why

A search goes to a fixed depth, so no decision depends on the machine's pace; the watch looks at how long searches took
(`plan.breaker`), and what it finds is a control input, recorded before it is applied. Without the planner the ordinary
rule decides.
"""

from typing import NamedTuple

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.own import Rule
from emp.plan import rule as _rule  # noqa: F401  the decision port must know it
from emp.plan.artifact import PlannerArtifact
from emp.plan.breaker import BREACHES, WINDOW, count_search, new_breaker
from emp.plan.planner import ACT, KEPT, OFF, PROBE, Planner, planner

BUDGET_MS = 0.5
"""Of a search: the upper end of the roadmap's 0.3 to 0.5 ms."""

WARMUP_EVENTS = 512
"""Visible events after a reset before a planner chooses: those before which nothing was learned from."""


class PlannedRule(Rule):
    """A planner's artifact as a rule; what is not said here is as of any rule."""

    def __init__(
        self, artifact: PlannerArtifact, budget_ms: float = BUDGET_MS, depth: int | None = None
    ) -> None:
        """`depth` of the search: the artifact's own where none is given.

        Raises:
            UsageError: the budget is not above 0.
        """
        if not budget_ms > 0.0:
            raise UsageError(f"a planner's budget of {budget_ms:g} ms: more than 0")
        self.artifact, self.budget_ms = artifact, budget_ms
        self.depth = artifact.manifest.depth if depth is None else depth
        self.name = "planner" if artifact.passed else "planner (candidate)"
        self.hash, self.values = artifact.hash, ""
        self.compiled, self.memory = True, None
        self.planner: Planner | None = None
        self._on = True  # as the newest control input has it
        self._model = ""

    def fresh(self) -> "PlannedRule":
        """The same planner, with nothing remembered."""
        return PlannedRule(self.artifact, self.budget_ms, self.depth)

    @property
    def failed(self) -> bool:
        """Never: a search cannot."""
        return False

    @property
    def resumable(self) -> bool:
        """A checkpoint holds all that it remembers."""
        return True

    @property
    def deciding(self) -> bool:
        """Whether it decides now."""
        return self.planner is not None and bool((self.planner.seat["mode"] == ACT).all())

    def attach(self, engine: Engine) -> None:
        """Let the planner decide for an engine, from the next event on.

        Raises:
            UsageError: another model forecasts than the one that it was trained on.
        """
        manifest, served = self.artifact.manifest, engine.model.artifact.hash
        self.refuse_other(served)
        if self.planner is None:
            self.planner = planner(
                engine.desk.costs,
                engine.desk.state,
                self.artifact.transition(),
                self.artifact.centre,
                self.artifact.spread,
                depth=self.depth,
                step=manifest.step,
                warmup=WARMUP_EVENTS,
            )
        self._model = served
        engine.attach_rule(self.planner, self)

    def refuse_other(self, model: str) -> None:
        """UsageError where the model of a hash is not the one on whose forecasts it was trained."""
        trained = self.artifact.manifest.model
        if trained != model:
            raise UsageError(
                f"the planner was trained on the forecasts of model {trained[:12]}, and {model[:12]} serves: name"
                " that model, or train a planner with --model"
            )

    def serves(self, model: str) -> None:
        """Another model's forecasts are none that it knows: while that one serves the rule decides."""
        self._model = model
        self._set_mode()

    def heard(self, *, on: bool) -> None:
        """Decide from the next event on, or search unheard."""
        self._on = on
        self._set_mode()

    def _set_mode(self) -> None:
        if self.planner is not None:
            known = self._model == self.artifact.manifest.model
            self.planner.seat["mode"] = OFF if not known else ACT if self._on else PROBE

    def state(self) -> dict[str, Array]:
        """What a checkpoint keeps of it."""
        return {} if self.planner is None else {"planner": self.planner.seat}

    def check(self) -> None:
        """Nothing can have failed."""


class Switch(NamedTuple):
    """What follows from the time that searches took."""

    on: bool
    why: str


class PlannerWatch:
    """Looks at how long searches took; one thread's, that of the engine."""

    def __init__(self, rule: PlannedRule) -> None:
        self._rule = rule
        self._breaker = new_breaker(int(rule.budget_ms * 1e6))
        self._seen = 0
        self.slowest_us = 0.0  # of the searches looked at last
        count_search(self._breaker[0], 0)  # compile now, not on the first event
        self._breaker["seen"] = 0

    @property
    def opened(self) -> int:
        """How often it went off."""
        return int(self._breaker["opened"][0])

    def look(self) -> Switch | None:
        """Whether the planner goes off or on, from the durations since the last look; more than KEPT are the newest."""
        made = self._rule.planner
        if made is None:
            return None
        count = int(made.took[KEPT])
        new = range(max(self._seen, count - KEPT), count)
        self._seen = count
        found: Switch | None = None
        for k in new:
            took = int(made.took[k % KEPT])
            self.slowest_us = took / 1e3
            found = self._switch(count_search(self._breaker[0], took), took) or found
        if self._breaker["open"][0] and self._breaker["waiting"][0]:
            made.seat["pause"] = self._breaker["waiting"][0]
            self._breaker["waiting"] = 0
        return found

    def _switch(self, change: int, took_ns: int) -> Switch | None:
        budget = self._rule.budget_ms
        if change > 0:
            return Switch(
                False,
                f"{BREACHES} searches within {WINDOW:,} took longer than {budget:g} ms,"
                f" the last {took_ns / 1e6:.3f} ms",
            )
        return Switch(True, f"searches take less than half of {budget:g} ms again") if change < 0 else None
