"""The console of a run: its routes, its history, its token."""

from collections.abc import Sequence
from pathlib import Path

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from emp.app.console.control import Controls
from emp.app.console.guard import LoginRequired, OwnSite, log_in
from emp.app.console.pages import index, static
from emp.app.console.refusals import Refusals
from emp.app.console.run_pages import RunPages
from emp.app.console.stream import Stream
from emp.app.console.token import new_token, write_token
from emp.observe.board import Board
from emp.observe.history import History
from emp.observe.log_tail import LogTail
from emp.observe.logs import Lines


class Console:
    """What `emp.observe.http.create_app` is given beside the board."""

    def __init__(self, board: Board, token: str = "", *, login: bool = False) -> None:
        """`token` is the owner's own, "" for one of this run's; with `login` everything needs it."""
        self._own = bool(token)
        self.token = token or new_token()
        self._login = login
        self.history = History()
        self.log = LogTail()
        board.watch(self.history.add)
        self.refusals = Refusals()
        self._controls = Controls(board, self.token, self.refusals)
        self._runs = RunPages()
        self._stream = Stream(board, self.history, self.log)
        self._path: Path | None = None

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The page, its stream and its controls."""

        async def login(request: Request) -> Response:
            return await log_in(request, self.token, self.refusals)

        return [
            Route("/", index),
            Route("/static/{name}", static),
            Route("/runs", self._runs.page),
            Route("/runs.json", self._runs.answer),
            Route("/history", self._stream.answer_history),
            Route("/events", self._stream.answer_events),
            Route("/control", self._controls.answer, methods=["POST"]),
            Route("/login", login, methods=["POST"]),
        ]

    @property
    def middleware(self) -> Sequence[Middleware]:
        """What stands before every route."""
        login = [Middleware(LoginRequired, token=self.token, refusals=self.refusals)] if self._login else []
        return [Middleware(OwnSite), *login]

    def attach(self, folder: Path) -> None:
        """Control the run of that folder, and leave the token there unless it is the owner's own."""
        self._controls.folder = folder
        self._runs.folder = folder.parent
        if not self._own:
            self._path = write_token(folder, self.token)

    def keep_log(self, stream: Lines) -> Lines:
        """A stream that writes to another and shows its newest lines on the page."""
        return self.log.over(stream)

    def address(self, url: str) -> str:
        """Where to open the page with the right to control: what follows the # never leaves the browser."""
        return url if self._own else f"{url}/#token={self.token}"

    def close(self) -> None:
        """The run has ended: its token is worth nothing any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
