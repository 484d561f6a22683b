"""From a wheel, in an empty folder, without a checkout, an extra or a network: init, run, doctor; each missing extra.

The wheel is built from this tree and put into an environment of its own, which sees the packages of this one but those
that an extra brings.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NamedTuple

import py7zr
import pytest

from emp.core.extras import EXTRA_OF
from emp.core.numba.cache import cache_root

ROOT = Path(__file__).resolve().parents[2]
PURELIB = Path(sysconfig.get_path("purelib"))
HIDDEN = {*EXTRA_OF, "pip", "emp", "mypy", "pytest", "hypothesis", "setuptools"}
SETTINGS = {"EMP_HTTP__PORT": "0", "EMP_WARM_UP_EVENTS": "50", "EMP_ACCESS__SPEED": "50"}
LINEAR = {"EMP_MODEL__SSM_IMPL": "linear", "EMP_MODEL__FALLBACK_IMPL": "none"}
"""Half the compiling, where there is any."""


class Installed(NamedTuple):
    """An environment with the package in it, and an empty folder to work in."""

    environment: Path
    folder: Path

    def emp(self, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        told = {k: v for k, v in os.environ.items() if not k.startswith(("EMP_", "PYTHON", "COLUMNS"))}
        told["EMP_CACHE"] = str(self.folder.parent / "cache")
        return subprocess.run(
            [self.environment / "bin/emp", *words],
            cwd=self.folder,
            env=told | SETTINGS | settings,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )


def build(folder: Path) -> Path:
    """The wheel of this tree, made without a network."""
    pytest.importorskip("hatchling", reason="hatchling is not here to build a wheel with")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def dependencies(folder: Path) -> None:
    """Links to this environment's packages, without those that extras bring."""
    folder.mkdir()
    for entry in [*PURELIB.iterdir(), *_further()]:
        plain = entry.name.partition(".")[0].partition("-")[0].lower().replace("-", "_")
        if plain not in {name.lower() for name in HIDDEN} and not entry.name.endswith(".pth"):
            link = folder / entry.name
            if not link.exists():
                link.symlink_to(entry)


def known_code(place: Path, cache: Path) -> None:
    """Give the package in its new place what is compiled of the same sources here: Numba names folders by place."""
    for home in (ROOT / "emp", *(path for path in (ROOT / "emp").rglob("*") if path.is_dir())):
        names = [
            f"{home.name}_{hashlib.sha1(str(where).encode()).hexdigest()}"
            for where in (home, place / home.relative_to(ROOT))
        ]
        for found in (cache_root() / "numba").glob(f"*/{names[0]}"):
            shutil.copytree(found, cache / "numba" / found.parent.name / names[1])


def _further() -> list[Path]:
    """Packages that the environment takes from elsewhere."""
    found = [Path(line) for file in PURELIB.glob("*.pth") for line in file.read_text().splitlines() if line]
    return [entry for place in found if place.name == "site-packages" for entry in place.iterdir()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    wheel = build(base)
    environment = base / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (place,) = environment.glob("lib/python*/site-packages")
    dependencies(base / "dependencies")
    (place / "dependencies.pth").write_text(f"{base / 'dependencies'}\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    known_code(place, base / "cache")
    script = environment / "bin/emp"
    script.write_text(f'#!/bin/sh\nexec "{environment}/bin/python" -m emp "$@"\n')
    script.chmod(0o755)
    (base / "empty").mkdir()
    return Installed(environment, base / "empty")


@pytest.fixture(scope="module")
def begun(installed: Installed) -> Installed:
    done = installed.emp("init")
    assert done.returncode == 0, done.stderr
    return installed


def test_init_starts_a_folder_with_the_examples(begun: Installed) -> None:
    names = {path.name for path in begun.folder.iterdir()}
    assert {"emp.yaml", "examples"} <= names
    assert {"mock.yaml", "live.yaml", "paper.yaml"} <= {p.name for p in (begun.folder / "examples").iterdir()}


def test_it_runs_in_that_folder(begun: Installed) -> None:
    done = begun.emp("run", "--seconds", "1", "--json", **LINEAR)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["events"] > 0
    assert (begun.folder / summary["run_folder"] / "summary.json").exists()


def test_the_doctor_finds_nothing_bad(begun: Installed) -> None:
    done = begun.emp("doctor", "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, found["bad"]) == (0, [])
    said = {one["what"]: one["found"] for one in found["findings"]}
    assert said["configuration"].startswith("emp.yaml: mode mock")
    assert "not installed" in said["extra train"]


def test_every_command_says_what_it_is_for_without_any_extra(begun: Installed) -> None:
    assert "evaluate" in begun.emp("--help").stdout
    assert begun.emp("validate", "--only", "core").returncode == 0
    assert begun.emp("sim", "generate", "x.parquet", "--events", "1000").returncode == 0


@pytest.fixture(params=["pip", "uv", "pipx"])
def maker(request: pytest.FixtureRequest, installed: Installed) -> "str":
    """What made the environment, as the environment shows it; and the words that begin its command."""
    environment = installed.environment
    python = environment / "bin/python"
    (pip,) = [next(environment.glob("lib/python*/site-packages")) / "pip.py"]
    mark = environment / "pipx_metadata.json"
    pip.unlink(missing_ok=True)
    mark.unlink(missing_ok=True)
    if request.param == "pip":
        pip.write_text("")
        return f"'{python}' -m pip install "
    if request.param == "uv":
        return f"uv pip install --python '{python}' "
    mark.write_text("{}")
    return "pipx inject emp-alphatrade "


def test_a_missing_extra_is_one_line_with_the_command_of_the_environment(
    begun: Installed, maker: str
) -> None:
    with py7zr.SevenZipFile(begun.folder / "day.7z", "w") as archive:
        archive.writestr("ts_utc,bid,ask\n", "day.csv")
    (begun.folder / "GOOG_day.csv").write_text(
        "ts_utc,bid,ask,bid_vol_m,ask_vol_m\n2026-01-05T15:00:00Z,1,2,3,4\n"
    )
    for extra, package, words in (
        ("archive", "py7zr>=", ["replay", "day.7z", "--instrument", "GOOG"]),
        ("train", "torch", ["train", "--data", "GOOG_day.csv", "--out", "model"]),
    ):
        done = begun.emp(*words)
        assert done.returncode in (2, 3), (extra, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith("emp: ")
        assert f"{maker}'" in line
        assert f"'{package}" in line, extra
    assert not (begun.folder / "model").exists()
