"""The blocks of a page that a reader would type, in order."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"# (\S+\.(?:py|yaml|csv))\n")


class Block(NamedTuple):
    """A fenced block: its language and text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Every fenced block of the page."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text())]


def script(page: Path) -> str:
    """One shell script that does what the page says: files whose first line names them are written, commands run.

    Raises ValueError for a block that is neither: nothing on such a page goes untried.
    """
    lines = ["set -eu"]
    for block in blocks(page):
        named = _NAMED.match(block.text)
        if block.language == "sh":
            lines += [
                f'echo "$ {line}"\n{line}' if "\n" not in line and "$(" not in line else line
                for line in block.text.splitlines()
            ]
        elif named:
            lines.append(f"cat > {named[1]} <<'END_OF_FILE'\n{block.text}END_OF_FILE")
        else:
            raise ValueError(
                f"{page.name}: a block of {block.language} that no test can run: {block.text[:40]!r}"
            )
    return "\n".join(lines) + "\n"
