"""Every command and sub-command explains itself."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from emp.app.cli import app, main


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
        assert "completion" not in said, words


def test_a_module_that_only_serves_a_benchmark_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "peer-nautilus"])
    assert ended.value.code != 0
    assert "peer-nautilus" in capsys.readouterr().err
