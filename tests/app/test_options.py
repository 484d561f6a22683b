"""Options that come as one record: the command line is that of a function with as many arguments."""

from typing import Annotated, NamedTuple

import pytest
import typer
from typer.testing import CliRunner

from emp.app.options import takes_options


class Wish(NamedTuple):
    often: Annotated[list[str] | None, typer.Option(help="May be given often.")] = None
    count: Annotated[int, typer.Option(min=2, help="How many.")] = 3
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False


SEEN: list[Wish] = []


def run(*argv: str) -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    @takes_options(Wish)
    def wish(options: Wish) -> None:
        """Make a wish."""
        SEEN.append(options)

    done = CliRunner().invoke(app, argv)
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        ((), Wish()),
        (("--often", "a", "--often", "b", "--json"), Wish(["a", "b"], 3, True)),
        (("--count", "7"), Wish(count=7)),
    ],
)
def test_each_field_is_an_option(argv: tuple[str, ...], want: Wish) -> None:
    SEEN.clear()
    assert run(*argv)[0] == 0
    assert SEEN.pop() == want


def test_the_help_is_that_of_the_function_and_limits_hold() -> None:
    code, told = run("--help")
    assert code == 0
    assert "Make a wish." in told
    assert "May be given often." in told
    assert run("--count", "1")[0] != 0
