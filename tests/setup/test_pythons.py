"""`scripts/pythons`: no folder of tests is left out, and one that is not green is not taken for one that is."""

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
REPORT = """<testsuites><testsuite name="0ab12cd" tests="4" failures="{failures}" errors="0" skipped="2">
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


def test_every_python_that_is_promised_is_tried_with_what_is_pinned(pythons: Any) -> None:
    pinned = {kind.python for kind in pythons.KINDS if kind.packages == "pinned"}
    assert pinned == {"3.11", "3.12", "3.13", "3.14"}
    assert 'requires-python = ">=3.11,<3.15"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def one_kind(pythons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kind with two folders of tests, of which one has been run."""
    monkeypatch.setattr(pythons, "folders", lambda: ["live", "sim"])
    monkeypatch.setattr(pythons, "commit", lambda: "0ab12cd")
    (tmp_path / "newest-live.xml").write_text(REPORT.format(failures=0))
    return next(kind for kind in pythons.KINDS if kind.name == "newest")


def test_a_row_says_what_passed_of_which_commit_and_what_was_not_run(
    pythons: Any, one_kind: Any, tmp_path: Path
) -> None:
    said = "| 3.14 | the newest allowed | 0ab12cd (1 folders) | 2 | 0 | 2 | {} |\nskipped on newest: 2 (no browser)"
    assert pythons.row(one_kind, ["live"], tmp_path) == (said.format("-"), True)
    assert pythons.row(one_kind, ["live", "sim"], tmp_path) == (said.format("sim"), False)


def test_a_file_that_was_skipped_as_a_whole_says_why(pythons: Any) -> None:
    told = "('/tests/test_fix.py', 9, 'Skipped: needs quickfix')"
    one = pythons.ET.fromstring(f'<skipped message="collection skipped">{told}</skipped>')
    assert pythons.reason(one) == "needs quickfix"


@pytest.mark.parametrize("now", ["1234567", "0ab12cd+", "1234567+"])
def test_a_report_of_another_state_is_not_green(
    pythons: Any, one_kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    (tmp_path / "newest-sim.xml").write_text(REPORT.format(failures=0))
    assert pythons.row(one_kind, ["live", "sim"], tmp_path)[1]
    monkeypatch.setattr(pythons, "commit", lambda: now)
    assert not pythons.row(one_kind, ["live", "sim"], tmp_path)[1]


def test_a_failure_is_not_green(pythons: Any, one_kind: Any, tmp_path: Path) -> None:
    (tmp_path / "newest-sim.xml").write_text(REPORT.format(failures=1))
    said, green = pythons.row(one_kind, ["live", "sim"], tmp_path)
    assert (said.partition("\n")[0], green) == (
        "| 3.14 | the newest allowed | 0ab12cd (2 folders) | 3 | 1 | 4 | - |",
        False,
    )


def test_what_is_green_is_not_run_again_and_what_died_is_not_green(
    pythons: Any,
    one_kind: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(pythons, "python_of", lambda *_: Path(sys.executable))
    monkeypatch.setattr(pythons, "run_folder", lambda kind, python, name, logs: ran.append(name))
    monkeypatch.setattr(pythons.shutil, "which", lambda _: "uv")
    monkeypatch.setattr(sys, "argv", ["pythons", "newest", "--resume", "--logs", str(tmp_path)])
    assert pythons.main() == 1
    assert ran == ["sim"]
    shown = capsys.readouterr()
    assert shown.err == "newest sim: died in 0 min\n"
    assert shown.out.splitlines()[2].endswith("| 2 | 0 | 2 | sim |")
    monkeypatch.setattr(sys, "argv", ["pythons", "newest", "--table", "--logs", str(tmp_path)])
    assert (pythons.main(), ran) == (1, ["sim"])


def test_a_folder_of_tests_is_run_and_reported_with_its_commit(
    pythons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pythons, "ENVS", tmp_path)
    monkeypatch.setattr(pythons, "ROOT", tmp_path)
    (tmp_path / "tests/few").mkdir(parents=True)
    (tmp_path / "tests/few/test_few.py").write_text(
        "def test_one():\n    import warnings; warnings.warn('x')\n"
    )
    kind = pythons.KINDS[0]
    assert pythons.folders() == ["few"]
    pythons.run_folder(kind, Path(sys.executable), "few", tmp_path)
    assert pythons.read_report(tmp_path / f"{kind.name}-few.xml") == ("unknown", 0, 1, {})


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
    facts = tmp_path / "under-way/usr/lib/python3.14/_sysconfigdata__linux.py"
    facts.parent.mkdir(parents=True)
    facts.write_text("build_time_vars = {'WHEEL_PKG_DIR': '/usr/share/python-wheels/'}")
    import interpreter  # of scripts, which the fixture has put on the path

    interpreter.settle(tmp_path / "under-way/usr/bin/python3.14", tmp_path / "settled")
    told = fake.with_suffix(".told").read_text().splitlines()
    assert told[told.index("--set-interpreter") + 1] == str(tmp_path / "settled/lib64/ld-linux-x86-64.so.2")
    assert told[told.index("--set-rpath") + 1].startswith(str(tmp_path / "settled/usr/lib/"))
    assert "--force-rpath" in told
    assert f"'{tmp_path}/settled/usr/share/python-wheels/'" in facts.read_text()
