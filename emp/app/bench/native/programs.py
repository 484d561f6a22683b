"""Runs the peers' programs: `PEER_DATA=FOLDER PEER_JSON=1 bin/PROGRAM …` prints one JSON line a case."""

import json
import math
import os
import subprocess
from pathlib import Path

import msgspec

from emp.core.errors import EmpError, UsageError

LIMIT_S = 600.0
"""Longest run of one program."""

ENVIRONMENT = "EMP_PEERS"


class CaseRun(msgspec.Struct, frozen=True):
    """What a program printed of one case: events per second of wall time and of its thread's CPU time."""

    per_s: float
    per_cpu_s: float
    note: str


class NotRunError(EmpError):
    """A program or one of its cases gave no figure; the message says why, in one line."""


def peers_folder(option: Path | None) -> Path | None:
    """The folder of native peers: the option, else that of EMP_PEERS where it is set; None without either."""
    named = os.environ.get(ENVIRONMENT, "")
    folder = option or (Path(named) if named else None)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{'--peers' if option else ENVIRONMENT} {folder}: no such folder")
    return folder


def run_program(folder: Path, program: str, arguments: list[str], data: Path) -> dict[str, CaseRun]:
    """Run a program on the stream files in `data`; its cases by name. Raises `NotRunError`."""
    path = folder / "bin" / program
    environment = {**os.environ, "PEER_DATA": str(data), "PEER_JSON": "1"}
    try:
        ran = subprocess.run(
            [path.resolve(), *arguments],
            capture_output=True,
            env=environment,
            check=False,
            timeout=LIMIT_S,
        )
    except OSError as error:
        raise NotRunError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except subprocess.TimeoutExpired:
        raise NotRunError(f"{path}: not done after {LIMIT_S:g} s") from None
    cases = _cases(ran.stdout)
    if not cases:
        raise NotRunError(f"{path}: {_why(ran)}")
    return cases


def _cases(printed: bytes) -> dict[str, CaseRun]:
    """The cases in a program's output; lines that are none (headings, warnings) are passed over."""
    found = {}
    for line in printed.decode(errors="replace").splitlines():
        try:
            said = json.loads(line)
            run = CaseRun(float(said["per_s"]), float(said["per_cpu_s"]), str(said["note"]))
            name = str(said["case"])
        except (ValueError, KeyError, TypeError):
            continue
        if math.isfinite(run.per_cpu_s) and math.isfinite(run.per_s) and min(run.per_s, run.per_cpu_s) > 0:
            found[name] = run
    return found


def _why(ran: "subprocess.CompletedProcess[bytes]") -> str:
    """How a run without figures ended: the last words that are no trace of the stack, and the exit status."""
    lines = [line.strip() for line in ran.stderr.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("stack backtrace", "note:", "thread '"))]
    ended = f"signal {-ran.returncode}" if ran.returncode < 0 else f"exit status {ran.returncode}"
    return f"printed no figures ({ended}{', ' + told[0][:160] if told else ''})"
