"""The configurations that come with the package, and which one a command takes where none is named."""

from pathlib import Path

from emp.core.errors import UsageError
from emp.core.numba.cache import PACKAGE

OWN = "emp.yaml"
"""What `emp init` writes, and what a command looks for in the folder it is called in."""


def examples() -> dict[str, Path]:
    """Shipped configurations by name: beside the package in a checkout, inside it where it was installed."""
    for folder in (PACKAGE / "examples", PACKAGE.parent / "examples"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if "mock" in found:
            return found
    raise UsageError(f"{PACKAGE} was installed without its examples: install it again")


def default_config() -> Path:
    """The folder's own configuration, else the built-in market's."""
    return Path(OWN) if Path(OWN).exists() else examples()["mock"]
