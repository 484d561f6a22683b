"""What the venue wrote down, held against leases and ledgers: who sent what when, and what is held."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from emp.app.bench.takeover.terms import traded
from emp.core.contracts import Control, NewOrder, Replace
from emp.core.ids import token_of
from emp.engine.rebuild import rebuild
from emp.execution.orders import OrderManager
from emp.journal.reader import LedgerReader
from emp.journal.records import Note

SETTLES_NS = 300_000_000
"""After the last word of a start in which the venue's book may still be on its way into the file."""


class Checked(msgspec.Struct, kw_only=True):
    """What was found; everything but the first five is a violation."""

    orders: int = 0  # new orders that arrived
    changes: int = 0  # cancels and replacements
    fills: int = 0
    tokens: int = 0  # holders whose orders arrived
    starts: int = 0  # after each of which the ledger's position was the venue's
    overlaps: int = 0  # commands of a holder that arrived after another had the lease
    older: int = 0  # commands with an older token than one that had arrived
    doubled: int = 0  # orders that arrived twice
    unrecorded: int = 0  # orders that no ledger has as an intent
    left: int = 0  # orders that still work at the end
    positions: int = 0  # starts, and ends, at which ledger and venue did not agree
    breaches: int = 0  # alarms of the engines: a position that differs, a report that cannot be true
    words: list[str] = []  # of each violation, one line

    @property
    def violations(self) -> int:
        """Sum of them."""
        wrong = (self.overlaps, self.older, self.doubled, self.unrecorded, self.left, self.positions)
        return sum(wrong) + self.breaches


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """What was written down; a line that was cut by a kill is left out."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue


def check(folder: Path, homes: Sequence[Path]) -> Checked:
    """Hold the venue's book against what engines said and their ledgers."""
    found = Checked()
    book = list(lines(folder / "venue.jsonl"))
    told = [one for home in homes for one in lines(home / "told.jsonl")]
    _commands(found, book, sorted((one["t"], one["token"]) for one in told if one["k"] == "has"))
    intents: set[str] = set()
    for ledger in sorted({one for home in homes for one in (home / "runs").glob("live-*/ledger.sqlite")}):
        intents |= _ledger(found, ledger, book)
    for one in book:
        if one["k"] == "D" and one["id"] not in intents:
            found.unrecorded += 1
            found.words.append(f"{one['id']} is in no ledger")
    ended = [one for one in book if one["k"] == "ended"]
    found.fills = sum(one["filled"] != 0 for one in ended)
    works = [one for one in book if one["k"] in ("works", "ended")]
    if works and works[-1]["n"]:
        found.left = works[-1]["n"]
        found.words.append(f"{found.left} orders still work at the venue")
    return found


def _commands(found: Checked, book: Sequence[dict[str, Any]], has: Sequence[tuple[int, int]]) -> None:
    """Tokens of what arrived, in order, beside when each was had."""
    newest, seen, ids = 0, set[int](), set[str]()
    for one in book:
        if one["k"] not in ("D", "F", "G"):
            continue
        token = token_of(one["id"])
        seen.add(token)
        if one["k"] == "D":
            found.orders += 1
            if one["id"] in ids and not one["again"]:
                found.doubled += 1
                found.words.append(f"{one['id']} came twice")
            ids.add(one["id"])
        else:
            found.changes += 1
        if token < newest:
            found.older += 1
            found.words.append(f"{one['id']}: token {token} after {newest}")
        newest = max(newest, token)
        later = [had for had, other in has if other > token and had < one["t"]]
        if later:
            found.overlaps += 1
            late_ms = (one["t"] - min(later)) / 1e6
            found.words.append(f"{one['id']}: token {token}, {late_ms:.1f} ms after another had the lease")
    found.tokens = len(seen)


def _ledger(found: Checked, path: Path, book: Sequence[dict[str, Any]]) -> set[str]:
    """Intents of one ledger; where trading began its position must be what the venue held."""
    intents: set[str] = set()
    reader = LedgerReader(path)
    try:
        starts: list[tuple[int, int]] = []
        for event in reader.events():
            body = event.body
            if isinstance(body, NewOrder | Replace):
                intents.add(body.cl_ord_id)
            elif isinstance(body, Control) and body.action == "start":
                starts.append((event.seq, body.ts))
            elif isinstance(body, Note) and body.kind == "risk_breach":
                found.breaches += 1
                found.words.append(f"{path.parent.name}: {body.data.get('reason')}")
        name = traded()[0].name
        for seq, ts in starts:
            manager = OrderManager([name])
            rebuild(reader, manager, seq)
            found.starts += 1
            held = {_held(book, ts), _held(book, ts - SETTLES_NS)}
            if manager.position(name) not in held:
                found.positions += 1
                found.words.append(
                    f"{path.parent.name}: {manager.position(name):+d} at a start, the venue {sorted(held)}"
                )
    finally:
        reader.close()
    return intents


def _held(book: Sequence[dict[str, Any]], until_ns: int) -> int:
    """Position at the venue at a time."""
    held = 0
    for one in book:
        if one["t"] > until_ns:
            break
        if one["k"] == "ended":
            held = int(one["position"])
    return held


def final_positions(found: Checked, folder: Path, last: Path) -> None:
    """After an orderly end of the last engine: its ledger's position must be the venue's."""
    name = traded()[0].name
    reader = LedgerReader(last)
    try:
        manager = OrderManager([name])
        rebuild(reader, manager, whole=True)
    finally:
        reader.close()
    held = _held(list(lines(folder / "venue.jsonl")), 1 << 63)
    if manager.position(name) != held:
        found.positions += 1
        found.words.append(f"at the end: {manager.position(name):+d} in the ledger, {held:+d} at the venue")
