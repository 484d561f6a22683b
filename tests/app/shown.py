"""Every command that prints tables, called in one process: python -m tests.app.shown FILE; writes exit codes to FILE.

Before what each command prints stands a line with its words, on stdout and on stderr. It is called in a folder of the
user's with recordings of its own.
"""

import json
import sys
from pathlib import Path

from emp.app.cli import main

MARK = "::"
SIMULATED = "XYZ_2020-01-02_34200000_57600000_message_2.csv"
COMMANDS: dict[str, list[str]] = {
    "run": ["run", "--seconds", "1"],
    "replay": ["replay", "GOOG_day.csv", "--instrument", "GOOG", "--model", "linear"],
    "report": ["report", "RUN"],
    "doctor": ["doctor"],
    "instruments": ["instruments"],
    "evaluate": ["evaluate", "--data", "AAPL_day.csv", "--artifact", "linear", "--no-trade"],
    "bench": ["bench", "bus", "--events", "1000", "--rounds", "1"],
    "validate": ["validate", "--only", "bus"],
    "sim": ["sim", "verify", SIMULATED],
}


def every(codes: Path) -> None:
    """Call all commands, each behind its mark."""
    found = {}
    for name, words in COMMANDS.items():
        for stream in (sys.stdout, sys.stderr):
            print(f"{MARK}{name}", file=stream, flush=True)
        given = [
            str(next(Path("runs").absolute().glob("replay-*"))) if word == "RUN" else word for word in words
        ]
        try:
            main(given)
        except SystemExit as ended:
            found[name] = ended.code
    codes.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    every(Path(sys.argv[1]))
