"""`/health` and `/metrics` over HTTP, in a thread of their own that only ever reads the board."""

import asyncio
import errno
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException

import msgspec
import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from emp.core.errors import UsageError
from emp.observe.board import Board
from emp.observe.connections import Guarded
from emp.observe.metrics import exposition, registry

ANSWER_S = 1.0
"""How long what has our port is given to say what it is."""

SEND_BUFFER = 1 << 16
"""Bytes that wait in the kernel for a slow reader: what a page has not read must not grow old there."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def create_app(
    board: Board,
    routes: Sequence[BaseRoute] = (),
    middleware: Sequence[Middleware] = (),
    *,
    any_host: bool = False,
) -> Starlette:
    """The web application: `/health`, `/metrics`, `/snapshot`, and what whoever adds a page brings.

    While it is being stopped, `app.state.ending` is true: an answer without an end must end then. Unless `any_host`, a
    request must name this machine's loopback as its host, so that a page of another site cannot read it through the
    browser.
    """
    metrics = registry(board)

    async def health(_: Request) -> Response:
        reasons = board.unhealthy()
        body: dict[str, object] = {
            "status": "unhealthy" if reasons else "ok",
            "reasons": reasons,
            "notices": board.notices(),
            "pid": os.getpid(),
        }
        if board.view is not None:
            view = board.view
            body |= {"model": view.serving, "run": view.run, "mode": view.mode, "links": view.links}
        return _json(body, 503 if reasons else 200)

    async def scrape(_: Request) -> Response:
        return Response(exposition(metrics), media_type=CONTENT_TYPE_LATEST)

    async def snapshot(_: Request) -> Response:
        return _json(board.snapshot(), 200)

    own = [Route("/health", health), Route("/metrics", scrape), Route("/snapshot", snapshot)]
    guard = [] if any_host else [Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))]
    return Starlette(routes=[*own, *routes], middleware=[*guard, *middleware])


def _json(body: object, status: int) -> Response:
    return Response(
        msgspec.json.encode(body), status, {"Cache-Control": "no-store"}, media_type="application/json"
    )


class HttpServer:
    """Serves an application from a thread; `start` returns when it answers, `stop` when it is gone."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is served."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Take the port and serve; raise UsageError with one line where the port cannot be had."""
        listener = self._listen()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # those it accepts inherit it
        self._port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http=Guarded,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="http", daemon=True)
        self._thread.start()

    def _serve(self, listener: socket.socket) -> None:
        assert self._server is not None
        with listener:
            asyncio.run(self._server.serve(sockets=[listener]))

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise UsageError(_why(error, self._host, self._port)) from None
        return listener

    def stop(self) -> None:
        """Stop serving and wait for the thread."""
        if self._server is not None and self._thread is not None:
            self._app.state.ending = True
            self._server.should_exit = True
            self._thread.join(5.0)


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"http.port: {port} on {host} is in use{_by_whom(host, port)}, or set http.port (0: any free one)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"http.port: {port} may not be opened by this user; choose one above 1023"
    return f"http.host: cannot listen on {host}:{port}: {error.strerror or error}"


def _by_whom(host: str, port: int) -> str:
    """Which run has a port, and what stops it; where it is none of ours, only that."""
    at = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
    try:
        with urllib.request.urlopen(f"http://{at}:{port}/health", timeout=ANSWER_S) as answer:
            body = answer.read()
    except urllib.error.HTTPError as unhealthy:
        with unhealthy:
            if unhealthy.code == HTTPStatus.UNAUTHORIZED:
                return " by a run that asks for a login; `emp runs` lists those here, `emp stop RUN` ends one"
            body = unhealthy.read()
    except (OSError, ValueError, HTTPException):
        body = b""
    try:
        found = msgspec.json.decode(body, type=_Health)
    except msgspec.MsgspecError:
        return " by another program; stop that"
    if not found.run:
        return f" by a run that is starting (pid {found.pid}); `kill {found.pid}` ends it"
    return f" by run {found.run} (pid {found.pid}); `emp stop {found.run}` ends it in order (or `kill {found.pid}`)"


class _Health(msgspec.Struct):
    """What one run wants to know of another."""

    pid: int
    run: str = ""
