"""A gates file of an older release, with the gates that it lacks, at the shipped limits."""

import codecs
import copy
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from emp.core.errors import GovernanceError
from emp.core.strict_yaml import load_yaml
from emp.governance.gates import SECTIONS, SHIPPED, gates_of, lacking, load_gates
from emp.journal.files import write_atomically


def complete(path: Path) -> tuple[str, ...]:
    """Add to a gates file what it lacks, as the shipped lines have it, and change nothing else; the names. Of a link it
    is the file that it leads to.

    Raises:
        GovernanceError: it is no gates file but for that, or not laid out so that lines can be added.
    """
    told = load_gates(path)
    names = lacking(told)
    wanted = _with_limits(told, names)
    gates_of(wanted, path)
    if names:
        script = _script(path.read_bytes())
        made = None if script is None else script.bytes_of(_with_lines(script.text, names))
        if made is None or not _says(made, wanted):
            raise GovernanceError(
                f"{path}: no line can be added to it: write {', '.join(names)} there, as `emp gates show` prints them"
            )
        file = path.resolve()
        mode = file.stat().st_mode
        write_atomically(file, made)
        file.chmod(mode)
    return names


class _Script(NamedTuple):
    """A file as it was written."""

    text: str  # lines end in a line feed
    mark: bytes  # of its byte order, where it has one
    encoding: str
    end: str  # of its lines

    def bytes_of(self, text: str) -> bytes:
        """Another text, written the same way."""
        return self.mark + text.replace("\n", self.end).encode(self.encoding)


_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def _script(data: bytes) -> _Script | None:
    """What a file says, in whichever way YAML may be written; None where its lines end in several ways."""
    mark, encoding = next((one for one in _MARKS if data.startswith(one[0])), (b"", "utf-8"))
    told = data[len(mark) :].decode(encoding)
    end = "\r\n" if "\r\n" in told else "\n"
    script = _Script(told.replace(end, "\n"), mark, encoding, end)
    return script if script.bytes_of(script.text) == data and "\r" not in script.text else None


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
        for gate, _, part in (name.partition(".") for name in mine if "." in name):
            text = _with_part(text, gate, part, shipped)
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


def _with_part(text: str, gate: str, part: str, shipped: str) -> str:
    """A file's text with the shipped limit of one part of a gate: first within its braces, or on a line of its own."""
    limit = re.search(rf"^ +{re.escape(gate)}:.*\b({re.escape(part)}: [^,}}]+)", shipped, re.M)
    found = re.search(
        rf"^( +){re.escape(gate)}:[ \t]*(\{{[ \t]*(?P<empty>\}})?|(#.*)?\n(?P<below> +)(?=\S))", text, re.M
    )
    if limit is None or found is None:
        return text
    if found["below"] is not None:
        added = f"{limit[1]}\n{found['below']}"
        return text[: found.end()] + added + text[found.end() :]
    at = found.end() if found["empty"] is None else found.end("empty") - 1
    return text[:at] + limit[1] + (", " if found["empty"] is None else "") + text[at:]


def _section(gate: str) -> str:
    return next(name for name, limits in SECTIONS.items() if gate in limits.__struct_fields__)
