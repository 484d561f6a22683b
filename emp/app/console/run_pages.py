"""The runs beside this one: listed, and compared. A process of its own reads them: trading never waits for it."""

import asyncio
import os
import sys
import time
from pathlib import Path

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from emp.app.console.pages import HEADERS, asset

KEPT_S = 5.0
"""How long an answer is given again before the folders are read anew."""

READ_S = 60.0
WAIT_S = 5.0
"""How long a request waits for its answer; it asks again meanwhile. The server cuts off what begins too late."""

MOST_COMPARED = 8
MOST_READ = 4
"""Answers that are waited for at a time."""

ASK_AGAIN = 202
"""Status: what was asked for is being read."""

_log = structlog.get_logger(__name__)


class RunPages:
    """What `emp runs` says, for the page."""

    def __init__(self) -> None:
        self.folder: Path | None = None  # of all runs
        self._one_at_a_time = asyncio.Lock()
        self._reading: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._kept: dict[tuple[str, ...], tuple[float, bytes]] = {}

    async def page(self, _: Request) -> Response:
        """Answer with the page."""
        return Response(asset("runs.html"), media_type="text/html", headers=HEADERS)

    async def answer(self, request: Request) -> Response:
        """Answer with all runs, or with what the runs named in `compare` differ in, as JSON."""
        names = tuple(request.query_params.getlist("compare"))
        if self.folder is None:
            return PlainTextResponse("the run has not begun yet\n", 503, HEADERS)
        if len(names) == 1 or len(names) > MOST_COMPARED or not all(map(self._is_run, names)):
            return PlainTextResponse(f"compare two to {MOST_COMPARED} runs of the list\n", 400, HEADERS)
        if not await self._known(names):
            return PlainTextResponse("the runs are being read: ask again\n", ASK_AGAIN, HEADERS)
        _, found = self._kept[names]
        if not found:
            return PlainTextResponse("the runs cannot be read: the log says why\n", 503, HEADERS)
        return Response(found, media_type="application/json", headers=HEADERS)

    async def _known(self, names: tuple[str, ...]) -> bool:
        """Have the answer read where the one that is kept is too old; whether it is there in time."""
        if names not in self._reading and not self._fresh(names):
            if len(self._reading) >= MOST_READ:
                return False
            self._reading[names] = asyncio.create_task(self._keep(names))
        if names in self._reading:
            await asyncio.wait({self._reading[names]}, timeout=WAIT_S)
        return names in self._kept and names not in self._reading

    def _fresh(self, names: tuple[str, ...]) -> bool:
        return names in self._kept and time.monotonic() - self._kept[names][0] < KEPT_S

    async def _keep(self, names: tuple[str, ...]) -> None:
        """Read an answer, and keep it as long as no other is."""
        try:
            async with self._one_at_a_time:
                found = await self._read(names)
        except (OSError, ValueError) as error:  # no process to be had, or no answer of ours
            _log.warning("the runs cannot be read", why=str(error))
            found = b""
        finally:
            del self._reading[names]
        self._kept = {names: (time.monotonic(), found)}

    def _is_run(self, name: str) -> bool:
        """Whether it is the name of a folder that stands among the runs, and nothing else."""
        assert self.folder is not None
        return Path(name).name == name and (self.folder / name / "manifest.json").is_file()

    async def _read(self, names: tuple[str, ...]) -> bytes:
        words = [sys.executable, "-m", "emp", "runs", *names, "--runs", str(self.folder), "--json"]
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"NO_COLOR": "1"},
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), READ_S)
        except TimeoutError:
            _log.warning("the runs took too long to read", seconds=READ_S)
            return b""
        finally:
            if process.returncode is None:  # it took too long, or the server ends meanwhile
                process.kill()
                await process.wait()
        lines = out.splitlines()
        if process.returncode or not lines:
            _log.warning("the runs cannot be read", why=err.decode(errors="replace").strip()[-300:])
            return b""
        return msgspec.json.encode({**msgspec.json.decode(lines[-1]), "folder": str(self.folder)})
