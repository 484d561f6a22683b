"""Every command and sub-command explains itself."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from emp.app.cli import app, main
from emp.app.commands import PANELS
from emp.journal.held import held

ROOT = Path(__file__).resolve().parents[2]


def paths(command: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words that lead to every group and command."""
    yield at
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from paths(below, (*at, name))


def test_every_help_page_is_shown_and_has_words_for_what_it_shows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = list(paths(typer.main.get_command(app)))
    assert {("run",), ("replay",), ("bench", "path"), ("instruments", "show")} <= set(found)
    for words in found:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0, words
        assert " ".join(("emp", *words)) in said
        assert ("completion" in said) == (words == ()), words


def test_a_list_of_commands_has_one_sentence_for_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for words in ((), ("gates",), ("bench",)):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        listed = capsys.readouterr().out.partition("Show this message")[2].splitlines()
        rows = [row.strip("│ ") for row in listed if row.startswith("│ ")][bool(not listed[0]) :]
        command = typer.main.get_command(app)
        for word in words:
            command = command.get_command(typer.Context(command), word)
        names = [n for n in command.list_commands(typer.Context(command)) if command.get_command(None, n)]
        assert [row.split()[0] for row in rows] == names, "a row each"
        assert all(". " not in row for row in rows)


def test_every_command_has_its_panel_and_every_panel_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    command = typer.main.get_command(app)
    listed = [name for names in PANELS.values() for name in names]
    shown = [n for n in command.list_commands(typer.Context(command)) if command.get_command(None, n)]  # type: ignore[attr-defined]
    assert listed == shown
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert [line[3:].partition(" ─")[0] for line in said.splitlines() if line.startswith("╭─ ")] == [
        "Options",
        *PANELS,
    ]


def test_help_loads_nothing_that_computes() -> None:
    """It is shown in a third of a second; with the compiler in it, it took one and a half."""
    for words in (["-h"], ["gates", "-h"], ["run", "-h"]):
        code = f"import sys; from emp.app.cli import main\ntry: main({words})\nexcept SystemExit: pass\n"
        code += (
            "print('loaded', *({'numba', 'numpy', 'torch', 'pyarrow'} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr == "loaded\n", words
        assert done.stdout


def test_in_a_narrow_window_help_is_narrow_and_no_name_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    command = typer.main.get_command(app)
    for words in paths(command):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        said = capsys.readouterr().out
        assert max(map(len, said.splitlines())) <= 40, words
        at, context = command, typer.Context(command)
        for word in words:
            at = at.get_command(context, word)
        for option in (o for p in at.params for o in p.opts if o.startswith("--")):
            assert option in said, (words, option)


@pytest.mark.parametrize(
    ("typed", "meant"), [("emp wat", ["watch"]), ("emp bench pa", ["path"]), ("emp run --sec", ["--seconds"])]
)
def test_what_is_typed_in_a_shell_is_completed(
    typed: str, meant: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_EMP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out.split() == meant


def test_a_module_that_only_serves_a_benchmark_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "peer-nautilus"])
    assert ended.value.code != 0
    assert "peer-nautilus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["replai"], "emp replay"), (["bench", "pth"], "emp bench path"), (["runn"], "emp run")],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], typed: list[str], meant: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.endswith(f"did you mean {meant}?\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["train", "--model", "mamba5", "--data", "x", "--out", "y"], "Did you mean 'mamba3'?"),
        (["init", "--example", "mok"], "did you mean mock?"),
        (["sim", "generate", "x", "--model", "gogo"], "did you mean goog?"),
    ],
)
def test_a_mistyped_value_is_answered_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], typed: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(typed)
    told = capsys.readouterr().err
    assert said in told
    assert "Value error" not in told
    assert told.count("\n") == 1


def completed(shell: str, words: str, folder: Path) -> list[str]:
    """What a shell is told that the last of some words may become."""
    told = {"_EMP_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    told |= {
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "emp"], cwd=folder, env=os.environ | told, capture_output=True, text=True
    )
    return re.findall(r"[^\s\"]+", done.stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_options_and_values(tmp_path: Path, shell: str) -> None:
    for name in ("mock-AB12CD34", "replay-9"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "manifest.json").touch()
    offered = [
        ("emp halt mo", []),
        ("emp runs mock-AB12CD34 re", ["replay-9"]),
        ("emp replay re", ["replay-9"]),
        ("emp sim trade --instrument GO", ["GOOG"]),
        ("emp sim generate --instrument GO", ["GOOG"]),
        ("emp kill --instrument GO", ["GOOG"]),
    ]
    for words, names in offered:
        assert set(completed(shell, words, tmp_path)) & {"mock-AB12CD34", "replay-9", "GOOG"} == set(names), (
            words
        )
    for words, want in (
        ("emp rep", "replay"),
        ("emp replay --instr", "--instrument"),
        ("emp train --model ", "mamba3"),
        ("emp init --example mock_", "mock_fix"),
        ("emp replay --instrument GO", "GOOG"),
        ("emp why mo", "mock-AB12CD34"),
    ):
        found = completed(shell, words, tmp_path)
        assert want in found, words
        assert "replay-9" not in found, words
    with held(tmp_path / "runs" / "mock-AB12CD34"):
        assert "mock-AB12CD34" in completed(shell, "emp halt mo", tmp_path)
        assert "replay-9" not in completed(shell, "emp halt re", tmp_path), "it has ended"


def test_the_release_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from emp.version import __version__

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"emp {__version__}\n"


def test_h_is_help_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["replay"], ["sim", "facts"]):
        with pytest.raises(SystemExit):
            main([*words, "-h"])
        assert "--help" in capsys.readouterr().out
