"""The page of a soak: one HTML file with everything in it."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from emp.app.report import plots
from emp.app.report.page import CSS, cards, figure, table
from emp.app.soak.judge import Judged
from emp.app.soak.record import Weeks
from emp.app.soak.samples import Sample
from emp.core.errors import DataError
from emp.core.records import Array

EXTRA = """
.ok { color: #16803c; } .warn { color: #9a6700; } .short { color: #616e7c; }
.lines td, .lines th { text-align: left; vertical-align: top; }
"""


def write_page(
    out: Path, title: str, sub: str, samples: Sequence[Sample], judged: Judged, weeks: Weeks
) -> None:
    """Write the page; DataError in one line where it cannot be written."""
    at = np.array([one.at_s for one in samples])
    unit_s, word = (3600.0, "hours") if at[-1] >= 3600.0 else (60.0, "minutes")
    parts = [
        f"<h1>{escape(title)}</h1><div class='sub'>{escape(sub)}</div>",
        cards(_cards(judged)),
        _lines(judged),
        "<h2>Over time</h2><div class='two'>",
        *(figure(caption, _curve(at / unit_s, word, y, unit)) for caption, unit, y in _curves(samples)),
        "</div><h2>Two weeks on paper</h2>",
        f"<p class='note'>{escape(weeks.lacks or 'Two green weeks are on record.')}</p>",
        table(("day", "instrument", "colour", "why"), weeks.days) if weeks.days else "",
    ]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
        f"<style>{CSS}{EXTRA}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}") from error


def _cards(judged: Judged) -> dict[str, str]:
    f = judged.figures
    return {
        "hours": f"{f['hours']:,.2f}",
        "decisions": f"{f['decisions']:,.0f}",
        "cores": f"{f['cores']:.2f}",
        "memory": f"{(f['rss'] or 0) / 1e6:,.0f} MB",
        "p99 of a decision, at worst": f"{(f['total_p99_ms_worst'] or 0) * 1e3:,.0f} us",
        "verdict": judged.verdict,
    }


def _lines(judged: Judged) -> str:
    rows = "".join(
        f"<tr><td class='{line.verdict}'>{line.verdict}</td><td>{escape(line.what)}</td>"
        f"<td>{escape(line.found)}</td><td>{escape(line.limit)}</td></tr>"
        for line in judged.lines
    )
    head = "<tr><th></th><th>what</th><th>found</th><th>limit</th></tr>"
    return f"<div class='box lines'><table>{head}{rows}</table></div>"


def _curves(samples: Sequence[Sample]) -> list[tuple[str, str, Array]]:
    """(caption, unit, values [n])."""
    at = np.array([one.at_s for one in samples])
    seconds = np.maximum(np.diff(at, prepend=at[0] - 1.0), 1e-9)
    cpu = np.diff([one.cpu_s for one in samples], prepend=samples[0].cpu_s) / seconds
    return [
        ("p99 of a decision, last 4,096", "us", np.array([one.total_p99_ms for one in samples]) * 1e3),
        ("Longest wait of an event", "ms", np.array([one.lag_ms for one in samples])),
        ("Processor", "cores", cpu),
        ("Memory", "MB", np.array([one.rss for one in samples]) / 1e6),
        ("The run's folder", "MB", np.array([one.folder for one in samples]) / 1e6),
        ("Descriptors", "open", np.array([one.descriptors for one in samples], float)),
    ]


def _curve(at: Array, word: str, values: Array, unit: str) -> str:
    def draw(axes: Axes) -> None:
        axes.plot(*plots.thin(at, values), color=plots.BLUE, linewidth=0.9)
        axes.set_ylabel(unit)
        axes.set_xlabel(word)
        axes.set_ylim(bottom=0.0)
        axes.ticklabel_format(axis="y", useOffset=False)

    drawn: Callable[[Axes], None] = draw
    return plots.svg(drawn, height=2.2, width=4.8)
