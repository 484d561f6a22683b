"""Whatever reads the output: wide or narrow terminal, pipe, other locale; whatever is missing: one line."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.app.terminal.console import PIPE_COLUMNS, make_console
from emp.app.terminal.terminal import _narrow
from emp.core import extras, platform
from emp.core.extras import EXTRA_OF, install_command, missing_extra
from emp.observe.board import DecisionView, InstrumentView

ROOT = Path(__file__).resolve().parents[2]


def emp(*arguments: str, folder: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    told = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "LC_ALL", "LANG")}
    return subprocess.run(
        [sys.executable, "-m", "emp", *arguments],
        cwd=folder,
        env=told | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )


def test_init_in_a_folder_of_any_name_under_any_locale(tmp_path: Path) -> None:
    folder = tmp_path / "ein Ordner – mit Umläuten und vielen, vielen Zeichen" / ("x" * 60)
    folder.mkdir(parents=True)
    for locale, encoding in (("C", ""), ("POSIX", ""), ("C.UTF-8", ""), ("C.UTF-8", "latin-1")):
        name = str(folder / (locale + encoding))
        done = emp("init", name, LC_ALL=locale, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
        assert {p.name for p in Path(name).iterdir()} == {"emp.yaml", "examples"}
    assert str(folder / "C.UTF-8") in emp("init", str(folder / "C.UTF-8"), LC_ALL="C.UTF-8").stderr


def test_a_checkout_that_the_locale_cannot_spell_is_one_line(tmp_path: Path) -> None:
    checkout = tmp_path / "Märkte"
    checkout.mkdir()
    (checkout / "emp").symlink_to(ROOT / "emp")
    spelled_by_bytes = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in ("doctor", "--version", "instruments"):
        done = emp(command, folder=tmp_path, PYTHONPATH=str(checkout), **spelled_by_bytes)
        (line,) = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "")
        assert line.startswith("emp: Python cannot spell the folder it runs from, ")
        assert line.endswith("unset PYTHONUTF8, or set it to 1, then the same again")
    done = emp(
        "--version", folder=tmp_path, **spelled_by_bytes | {"PYTHONPATH": str(checkout), "PYTHONUTF8": "1"}
    )
    assert done.returncode == 0, done.stderr


def test_an_environment_that_the_locale_cannot_spell_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert platform.unsupported() == ""
    monkeypatch.setattr(platform.sys, "prefix", os.fsencode("/wo/änv").decode("ascii", "surrogateescape"))
    monkeypatch.setattr(platform.os, "fsencode", lambda name: name.encode("ascii", "surrogateescape"))
    assert r"the folder it runs from, '/wo/\xe4nv', in this locale" in platform.unsupported()


def test_doctor_says_where_compiled_code_will_be_kept(tmp_path: Path) -> None:
    where = tmp_path / "Zwischenablage – neu"
    done = emp("doctor", folder=tmp_path, EMP_CACHE=str(where), LC_ALL="C.UTF-8")
    assert f"kernel cache: nothing compiled in {where}" in done.stderr


def test_init_overwrites_nothing_and_takes_known_examples_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "emp.yaml").write_text("mine")
    known = "known: live, mock, mock_fix, observe, paper\n"
    for arguments, says in (([], "is left as it is"), (["--example", "nope"], known)):
        with pytest.raises(SystemExit) as ended:
            main(["init", str(tmp_path), *arguments])
        assert ended.value.code == 2
        assert says in capsys.readouterr().err
    assert (tmp_path / "emp.yaml").read_text() == "mine"
    assert not (tmp_path / "examples").exists()


def test_lines_are_whole_in_a_pipe_and_colourless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    shown = emp("instruments", "list").stdout
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == len(emp("instruments", "list", COLUMNS="400").stdout.splitlines())
    assert make_console().width == PIPE_COLUMNS


@pytest.mark.parametrize("columns", [40, 80])
def test_columns_are_followed(columns: int) -> None:
    shown = emp("instruments", "list", COLUMNS=str(columns)).stdout
    assert max(len(line) for line in shown.splitlines()) <= columns


def test_the_page_of_a_narrow_window_fits_forty_columns() -> None:
    decision = DecisionView(
        ts=0, seq=0, action="hold", reason="context_blocked", side=0, px=0, qty=0, edge_ticks=0.0,
        cost_to_take=0.0, context_mult=1.0, inventory=0, latency_ms=0.0,
    )  # fmt: skip
    one = InstrumentView(
        name="EURUSD", tick=1e-5, bid=108_123, ask=108_124, position=-12, decisions=(decision,)
    )
    assert max(map(len, _narrow(one))) <= 40


def test_a_reader_that_has_seen_enough_and_a_full_disk() -> None:
    program = f"'{sys.executable}' -m emp instruments list"
    for line, code, said in (
        (f"{program} | true; exit ${{PIPESTATUS[0]}}", 1, ""),
        (f"{program} >/dev/full", 74, "emp: cannot write the output: no space left on device\n"),
        (f"{program} >&-", 0, ""),
    ):
        done = subprocess.run(
            ["bash", "-c", line], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        assert (done.returncode, done.stderr) == (code, said), line


def test_in_a_folder_that_is_gone_commands_work_or_are_one_line(tmp_path: Path) -> None:
    program = f"mkdir gone && cd gone && rmdir ../gone && exec '{sys.executable}' -m emp"
    for words, code, said in (
        ("instruments list", 0, ""),
        ("doctor", 2, "emp: the folder that this was called in is gone: cd to one that is there"),
    ):
        done = subprocess.run(
            ["bash", "-c", f"{program} {words}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert (done.returncode, done.stderr.strip().splitlines()[-1:]) == (code, [said] if said else []), (
            words
        )
        assert "Traceback" not in done.stderr


def test_every_missing_module_has_an_extra_that_exists() -> None:
    for module, extra in EXTRA_OF.items():
        line = missing_extra(f"{module}.inner")
        assert line.startswith(f"{module} is not installed (extra {extra}): ")
    assert missing_extra("no_such_module") == ""


def test_the_command_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        extras, "requires", lambda _: ["torch<3; extra == 'train'", 'py7zr; extra == "archive"']
    )
    monkeypatch.setattr(extras.sys, "executable", "/a b/python")
    monkeypatch.setattr(extras, "find_spec", lambda _: object())
    assert install_command("train") == "'/a b/python' -m pip install 'torch<3'"
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert install_command("train") == "uv pip install --python '/a b/python' 'torch<3'"
    (tmp_path / "pipx_metadata.json").write_text("{}")
    monkeypatch.setattr(extras.sys, "prefix", str(tmp_path))
    assert install_command("archive") == "pipx inject emp-alphatrade 'py7zr'"


def test_of_an_extra_only_what_there_is_for_this_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    of_bench = ["a>=2 ; (python_version < '3') and extra == 'bench'", "b>=1,<3; extra == 'bench'"]
    of_peers = ["c==1; python_version == '2.7' and sys_platform == 'linux' and extra == 'peers'"]
    monkeypatch.setattr(extras, "requires", lambda _: ["numpy>=2", *of_bench, *of_peers])
    monkeypatch.setattr(extras.sys, "executable", "/it's/$HOME/python")
    monkeypatch.setattr(extras, "find_spec", lambda _: object())
    command = install_command("bench")
    assert shlex.split(command) == ["/it's/$HOME/python", "-m", "pip", "install", "b<3,>=1"]
    assert missing_extra("quickfix") == (
        "quickfix is not installed (extra peers): there is none of its packages for this Python and system"
    )


def test_the_command_that_init_names_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "it's $HOME; Märkte"
    said = emp("init", str(folder)).stdout
    command = said.partition(": ")[2].partition(", then")[0]
    found = subprocess.run(["bash", "-c", f"{command} && ls"], capture_output=True, text=True, cwd=tmp_path)
    assert found.stdout.split() == ["emp.yaml", "examples"], found.stderr


def test_training_without_torch_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    from emp.app.commands import train

    def without(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.ensemble")

    monkeypatch.setattr(train.time, "perf_counter", without)
    monkeypatch.setattr("emp.train.data.data.parse_series", without)
    with pytest.raises(SystemExit) as ended:
        main(["train", "--out", str(tmp_path / "x"), "--data", "GOOG=nowhere.csv"])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("emp: sklearn is not installed (extra train): ")
