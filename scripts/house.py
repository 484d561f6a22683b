"""Draw docs/house.svg and docs/event.svg from the code: rooms with what they import, and the way of one event.

    python scripts/house.py            # draw
    python scripts/house.py --check    # say in one line whether the pictures are those of the code

Every box of the second picture names the function or class that it stands for, and drawing fails where one is gone.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import grimp

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

FLOORS: list[tuple[str, list[str]]] = [
    ("composition", ["app"]),
    ("", ["league", "governance"]),
    ("worlds", ["sim"]),
    ("makers", ["train"]),
    ("the engine", ["engine"]),
    ("", ["plan"]),
    (
        "stages, each alone",
        ["access", "bus", "perception", "model", "decision", "risk", "execution", "journal", "observe"],
    ),
    ("what all may know", ["core"]),
]

INK, PAPER, LINE, SOFT = "#1d2b36", "#ffffff", "#8aa0b0", "#eef3f6"
COLOURS = {
    "app": "#f6e7d8",
    "league": "#f3f3f3",
    "governance": "#f3f3f3",
    "sim": "#dff0e4",
    "train": "#e7e3f4",
    "engine": "#fbe3df",
    "plan": "#f3f3f3",
    "core": "#e2ecf5",
}


class Canvas:
    """Boxes, arrows and words of one SVG file."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
            f'<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
        ]

    def box(self, x: float, y: float, w: float, h: float, fill: str, *, dashed: bool = False) -> None:
        """A rounded rectangle."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="7" fill="{fill}" stroke="{LINE}"{dash}/>'
        )

    def text(
        self, x: float, y: float, words: str, size: float = 13, *, bold: bool = False, anchor: str = "start"
    ) -> None:
        """One line of text."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{INK}" text-anchor="{anchor}"{weight}>'
            f"{escape(words)}</text>"
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """A line through points, with a tip at its end."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4" marker-end="url(#tip)"{dash}/>'
        )

    def svg(self) -> str:
        """The file's content."""
        return "\n".join([*self.parts, "</svg>", ""])


# --- the house


def rooms() -> dict[str, list[str]]:
    """The sub-packages of each room that has any."""
    found: dict[str, list[str]] = {}
    for _, names in FLOORS:
        for name in names:
            folders = sorted(p.parent.name for p in (ROOT / "emp" / name).glob("*/__init__.py"))
            found[name] = folders
    return found


def imports(graph: grimp.ImportGraph) -> dict[str, set[str]]:
    """Which rooms a room imports from."""
    known = [name for _, names in FLOORS for name in names]
    found: dict[str, set[str]] = {name: set() for name in known}
    for module in graph.modules:
        parts = module.split(".")
        if len(parts) < 2 or parts[1] not in found:
            continue
        for target in graph.find_modules_directly_imported_by(module):
            to = target.split(".")
            if len(to) > 1 and to[0] == "emp" and to[1] in found and to[1] != parts[1]:
                found[parts[1]].add(to[1])
    return found


def lines_of(name: str) -> int:
    """Lines of Python in a room."""
    return sum(len(p.read_text().splitlines()) for p in (ROOT / "emp" / name).rglob("*.py"))


def house() -> str:
    """The picture of the rooms: a room imports only from floors below its own."""
    used, inside = imports(grimp.build_graph("emp")), rooms()
    width, y = 1180, 52.0
    body: list[tuple[str, list[str], float]] = []
    for label, names in FLOORS:
        height = 92.0 if len(names) > 2 else 62.0
        body.append((label, names, y))
        y += height + 14
    canvas = Canvas(width, int(y) + 10, "The rooms of emp and what they import")
    canvas.text(
        20, 30, "A room imports only from the floors below it. Lines of code; imports from; rooms within.", 14
    )
    for label, names, top in body:
        height = 92.0 if len(names) > 2 else 62.0
        canvas.text(20, top + height / 2 + 4, label, 12)
        left, room = 190.0, (width - 210.0) / len(names)
        for k, name in enumerate(names):
            x, w = left + k * room, room - 8
            size = lines_of(name)
            canvas.box(x, top, w, height, COLOURS.get(name, "#fdf6df"), dashed=size < 20)
            canvas.text(x + 8, top + 20, name, 14, bold=True)
            canvas.text(
                x + w - 8,
                top + height - 9,
                f"{size:,} lines" if size >= 20 else "not built",
                11,
                anchor="end",
            )
            words = [f"imports {', '.join(sorted(used[name]))}" if used[name] else "imports nothing"]
            if inside[name]:
                words.append(", ".join(inside[name]))
            for row, line in enumerate(_wrapped(words, int(w / 5.9))):
                canvas.text(x + 8, top + 38 + 14 * row, line, 11)
    return canvas.svg()


def _wrapped(words: Iterable[str], width: int) -> list[str]:
    """Lines of at most so many characters, broken at spaces."""
    lines: list[str] = []
    for text in words:
        line = ""
        for word in text.split(" "):
            if line and len(line) + len(word) + 1 > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}".strip()
        lines.append(line)
    return lines


# --- the way of one event


class Step(NamedTuple):
    """A box: where it stands, what it is called, the code it stands for, and what happens there."""

    x: int
    y: int
    name: str
    code: str
    says: str


DOORS = [
    Step(
        20, 60, "a recording", "emp.access.recordings.source:open_recording", "files, or the journal of a run"
    ),
    Step(20, 140, "FIX", "emp.access.fix.client:FixAccess", "decode: W and X to rows"),
    Step(20, 220, "cTrader Open API", "emp.access.ctrader.access:CTraderAccess", "scan: protobuf to rows"),
    Step(20, 300, "the built-in market", "emp.sim.world.mock:MockMarket", "simulated flow, our orders in it"),
]
WAY = [
    Step(300, 60, "judge", "emp.core.book:judge", "one answer to what a book is worth"),
    Step(300, 140, "sink", "emp.access.port:Sink", "the one receiver: events, reports, link"),
    Step(300, 220, "bus", "emp.bus.bus:EventBus", "order, bound, back-pressure"),
    Step(300, 300, "driver", "emp.engine.driver:Driver", "ledger first, then the engine"),
    Step(560, 60, "perceive", "emp.perception.port:perceive", "book to MarketState"),
    Step(560, 140, "forecast", "emp.model.port:forecast", "state-space step, no torch"),
    Step(560, 220, "decide", "emp.decision.port:decide", "value after every cost"),
    Step(560, 300, "approve", "emp.risk.limits:approve", "limits; nothing skips it"),
    Step(820, 60, "row", "emp.journal.actionlog:ActionLog", "reason and inputs of every decision"),
    Step(820, 140, "intent", "emp.journal.ledger:Ledger", "synced before a byte leaves"),
    Step(820, 220, "venue", "emp.access.port:MarketAccess", "send; reports come back to the sink"),
    Step(820, 300, "orders", "emp.execution.orders:OrderManager", "fills, positions, reconciliation"),
]
BELOW = [
    Step(300, 420, "taps", "emp.engine.tap:Taps", "rings; each tap its own cursor"),
    Step(560, 420, "journal", "emp.engine.journal_tap:JournalTap", "market data and rows, as Parquet"),
    Step(820, 420, "view", "emp.engine.view:Viewer", "console, /health, /metrics"),
    Step(20, 420, "rerun", "emp.engine.rerun:Rerun", "a run again, byte for byte"),
    Step(20, 500, "recorded market", "emp.engine.replay:Backtest", "the same driver, a paper venue"),
]


def exists(code: str) -> None:
    """Fail where a box stands for nothing."""
    module, _, name = code.partition(":")
    if not hasattr(importlib.import_module(module), name):
        raise SystemExit(f"house: {code} is gone: fix the picture in scripts/house.py")


def event() -> str:
    """The picture of the way of one event, live, recorded and simulated alike."""
    canvas = Canvas(1080, 590, "The way of one event")
    canvas.text(
        20,
        30,
        "One event, whatever it came from: the same door, the same driver, the same compiled step.",
        14,
    )
    canvas.box(548, 44, 244, 330, SOFT, dashed=True)
    canvas.text(670, 392, "one compiled function: emp.engine.step:step", 11, anchor="middle")
    exists("emp.engine.step:step")
    for step, fill in [
        *((s, "#e2ecf5") for s in DOORS),
        *((s, "#fdf6df") for s in WAY),
        *((s, "#dff0e4") for s in BELOW),
    ]:
        exists(step.code)
        canvas.box(step.x, step.y, 220, 62, fill)
        canvas.text(step.x + 10, step.y + 20, step.name, 14, bold=True)
        canvas.text(step.x + 10, step.y + 37, step.says, 11)
        canvas.text(step.x + 10, step.y + 53, step.code.removeprefix("emp."), 9.5)
    for door in DOORS:
        canvas.arrow((240, door.y + 31), (270, door.y + 31), (270, 91), (298, 91))
    for column in (300, 560, 820):
        for top in (122, 202, 282):
            if column != 300 or top != 282:
                canvas.arrow((column + 110, top), (column + 110, top + 16))
    canvas.arrow((410, 282), (410, 298))
    canvas.arrow((520, 331), (534, 331), (534, 91), (558, 91))
    canvas.arrow((780, 331), (806, 331), (806, 91), (818, 91))
    canvas.arrow((1040, 251), (1062, 251), (1062, 575), (284, 575), (284, 171), (298, 171), dashed=True)
    canvas.text(672, 569, "reports, recorded before they are applied", 11, anchor="middle")
    canvas.arrow((410, 362), (410, 418))
    canvas.arrow((520, 451), (558, 451))
    canvas.arrow((520, 465), (540, 465), (540, 500), (930, 500), (930, 484))
    canvas.arrow((670, 482), (670, 520), (250, 520), (250, 451), (242, 451), dashed=True)
    return canvas.svg()


def main() -> None:
    """Draw, or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="fail where the pictures are not those of the code"
    )
    check = parser.parse_args().check
    for name, content in (("house.svg", house()), ("event.svg", event())):
        path = DOCS / name
        if not check:
            path.write_text(content)
        elif not path.exists() or _shape(path.read_text()) != _shape(content):
            sys.exit(f"house: docs/{name} is not that of the code: run `python scripts/house.py`")


def _shape(svg: str) -> str:
    """A picture without the counts of lines, which change every day."""
    return "\n".join(line for line in svg.splitlines() if 'text-anchor="end"' not in line)


if __name__ == "__main__":
    main()
