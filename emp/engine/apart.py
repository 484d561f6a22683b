"""Compiling a model's step in a process of its own, so that the one that trades need only load the result.

Compilation holds Python's lock for a second at a time: in a thread of the trading process it would stop the loop for
as long. Loading compiled code takes some hundredths of a second.
"""

import os
import subprocess
import sys
from pathlib import Path

from emp.core.instrument import catalogue
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import load_folder

LONGEST_S = 600.0


def compile_apart(folder: Path) -> None:
    """Fill the cache of compiled code for the artifact in a folder. Where that fails, whoever uses the artifact next
    compiles it himself: slower, and as right.
    """
    subprocess.run(
        command_apart(__name__, folder.resolve()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment_apart(),
        timeout=LONGEST_S,
        check=False,
    )


def command_apart(module: str, argument: Path) -> list[str]:
    """What runs a module by this interpreter, with an absolute path as its argument."""
    return [sys.executable, "-m", module, str(argument)]


def environment_apart() -> dict[str, str]:
    """The environment in which it finds the modules that this process finds."""
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path)
    return {**os.environ, "PYTHONPATH": paths}


def main(folder: Path) -> None:
    """What the process does."""
    one = next(iter(catalogue().values()))
    Engine([one], load_folder(folder), EngineLimits(), "COMPILED").warm_up()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
