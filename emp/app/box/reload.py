"""Runs that serve by a registry read it again where something was offered."""

from pathlib import Path

from emp.core.errors import EmpError
from emp.engine.control_socket import NAME, ask
from emp.engine.reloads import OFFERED
from emp.journal.run import RunFolder


def reload_runs(runs: Path) -> list[str]:
    """Ask every run below a folder that goes on, and whose configuration names a registry; the names of those that
    read it again. What serves from then on is what they may serve, and no bar is lifted by it.
    """
    return [path.parent.name for path in sorted(runs.glob(f"*/{NAME}")) if _reload(path.parent)]


def _reload(run: Path) -> bool:
    try:
        if not RunFolder(run).manifest["config"]["model"].get("registry"):
            return False
        ask(run, {"do": "reload", "reason": OFFERED})
    except (EmpError, KeyError, OSError):
        return False  # it has ended, or takes no control now: the next offer asks again
    return True
