"""Controls over HTTP: the requests of `emp halt` and the like through the same socket, so they are recorded alike."""

import asyncio
import time
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from emp.app.console.guard import read_body, why_refused
from emp.app.console.refusals import Refusals
from emp.app.console.stream import json_answer
from emp.core.errors import UsageError
from emp.engine.control_socket import ask
from emp.observe.board import Board
from emp.observe.trading_views import ControlView

FLAT_S = 5.0
"""How long an answer waits for what closes to have closed."""

LOOK_S = 0.002
CONTROLS = ("halt", "resume", "flatten", "kill", "stop")
CLOSING = ("flatten", "kill")


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request."""

    do: str
    reason: str = "operator"
    instrument: str = ""


class Controls:
    """Serves `/control` for the run whose folder it is given."""

    def __init__(self, board: Board, token: str, refusals: Refusals) -> None:
        self._board, self._token, self._refusals = board, token, refusals
        self.folder: Path | None = None

    async def answer(self, request: Request) -> Response:
        """Do what is asked: {"ok", "text", "flat_ms"}; `flat_ms` from the request to flat, where it closes."""
        began = time.perf_counter()
        refused = why_refused(request, self._token, self._refusals)
        if refused:
            return json_answer({"ok": False, "text": refused}, 403)
        try:
            asked = msgspec.json.decode(await read_body(request), type=Asked)
        except (ValueError, RecursionError) as error:
            return json_answer({"ok": False, "text": f"not understood: {error}"}, 400)
        if asked.do not in CONTROLS:
            return json_answer({"ok": False, "text": f"one of {', '.join(CONTROLS)}"}, 400)
        if self.folder is None:
            return json_answer({"ok": False, "text": "the run has not begun yet"}, 409)
        before = max((one.n for one in self._told()), default=0)
        try:
            text = await asyncio.to_thread(ask, self.folder, msgspec.to_builtins(asked))
        except UsageError as error:
            return json_answer({"ok": False, "text": str(error)}, 409)
        flat = asked.do in CLOSING and await self._flat(asked, before)
        return json_answer(
            {
                "ok": True,
                "text": text,
                "flat_ms": round((time.perf_counter() - began) * 1e3, 1) if flat else None,
            }
        )

    async def _flat(self, asked: Asked, before: int) -> bool:
        """Wait until the engine says that what was asked for after the control numbered `before` is flat."""
        end = time.perf_counter() + FLAT_S
        while time.perf_counter() < end:
            for one in self._told():
                same = (one.action, one.instrument) == (asked.do, asked.instrument)
                if one.n > before and same and one.flat_ms is not None:
                    return True
            await asyncio.sleep(LOOK_S)
        return False

    def _told(self) -> tuple[ControlView, ...]:
        view = self._board.view
        return () if view is None else view.controls
