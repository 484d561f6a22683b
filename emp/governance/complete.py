"""A gates file of an older release, with the gates that it lacks, at the shipped limits."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from emp.core.errors import GovernanceError
from emp.core.strict_yaml import load_yaml
from emp.governance.gates import SECTIONS, SHIPPED, gates_of, lacking, load_gates
from emp.journal.files import write_atomically


def complete(path: Path) -> tuple[str, ...]:
    """Add to a gates file what it lacks, as the shipped lines have it, and change nothing else; the names.

    Raises:
        GovernanceError: it is no gates file but for that, or not laid out so that lines can be added.
    """
    told = load_gates(path)
    names = lacking(told)
    wanted = _with_limits(told, names)
    gates_of(wanted, path)
    if names:
        made = _with_lines(path.read_text(encoding="utf-8"), names).encode()
        if not _says(made, wanted):
            raise GovernanceError(
                f"{path}: no line can be added to it: write {', '.join(names)} there, as `emp gates show` prints them"
            )
        write_atomically(path, made)
    return names


def _says(text: bytes, wanted: Any) -> bool:
    try:
        return bool(load_yaml(text) == wanted)
    except yaml.YAMLError:
        return False


def _with_limits(told: Any, names: tuple[str, ...]) -> Any:
    """What a file says, and the shipped limits of the gates that are named."""
    made, shipped = copy.deepcopy(told), load_gates(SHIPPED)
    for name in names:
        gate, _, part = name.partition(".")
        section = _section(gate)
        into = made.setdefault(section, {})
        if part:
            into[gate][part] = shipped[section][gate][part]
        else:
            into[gate] = shipped[section][gate]
    return made


def _with_lines(text: str, names: tuple[str, ...]) -> str:
    """A file's text with the shipped lines of the gates that are named, at the beginning of their sections."""
    shipped = SHIPPED.read_text(encoding="utf-8")
    for section in SECTIONS:
        mine = [name for name in names if _section(name.partition(".")[0]) == section]
        lines = [m[0] for name in mine if (m := re.search(rf"^ +{re.escape(name)}:.*$", shipped, re.M))]
        head = re.search(rf"^{section}:[ \t]*(#.*)?$", text, re.M)
        if head is None and lines:
            text = f"{text.rstrip()}\n{section}:\n"
            head = re.search(rf"^{section}:$", text, re.M)
        if head is not None and lines:
            below = re.match(r"\s*\n( +)\S", text[head.end() :])
            indent = below[1] if below else "  "
            added = "".join(f"\n{indent}{line.strip()}" for line in lines)
            text = text[: head.end()] + added + text[head.end() :]
    return text


def _section(gate: str) -> str:
    return next(name for name, limits in SECTIONS.items() if gate in limits.__struct_fields__)
