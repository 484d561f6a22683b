"""A hook of mkdocs: pages that the text names as `docs/NAME.md` become links, so that a strict build checks them."""

import re
from typing import Any

_PAGE = re.compile(r"(?<!\[)`docs/([\w-]+\.md)`(?!\])")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page before it is rendered; code blocks stay as they are."""
    parts = _FENCE.split(markdown)
    return "".join(part if k % 2 else _PAGE.sub(r"[`docs/\1`](\1)", part) for k, part in enumerate(parts))
