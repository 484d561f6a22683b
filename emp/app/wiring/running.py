"""Which runs of a folder go on now, and what their engines say of themselves: `emp status`."""

import json
from pathlib import Path
from typing import Any

from emp.core.errors import UsageError
from emp.engine.control_socket import LOOK, ask, goes_on
from emp.journal.find import run_folders


def running(runs: Path) -> list[dict[str, Any]]:
    """One record per run that goes on, as `emp.observe.brief` has it, with its `folder`; one that starts, ends or does
    not answer is not healthy, and says why in `reasons`.
    """
    return [_stands(folder) for folder in run_folders(runs) if goes_on(folder)]


def _stands(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads(ask(folder, {"do": LOOK}))
    except (UsageError, ValueError) as error:
        told = {"healthy": False, "reasons": [str(error)]}
    return {"folder": str(folder), **told}
