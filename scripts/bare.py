"""Bare systems, made by debootstrap and kept to be copied: where scripts try what a new machine would do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alone import alone, unmount_below

BASES = Path(os.environ.get("NEWCOMER_BASES", "/var/tmp/emp-newcomer"))
SUITES = {"debian-12": "bookworm", "debian-13": "trixie", "debian-sid": "sid"}
UBUNTU = {"ubuntu-22.04": "jammy", "ubuntu-24.04": "noble"}
UBUNTU_KEYS = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
UBUNTU_ARCHIVE = "http://archive.ubuntu.com/ubuntu"
UBUNTU_PARTS = "main,universe"
UBUNTU_SCRIPT = "gutsy"  # debootstrap's for all of them; Debian 12's does not know noble by name


def bare_system(system: str) -> Path:
    """The folder of a bare system, made where there is none yet; a mirror that stumbles gets three tries."""
    folder = BASES / system
    if folder.exists():
        return folder
    BASES.mkdir(parents=True, exist_ok=True)
    for attempt in range(3):
        with tempfile.TemporaryDirectory(dir=BASES) as scratch:
            made = Path(scratch) / "root"
            done = subprocess.run(debootstrap(system, made), capture_output=True, text=True)
            if done.returncode == 0:
                made.rename(folder)
                return folder
            print(f"debootstrap, try {attempt + 1}: {done.stdout.splitlines()[-1:]}", file=sys.stderr)
    raise SystemExit(f"{system} cannot be made: see above")


def debootstrap(system: str, made: Path) -> list[str | Path]:
    """The command that makes a bare system at `made`; SystemExit where its archive's keys are not at hand."""
    command: list[str | Path] = ["debootstrap", "--variant=minbase", "--include=ca-certificates"]
    if system in SUITES:
        return [*command, SUITES[system], made]
    if not UBUNTU_KEYS.exists():
        raise SystemExit(f"{UBUNTU_KEYS} is missing: apt install ubuntu-archive-keyring (Debian 13 has it)")
    command += [f"--keyring={UBUNTU_KEYS}", f"--components={UBUNTU_PARTS}"]
    return [*command, UBUNTU[system], made, UBUNTU_ARCHIVE, UBUNTU_SCRIPT]


def archives(system: str) -> str:
    """Lines for apt of what an installer names beside the archive itself: where security fixes come from."""
    if system in SUITES:
        suite = SUITES[system]
        return f"deb http://security.debian.org/debian-security {suite}-security main\n"
    parts = UBUNTU_PARTS.replace(",", " ")
    return "".join(
        f"deb {UBUNTU_ARCHIVE} {UBUNTU[system]}-{one} {parts}\n" for one in ("updates", "security")
    )


def connect(root: Path) -> None:
    """Let a copy of a bare system reach what this machine reaches: its name servers, its certificates."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # a proxy's certificate of this machine counts there as well
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/ca-certificates.crt")
    # where a package makes that file anew, it takes these in
    own = Path("/usr/local/share/ca-certificates")
    if own.is_dir():
        shutil.copytree(own, root / str(own).lstrip("/"), dirs_exist_ok=True)
    # a mirror that stands still is as good to try on
    (root / "etc/apt/apt.conf.d/99newcomer").write_text('Acquire::Check-Valid-Until "false";\n')


def copied(system: str, folder: Path) -> Path:
    """A connected copy of a bare system at `folder`."""
    subprocess.run(["cp", "-a", bare_system(system), folder], check=True)
    connect(folder)
    return folder


def in_system(root: Path, *command: str) -> None:
    """Run a command in a system as root, without questions; SystemExit with what it says where it fails."""
    told = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["chroot", root, *command], env=told, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed in {root.name}: {done.stderr.strip()}")


@contextmanager
def tried(system: str) -> Iterator[Path]:
    """A copy of a bare system to try something in, gone afterwards; what a killed try has left goes before."""
    BASES.mkdir(parents=True, exist_ok=True)
    with alone("bare_system"):
        unmount_below(BASES)
        for left in BASES.glob("try-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(dir=BASES, prefix="try-") as scratch:
            root = copied(system, Path(scratch) / "root")
            subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
            try:
                yield root
            finally:
                unmount_below(root)
