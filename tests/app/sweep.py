"""Every command of the parser, with every file that it is given spoilt in every way."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import typer

from emp.app.cli import app
from tests.app.test_cli import paths

READ = {
    "adapt", "artifact", "baseline", "beside", "catalogue", "config", "copy", "data", "file", "gates", "held-out",
    "impact", "judged", "mapping", "model", "names", "peers", "planner", "public", "recording", "recordings",
    "reference", "results", "resume", "rule", "run", "settings", "statement", "surrogate", "swaps", "target",
}  # fmt: skip
"""Parameters that name what is read: a file, a folder, a run, a model."""

FILLED = {
    "instrument": "GOOG",
    "seq": "1",
    "role": "box",
    "reason": "test",
    "listen": "127.0.0.1:0",
    "name": "GOOG",
}
"""What a required parameter gets while another one is spoilt; it must not matter."""

PAIRS = {"data": "GOOG={}", "rule": "{}:rule"}
"""How a file is named where it is more than a name."""


class Spoilt(NamedTuple):
    """A command line with one file in it that will not do."""

    command: tuple[str, ...]
    parameter: str
    line: tuple[str, ...]  # `{}` stands for the file


def leaves() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    root = typer.main.get_command(app)
    for words in paths(root):
        command: Any = root
        for word in words:
            command = command.get_command(typer.Context(command), word)
        if not hasattr(command, "list_commands"):
            yield words, command


def takes_value(parameter: Any) -> bool:
    """Whether a word follows."""
    return not getattr(parameter, "is_flag", False)


def name_of(parameter: Any) -> str:
    """As it is typed, without dashes."""
    return str(parameter.opts[0]).lstrip("-")


def spoilt_lines() -> Iterator[Spoilt]:
    """A line for each command and each of its files."""
    for words, command in leaves():
        for parameter in command.params:
            if name_of(parameter) in READ and takes_value(parameter):
                yield Spoilt(words, name_of(parameter), (*words, *_arguments(command, parameter)))


def _arguments(command: Any, spoilt: Any) -> Iterator[str]:
    for parameter in command.params:
        name = name_of(parameter)
        if parameter is not spoilt and not parameter.required:
            if name == "json":
                yield "--json"
            continue
        value = PAIRS.get(name, "{}") if parameter is spoilt else FILLED.get(name, "nothing")
        if parameter.param_type_name == "argument":
            yield value
        else:
            yield from (parameter.opts[0], value)
