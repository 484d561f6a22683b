"""Measure a run over hours: processor, memory, disk, latency, headroom, growth in a day, as a page."""

import csv
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emp.app.soak.samples import Sample
    from emp.app.soak.subject import Subject

app = typer.Typer()

STARTS_S = 120.0
"""Seconds that a run may take to be well for the first time; nothing is measured before."""

LEAST = 2
"""Looks without which nothing can be said."""

SILENT_S = 30.0
"""Seconds without an answer after which a run is given up."""

BAD = 1
"""Exit code where anything is bad."""


@app.command()
def soak(
    hours: Annotated[float, typer.Option(min=0.001, help="For how long.")] = 24.0,
    config: Annotated[
        Path | None,
        typer.Option(help="Start a run with this file, and end it; without --run: the usual one."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Measure this run, which is under way, and let it go on.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 5.0,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; beside it the looks, as csv.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept, for --run.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Measure a run over hours: what it takes, how fast it decides, what grows; and its record of days on paper.

    Exit code 1 where anything is bad: too slow, too busy, events merged, or no room for two weeks of growth. Ctrl-C
    ends it early, with the page of what was seen. docs/operations.md
    """
    from emp.app.soak.judge import Limits, judge
    from emp.app.soak.page import write_page
    from emp.app.soak.record import paper_record
    from emp.app.soak.samples import as_rows
    from emp.app.soak.subject import Subject
    from emp.app.wiring.examples import default_config
    from emp.core.clock import LiveClock
    from emp.core.errors import EmpError, UsageError
    from emp.core.platform import memory_bytes
    from emp.core.usage import descriptor_limit, is_measurable
    from emp.journal.find import find_run

    if run is not None and config is not None:
        raise UsageError("either --config, or --run of one that is under way")
    if not is_measurable():
        raise UsageError("this system does not tell what a process takes: a soak needs Linux")
    subject = (
        Subject.attach(find_run(run, runs)) if run is not None else Subject.start(config or default_config())
    )
    page = out or Path(f"soak-{subject.folder.manifest['run']}.html")
    open_files = descriptor_limit(subject.pid)
    try:
        samples = _looks(subject, hours * 3600.0, every)
    finally:
        subject.end()
    if len(samples) < LEAST:
        raise EmpError(
            f"{subject.folder.path}: the run ended before it was looked at twice; its log says why"
        )
    model: Any = subject.folder.manifest["config"].get("model", {})
    limits = Limits(
        float(model.get("p99_ms", 0.35)), float(model.get("total_p99_ms", 0.85)), memory_bytes(), open_files
    )
    judged = judge(samples, limits)
    weeks = paper_record(subject.folder, LiveClock().now_ns())
    name = subject.folder.path.name
    sub = f"{judged.figures['hours']:.2f} hours, {len(samples)} looks, code {subject.folder.manifest['code']}"
    write_page(page, f"Soak of {name}", sub, samples, judged, weeks)
    looks = page.with_suffix(".csv")
    with looks.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(as_rows(samples))
    _print(judged.lines, weeks, page, as_json)
    if as_json:
        print(
            json.dumps(
                {
                    "run": subject.folder.manifest["run"],
                    "run_folder": str(subject.folder.path),
                    "verdict": judged.verdict,
                    "looks": len(samples),
                    **judged.figures,
                    "lines": [line._asdict() for line in judged.lines],
                    "paper": {"days": [day._asdict() for day in weeks.days], "lacks": weeks.lacks},
                    "page": str(page),
                    "csv": str(looks),
                }
            )
        )
    if judged.verdict == "bad":
        raise typer.Exit(BAD)


def _looks(subject: "Subject", seconds: float, every: float) -> "list[Sample]":
    """Look at the run until the time is over, it ends, or somebody presses Ctrl-C; twice at least. The time begins when
    the run is well for the first time, or has taken STARTS_S for it.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from emp.app.soak.samples import Probe
    from emp.app.terminal.console import make_console

    console = make_console()
    probe, samples = Probe(subject.pid, subject.url, subject.folder.path), list["Sample"]()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    started = began = time.monotonic()
    missed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(subject.folder.path.name, total=seconds)
        try:
            while (at := time.monotonic() - began) <= seconds or len(samples) < LEAST:
                found = probe.look(at)
                missed = missed + 1 if found is None else 0
                if missed * every > SILENT_S or (found is None and probe.ended):
                    break
                well = found is not None and found.healthy
                if not well and not samples and time.monotonic() - started < STARTS_S:
                    began = time.monotonic()
                    bar.update(task, description="it is not well yet" if found is None else found.why)
                    at = 0.0
                elif found is not None:
                    samples.append(found)
                    bar.update(task, completed=at, description=_words(found))
                time.sleep(max(0.0, every - (time.monotonic() - began - at)))
        except KeyboardInterrupt:
            console.print("ended early", highlight=False)
    return samples


def _words(one: "Sample") -> str:
    return (
        f"{one.decisions:,} decisions, p99 {one.total_p99_ms * 1e3:,.0f} us, {one.rss / 1e6:,.0f} MB,"
        f" {one.folder / 1e6:,.0f} MB on disk"
    )


def _print(lines: Any, weeks: Any, page: Path, as_json: bool) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    console = make_console(stderr=as_json)
    table = Table(box=None)
    for column in ("", "what", "found", "limit"):
        table.add_column(column)
    colours = {"ok": "green", "warn": "yellow", "bad": "red", "short": "dim"}
    for line in lines:
        table.add_row(f"[{colours[line.verdict]}]{line.verdict}[/]", line.what, line.found, line.limit)
    print_table(console, table)
    green = sum(day.colour == "green" for day in weeks.days)
    console.print(
        f"two weeks on paper: {weeks.lacks or 'on record'}" + (f" ({green} green days)" if green else ""),
        highlight=False,
    )
    console.print(f"page: {page}", highlight=False)
