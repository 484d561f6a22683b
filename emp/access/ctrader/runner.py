"""Runs the conversations of `flows.py`: who waits for which answer, and until when."""

from collections.abc import Callable

import msgspec

from emp.access.ctrader.flows import Flow, Refused, Unanswered
from emp.access.ctrader.messages import ProtoOAVersionReq
from emp.access.ctrader.outbox import Outbox
from emp.access.ctrader.wire import Message, WireError
from emp.core.clock import Clock
from emp.core.errors import VenueError

PROBE = "alive"
"""Name of the request that only asks for a sign of life."""


class Pending(msgspec.Struct):
    """A request that waits for its answer."""

    flow: Flow
    failed: Callable[[Exception], None]
    what: str
    deadline_ns: int


class Runner:
    """The open conversations, by the name of the request that each waits on."""

    def __init__(self, out: Outbox, clock: Clock, answer_ns: int) -> None:
        self._out = out
        self._clock = clock
        self._answer_ns = answer_ns
        self._pending: dict[str, Pending] = {}
        self._asked = 0

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def deadlines(self) -> list[int]:
        """Monotonic times at which answers are overdue."""
        return [pending.deadline_ns for pending in self._pending.values()]

    def start(self, flow: Flow, failed: Callable[[Exception], None]) -> None:
        """Begin a conversation; `failed` is called with what ended it early."""
        self._step(flow, failed)

    def answer(self, name: str, message: Message) -> None:
        """Hand an answer to who waits for it; nobody may."""
        pending = self._pending.pop(name, None)
        if pending is not None:
            self._step(pending.flow, pending.failed, answer=message)

    def refuse(self, name: str, refusal: Refused) -> bool:
        """Hand a refusal to who waits for the answer; False where nobody does."""
        pending = self._pending.pop(name, None)
        if pending is not None:
            self._step(pending.flow, pending.failed, error=refusal)
        return pending is not None

    def expire(self, now: int) -> None:
        """Tell those whose answer is overdue."""
        for name in [n for n, p in self._pending.items() if p.deadline_ns <= now]:
            pending = self._pending.pop(name, None)
            if pending is not None:
                self._step(pending.flow, pending.failed, error=Unanswered(f"no answer to {pending.what}"))

    def abandon(self, reason: str) -> None:
        """The connection is gone: end all conversations."""
        pending, self._pending = self._pending, {}
        for item in pending.values():
            item.flow.close()
            item.failed(Unanswered(reason))

    def _step(
        self,
        flow: Flow,
        failed: Callable[[Exception], None],
        answer: Message | None = None,
        error: Exception | None = None,
    ) -> None:
        """Run a flow to its next request."""
        try:
            if error is not None:
                request = flow.throw(error)
            else:
                request = next(flow) if answer is None else flow.send(answer)
        except StopIteration:
            return
        except (Refused, Unanswered, VenueError, WireError) as problem:
            failed(problem)
            return
        self._asked += 1
        probe = isinstance(request, ProtoOAVersionReq)
        name = PROBE if probe else f"r{self._asked}"
        due = self._clock.monotonic_ns() + self._answer_ns
        self._pending[name] = Pending(flow, failed, type(request).__name__, due)
        self._out.put(request, name)
