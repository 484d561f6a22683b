"""What a newcomer's first backtest takes, here and with hftbacktest: python scripts/firststeps MESSAGES BOOKS

MESSAGES and BOOKS are LOBSTER's files of a day of GOOG (packed or not). Both scripts beside this one do the same: read
the day, run one rule of the user's own with 10 ms to the venue, print what came, draw it. Printed are the lines of code
each takes, seconds and CPU seconds of the whole process (best of three, in turn), and what each says. With --once each
runs once, with --cold once and with nothing that was compiled before; --json prints one JSON object as the last line.
"""

import ast
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from emp.access.recordings.packing import unpacked

HERE = Path(__file__).parent
ROUNDS = 3


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor the module's docstring."""
    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[1].lineno
    lines = text.splitlines()[first - 1 :]
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


def plain(path: Path, folder: Path) -> Path:
    """The file unpacked, for a reader that takes no packed one."""
    out = folder / path.name.removesuffix(".zst")
    with path.open("rb") as file, out.open("wb") as written:
        stream = unpacked(file, str(path), lambda _: None)
        while part := stream.read():
            written.write(part)
    return out


def timed(command: list[str], folder: Path, cache: Path | None) -> dict[str, Any]:
    """Run a script; seconds, CPU seconds and its last line."""
    kept = {} if cache is None else {"EMP_CACHE": str(cache), "NUMBA_CACHE_DIR": str(cache / "numba")}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=os.environ | kept, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command[1]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = done.stdout.strip().splitlines()[-1]
    return {
        "seconds": time.perf_counter() - began,
        "cpu_s": cpu,
        "said": said.removeprefix("<Result ").rstrip(">"),
    }


def main(arguments: list[str]) -> None:
    """Measure both, and print them side by side."""
    files = [Path(one).resolve() for one in arguments if not one.startswith("--")]
    if len(files) != 2 or not all(path.is_file() for path in files):
        raise SystemExit(__doc__)
    cold = "--cold" in arguments
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        messages, books = (plain(path, folder) for path in files)
        scripts = {
            "emp": [str(HERE / "with_emp.py"), str(files[0]), "emp.png"],
            "hftbacktest": [str(HERE / "with_hftbacktest.py"), str(messages), str(books), "hftbacktest.png"],
        }
        for k in range(1 if cold or "--once" in arguments else ROUNDS):
            for who, command in scripts.items():
                one = timed([sys.executable, *command], folder, folder / f"cache-{who}-{k}" if cold else None)
                best = found.setdefault(who, {"lines": code_lines(Path(command[0])), **one})
                best |= {key: min(best[key], one[key]) for key in ("seconds", "cpu_s")}
        assert all((folder / command[-1]).stat().st_size for command in scripts.values())
    print(
        f"{'':12} {'lines':>6} {'seconds':>8} {'CPU s':>7}  {'from nothing' if cold else 'compiled before'}"
    )
    for who, one in found.items():
        print(f"{who:12} {one['lines']:>6} {one['seconds']:>8.1f} {one['cpu_s']:>7.1f}  {one['said']}")
    if "--json" in arguments:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
