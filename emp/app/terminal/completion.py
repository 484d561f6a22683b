"""What a shell offers where a run, an example or an instrument is to be named."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def _offered(names: Callable[[Any], Iterable[str]]) -> Callable[[Any, str], list[str]]:
    """Typer's kind of completion: the names that begin with what stands there, in their order."""

    def complete(ctx: Any, incomplete: str) -> list[str]:
        return [name for name in names(ctx) if name.startswith(incomplete)]

    return complete


def _runs(ctx: Any) -> Iterable[str]:
    from emp.journal.find import run_folders

    try:
        return [folder.name for folder in reversed(run_folders(Path(ctx.params.get("runs") or "runs")))]
    except OSError:
        return []


def _running(ctx: Any) -> Iterable[str]:
    from emp.engine.control_socket import goes_on

    runs = Path(ctx.params.get("runs") or "runs")
    return [name for name in _runs(ctx) if goes_on(runs / name)]


def _examples(_: Any) -> Iterable[str]:
    from emp.app.wiring.examples import examples, is_configuration

    return [name for name, path in examples().items() if is_configuration(path)]


def _instruments(_: Any) -> Iterable[str]:
    from emp.core.instrument import catalogue

    return sorted(catalogue())


RUNS, RUNNING = _offered(_runs), _offered(_running)
EXAMPLES, INSTRUMENTS = _offered(_examples), _offered(_instruments)
