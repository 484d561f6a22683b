"""An event loop in virtual time: it jumps to the next timer, has no selector, and runs many processes in one.

Every handle belongs to a `Process`: the one that was running when it was made. A process that is dead runs no more, one
that is busy (a disk that takes 300 ms, SIGSTOP) runs when that is over. So an engine can be killed and started again
beside a venue that goes on, and what the loop did is a pure function of what was asked of it.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar

from emp.core.errors import EmpError
from emp.sim.chaos.network import Network, Transport, VirtualServer

T = TypeVar("T")

START_NS = 1_000_000_000
"""Monotonic time at which a world begins, so that 0 can mean never."""


class Died(BaseException):
    """The process is dead: whatever it does now does not happen. No code of the subject may catch it."""


class Process:
    """What lives and dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.busy_until_ns = 0
        self.stops: tuple[int, int] | None = None  # after so many more callbacks, for so many ns
        self.came_ns = 0  # when what it reads now had reached its host; 0 while it reads nothing
        self.transports: list[Transport] = []
        self.tasks: list[asyncio.Task[Any]] = []


class _Handle(asyncio.Handle):
    __slots__ = ("process",)
    process: Process


class _Timer(asyncio.TimerHandle):
    __slots__ = ("process",)
    process: Process


class WorldError(EmpError):
    """The world itself is broken, or has run for longer than it may."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module. `network` joins the processes; `failures` are what callbacks raised that nobody caught."""

    def __init__(self) -> None:
        self.world = Process("world")
        self.process = self.world
        self.network = Network(self)
        self.failures: list[dict[str, Any]] = []
        self.steps = 0
        self.after_step: Callable[[Process], None] | None = None
        self._now_ns = START_NS
        self._ready: deque[_Handle | _Timer] = deque()
        self._timers: list[tuple[int, int, _Timer]] = []
        self._made = 0
        self._closed = False

    # --- time and processes ---------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Virtual time as the running process sees it."""
        return max(self._now_ns, self.process.busy_until_ns)

    def time(self) -> float:
        """The same in seconds."""
        return self.now_ns / 1e9

    @contextmanager
    def inside(self, process: Process) -> Iterator[None]:
        """What is made in this block belongs to a process."""
        before, self.process = self.process, process
        try:
            yield
        finally:
            self.process = before

    def take_time(self, ns: int) -> None:
        """Let the running process be busy for so long, without giving way."""
        self.process.busy_until_ns = self.now_ns + ns

    def stop_process(self, process: Process, ns: int, after: int = 0) -> None:
        """Let a process not run for so long, as SIGSTOP does: from now on, or `after` so many more of its callbacks, so
        that it can stop between hearing something and acting on it.
        """
        process.stops = (after, ns)
        self._may_stop(process)

    def _may_stop(self, process: Process) -> None:
        if process.stops is None:
            return
        after, ns = process.stops
        if after:
            process.stops = (after - 1, ns)
        else:
            process.stops = None
            process.busy_until_ns = max(process.busy_until_ns, self._now_ns + ns)

    def kill(self, process: Process, *, host_gone: bool = False) -> None:
        """End a process at once. Its connections are reset; where its host is gone, nobody is told so."""
        process.dead = True
        for transport in tuple(process.transports):
            transport.process_died(host_gone)
        for task in process.tasks:  # nothing of it is finished in order
            _let_go(task)

    def bury(self, process: Process) -> None:
        """Let go of what a dead process was doing: its `finally` blocks run, and can reach nothing any more."""
        before, self.process = self.process, process
        running = events._get_running_loop()
        events._set_running_loop(self)  # else asyncio would make a loop of its own for what is cleaned up
        try:
            for task in process.tasks:
                if not task.done():
                    try:
                        coroutine = task.get_coro()
                        assert coroutine is not None
                        coroutine.close()
                    except (Died, Exception):
                        pass
                elif not task.cancelled():
                    task.exception()
            process.tasks.clear()
        finally:
            self.process = before
            events._set_running_loop(running)

    def run(self, main: Coroutine[Any, Any, T], until_ns: int, most_steps: int = 5_000_000) -> T:
        """Run the world's own task to its end; WorldError where that takes longer than `until_ns` of virtual time."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                if not self._ready and not self._advance():
                    raise WorldError("nothing will ever happen again")
                if self._now_ns > until_ns:
                    raise WorldError(f"the world is not over after {until_ns / 1e9:g} s")
                if self.steps > most_steps:
                    raise WorldError(f"the world is not over after {most_steps} steps")
                self._step()
            return task.result()
        finally:
            events._set_running_loop(before)

    def _advance(self) -> bool:
        """Move time to the next timer."""
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        if not self._timers:
            return False
        self._now_ns = max(self._now_ns, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now_ns:
            self._ready.append(heapq.heappop(self._timers)[2])
        return True

    def _step(self) -> None:
        handle = self._ready.popleft()
        process = handle.process
        if handle._cancelled or process.dead:
            return
        if process.busy_until_ns > self._now_ns:
            self._push(process.busy_until_ns, self._as_timer(handle, process.busy_until_ns))
            return
        self.steps += 1
        self.process = process
        handle._run()
        if process.stops is not None:
            self._may_stop(process)
        if self.after_step is not None:
            self.after_step(process)
        self.process = self.world

    def _as_timer(self, handle: _Handle | _Timer, when_ns: int) -> _Timer:
        if isinstance(handle, _Timer):
            return handle

        def later() -> None:
            if not handle._cancelled:
                handle._run()

        timer = _Timer(when_ns / 1e9, later, (), self)
        timer.process = handle.process
        return timer

    def _push(self, when_ns: int, timer: _Timer) -> None:
        self._made += 1
        heapq.heappush(self._timers, (when_ns, self._made, timer))

    def schedule(self, process: Process, when_ns: int, callback: Callable[..., object], *args: Any) -> _Timer:
        """Call back in a process at a time."""
        timer = _Timer(when_ns / 1e9, callback, args, self)
        timer.process = process
        self._push(when_ns, timer)
        return timer

    # --- what asyncio asks of a loop ------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        """Call back as soon as everything before it is done."""
        handle = _Handle(callback, args, self, context)
        handle.process = self.process
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there are no threads

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Timer:
        """Call back after so many seconds."""
        return self._call_at_ns(self.now_ns + round(max(0.0, delay) * 1e9), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Timer:
        """Call back at a time of this loop."""
        return self._call_at_ns(round(when * 1e9), callback, args, context)

    def _call_at_ns(
        self, when_ns: int, callback: Callable[..., object], args: Any, context: Context | None
    ) -> _Timer:
        timer = _Timer(when_ns / 1e9, callback, args, self, context)
        timer.process = self.process
        self._push(when_ns, timer)
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        """A task of the running process. What one that is dead makes while it is buried (its `finally` blocks, a start
        whose disk died beneath it) never runs.
        """
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        if self.process.dead:
            _let_go(task)
        self.process.tasks.append(task)
        if len(self.process.tasks) > 256:
            self.process.tasks = [one for one in self.process.tasks if not one.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Do it a millisecond later, and say so."""
        done: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except StopIteration as error:
                done.set_exception(RuntimeError(f"a job raised StopIteration: {error}"))
            except Exception as error:
                done.set_exception(error)

        self.call_later(0.001, work)
        return done

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Dial an address of the virtual network; TLS is taken for granted."""
        return await self.network.connect(self.process, protocol_factory, (str(host), int(port)))

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        """The same for a path."""
        return await self.network.connect(self.process, protocol_factory, ("unix", str(path)))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """Listen on the virtual network."""
        return self.network.listen(self.process, protocol_factory, str(host), int(port or 0))

    async def create_unix_server(  # type: ignore[override]
        self, protocol_factory: Any, path: Any = None, *, sock: Any = None, **_: Any
    ) -> VirtualServer:
        """The same for a path, or for what stands for a bound socket: its path as text."""
        return self.network.listen(self.process, protocol_factory, "unix", str(path or sock))

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether `run` has begun."""
        return True

    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody caught, unless it came from a process that is dead."""
        if not isinstance(context.get("exception"), Died) and not self.process.dead:
            self.failures.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """The same."""
        self.call_exception_handler(context)

    async def shutdown_asyncgens(self) -> None:
        """There is nothing to shut down."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is nothing to shut down."""


def _let_go(task: "asyncio.Task[Any]") -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
