"""Optional packages: which extra brings them, and what to type for that where this package is installed."""

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
    "gymnasium": "sim",
    "hftbacktest": "bench",
    "polars": "bench",
    "orjson": "bench",
    "simplefix": "bench",
    "onnxruntime": "bench",
    "onnx": "bench",
    "quickfix": "peers",
    "importlinter": "dev",
}
"""Extra by the top-level module that it brings."""


def install_command(extra: str) -> str:
    """What installs an extra into the very environment that runs this: made by pip, uv or pipx.

    It names the packages, not the extra: so it is right wherever this one came from (an index, a wheel, a checkout).
    """
    wanted = " ".join(f"'{one}'" for one in _requirements(extra))
    if (Path(sys.prefix) / "pipx_metadata.json").exists():
        return f"pipx inject {DISTRIBUTION} {wanted}"
    if find_spec("pip") is None:
        return f"uv pip install --python {_quoted(sys.executable)} {wanted}"
    return f"{_quoted(sys.executable)} -m pip install {wanted}"


def missing_extra(module: str) -> str:
    """One line that says what is missing and how to get it; empty where no extra brings the module."""
    extra = EXTRA_OF.get(module.partition(".")[0])
    if extra is None:
        return ""
    return f"{module.partition('.')[0]} is not installed (extra {extra}): {install_command(extra)}"


def _requirements(extra: str) -> list[str]:
    """The extra's packages with their bounds, as this package's own metadata has them."""
    try:
        every = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        every = []
    found = []
    for one in every:
        package, _, marker = one.partition(";")
        if f'extra == "{extra}"' in marker.replace("'", '"'):
            found.append(package.strip())
    return found or [f"{DISTRIBUTION}[{extra}]"]


def _quoted(path: str) -> str:
    return f"'{path}'" if " " in path else path
