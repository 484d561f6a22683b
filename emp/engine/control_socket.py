"""Where a running engine takes `emp halt` and the like: one socket in the run's folder, its owner's alone.

A request is one line of JSON, `{"do": "halt", "reason": "...", "instrument": ""}`; the answer is one line,
`{"ok": true, "text": "..."}`. What is asked for becomes a recorded control input of the run, but for `status`, which
tells how the run stands.
"""

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import structlog

from emp.core.contracts import OwnerAction
from emp.core.errors import EmpError, JournalError, UsageError
from emp.journal.held import held_by

NAME = "control.sock"
LONGEST = 100
"""Bytes that the address of a socket can have on every system, with room to spare."""

LINE = 1 << 16
"""Bytes of a request: a long reason is cut, not refused."""

REASON = 200
"""Characters of a reason: it stands in logs, alerts and status lines."""

LONGEST_ANSWER = 1 << 20
"""Bytes of an answer: how a run of many instruments stands."""

LOOK = "status"
"""What asks how the run stands; it changes nothing and is not recorded. The text of its answer is JSON."""

ANSWER_S = 5.0

ACTIONS: tuple[str, ...] = get_args(OwnerAction)

OF_THE_RUN: tuple[str, ...] = ("stop", "reload")
"""Actions that no instrument can have to itself."""

Ask = Callable[[OwnerAction, str, str], str | Awaitable[str]]
"""Called with the action, why, and the instrument (empty: all); says in words what comes of it, at once or in less than
ANSWER_S, or raises EmpError."""

_log = structlog.get_logger(__name__)


class ControlSocket:
    """Serves the socket of one run on the engine's loop."""

    def __init__(
        self, folder: Path, instruments: tuple[str, ...], ask: Ask, look: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._look = look
        self._path = folder / NAME
        self._instruments = instruments
        self._ask = ask
        self._server: asyncio.Server | None = None
        self._elsewhere: Path | None = None

    async def start(self) -> None:
        """Listen; JournalError in one line where the folder cannot hold a socket."""
        address = self._address()
        try:
            self._path.unlink(missing_ok=True)
            address.unlink(missing_ok=True)
            listening = _private_socket(address)
            self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=LINE)
            if self._elsewhere is not None:
                self._path.symlink_to(address)
        except OSError as error:
            raise JournalError(f"cannot open {self._path}: {error.strerror or error}") from error

    def _address(self) -> Path:
        """The path in the run's folder, or a short one elsewhere that it links to."""
        if len(os.fsencode(self._path.absolute())) <= LONGEST:
            return self._path.absolute()
        self._elsewhere = Path(tempfile.mkdtemp(prefix="emp-"))
        return self._elsewhere / NAME

    async def close(self) -> None:
        """Take nothing any more, and leave no file behind."""
        if self._server is None:
            return
        self._server.close()
        await self._server.wait_closed()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            if self._elsewhere is not None:
                (self._elsewhere / NAME).unlink(missing_ok=True)
                self._elsewhere.rmdir()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                line = await reader.readline()
                if not line:  # somebody looked whether anybody listens: `is_served`
                    return
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, OSError):
            _log.warning("a control request was not understood")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            action, reason, instrument = (
                _text(request.get(key, "")) for key in ("do", "reason", "instrument")
            )
        except (ValueError, AttributeError, RecursionError):
            return {"ok": False, "text": "a request is one line of JSON"}
        reason = _one_line(reason)
        if action == LOOK:
            return {"ok": True, "text": json.dumps(self._look())}
        if action not in ACTIONS:
            return {"ok": False, "text": f"unknown control {action!r}: one of {', '.join(ACTIONS)}"}
        if instrument and instrument not in self._instruments:
            known = ", ".join(self._instruments)
            return {"ok": False, "text": f"this run does not trade {instrument}: it trades {known}"}
        if instrument and action in OF_THE_RUN:
            return {
                "ok": False,
                "text": f"{action} is for the whole run, not for {instrument}: name no instrument",
            }
        try:
            told = self._ask(action, reason or "operator", instrument)  # type: ignore[arg-type]
            return {"ok": True, "text": told if isinstance(told, str) else await told}
        except EmpError as error:
            return {"ok": False, "text": str(error)}


def _private_socket(address: Path) -> socket.socket:
    """A bound socket that its owner alone may open; nothing else is made while the process's mask is another."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        made.bind(str(address))
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def _text(value: object) -> str:
    """Text that can be recorded: what a terminal's encoding could not say is a question mark."""
    return str(value).encode(errors="replace").decode()


def _one_line(reason: str) -> str:
    """A reason that no terminal obeys; it is cut, not refused: whoever wants to be flat must be."""
    return "".join(c if c.isprintable() else " " for c in reason)[:REASON].strip()


def _cut(request: Mapping[str, str]) -> dict[str, str]:
    """A request whose reason is no longer than what is kept of it, so that it fits into LINE."""
    return {**request, "reason": _one_line(_text(request["reason"]))} if "reason" in request else {**request}


def ask(folder: Path, request: Mapping[str, str]) -> str:
    """Ask the engine that runs in a folder; what it answers.

    Raises:
        UsageError: nothing runs there, or the engine refuses; one line says which.
    """
    path = folder / NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str(path.resolve() if path.is_symlink() else _short(path)))
            sock.sendall(json.dumps(_cut(request)).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.readline(LONGEST_ANSWER) or b"{}")
    except (FileNotFoundError, ConnectionRefusedError):
        raise UsageError(unserved(folder)) from None
    except PermissionError:
        raise UsageError(f"{folder}: this run belongs to another user") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: the engine does not answer: {error}") from None
    text = str(answer.get("text", ""))
    if not answer.get("ok"):
        raise UsageError(text or f"{folder}: the engine did not answer")
    return text


def unserved(folder: Path) -> str:
    """Why nobody listens in a run's folder, in one line: a first start compiles for minutes before it does."""
    pid = held_by(folder)
    if pid is None:
        return f"{folder}: no engine runs there (any more)"
    return f"{folder}: the run is starting or ending and takes no controls (pid {pid}); `kill {pid}` ends it"


def is_served(folder: Path) -> bool:
    """Whether a running engine listens in a run's folder."""
    path = folder / NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str(path.resolve() if path.is_symlink() else _short(path)))
    except OSError:
        return False
    return True


def goes_on(folder: Path) -> bool:
    """Whether a process has a run: it is served once it trades, and held while it starts, ends and tells its days."""
    return is_served(folder) or held_by(folder) is not None


def _short(path: Path) -> Path:
    """The shorter of a path's absolute and relative forms: an address of a socket has little room."""
    absolute = path.absolute()
    try:
        relative = absolute.relative_to(Path.cwd())
    except (ValueError, OSError):  # OSError: the folder that this was called in is gone
        return absolute
    return relative if len(str(relative)) < len(str(absolute)) else absolute
