"""Mutations of recordings: what happens to files on their way to a reader, applied at random.

    python -m tests.access.mutations --count 20000        # heads of the recordings at EMP_DATA, and a made-up market

Every mutated file must end in a sound book or in one line: no traceback, no event that is crossed, unordered or out of
time, every row accounted for, and not more of it lost than may be. A file whose numbers or stamps were changed in a way
that cannot be told from its content (two sizes swapped without a header) may give another book; such kinds are in
UNTOLD, all others must give the events of the file that was mutated, or fewer.
"""

import argparse
import bz2
import gzip
import lzma
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from emp.access.recordings.container import Item
from emp.access.recordings.source import Recording, open_recording
from emp.core.errors import EmpError
from emp.core.ids import generator
from emp.core.instrument import find
from emp.core.recorded import recordings_folder
from emp.core.records import Array
from tests.access.spelled import SPELLINGS

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

LINES = 300


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")


def _join(lines: list[bytes]) -> bytes:
    return b"\n".join(lines)


def _columns(data: bytes, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    return _join([b",".join(change(line.split(b","))) if line else line for line in _lines(data)])


def _pick(rng: Rng, n: int) -> int:
    return int(rng.integers(0, max(n, 1)))


def drop_column(data: bytes, rng: Rng) -> bytes:
    at = _pick(rng, len(_lines(data)[0].split(b",")))
    return _columns(data, lambda f: f[:at] + f[at + 1 :])


def swap_columns(data: bytes, rng: Rng) -> bytes:
    n = len(_lines(data)[0].split(b","))
    a, b = _pick(rng, n), _pick(rng, n)

    def change(fields: list[bytes]) -> list[bytes]:
        if max(a, b) < len(fields):
            fields[a], fields[b] = fields[b], fields[a]
        return fields

    return _columns(data, change)


def repeat_column(data: bytes, rng: Rng) -> bytes:
    at = _pick(rng, len(_lines(data)[0].split(b",")))
    return _columns(data, lambda f: f[: at + 1] + f[at:])


def other_delimiter(data: bytes, rng: Rng) -> bytes:
    return data.replace(b",", (b";", b"\t", b"|")[_pick(rng, 3)])


def quote_all(data: bytes, rng: Rng) -> bytes:
    return _columns(data, lambda f: [b'"' + one + b'"' for one in f])


def pad_fields(data: bytes, rng: Rng) -> bytes:
    return data.replace(b",", b", ")


def utf_16(data: bytes, rng: Rng) -> bytes:
    return data.decode("utf-8", "replace").encode(("utf-16", "utf-16-le", "utf-16-be")[_pick(rng, 3)])


def byte_order_mark(data: bytes, rng: Rng) -> bytes:
    return b"\xef\xbb\xbf" + data


def windows_ends(data: bytes, rng: Rng) -> bytes:
    return data.replace(b"\n", b"\r\n")


def delete_lines(data: bytes, rng: Rng) -> bytes:
    return _join([line for line in _lines(data) if rng.random() > 0.1])


def repeat_lines(data: bytes, rng: Rng) -> bytes:
    return _join([again for line in _lines(data) for again in (line,) * (1 + int(rng.random() < 0.1))])


def swap_neighbours(data: bytes, rng: Rng) -> bytes:
    lines = _lines(data)
    for i in range(2, len(lines) - 2, 7):
        lines[i], lines[i + 1] = lines[i + 1], lines[i]
    return _join(lines)


def blank_lines(data: bytes, rng: Rng) -> bytes:
    return _join([line for one in _lines(data) for line in ((one, b"") if rng.random() < 0.1 else (one,))])


def cut_off(data: bytes, rng: Rng) -> bytes:
    return data[: _pick(rng, len(data))]


def without_header(data: bytes, rng: Rng) -> bytes:
    return _join(_lines(data)[1:])


def noise(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for _ in range(1 + _pick(rng, 20)):
        changed[_pick(rng, len(changed))] = _pick(rng, 256)
    return bytes(changed)


def zero_bytes(data: bytes, rng: Rng) -> bytes:
    at = _pick(rng, len(data))
    return data[:at] + bytes(1 + _pick(rng, 5000)) + data[at:]


def garbage_lines(data: bytes, rng: Rng) -> bytes:
    return _join([b"# comment" if rng.random() < 0.05 else line for line in _lines(data)])


def empty_fields(data: bytes, rng: Rng) -> bytes:
    return _columns(data, lambda f: [b"" if rng.random() < 0.02 else one for one in f])


def words_for_numbers(data: bytes, rng: Rng) -> bytes:
    word = (b"nan", b"NULL", b"inf", b"-", b"N/A", b"1e999", b"0x10", b"--1")[_pick(rng, 8)]
    return _columns(data, lambda f: [word if rng.random() < 0.01 else one for one in f])


def jump_ahead(data: bytes, rng: Rng) -> bytes:
    lines = _lines(data)
    at = 1 + _pick(rng, len(lines) - 1)
    lines[at] = re.sub(
        rb"\b(20[012])(\d)", lambda m: m[1] + str((int(m[2]) + 3) % 10).encode(), lines[at], count=1
    )
    return _join(lines)


def two_joined(data: bytes, rng: Rng) -> bytes:
    return data + (b"" if data.endswith(b"\n") else b"\n") + data


def joined_with_another(data: bytes, rng: Rng) -> bytes:
    other = list(SPELLINGS.values())[_pick(rng, len(SPELLINGS))].encode()
    return (data + b"\n" + other) if rng.random() < 0.5 else (other + data)


def scale_times(data: bytes, rng: Rng) -> bytes:
    """Epochs in another unit half-way through."""
    half = len(data) // 2
    return data[:half] + re.sub(rb"\b(1[5-7]\d{8,11})\b", rb"\g<1>000", data[half:])


def packed(data: bytes, rng: Rng) -> bytes:
    return (gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress)[_pick(rng, 4)](
        data
    )


def packed_and_broken(data: bytes, rng: Rng) -> bytes:
    whole = bytearray(packed(data, rng))
    if rng.random() < 0.5:
        return bytes(whole[: _pick(rng, len(whole))])
    for _ in range(3):
        whole[_pick(rng, len(whole))] ^= 1 << _pick(rng, 8)
    return bytes(whole)


def upper_case(data: bytes, rng: Rng) -> bytes:
    lines = _lines(data)
    return _join([lines[0].upper(), *lines[1:]])


TOLD: tuple[Mutation, ...] = (
    other_delimiter,
    quote_all,
    pad_fields,
    utf_16,
    byte_order_mark,
    windows_ends,
    delete_lines,
    repeat_lines,
    swap_neighbours,
    blank_lines,
    cut_off,
    garbage_lines,
    packed,
    upper_case,
)
"""What can be told from the content: the events are the right ones, or there are none."""

UNTOLD: tuple[Mutation, ...] = (
    packed_and_broken,  # zstd frames may carry no checksum
    jump_ahead,  # of the last row: nothing follows that it could be ahead of
    drop_column,  # a size column that is dropped without a header is as if it had never been
    swap_columns,  # two sizes swapped in a file without a header
    repeat_column,
    without_header,
    noise,  # a digit for another
    zero_bytes,
    empty_fields,
    words_for_numbers,
    two_joined,
    joined_with_another,
    scale_times,
)
"""What may change the numbers themselves: the book that comes out is sound, but may be another."""


class Subject(NamedTuple):
    """A file that is mutated."""

    name: str
    instrument: str
    data: bytes
    partner: tuple[str, bytes] | None = None  # a file beside it, left as it is


class Verdict(NamedTuple):
    """What became of one mutated file."""

    outcome: str  # read, refused, or what is wrong
    detail: str = ""


def made_up() -> list[Subject]:
    """The made-up market in all its spellings."""
    return [Subject(f"{name}.csv", "EURUSD", text.encode()) for name, text in SPELLINGS.items()]


def recorded(folder: Path) -> Iterator[Subject]:
    """Heads of the recorded markets."""
    from tests.access.test_real_samples import MARKETS

    for pattern, instrument in MARKETS.items():
        files = sorted(folder.glob(pattern))
        heads = [
            (file, _join(_lines(Item(file).head(1 << 18))[:LINES]))
            for file in files
            if ".dbn" not in file.name
        ][:2]
        for i, (file, data) in enumerate(heads):
            name = file.name.removesuffix(".zst").removesuffix(".gz").removesuffix(".zip")
            other = heads[1 - i] if len(heads) == 2 else None
            partner = (other[0].name.removesuffix(".zst"), other[1]) if other else None
            yield Subject(name, instrument, data, partner)


def judge(subject: Subject, data: bytes, truth: set[tuple[int, ...]] | None, folder: Path) -> Verdict:
    """Read a mutated file and say what came of it."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / subject.name
    path.write_bytes(data)
    if subject.partner is not None:
        (folder / subject.partner[0]).write_bytes(subject.partner[1])
    try:
        source = open_recording(path, find(subject.instrument))
        assert isinstance(source, Recording)
        events = np.concatenate(list(source.batches()))
    except EmpError as error:
        text = str(error)
        return Verdict("refused" if "\n" not in text and len(text) < 700 else "long line", text)
    except Exception as error:
        return Verdict("traceback", f"{type(error).__name__}: {error}")
    counts = source.counts
    if counts.rows != counts.events + counts.merged + counts.quarantined.total():
        return Verdict("rows unaccounted", str(counts.quarantined))
    problem = unsound(events)
    if problem:
        return Verdict(problem)
    if truth is not None and not keys(events) <= truth:
        return Verdict("wrong book", f"{len(keys(events) - truth)} of {len(events)} events")
    return Verdict("read")


def unsound(events: Array) -> str:
    """What is wrong with events whatever they were made of."""
    if (np.diff(events["ts"]) < 0).any() or (np.diff(events["seq"]) <= 0).any():
        return "out of order"
    if (events["bid_px"][:, 0] >= events["ask_px"][:, 0]).any():
        return "crossed"
    return ""


def keys(events: Array) -> set[tuple[int, ...]]:
    """Time and best prices of every event."""
    return set(
        zip(
            *(a.tolist() for a in (events["ts"], events["bid_px"][:, 0], events["ask_px"][:, 0])), strict=True
        )
    )


def truth_of(subject: Subject, folder: Path) -> set[tuple[int, ...]] | None:
    """The events of a file as it is; None where it is refused."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / subject.name
    path.write_bytes(subject.data)
    if subject.partner is not None:
        (folder / subject.partner[0]).write_bytes(subject.partner[1])
    try:
        source = open_recording(path, find(subject.instrument), accept_losses=True)
        return keys(np.concatenate(list(source.batches())))
    except EmpError:
        return None


def run(subjects: list[Subject], count: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Mutate and read so many files; returns outcomes and what went wrong."""
    rng = generator(seed, "mutations")
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    truths = [truth_of(subject, folder) for subject in subjects]
    for i in range(count):
        at = i % len(subjects)
        mutation = (*TOLD, *UNTOLD)[_pick(rng, len(TOLD) + len(UNTOLD))]
        data = mutation(subjects[at].data, rng)
        # rows that are missing change what an update builds on: there the book may be another
        rows_change = mutation in (delete_lines, swap_neighbours, garbage_lines, repeat_lines, cut_off)
        exact = mutation in TOLD and not (rows_change and stateful(subjects[at]))
        verdict = judge(
            subjects[at], data, truths[at] if exact and not swallows(subjects[at], mutation) else None, folder
        )
        outcomes[verdict.outcome] += 1
        if verdict.outcome not in ("read", "refused"):
            wrong.append(f"{i} {subjects[at].name} {mutation.__name__}: {verdict.outcome} {verdict.detail}")
    return outcomes, wrong


def stateful(subject: Subject) -> bool:
    """Whether rows build on each other."""
    return (
        not subject.name.endswith(".csv")
        or any(
            word in subject.name
            for word in (
                "SGX",
                "message",
                "exchange",
                "bbo",
                "quote",
                "transactions",
                "coinbase",
                "incremental",
            )
        )
        or subject.partner is not None
    )


def swallows(subject: Subject, mutation: Mutation) -> bool:
    """Mutations that mean another thing in JSON or in a file without header."""
    return mutation in (other_delimiter, quote_all, pad_fields, jump_ahead, upper_case) and stateful(subject)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Mutate recordings and read them.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    data = recordings_folder()
    subjects = [*made_up(), *(recorded(data) if data.is_dir() else ())]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="emp-mutations-") as folder:
        outcomes, wrong = run(subjects, args.count, args.seed, Path(folder))
    for line in wrong[:40]:
        print(line)
    print(
        f"{args.count} mutations of {len(subjects)} files in {time.perf_counter() - began:.0f} s: {dict(outcomes)}"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
