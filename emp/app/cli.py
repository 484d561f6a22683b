"""`emp`: one entry point. Commands live in `emp/app/commands/`, one module each, imported when called."""

import difflib
import errno
import importlib
import os
import pkgutil
import re
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from emp.app.terminal.helped import lay_out, narrow_columns
from emp.app.terminal.json_alone import json_alone
from emp.core.errors import EmpError, UsageError
from emp.core.extras import missing_extra
from emp.core.platform import mute, open_standard_streams, say, unsupported
from emp.version import __version__

COMMANDS = "emp.app.commands"
HELP = ["-h", "--help"]

CANNOT_WRITE = 74
"""Exit code where the output cannot be written, as of sysexits.h (EX_IOERR)."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it; Typer turns an interrupt into it without a word."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
)
"""Why a system refuses a file that was named: no fault of the code that asked for it."""

# Typer carries its own click; its base of all command-line errors has no public name of its own.
CommandLineError: Any = typer.BadParameter.__mro__[2]


class LazyGroup(TyperGroup):
    """Finds commands by module name and imports only the one that is called.

    A command module defines `app`, a `typer.Typer` with one command (then that command is the module's) or
    several (then they are sub-commands), and its docstring's first line is the command's help; a module without
    `app` serves other modules and is no command. `package` is where the modules lie; a group of commands
    (`emp bench …`) subclasses with another package. A package with PANELS has its commands listed in their order,
    under their titles.
    """

    package = COMMANDS

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        lay_out(self)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all command modules: those of PANELS in their order, then others, sorted."""
        package = importlib.import_module(self.package)
        names = {m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__)}
        listed = [name for panel in self._panels().values() for name in panel if name in names]
        return listed + sorted(names.difference(listed))

    def _panels(self) -> dict[str, tuple[str, ...]]:
        panels: dict[str, tuple[str, ...]] = getattr(importlib.import_module(self.package), "PANELS", {})
        return panels

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command's module and build its command."""
        if cmd_name not in self.list_commands(ctx):
            return self._mistyped(ctx, cmd_name)
        module = importlib.import_module(f"{self.package}.{cmd_name.replace('-', '_')}")
        if not hasattr(module, "app"):
            return None
        command: Any = typer.main.get_command(module.app)
        command.name = cmd_name
        command.rich_help_panel = next(
            (title for title, names in self._panels().items() if cmd_name in names), None
        )
        # Typer adds these to every app that it builds; they would install the completion of a sub-command.
        command.params = [
            p for p in command.params if p.name not in ("install_completion", "show_completion")
        ]
        command.context_settings["help_option_names"] = HELP
        if not command.help:
            command.help = (module.__doc__ or "").strip().splitlines()[0]
        lay_out(command)
        return command

    def _mistyped(self, ctx: Any, cmd_name: str) -> None:
        """Name the command that was meant, where there is one close enough; else the usual line follows."""
        meant = difflib.get_close_matches(cmd_name, self.list_commands(ctx), 1)
        if meant:
            raise UsageError(f"No such command {cmd_name!r}: did you mean {ctx.command_path} {meant[0]}?")


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"emp {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say which release this is."),
    ] = False,
) -> None:
    """EMP / Alphatrade: reads a market, forecasts it, trades only when the edge after costs is positive."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line; a user's mistake ends in one line on stderr and a non-zero exit.

    So does an optional package that is missing, a working folder that is gone, a file that the system refuses, and an
    output that cannot be written.
    A reader that has seen enough (`emp instruments | head -1`) is no mistake: nothing is said, and the exit code is
    1, as click has it.
    """
    if unsupported():
        _end(2, unsupported())
    open_standard_streams()
    try:
        with json_alone("--json" in (sys.argv if argv is None else argv)):
            code = app(args=argv, standalone_mode=False, prog_name="emp", terminal_width=narrow_columns())
        sys.stdout.flush()
    except EmpError as error:
        _end(error.exit_code, str(error))
    except (typer.Abort, KeyboardInterrupt):
        _end(INTERRUPTED, "interrupted")
    except CommandLineError as error:
        _end(error.exit_code, _with_meant(error.format_message()))
    except ModuleNotFoundError as error:
        line = missing_extra(error.name or "")
        if not line:
            raise
        _end(2, line)
    except BrokenPipeError:
        mute(sys.stdout)
        _end(1)
    except OSError as error:
        if _is_nowhere():
            _end(2, "the folder that this was called in is gone: cd to one that is there")
        why = (error.strerror or str(error)).lower()
        if isinstance(error.filename, str | bytes) and error.errno in (*REFUSED, *UNWRITABLE):
            code = CANNOT_WRITE if error.errno in UNWRITABLE else 2
            _end(code, f"{os.fsdecode(error.filename)}: {why}")
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        mute(sys.stdout)
        _end(CANNOT_WRITE, f"cannot write the output: {why}")
    _end(code if isinstance(code, int) else 0, "interrupted" if code == INTERRUPTED else "")


def _with_meant(line: str) -> str:
    """Typer's line, and which of the values that it lists was meant, where one is close to what was typed."""
    line = line.replace("Value error, ", "")
    found = re.search(r"'([^']*)' is not one of (.*)", line)
    near = found and difflib.get_close_matches(found[1], re.findall(r"'([^']*)'", found[2]), 1)
    return f"{line} Did you mean {near[0]!r}?" if near else line


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _end(code: int, line: str = "") -> NoReturn:
    if line:
        say(f"emp: {line}")
    mute(sys.stderr)  # else the interpreter complains at its end about what could not be written
    sys.exit(code)
