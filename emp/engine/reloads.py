"""The owner brings another model while trading goes on: one such reload at a time, and what comes of it, in words."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from emp.core.errors import UsageError
from emp.engine.succession import Reloaded, Succession

RELOAD_TOLD_S = 3.0
"""How long who asks for a reload waits to be told what came of it; compiling a new kind of model takes longer."""

OFFERED = "offered from home"
"""Reason of a reload that the owner has not asked for at this run: it brings what the gates allow, and lifts no bar."""

_log = structlog.get_logger(__name__)


class Reloads:
    """Begins reloads on the loop, and tells of them."""

    def __init__(
        self,
        succession: Succession,
        surviving: Callable[[], AbstractContextManager[None]],
        trust: Callable[[], None],
    ) -> None:
        """`trust` is called once another model serves, or the owner has asked; what fails inside `surviving()` ends
        the run.
        """
        self._succession, self._surviving, self._trust = succession, surviving, trust
        self._task: asyncio.Task[Reloaded] | None = None

    @property
    def under_way(self) -> bool:
        """Whether one has begun and is not over."""
        return self._task is not None and not self._task.done()

    @property
    def tasks(self) -> "list[asyncio.Task[Reloaded]]":
        """What is to be cancelled where the run ends."""
        return [] if self._task is None else [self._task]

    def begin(self, *, offered: bool = False) -> None:
        """Begin one, unless one is under way; `offered`: the owner has not asked for it."""
        if self.under_way:
            _log.warning("reload not begun: one is under way")
            return
        self._task = asyncio.create_task(self._reload(offered))

    async def outcome(self) -> str:
        """What came of the reload that was begun, where that is known soon; UsageError where it was refused."""
        assert self._task is not None
        await asyncio.wait((self._task,), timeout=RELOAD_TOLD_S)
        if not self._task.done() or self._task.cancelled():
            return "reload: the model is being made ready; log.jsonl of the run says what comes of it"
        outcome = self._task.result()
        if not outcome.done:
            raise UsageError(f"reload: {outcome.words}")
        return f"reload: {outcome.words}"

    async def _reload(self, offered: bool) -> Reloaded:
        outcome = Reloaded(False, "the journal failed, the run ends")
        with self._surviving():
            outcome = await self._succession.reload(offered=offered)
            if outcome.done and (outcome.swapped or not offered):
                self._trust()
        return outcome  # what fails does not get out of the block
