"""Write docs/configuration.md from the schema: every setting with its type, bounds, default, unit and variable.

    python scripts/settings.py            # write
    python scripts/settings.py --check    # say in one line whether the page is that of the schema

The words are the comments beside the fields in emp/core/config/config.py; a field without any is refused.
"""

import argparse
import ast
import inspect
import io
import json
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from emp.core.config.config import PROTOCOLS_OF, SystemConfig
from emp.core.config.config_source import PREFIX

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
UNITS = {
    "_ms": "ms",
    "_s": "s",
    "_hours": "h",
    "_seconds": "s",
    "_lots": "lots",
    "_ticks": "ticks × lots",
    "_events": "events",
    "_minute": "a minute",
}
HEAD = """# Settings

<!-- Written by scripts/settings.py from emp/core/config/config.py: change the words there. -->

A run is told everything by one YAML file; `emp init` writes one, `emp config show FILE` says what is in force
and where each value comes from, `emp config schema` prints the schema for editors. A variable of the
environment replaces exactly its setting, where it is set and not empty. Unknown names, contradictions and
values out of bounds end in one line that names the place. Credentials are no settings: they come from the
environment or the file that `EMP_SECRETS_FILE` names ([FIX](fix.md), [cTrader](ctrader.md)).
"""


def words_of(model: type[BaseModel]) -> dict[str, str]:
    """The comment that stands beside each field of a class."""
    source = inspect.getsource(model)
    comments: dict[int, str] = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(
            comments[line]
            for line in range(field.lineno, (field.end_lineno or field.lineno) + 1)
            if line in comments
        )
        for field in body.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


def type_of(schema: dict[str, Any]) -> str:
    """A type in words, with its bounds: from the JSON schema of one field."""
    if "anyOf" in schema:
        return " or ".join(type_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", ""))
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    if kind == "object":
        return f"mapping to {type_of(schema['additionalProperties'])}"
    name = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "nothing"}.get(
        kind, kind
    )
    if schema.get("format") == "path":
        name = "path"
    bounds = [
        f"{sign} {_number(schema[key])}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", "≥"),
            ("exclusiveMaximum", "<"),
            ("maximum", "≤"),
        )
        if key in schema
    ]
    return f"{name} {' and '.join(bounds)}" if bounds else name


def _number(value: float) -> str:
    powers = {2**31 - 1: "2³¹ − 1", 2**63: "2⁶³", 1e9: "10⁹"}
    return powers.get(value, f"{value:g}" if isinstance(value, float) else f"{value}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(model: type[BaseModel], name: str) -> str:
    value = model.model_fields[name].get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**must be given**"
    if value is None:
        return "none"
    plain = str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(plain) if not isinstance(plain, str) else plain or chr(34) * 2}`"


def rows(model: type[BaseModel], section: str) -> list[str]:
    """The table of one section; raises SystemExit for a field that says nothing of itself."""
    words = words_of(model)
    schema = model.model_json_schema()
    found = ["| setting | type | default | unit | meaning | variable |", "|---|---|---|---|---|---|"]
    for name in model.model_fields:
        if section_of(model, name) is not None:
            continue
        field = schema["properties"][name]
        if not words[name]:
            raise SystemExit(f"settings: {model.__name__}.{name} says nothing of itself: give it a comment")
        unit = next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
        dotted = f"{section}.{name}" if section else name
        variable = PREFIX + dotted.replace(".", "__").upper()
        found.append(
            f"| `{name}` | {_cell(type_of(field))} | {_cell(_default(model, name))} | {unit} |"
            f" {_cell(words[name])} | `{variable}` |"
        )
    return found


def section_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The section that a field holds; None where it is a setting."""
    kind = model.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def sections(model: type[BaseModel], at: str = "") -> Iterator[str]:
    """The tables of all sections below a class, each behind the one that holds it."""
    for name in model.model_fields:
        kind = section_of(model, name)
        if kind is None:
            continue
        dotted = f"{at}.{name}" if at else name
        yield from ("", f"## `{dotted}`", "", inspect.cleandoc(kind.__doc__ or ""), "", *rows(kind, dotted))
        yield from sections(kind, dotted)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Of the run", "", *rows(SystemConfig, ""), ""]
    parts += [
        "Which protocols (`access.connection_protocol`) a mode takes:",
        "",
        "| mode | protocols |",
        "|---|---|",
    ]
    parts += [f"| `{mode}` | {', '.join(f'`{one}`' for one in of)} |" for mode, of in PROTOCOLS_OF.items()]
    parts += sections(SystemConfig)
    return "\n".join([*parts, ""])


def main() -> None:
    """Write, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail where the page is not that of the schema")
    content = page()
    if not parser.parse_args().check:
        PAGE.write_text(content)
    elif not PAGE.exists() or PAGE.read_text() != content:
        sys.exit(
            "settings: docs/configuration.md is not that of the schema: run `python scripts/settings.py`"
        )


if __name__ == "__main__":
    main()
