"""What a page is fed with: the history when it opens, and from then on server-sent events with what is new.

There is no queue per page. A page says which stamp it has; each event is made when the page is ready to take it, and
holds the newest view and what came since that stamp. One that reads slowly gets fewer events, never older ones.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from emp.app.console.pages import HEADERS
from emp.observe.board import Board, View
from emp.observe.history import History, encoded
from emp.observe.log_tail import LogTail

PERIOD_S = 0.25
"""Between two events of a page."""

LOOK_S = 0.05
"""How soon what somebody waits for is sent: the end of a control."""

MOST = 16
"""Pages at a time; connections are for others, too."""


class Stream:
    """Serves `/history` and `/events`."""

    def __init__(self, board: Board, history: History, log: LogTail) -> None:
        self._board, self._history, self._log = board, history, log
        self._pages = 0

    async def answer_history(self, request: Request) -> Response:
        """Everything kept of the instrument asked for, as JSON."""
        found = self._history.of(request.query_params.get("instrument", ""))
        if not found:
            return PlainTextResponse("no such instrument\n", 404, HEADERS)
        body = encoded(found)
        headers = {**HEADERS, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body = await asyncio.to_thread(_gzip, body)
            headers["Content-Encoding"] = "gzip"
        return Response(body, media_type="application/json", headers=headers)

    async def answer_events(self, request: Request) -> Response:
        """The stream; `Last-Event-ID`, else `after`, is the stamp that the page has."""
        if request.headers.get("Sec-Fetch-Dest", "empty") != "empty":
            return PlainTextResponse("the stream is for a page's script\n", 403, HEADERS)
        if self._pages >= MOST:
            return _full(request)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=HEADERS)
        has = request.headers.get("Last-Event-ID") or request.query_params.get("after", "")
        events = self._events(has, lambda: bool(getattr(request.app.state, "ending", False)))
        self._pages += 1
        return _Counted(self._one_less, events)

    def _one_less(self) -> None:
        self._pages -= 1

    async def _events(self, has: str, ending: Callable[[], bool]) -> AsyncIterator[bytes]:
        stamp, line = self._resumed(has)
        reset = stamp < 0
        stamp = self._history.stamp if reset else stamp
        while not ending():
            message, stamp, line = self._message(stamp, line, reset)
            yield message
            reset = False
            await self._pause(ending)
        yield b"event: end\ndata: {}\n\n"

    def _resumed(self, has: str) -> tuple[int, int]:
        """The stamp and the line of the log that a page has; stamp -1 where it must begin anew."""
        run, _, rest = has.rpartition("/")
        stamp, _, line = rest.partition(".")
        if run != self._run or not stamp.isdigit() or not line.isdigit():
            return -1, 0
        if not self._history.reaches(int(stamp)):
            return -1, 0
        return int(stamp), int(line)

    @property
    def _run(self) -> str:
        view = self._board.view
        return "" if view is None else f"{view.run}-{view.started_ns}"

    def _message(self, stamp: int, line: int, reset: bool) -> tuple[bytes, int, int]:
        view, newest = self._board.view, self._history.stamp
        log = self._log.after(line)
        body: dict[str, Any] = {
            "reset": reset,
            "reasons": self._board.unhealthy(),
            "notices": self._board.notices(),
            "view": None if view is None else slim(view),
            "since": self._history.since(stamp),
            "log": log.lines,
        }
        ident = f"{self._run}/{newest}.{log.last}"
        return b"id: " + ident.encode() + b"\ndata: " + encoded(body) + b"\n\n", newest, log.last

    async def _pause(self, ending: Callable[[], bool]) -> None:
        """Wait for the next event's time, or for something that somebody waits for."""
        controls = _controls(self._board.view)
        for _ in range(round(PERIOD_S / LOOK_S)):
            await asyncio.sleep(LOOK_S)
            if ending() or _controls(self._board.view) != controls:
                return


class _Counted(StreamingResponse):
    """A stream that says when it is over, also where its reader was gone before it began."""

    def __init__(self, over: Callable[[], None], events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=HEADERS)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def slim(view: View) -> View:
    """A view without the lists that a history tells of."""
    less = tuple(
        msgspec.structs.replace(one, decisions=(), recent_fills=(), outcomes=()) for one in view.instruments
    )
    return msgspec.structs.replace(view, instruments=less)


def _full(request: Request) -> Response:
    """Why there is no stream: an event for a page, which is told no status of a refused one; a status for others."""
    if "text/event-stream" not in request.headers.get("Accept", ""):
        return PlainTextResponse(f"too many pages are open: {MOST} at a time\n", 503, HEADERS)
    return Response(
        f'event: full\ndata: {{"most": {MOST}}}\n\n', media_type="text/event-stream", headers=HEADERS
    )


def _controls(view: View | None) -> object:
    return None if view is None else view.controls


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def json_answer(body: dict[str, Any], status: int = 200) -> Response:
    """An answer in JSON that no one keeps."""
    return Response(json.dumps(body), status, HEADERS, media_type="application/json")
