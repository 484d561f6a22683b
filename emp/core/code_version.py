"""Which code this is: release and hash of the sources."""

import hashlib
from functools import cache

from emp.core.numba.cache import PACKAGE
from emp.version import __version__

FACTS = ("core/data", "access/recordings/formats")
"""Folders of the package whose YAML changes what a model earns or sees: other fees are other code."""


@cache
def code_version() -> str:
    """Release and hash of the package's sources, with the facts that ship beside them (fees, hours, formats): two runs
    of equal code have equal versions.
    """
    digest = hashlib.sha256()
    facts = (path for folder in FACTS for path in (PACKAGE / folder).glob("*.yaml"))
    for path in sorted([*PACKAGE.rglob("*.py"), *facts]):
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
