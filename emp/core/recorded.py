"""Where recorded markets are found that no command line names."""

import os
from pathlib import Path

from emp.core.numba.cache import PACKAGE


def recordings_folder() -> Path:
    """`EMP_DATA`; where that is unset or empty `../shared/data`, beside the checkout, else beside the current folder.

    Whether it is there is the caller's question.
    """
    named = os.environ.get("EMP_DATA", "")
    checkout = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path()
    return (Path(named) if named else checkout / "../shared/data").resolve()
