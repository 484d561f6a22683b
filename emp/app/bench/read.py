"""Rows per second from a recording to events, beside polars.read_csv, or bare JSON decoding, of the same files."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emp.app.terminal.console import make_console
from emp.core.errors import DataError
from emp.core.extras import missing_extra
from emp.core.recorded import recordings_folder

if TYPE_CHECKING:
    from emp.access.recordings.container import Item
    from emp.core.instrument import Instrument

app = typer.Typer()

DEFAULT = "lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"


@app.command()
def read(
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Csv or JSON lines; else the GOOG day of EMP_DATA.")
    ] = None,
    instrument: Annotated[str, typer.Option(help="Name in the catalogue.")] = "GOOG",
    catalogue: Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Read recordings to the end; both sides read the same unpacked files, already in the page cache."""
    from emp.access.recordings import files_of
    from emp.core.instrument import find

    paths = recordings or [recordings_folder() / DEFAULT]
    console = make_console()
    what = find(instrument, catalogue)
    with tempfile.TemporaryDirectory(prefix="emp-bench-") as folder, console.status("reading"):
        files = [_unpack(item, Path(folder)) for item in files_of(paths)]
        runs = {"emp": lambda: _events(files, what), **_peers(files)}
        result = _measure(runs, rounds, sum(file.stat().st_size for file in files))
    console.print(
        f"emp      {result['rows_per_s']:>12,} rows/s to events ({result['mb_per_s']} MB/s), "
        f"{result['cpu_rows_per_s']:,} per CPU second"
    )
    for name, peer in result["peers"].items():
        console.print(
            f"{name:<8} {peer['rows_per_s']:>12,} rows/s decoded ({peer['mb_per_s']} MB/s), "
            f"{peer['cpu_rows_per_s']:,} per CPU second"
        )
        console.print(
            f"ratio to {name}: {peer['ratio']:.2f} by the clock, {peer['cpu_ratio']:.2f} by CPU time"
        )
    if not result["peers"]:
        console.print(missing_extra("polars"))
    if as_json:
        print(json.dumps(result))


def _measure(runs: dict[str, Callable[[], int]], rounds: int, size: int) -> dict[str, Any]:
    """Best wall and CPU seconds of each run, interleaved after one warm-up; rows are those of `emp`."""
    rows = next(run() for run in runs.values())
    best = dict.fromkeys(runs, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = (min(best[name][0], wall), min(best[name][1], cpu))
    wall, cpu = best.pop("emp")
    return {
        "rows": rows,
        "rows_per_s": round(rows / wall),
        "mb_per_s": round(size / wall / 1e6, 1),
        "cpu_rows_per_s": round(rows / cpu),
        "peers": {
            name: {
                "rows_per_s": round(rows / peer_wall),
                "mb_per_s": round(size / peer_wall / 1e6, 1),
                "ratio": round(peer_wall / wall, 3),
                "cpu_rows_per_s": round(rows / peer_cpu),
                "cpu_ratio": round(peer_cpu / cpu, 3),
            }
            for name, (peer_wall, peer_cpu) in best.items()
        },
    }


def _unpack(item: "Item", folder: Path) -> Path:
    """Write an item's decompressed bytes into the folder."""
    target = folder / item.name
    with item.open() as stream, target.open("wb") as file:
        while data := stream.read():
            file.write(data)
    return target


def _events(files: list[Path], instrument: "Instrument") -> int:
    from emp.access.recordings import open_recording

    source = open_recording(files, instrument)
    for _ in source.batches():
        pass
    return source.counts.rows


def _peers(files: list[Path]) -> dict[str, Callable[[], int]]:
    if b"{" in files[0].read_bytes()[:64]:
        return _json_peers(files)
    return _polars(files)


def _json_peers(files: list[Path]) -> dict[str, Callable[[], int]]:
    """Bare decoding of every line's message into Python objects."""
    import msgspec

    lines = [
        line[line.index(b"{") :] for file in files for line in file.read_bytes().splitlines() if b"{" in line
    ]

    def decoding(decode: Callable[[bytes], Any]) -> Callable[[], int]:
        def run() -> int:
            for line in lines:
                decode(line)
            return len(lines)

        return run

    peers = {"msgspec": decoding(msgspec.json.Decoder().decode)}
    try:
        import orjson
    except ImportError:
        return peers
    return {"orjson": decoding(orjson.loads), **peers}


def _polars(files: list[Path]) -> dict[str, Callable[[], int]]:
    try:
        import polars
    except ImportError:
        return {}

    def columns() -> int:
        rows = 0
        for file in files:
            with file.open("rb") as head:
                named = not head.read(1).isdigit()
            rows += int(polars.read_csv(file, has_header=named).height)
        return rows

    try:
        columns()
    except polars.exceptions.PolarsError as error:
        raise DataError(f"polars cannot read {files[0].name}: choose a csv recording ({error})") from error
    return {"polars": columns}
