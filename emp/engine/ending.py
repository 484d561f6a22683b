"""How a run on a market ends: asked to, or by its first failure; and what is said of its connections meanwhile."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

import structlog

from emp.access.port import LinkState
from emp.engine.engine import Engine
from emp.observe.board import Board

TAKEN = (
    "another logon took our session: does a second engine run on this account? `emp resume` ends this alarm"
)

_log = structlog.get_logger(__name__)


class Ending:
    """The part of a run that is the same whether it trades or only observes."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._stop = asyncio.Event()
        self._failure: Exception | None = None

    def _fail(self, error: Exception) -> None:
        """Note the first failure and end: what goes wrong after it says nothing new."""
        if self._failure is None:
            self._failure = error
            self._board.raise_alarm("failure", f"failed: {error}")
            _say_failed(error)
        self._stop.set()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """A step whose failure (a lost journal) ends the run, but first lets it finish what is at hand."""
        try:
            yield
        except Exception as error:
            self._fail(error)

    async def _unless_over(self, step: Coroutine[Any, Any, None]) -> None:
        """A step of the start, broken off where the run is to end or has failed meanwhile."""
        doing = asyncio.create_task(step)
        ending = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([doing, ending], return_when=asyncio.FIRST_COMPLETED)
            if doing.done() and self._failure is None:
                doing.result()
        except Exception as error:
            _say_failed(error)
            raise
        finally:
            await cancelled(doing, ending)

    def _say_link(self, state: LinkState) -> None:
        """Log that a connection came up or went down, and keep the alarm of `/health` while it is down."""
        if state.up:
            self._board.clear_alarm(f"{state.channel} link")
            _log.info("link up", channel=state.channel)
            return
        self._board.raise_alarm(f"{state.channel} link", said_down(state))
        if state.cause == "taken":  # stays when the link is back: then it is we who took it from somebody
            self._board.raise_alarm("session", TAKEN)
            _log.error("session taken", channel=state.channel, reason=state.reason)
        _log.warning(
            "link down", channel=state.channel, reason=state.reason, cause=state.cause, attempt=state.attempt
        )


def _say_failed(error: Exception) -> None:
    _log.error("failed", error=str(error), kind=type(error).__name__)


def said_down(state: LinkState) -> str:
    """What `/health` says of a connection that is down: which, of which kind, the attempt, and the peer's own words."""
    kinds: list[str] = [state.cause] if state.cause else []
    kinds += [f"attempt {state.attempt}"] if state.attempt else []
    shown = f" ({', '.join(kinds)})" if kinds else ""
    return f"{state.channel} link down{shown}: {state.reason}"


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def left_open(engine: Engine, instruments: Iterable[int]) -> str:
    """What is held in these instruments, may still fill or is in doubt, in words; "" where nothing is."""
    orders, words = engine.orders, []
    for i in sorted(instruments):
        name = engine.instruments[i].name
        working = len(orders.open_orders(name))
        if orders.position(name) or working or engine.positions.claims.doubted(i):
            of_orders = f" and {working} orders without an answer" if working else ""
            why = engine.closing.why_not_flat(i)
            words.append(f"{name} {orders.position(name):+d}{of_orders}" + (f" ({why})" if why else ""))
    return f"left open at the venue: {', '.join(words)}" if words else ""
