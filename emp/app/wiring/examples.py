"""The configurations that come with the package, and which one a command takes where none is named."""

from pathlib import Path

from emp.core.errors import UsageError
from emp.core.numba.cache import PACKAGE
from emp.journal.files import is_there

OWN = "emp.yaml"
"""What `emp init` writes, and what a command looks for in the folder it is called in."""


def examples() -> dict[str, Path]:
    """Shipped examples by name, most of them configurations: beside the package in a checkout, else inside it."""
    for folder in (PACKAGE / "examples", PACKAGE.parent / "examples"):
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if "mock" in found:
            return found
    raise UsageError(f"{PACKAGE} was installed without its examples: install it again")


def is_configuration(path: Path) -> bool:
    """Whether an example can be run: settings of a training or gates cannot."""
    return any(line.startswith("mode:") for line in path.read_text(encoding="utf-8").splitlines())


def default_config() -> Path:
    """The folder's own configuration, else the built-in market's."""
    return Path(OWN) if is_there(Path(OWN)) else examples()["mock"]
