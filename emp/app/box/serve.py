"""The box's side: it answers until the other end is closed."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from emp.app.box.frames import OFFER, Answer, Reads, Request, Writes, hear, receive_files, say, send_files
from emp.app.box.shelf import held, of_registry, of_runs, registry_files, shelved_runs
from emp.core.errors import EmpError, UsageError
from emp.governance.exchange import take
from emp.governance.registry import Registry

Reload = Callable[[Path], list[str]]
"""Lets the runs below a folder read their model anew; says which did."""


class Box(NamedTuple):
    """What a box shows and takes."""

    runs: Path
    registry: Registry
    reload: Reload

    def serve(self, heard: Reads, said: Writes) -> None:
        """Answer every request; what cannot be answered is one line to the other side, and the last."""
        try:
            while (request := hear(heard, Request)) is not None:
                self._answer(request, heard, said)
        except EmpError as error:
            say(said, Answer(error=str(error)))

    def _answer(self, request: Request, heard: Reads, said: Writes) -> None:
        if request.ask == "have":
            say(said, Answer(names=held(self.registry.home)))
        elif request.ask == "runs":
            say(said, Answer(files=shelved_runs(self.runs)))
        elif request.ask == "send":
            self._send(request.paths, said)
        elif request.ask == "registry":
            say(said, Answer())
            send_files(said, registry_files(self.registry.home, request.paths))
        elif request.ask == "take":
            say(said, self._take(heard))
        else:
            raise UsageError(f"no such request: {request.ask[:40]!r}")

    def _send(self, paths: list[str], said: Writes) -> None:
        """Send market data; a path that leads anywhere else is refused before the first byte."""
        root = self.runs.resolve()
        for path in paths:
            if not of_runs(path) or not (root / path).resolve().is_relative_to(root):
                raise UsageError(f"{path[:80]!r} is no market data of a run")
        say(said, Answer())
        send_files(said, ((path, root / path) for path in paths))

    def _take(self, heard: Reads) -> Answer:
        """Take what comes into the registry, once all of it is here and verified; let runs see it."""
        with tempfile.TemporaryDirectory(prefix="emp-offered-") as folder:
            if shutil.disk_usage(folder).free < 4 * OFFER.total:
                raise UsageError("the box's disk has no room for an offer")
            for _ in receive_files(heard, Path(folder), of_registry, OFFER):
                pass
            taken = take(self.registry, Path(folder))
        return Answer(  # runs are asked whatever was new: an offer before this one may have been broken off
            evidence=taken.evidence,
            decisions=taken.decisions,
            models=list(taken.models),
            reloaded=self.reload(self.runs),
        )
