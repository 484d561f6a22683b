"""A task that pushes a market into a sink, for markets that are made or read here rather than received."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from emp.access.port import Sink


class Pump:
    """Runs `work(sink)` until it returns, fails or is stopped, and tells the sink how it ended."""

    def __init__(self, work: Callable[[Sink], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    def start(self, sink: Sink) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.create_task(self._run(sink), name="market")

    async def _run(self, sink: Sink) -> None:
        try:
            await self._work(sink)
        except Exception as error:
            sink.ended(error)
        else:
            sink.ended(None)

    async def stop(self) -> None:
        """End the task, and wait until it is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
