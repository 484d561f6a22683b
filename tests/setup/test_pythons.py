"""`scripts/pythons`: no folder of tests is left out, and a part that is not green is not taken for one that is."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite tests="4" failures="{failures}" errors="0" skipped="2">
<testcase name="a"><skipped message="Skipped: no browser"/></testcase>
<testcase name="b"><skipped message="Skipped: no browser"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def pythons() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "scripts"))
    loader = SourceFileLoader("pythons", str(ROOT / "scripts/pythons"))
    spec = spec_from_loader("pythons", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT / "scripts"))


def test_every_folder_of_tests_is_in_one_part(pythons: Any) -> None:
    found = sorted(folder for folders in pythons.parts().values() for folder in folders)
    assert found == sorted({f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/test_*.py")})


def test_every_python_that_is_promised_is_tried_with_what_is_pinned(pythons: Any) -> None:
    pinned = {kind.python for kind in pythons.KINDS if kind.packages == "pinned"}
    assert pinned == {"3.11", "3.12", "3.13", "3.14"}
    assert 'requires-python = ">=3.11,<3.15"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("failures", "code", "words", "good"),
    [
        (0, 0, "2 passed, 2 skipped in 1 min", True),
        (1, 1, "1 passed, 2 skipped, **1 failed** in 1 min", False),
    ],
)
def test_a_part_is_told_as_it_was(
    pythons: Any, tmp_path: Path, failures: int, code: int, words: str, good: bool
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(failures=failures))
    found = pythons.outcome(report, code, 60.0)
    assert (found.words, found.good) == (words, good)
    assert found.skipped == {"Skipped: no browser": 2}


def test_a_part_that_died_is_not_green(pythons: Any, tmp_path: Path) -> None:
    found = pythons.outcome(tmp_path / "none.xml", -11, 60.0)
    assert not found.good
    assert "-11" in found.words


def compiled(path: Path, source: str, *options: str) -> None:
    """A shared library of a few lines of C."""
    (path.parent / "source.c").write_text(source)
    named = f"-Wl,-soname,{path.name}"
    command = ["cc", "-shared", "-fPIC", named, str(path.parent / "source.c"), "-o", str(path), *options]
    subprocess.run(command, check=True)


@pytest.mark.skipif(
    os.uname().sysname != "Linux" or os.uname().machine != "x86_64" or shutil.which("cc") is None,
    reason="stand-ins for CUDA's libraries are compiled on 64-bit Linux, with cc",
)
def test_a_library_loads_without_those_of_cuda_that_it_is_linked_to(pythons: Any, tmp_path: Path) -> None:
    compiled(tmp_path / "libnccl.so.2", "int ncclSend(void) { return 7; }")
    versions = tmp_path / "versions"
    versions.write_text("libcudart.so.12 { global: cudaMalloc; };")
    of_versions = f"-Wl,--version-script={versions}"
    compiled(tmp_path / "libcudart.so.12", "int cudaMalloc(void) { return 7; }", of_versions)
    wheel = tmp_path / "libtorch_cuda.so"
    of_cuda = [str(tmp_path / name) for name in ("libnccl.so.2", "libcudart.so.12")]
    asks = "int cudaMalloc(void); int ncclSend(void); int (*first)(void) = cudaMalloc;"
    source = f"{asks} int allocate(void) {{ return first(); }} int send(void) {{ return ncclSend(); }}"
    compiled(wheel, source, *of_cuda, "-Wl,-z,now", "-Wl,-rpath,$ORIGIN")
    for name in of_cuda:
        Path(name).unlink()
    with pytest.raises(OSError, match="cannot open shared object file"):
        ctypes.CDLL(str(wheel))
    assert pythons.stand_in(tmp_path) == ["libcudart.so.12", "libnccl.so.2"]
    loaded = ctypes.CDLL(str(wheel))
    assert (loaded.allocate(), loaded.send()) == (100, 100)
    assert pythons.stand_in(tmp_path) == []


def test_torch_keeps_all_that_it_asks_for_but_cuda(pythons: Any) -> None:
    asked = [
        "filelock",
        'setuptools<82; python_version >= "3.12"',
        'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
        'cuda-bindings<14,>=13.0.3; platform_system == "Linux"',
        'triton==3.7.1; platform_system == "Linux"',
        'optree>=0.13.0; extra == "optree"',
    ]
    assert pythons.needed_beside(asked) == asked[:2]
    assert pythons.torch_requirement().startswith("torch>=")


def test_a_python_that_debian_has_not_is_said_in_a_row(
    pythons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pythons, "ENVS", tmp_path)
    monkeypatch.setattr(pythons, "uv", lambda *words: "not found" if words[:2] == ("python", "find") else "")
    (kind,) = (kind for kind in pythons.KINDS if kind.name == "3.12")
    assert pythons.python_of(kind, True, True) == "no release of Debian has Python 3.12"


def test_debians_python_is_told_to_load_all_from_where_its_system_will_lie(
    pythons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin/patchelf"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho /lib64/ld-linux-x86-64.so.2\nprintf "%s\\n" "$@" >"$0.told"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    import interpreter  # of scripts, which the fixture has put on the path

    interpreter.settle(tmp_path / "under-way/usr/bin/python3.14", tmp_path / "settled")
    told = fake.with_suffix(".told").read_text().splitlines()
    assert told[told.index("--set-interpreter") + 1] == str(tmp_path / "settled/lib64/ld-linux-x86-64.so.2")
    assert told[told.index("--set-rpath") + 1].startswith(str(tmp_path / "settled/usr/lib/"))
    assert "--force-rpath" in told
