"""The run that is measured: one that was started for it, or one that is under way."""

import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, Self

from emp.core.errors import EmpError, UsageError
from emp.core.usage import usage_of
from emp.engine.control_socket import NAME, ask, unserved
from emp.journal.run import RunFolder

ENDS_WITHIN_S = 120.0
ANSWER_S = 5.0


class Subject(NamedTuple):
    """A run with its process."""

    folder: RunFolder
    pid: int
    url: str
    ours: bool  # started here, and ended here

    @classmethod
    def start(cls, config: Path) -> Self:
        """Start `emp run` with a configuration; an error of its own ends this command with its words and its code."""
        command = [sys.executable, "-m", "emp", "run", "--config", str(config), "--detach", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or ["emp run ended without a word"])[-1]
            error = EmpError(said.removeprefix("emp: "))
            error.exit_code = done.returncode
            raise error
        facts = json.loads(done.stdout.strip().splitlines()[-1])
        return cls(RunFolder(facts["run_folder"]), int(facts["pid"]), str(facts["url"]), ours=True)

    @classmethod
    def attach(cls, path: Path) -> Self:
        """Find the process of a run that is under way; UsageError where there is none, or it cannot be asked."""
        folder = RunFolder(path)
        pid = _peer(path)
        if usage_of(pid) is None:
            raise UsageError(f"{path}: process {pid} may not be looked at: it is another user's")
        http: Any = (folder.manifest.get("config") or {}).get("http") or {}
        url = f"http://{http.get('host', '127.0.0.1')}:{http.get('port', 0)}"
        if _run_at(url) != folder.manifest["run"]:
            raise UsageError(f"{path}: the run does not answer at {url}: name its port in http.port")
        return cls(folder, pid, url, ours=False)

    def end(self) -> None:
        """End a run that was started here, and wait until its process has gone."""
        if not self.ours:
            return
        try:
            ask(self.folder.path, {"do": "stop", "reason": "soak"})
        except UsageError:
            return  # it has ended by itself
        deadline = time.monotonic() + ENDS_WITHIN_S
        while usage_of(self.pid) is not None:
            if time.monotonic() > deadline:
                raise EmpError(f"{self.folder.path}: pid {self.pid} did not end within {ENDS_WITHIN_S:.0f} s")
            time.sleep(0.1)


def _peer(path: Path) -> int:
    """The process behind a run's control socket."""
    if not hasattr(socket, "SO_PEERCRED"):
        raise UsageError("only Linux tells which process serves a run: start it here with --config")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ANSWER_S)
            sock.connect(str((path / NAME).resolve()))
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        raise UsageError(unserved(path)) from None
    return int(struct.unpack("3i", told)[0])


def _run_at(url: str) -> str:
    """The id of the run that answers; "" where none does."""
    try:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_S) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:  # it answers, and is not well
            with error:
                content = error.read()
        return str(json.loads(content).get("run", ""))
    except (OSError, HTTPException, ValueError, AttributeError):
        return ""
