"""Kernels compute what is written, whichever compiled copy of them runs."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.numba import jit
from emp.core.numba.jit import closure_hash, kernel


@kernel
def dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@kernel
def dot_of_64(a: Any, b: Any) -> Any:
    return dot(a[:64], b[:64])


def test_sums_keep_their_order_and_products_their_rounding() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.normal(size=(2, 64)).astype(np.float32)
        expected = np.float32(0.0)
        for x, y in zip(a, b, strict=True):
            expected = np.float32(expected + np.float32(x * y))
        assert dot(a, b) == dot_of_64(a, b) == expected


def test_not_a_number_stays_one() -> None:
    a = np.array([np.nan, 1.0], np.float32)
    assert np.isnan(dot(a, a))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `emp` of four modules: step calls a port, behind which linear stands, which uses heads."""
    folder = tmp_path / "emp"
    (folder / "model").mkdir(parents=True)
    (folder / "step.py").write_text("from emp.model.port import forecast\n")
    (folder / "model/port.py").write_text("@overload(forecast)\ndef run(): ...\n")
    (folder / "model/linear.py").write_text("from emp.model.port import register\nimport emp.heads\n")
    (folder / "heads.py").write_text("A = 1\n")
    monkeypatch.setattr(jit, "PACKAGE", folder)
    forget()
    yield folder
    forget()


def forget() -> None:
    for memory in (jit._source, jit._imports, jit.closure_hash):
        memory.cache_clear()


@pytest.mark.parametrize("changed", ["step.py", "model/port.py", "model/linear.py", "heads.py"])
def test_a_change_anywhere_below_renames_the_compiled_code(package: Path, changed: str) -> None:
    before = closure_hash(package / "step.py")
    forget()
    assert closure_hash(package / "step.py") == before
    (package / changed).write_text((package / changed).read_text() + "B = 2\n")
    forget()
    assert closure_hash(package / "step.py") != before


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import emp.a as b, emp.c\n", {"emp.a", "emp.c"}),
        (
            "    from emp.a import (\n        b,  # of emp.d\n        c as d,\n    )\n",
            {"emp.a", "emp.a.b", "emp.a.c"},
        ),
        ("from emp.a import b, \\\n    c\n", {"emp.a", "emp.a.b", "emp.a.c"}),
        ("from emp.a import (\n    b,  # (see there)\n    c,\n)\n", {"emp.a.b", "emp.a.c"}),
        (
            "if x: from emp.a import b\ntry: import emp.q\nx = 1; import emp.z\n",
            {"emp.a.b", "emp.q", "emp.z"},
        ),
        ("from emp.a \\\n    import b\nimport \\\n    emp.c\n", {"emp.a.b", "emp.c"}),
        ("from emp import a\nfrom emporium import b\nimport numpy as emp_\n", {"emp", "emp.a"}),
    ],
)
def test_what_a_source_imports_is_found_by_its_words(source: str, names: set[str]) -> None:
    assert jit.imported_names(source.encode()) >= names
    assert {
        name for name in jit.imported_names(source.encode()) if "emporium" in name or "numpy" in name
    } == set()


def test_every_import_of_every_source_is_found() -> None:
    for path in sorted(jit.PACKAGE.rglob("*.py")):
        named: set[str] = set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                named.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        ours = {name for name in named if name == "emp" or name.startswith("emp.")}
        assert ours <= jit.imported_names(path.read_bytes()), path


def test_code_is_named_by_what_was_imported_not_by_what_the_file_became(package: Path) -> None:
    expected = closure_hash(package / "step.py")
    forget()
    closure_hash(package / "heads.py")  # imported, and edited before what uses it is imported
    (package / "heads.py").write_text("A = 2\n")
    assert closure_hash(package / "step.py") == expected
