"""Start a folder of one's own: a configuration to edit, with every shipped one beside it."""

import difflib
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.completion import EXAMPLES

app = typer.Typer()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made where it is missing.")] = Path(),
    example: Annotated[
        str, typer.Option(help="Which shipped configuration to start from.", autocompletion=EXAMPLES)
    ] = "mock",
) -> None:
    """Write emp.yaml, which `emp run` and `emp doctor` take by themselves, and the examples to look into.

    Nothing that exists is overwritten.
    """
    from emp.app.wiring.examples import OWN, examples, is_configuration
    from emp.core.errors import UsageError

    shipped = examples()
    known = {name: path for name, path in shipped.items() if is_configuration(path)}
    if example not in known:
        near = difflib.get_close_matches(example, known, 1)
        meant = f": did you mean {near[0]}?" if near else ";"
        raise UsageError(f"--example {example}: no such example{meant} known: {', '.join(known)}")
    copies = {folder / OWN: known[example]} | {folder / "examples" / p.name: p for p in shipped.values()}
    there = [str(path) for path in copies if path.exists()]
    if there:
        raise UsageError(f"{there[0]} exists and is left as it is: name another folder, or move it away")
    try:
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        for path, source in copies.items():
            shutil.copyfile(source, path)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))}, then "
    typer.echo(
        f"wrote {folder / OWN} and {folder / 'examples'}: {where}`emp run` trades, `emp doctor` checks"
    )
