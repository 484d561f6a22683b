"""Optional packages: which extra brings them, and what to type for that where this package is installed."""

import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "emp-alphatrade"

EXTRA_OF = {
    "torch": "train",
    "sklearn": "train",
    "threadpoolctl": "train",
    "databento_dbn": "databento",
    "py7zr": "archive",
    "google": "ctrader",
    "openbb_core": "context",
    "gymnasium": "sim",
    "hftbacktest": "bench",
    "polars": "bench",
    "orjson": "bench",
    "simplefix": "bench",
    "onnxruntime": "onnx",
    "onnx": "onnx",
    "quickfix": "peers",
    "confluent_kafka": "kafka",
    "psycopg": "timescale",
    "redis": "redis",
    "ray": "ray",
    "importlinter": "dev",
}
"""Extra by the top-level module that it brings."""


def install_command(extra: str) -> str:
    """What installs an extra into the very environment that runs this: made by pip, uv or pipx.

    It names the packages, not the extra: so it is right wherever this one came from (an index, a wheel, a checkout).
    Those that there are not for this Python or system are left out; "" where none is left.
    """
    wanted = " ".join(f"'{one}'" for one in _requirements(extra))
    if not wanted:
        return ""
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx inject {DISTRIBUTION} {wanted}"
    if find_spec("pip") is None:
        return f"uv pip install --python {shlex.quote(sys.executable)} {wanted}"
    return f"{shlex.quote(sys.executable)} -m pip install {wanted}"


def missing_extra(module: str) -> str:
    """One line that says what is missing and how to get it; empty where no extra brings the module."""
    extra = EXTRA_OF.get(module.partition(".")[0])
    if extra is None:
        return ""
    how = install_command(extra) or "there is none of its packages for this Python and system"
    return f"{module.partition('.')[0]} is not installed (extra {extra}): {how}"


def _requirements(extra: str) -> list[str]:
    """The extra's packages with their bounds, as this package's own metadata has them for this Python and system."""
    from packaging.requirements import Requirement

    try:
        every = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        every = []
    of_extra = [
        one for one in map(Requirement, every) if f'extra == "{extra}"' in str(one.marker).replace("'", '"')
    ]
    if not of_extra:
        return [f"{DISTRIBUTION}[{extra}]"]
    return [
        f"{one.name}{one.specifier}"
        for one in of_extra
        if one.marker is None or one.marker.evaluate({"extra": extra})
    ]
