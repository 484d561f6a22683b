#!/usr/bin/env python
"""Run a notebook's cells, top to bottom in one namespace, and store what they show: scripts/notebook.py [--check] FILE…

Without Jupyter, so that a notebook can be made and tested where there is none. What a cell prints is kept as its
stream; the value of its last expression as a picture (`_repr_png_`), a table (`_repr_html_`) and text, as a front end
would ask for them. With --check nothing is written: the cells must run, and those that are stored must be the ones that
were run.
Exit code 1 where a cell fails, or its outputs are of another source.
"""

import ast
import base64
import contextlib
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def run_cells(cells: list[Cell], name: str) -> None:
    """Run every code cell, and put its outputs beside it; what one raises is raised."""
    space: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        count += 1
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = execute("".join(cell["source"]), space, f"{name}, cell {count}")
        cell["execution_count"], cell["outputs"] = count, list(outputs(printed.getvalue(), value, count))


def execute(source: str, space: dict[str, Any], where: str) -> Any:
    """Run a cell; the value of its last line where that is an expression, else None."""
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), space)
    return None if last is None else eval(compile(ast.Expression(last.value), where, "eval"), space)


def outputs(printed: str, value: Any, count: int) -> Any:
    """A cell's outputs, as a notebook keeps them (nbformat 4)."""
    if printed:
        yield {"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)}
    if value is None:
        return
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    yield {"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}}


def digest(cells: list[Cell]) -> str:
    """Of all sources: outputs that are stored beside another digest are of another notebook."""
    sources = json.dumps(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    return hashlib.sha256(sources.encode()).hexdigest()[:16]


def main(arguments: list[str]) -> int:
    """Run each notebook that is named."""
    check = "--check" in arguments
    failed = 0
    for path in (Path(one) for one in arguments if one != "--check"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells: list[Cell] = notebook["cells"]
        stored = notebook["metadata"].get("executed")
        run_cells(cells, path.name)
        if check and stored != digest(cells):
            print(
                f"{path}: its outputs are not of these cells: run scripts/notebook.py {path}", file=sys.stderr
            )
            failed = 1
        elif not check:
            notebook["metadata"]["executed"] = digest(cells)
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
