"""Command-line options that come as one record: for commands with more options than a function has arguments."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

REGISTRY_VARIABLE = "EMP_REGISTRY"
"""Names the folder of models, evidence and decisions for every command that reads or writes it."""

EVIDENCE_HELP = "Registry folder to write signed evidence to."

Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")]

Ray = Annotated[
    str,
    typer.Option(
        help="Work on a Ray cluster instead: HOST:PORT of its head, or auto on a machine of it. --jobs: workers there; "
        "0: as many as it has processors."
    ),
]

T = TypeVar("T", bound=tuple[Any, ...])
R = TypeVar("R")


def takes_options(kind: type[T]) -> Callable[[Callable[[T], R]], Callable[..., R]]:
    """Show Typer a function of one record as a function of the record's fields.

    Args:
        kind: a NamedTuple; each field is `Annotated` with its `typer.Option`; one without a default is required.

    Returns:
        A decorator for a function whose only argument is such a record; its docstring stays the command's help.
    """
    hints = get_type_hints(kind, include_extras=True)
    defaults: dict[str, Any] = getattr(kind, "_field_defaults", {})

    def decorate(function: Callable[[T], R]) -> Callable[..., R]:
        def command(**values: Any) -> R:
            return function(kind(**values))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__annotations__ = dict(hints)
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what `inspect.signature` reads
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name, inspect.Parameter.empty),
                    annotation=hint,
                )
                for name, hint in hints.items()
            ]
        )
        return command

    return decorate
