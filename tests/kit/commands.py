"""Run a command in this process, as its caller would hear it."""

import json
from typing import Any

import pytest

from emp.app.cli import main


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """Exit code, and the JSON object that stands last; where it failed what stderr says, in one line."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    out, err = capsys.readouterr()
    code = int(ended.value.code or 0)
    return code, json.loads(out.splitlines()[-1]) if code == 0 else " ".join(err.split())
