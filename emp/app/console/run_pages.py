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
        # who asked is to ask again: when it was found, and what, once it is
        self._owed: dict[tuple[str, ...], tuple[float, bytes] | None] = {}

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
        found = await self._found(names)
        if found is None:
            return PlainTextResponse("the runs are being read: ask again\n", ASK_AGAIN, HEADERS)
        if not found:
            return PlainTextResponse("the runs cannot be read: the log says why\n", 503, HEADERS)
        return Response(found, media_type="application/json", headers=HEADERS)

    async def _found(self, names: tuple[str, ...]) -> bytes | None:
        """The answer, read anew where it is too old and nobody waits for it; None where that takes longer."""
        owed = self._owed.pop(names, None)
        if owed is not None and time.monotonic() - owed[0] < READ_S:
            return owed[1]
        at, found = self._kept.get(names, (-KEPT_S, b""))
        if names not in self._reading:
            if time.monotonic() - at < KEPT_S:
                return found
            if len(self._reading) >= MOST_READ:
                return None
            self._reading[names] = asyncio.create_task(self._keep(names))
        done, _ = await asyncio.wait({self._reading[names]}, timeout=WAIT_S)
        if done:
            return self._kept.get(names, (0.0, b""))[1]
        self._owed[names] = None
        for other in list(self._owed)[:-MOST_READ]:
            del self._owed[other]
        return None

    async def _keep(self, names: tuple[str, ...]) -> None:
        """Read an answer, and keep it as long as no other is."""
        try:
            async with self._one_at_a_time:
                found = await self._read(names)
        except Exception as error:  # whatever it is, who asks is to hear of it, and not to ask for ever
            _log.warning("the runs cannot be read", why=str(error))
            found = b""
        finally:
            del self._reading[names]
        self._kept = {names: (time.monotonic(), found)}
        if names in self._owed:
            self._owed[names] = self._kept[names]

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
