"""Debian's Pythons on a machine of another release: each runs with the C library and the others that it came with."""

import shutil
import subprocess
from pathlib import Path

from bare import BASES, copied, in_system

SYSTEMS = {"3.11": "debian-12", "3.13": "debian-13", "3.14": "debian-sid"}
"""The bare system that has each version. No release of Debian has 3.12."""
# Loaded at the start, as the system's own: what an extension asks for later must not come from this machine, whose C
# library is another.
PRELOADED = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libstdc++.so.6", "libgcc_s.so.1")


def interpreter(version: str) -> Path:
    """Debian's interpreter of a version such as "3.14", fetched where it is not kept yet (root, debootstrap, patchelf).

    Raises SystemExit, in words, where it cannot be had.
    """
    if version not in SYSTEMS:
        raise SystemExit(f"no release of Debian has Python {version}")
    folder = BASES / f"python{version}"
    python = folder / f"usr/bin/python{version}"
    if python.exists():
        return python
    missing = [command for command in ("debootstrap", "patchelf") if shutil.which(command) is None]
    if missing:
        raise SystemExit(f"Debian's Python {version} needs {' and '.join(missing)}")
    made = BASES / f"python{version}.under-way"
    shutil.rmtree(made, ignore_errors=True)
    copied(SYSTEMS[version], made)
    in_system(made, "apt-get", "update", "-qq")
    names = (f"python{version}", f"python{version}-venv", "libstdc++6")
    in_system(made, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *names)
    settle(made / f"usr/bin/python{version}", folder)
    made.rename(folder)
    return python


def settle(python: Path, root: Path) -> None:
    """Let an interpreter load everything from `root`, where its system will lie.

    The search path is the old kind (DT_RPATH), which counts for what extensions load too.
    """
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    asked = subprocess.run(
        ["patchelf", "--print-interpreter", python], capture_output=True, text=True, check=True
    )
    loader = root / asked.stdout.strip().lstrip("/")
    added = [word for name in PRELOADED for word in ("--add-needed", name)]
    where = ["--force-rpath", "--set-rpath", str(root / f"usr/lib/{machine}-linux-gnu")]
    subprocess.run(["patchelf", "--set-interpreter", loader, *where, *added, python], check=True)
    for facts in python.parent.parent.glob(f"lib/{python.name}/_sysconfigdata_*.py"):
        # the pip that its environments begin with: this machine's may be too old for it
        told = facts.read_text().replace("'WHEEL_PKG_DIR': '/usr/", f"'WHEEL_PKG_DIR': '{root}/usr/")
        facts.write_text(told)
