"""Errors of the rooms below, which name the options of the command line, in the words of whoever calls a function."""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from emp.core.errors import DataError, EmpError

P = ParamSpec("P")
R = TypeVar("R")

ARGUMENTS = {
    "--instrument": "instrument",
    "--catalogue FILE": "catalogue=FILE",
    "--catalogue": "catalogue",
    "--mapping": "mappings=[FILE]",
    "--accept-losses": "accept_losses=True",
    "--model": "model",
    "--rule": "rule",
}
"""What an option of a command is for a function of the library."""

_OPTION = re.compile("|".join(sorted(map(re.escape, ARGUMENTS), key=len, reverse=True)))


def speaks_of_arguments(**called: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function whose errors name its arguments.

    Args:
        called: what an argument of ARGUMENTS is called in the function, where it has another name. One that the
            function does not have at all is said to be one of `emp.load`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        has = inspect.signature(function).parameters

        def argument(found: re.Match[str]) -> str:
            name = ARGUMENTS[found[0]]
            bare = name.partition("=")[0]
            name = called.get(bare, name)
            return name if bare in has or bare in called else f"{name} of emp.load"

        @wraps(function)
        def speaking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except EmpError as error:
                error.args = (_OPTION.sub(argument, str(error)), *error.args[1:])
                raise
            except OSError as error:
                raise DataError(str(error)) from error

        return speaking

    return decorate
