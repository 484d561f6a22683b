"""Which model serves a live engine: the fallback takes over from one that is too slow or has failed beside others, and
the owner may bring another artifact. Both happen between two events, and are in the ledger before the first event that
follows.

Everything runs on the engine's loop, but for the making ready of a new artifact, which has a thread of its own. A
model that has fallen back stays back: the owner says when the other may try again (`reload`).
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import structlog

from emp.core.contracts import RiskBreach
from emp.core.errors import EmpError, UsageError
from emp.core.records import Array
from emp.engine.driver import Driver
from emp.engine.guard import LatencyGuard
from emp.engine.load import LoadedModel
from emp.engine.monitor import DRIFT, LEVEL, Lineup
from emp.engine.own import Rule
from emp.engine.planning import PlannedRule, PlannerWatch, Switch
from emp.engine.serving import Ready
from emp.engine.verdict import MODEL_FAILED, OWN_CODE, Verdict
from emp.journal.swaps import Swap
from emp.model.artifact import title
from emp.observe.board import Board, ModelView, PlannerView

ALARM = "latency"

_log = structlog.get_logger(__name__)


class Reloaded(NamedTuple):
    """What came of a reload, in words; `done` is False where the model that served goes on."""

    done: bool
    words: str
    swapped: bool = False  # whether another model serves


class Models(NamedTuple):
    """What serves, what takes over where it is too slow or fails, and what it is compared with."""

    serving: LoadedModel
    standby: LoadedModel | None = None
    challenger: LoadedModel | None = None
    linear: LoadedModel | None = None  # the baseline
    role: str = "primary"  # or "fallback", where a run goes on that had fallen back
    standing: Mapping[str, str] = MappingProxyType(
        {}
    )  # by hash: candidate, approved or retired, where it matters
    closing_only: str = ""  # why nothing may be opened in this run, in words; "" where it may


class Succession:
    """See the module's docstring."""

    def __init__(
        self,
        driver: Driver,
        board: Board,
        guard: LatencyGuard,
        models: Models,
        load: Callable[[], Models] | None = None,
        rule: Rule | None = None,
        verdicts: deque[Verdict] | None = None,
    ) -> None:
        """`load` reads, checks and keeps the artifacts that the owner names now; it raises EmpError in one line.
        `rule` is the user's own that decides, `verdicts` are what the monitor says of the models that serve.
        """
        self._driver, self._engine, self._board = driver, driver.engine, board
        self._guard = guard
        self._models = models  # as the owner named them last
        self._lineups = {"": Lineup(*models[:4]), models.serving.artifact.hash: Lineup(*models[:4])}
        self._standby: Ready | None = None
        self._load = load
        self._seen = [(0, 0)] * len(driver.engine.instruments)  # seq and ts of the newest event of each
        self._role, self._why = models.role, ""
        self._gave_way = (
            ""  # hash of the model in whose place a fallback serves, where this process has seen it
        )
        self._standing = dict(models.standing)
        self._verdicts: deque[Verdict] = deque() if verdicts is None else verdicts
        self._rule = rule
        self._planner = PlannerWatch(rule) if isinstance(rule, PlannedRule) else None
        self._rule_failed = False  # and it was told
        self._swaps: Counter[str] = Counter()
        self._refused = 0

    def goes_on_behind(self, seen: Sequence[tuple[int, int]]) -> None:
        """A run goes on: seq and ts of the last event of each instrument that was decided on."""
        self._seen = list(seen)

    def warm_up(self) -> None:
        """Make what serves and what stands by ready; the first compilation of a model takes some seconds."""
        for name, standing in self._standing.items():
            _log.info("standing of a model", model=name, standing=standing)
        self._engine.warm_up()
        if self._models.standby is not None:
            self._standby = self._engine.prepare(self._models.standby)
            if self._has_failed(self._standby):
                _log.warning(
                    "what is to stand by has failed and does not", model=_named(self._models.standby)
                )
        if self._engine.table.why_not_pinned:
            _log.warning("states may be swapped out", why=self._engine.table.why_not_pinned)

    def delivered(self, instrument: int, event: Array, laps: Array) -> None:
        """Note what the engine has just dealt with; `event` is the last EVENT record it consumed."""
        self._seen[instrument] = (int(event["seq"]), int(event["ts"]))
        was_slow = self._guard.slow
        if self._guard.watch(laps):
            self._too_slow()
        elif was_slow and not self._guard.slow:
            self._board.clear_alarm(ALARM)
            _log.info("the model is fast again", model=self._engine.model.artifact.hash)

    def _too_slow(self) -> None:
        model_ms, total_ms = self._guard.p99_ms()
        limits = self._guard.limits_ms
        figures = (
            f"p99 {model_ms:.3f} ms of {limits[0]:g} in the model, {total_ms:.3f} ms of {limits[1]:g} in all: "
            f"{self._guard.breaches} of {self._guard.steps} events above"
        )
        if (ready := self._stands_by()) is not None:
            self._standby = None
            self._take_over(ready, "latency", "fallback", figures)
            return
        self._board.raise_alarm(ALARM, f"the model is too slow and nothing stands by: {figures}")
        _log.error("the model is too slow and nothing stands by", figures=figures)

    def _stands_by(self) -> Ready | None:
        """What may take over; nothing where it has failed itself: the owner says when it may serve."""
        ready = self._standby
        return None if ready is None or self._has_failed(ready) else ready

    def _has_failed(self, ready: Ready) -> bool:
        return ready.model.artifact.hash in self._engine.failed_models

    # --- what the monitor says

    def judge(self) -> str:
        """Act on what the monitor has found: what stands by takes over from a model that has failed. Where nothing
        stands by, why it has failed, in words, told once; "" else.
        """
        self._look_at_own()
        while self._verdicts:
            verdict = self._verdicts.popleft()
            if verdict.model != self._engine.model.artifact.hash:
                continue  # it does not serve any more
            ts = max(ts for _, ts in self._seen)
            breach = RiskBreach(
                reason=MODEL_FAILED,
                metric=verdict.gate,
                value=verdict.log_evidence,
                limit=-math.log(LEVEL),
                ts=ts,
                instrument=verdict.instrument,
            )
            self._driver.tell(breach)
            self._engine.failed_models.add(verdict.model)
            ready = self._stands_by()
            if ready is None or verdict.gate == DRIFT:  # what stands by sees the same inputs
                return verdict.why
            self._standby = None
            self._take_over(ready, "failed", "fallback", verdict.why)
        return ""

    @property
    def own_model_failed(self) -> bool:
        """Whether a model of the user's own serves that has failed."""
        owner = self._engine.model.owner
        return owner is not None and owner.failed

    def _look_at_own(self) -> None:
        """A model of the user's own that has failed is told of once, as the monitor tells of others."""
        serving = self._engine.model
        name = serving.artifact.hash
        if serving.owner is None or not self.own_model_failed or name in self._engine.failed_models:
            return
        why = _why_failed(serving.owner.check)
        _log.error("the model failed", error=why)
        self._verdicts.append(Verdict(name, OWN_CODE, self._engine.instruments[0].name, 0.0, why))

    # --- another artifact

    async def reload(self, *, offered: bool = False) -> Reloaded:
        """Load, check and compile in a thread what the owner names now, then swap; a model that cannot be brought
        leaves the old one serving. JournalError where the ledger cannot take the swap.

        Where it is only `offered`, a model that gave way to its fallback does not come back, nor does one that has
        failed: the owner says when.
        """
        if self._load is None:
            return Reloaded(False, "nothing names another model for this run")
        try:
            fresh, standby = await asyncio.to_thread(self._fetch, self._load)
        except Exception as error:  # trading goes on, whatever is wrong with the new artifact
            self._refused += 1
            kind = "" if isinstance(error, EmpError) else f"{type(error).__name__}: "
            _log.error("reload refused, the model that serves goes on", why=f"{kind}{error}")
            return Reloaded(False, f"refused, the model that serves goes on: {kind}{error}")
        if offered and fresh is not None and (self._has_given_way(fresh) or self._has_failed(fresh)):
            _log.warning(
                "the model that is offered stays away: the owner says when", offered=_named(fresh.model)
            )
            fresh, standby = None, self._standby
        self._standby = standby
        if fresh is None:
            _log.info("reloaded: this model serves already", model=self._engine.model.artifact.hash)
            self._compare()
            return Reloaded(True, f"{_named(self._engine.model)} serves already")
        self._take_over(fresh, "reload", "primary", "")
        return Reloaded(True, f"{_named(fresh.model)} serves from the next event on", swapped=True)

    def _has_given_way(self, ready: Ready) -> bool:
        """Whether a fallback serves in the place of a model, or may do so."""
        return self._role == "fallback" and self._gave_way in ("", ready.model.artifact.hash)

    def _fetch(self, load: Callable[[], Models]) -> tuple[Ready | None, Ready | None]:
        models, now = load(), self._engine.model.artifact.hash
        self._models = models
        self._standing |= models.standing
        same = models.serving.artifact.hash == now
        fresh = None if same else self._engine.prepare(models.serving)
        return fresh, None if models.standby is None else self._engine.prepare(models.standby)

    def _compare(self) -> None:
        """Hold the model that serves against others, where the owner names others now."""
        serving = self._engine.model
        lineup = self._lineup_of(serving)
        before = self._lineups[serving.artifact.hash]
        if lineup.hashes == before.hashes:
            return
        self._lineups[serving.artifact.hash] = lineup
        self._driver.compare(serving.artifact.hash, max(ts for _, ts in self._seen))
        _log.info("the model that serves is compared with others", **lineup.hashes)

    def _lineup_of(self, serving: LoadedModel) -> Lineup:
        """A model that serves, and who stands by and is compared as things are."""
        standby = None if self._standby is None else self._standby.model
        return Lineup(serving, standby, self._models.challenger, self._models.linear)

    # --- the swap

    def _take_over(self, ready: Ready, reason: str, role: str, why: str) -> None:
        before, after = self._engine.model.artifact, ready.model.artifact
        model_ms, total_ms = self._guard.p99_ms()
        swaps = [
            Swap(
                instrument=one.name,
                seq=seq,
                ts=ts,
                before=before.hash,
                after=after.hash,
                reason=reason,
                p99_ms=model_ms,
                total_p99_ms=total_ms,
            )
            for one, (seq, ts) in zip(self._engine.instruments, self._seen, strict=True)
        ]
        self._lineups[after.hash] = self._lineup_of(ready.model)
        self._driver.swap(ready, [swap.note for swap in swaps])
        self._guard.reset()
        self._board.clear_alarm(ALARM)
        self._role, self._why = role, why
        self._gave_way = before.hash if role == "fallback" else ""
        self._swaps[reason] += 1
        level = _log.info if reason == "reload" else _log.warning
        level(
            "another model serves",
            reason=reason,
            role=role,
            before=f"{title(before.manifest)} {before.hash[:12]}",
            after=f"{title(after.manifest)} {after.hash[:12]}",
            why=why,
        )

    def lineup(self, serving: str) -> Lineup:
        """Who is compared while the model of a hash serves; "" for the first. Callable from any thread."""
        return self._lineups[serving]

    def rule_failure(self) -> str:
        """Why the user's own rule has failed, told once; "" where it has not."""
        if self._rule is None or self._rule_failed or not self._rule.failed:
            return ""
        self._rule_failed = True
        return _why_failed(self._rule.check)

    def _planner_view(self) -> PlannerView | None:
        if self._planner is None or not isinstance(self._rule, PlannedRule):
            return None
        return PlannerView(
            on=self._rule.deciding, switched_off=self._planner.opened, search_us=self._planner.slowest_us
        )

    def planner_switch(self) -> Switch | None:
        """Whether the planner goes off or on now; None without one, and where nothing changes."""
        return None if self._planner is None else self._planner.look()

    def view(self) -> ModelView:
        """What is shown of it."""
        artifact = self._engine.model.artifact
        return ModelView(
            hash=artifact.hash,
            kind=title(artifact.manifest),
            role=self._role,
            why=self._why,
            standing=self._standing.get(artifact.hash, ""),
            rule=self._rule.name if self._rule is not None else "",
            planner=self._planner_view(),
            standby=ready.model.artifact.hash if (ready := self._stands_by()) else "",
            swaps=dict(self._swaps),
            refused=self._refused,
            slow=self._guard.slow,
            pinned=not self._engine.table.why_not_pinned,
        )


def _named(model: LoadedModel) -> str:
    return f"{title(model.artifact.manifest)} {model.artifact.hash[:12]}"


def _why_failed(check: Callable[[], None]) -> str:
    """What the user's own code, which has failed, is found to have failed with. Whatever it raised, `sys.exit()` too:
    that it wants to end is no reason to leave a position open.
    """
    try:
        check()
    except UsageError as error:
        return str(error)
    except BaseException as error:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    raise AssertionError("what has failed says why")
