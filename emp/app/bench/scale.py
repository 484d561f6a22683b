"""Many instruments over many engines: one engine measured, the fleet simulated; what is full first, what it costs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import takes_options

if TYPE_CHECKING:
    from emp.app.bench.scaling.engine import Measured
    from emp.app.bench.scaling.fleet import Engine
    from emp.app.bench.scaling.measured import Series
    from emp.app.bench.scaling.plan import Resource, Unit

app = typer.Typer()

PRICE_SOURCE = (
    "cpx32, 4 dedicated cores and 8 GB at EUR 0.016 an hour (docs.cnap.tech, providers/hetzner, 2026)"
)


class Options(NamedTuple):
    """What `emp bench scale` takes."""

    recording: Annotated[
        list[str] | None,
        typer.Argument(
            help="Recordings, NAME=FILE each, whose rates are taken; else those of the shipped flows."
        ),
    ] = None
    instruments: Annotated[int, typer.Option(min=2, help="Of the fleet.")] = 1_000
    engines: Annotated[int, typer.Option(min=2, help="Of the fleet, a core each.")] = 100
    internet: Annotated[int, typer.Option(min=1, help="Instruments of the last line.")] = 100_000
    seconds: Annotated[int, typer.Option(min=20, help="Of virtual time.")] = 300
    size: Annotated[
        list[int] | None,
        typer.Option(
            min=1, help="Instruments of an engine that is measured; may be given often. 1, 10, 100, 1000."
        ),
    ] = None
    events: Annotated[int, typer.Option(min=1_000, help="That each engine is measured on.")] = 20_000
    rounds: Annotated[int, typer.Option(min=1, help="Of each, interleaved; the best counts.")] = 2
    p99_ms: Annotated[float, typer.Option(min=0.1, help="Limit on the wait of 99 of 100 events.")] = 50.0
    core_hour: Annotated[
        float, typer.Option(min=0.0, help=f"Price of a core, EUR an hour: {PRICE_SOURCE}.")
    ] = 0.004
    core_gb: Annotated[float, typer.Option(min=0.1, help="Memory that comes with a core, 10^9 bytes.")] = 2.0
    link_mbit: Annotated[float, typer.Option(min=1.0, help="Wire of a machine, of which a core is one.")] = (
        1_000.0
    )
    kafka_per_s: Annotated[
        float,
        typer.Option(min=0.0, help="Records a second of your Kafka (`emp bench mirrors`); 0: not known."),
    ] = 0.0
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation.")] = 1
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def scale(options: Options) -> None:
    """Measure one engine of 1 to 1,000 instruments on this machine, through the whole live path on paper; then simulate
    many instruments over many engines in virtual time: waits, utilisation, the loss of an engine, what is full first,
    what an instrument costs a month. What was measured is measured in this run; what is assumed is printed beside.
    """
    import tempfile

    from emp.app.bench.scaling import measured
    from emp.app.bench.scaling.engine import market_rows
    from emp.app.terminal.progress import Work
    from emp.core.config.config import Lease

    series = (  # before anything is measured, which takes minutes: a file that will not do is told at once
        measured.recorded_series(options.recording)
        if options.recording
        else measured.shipped_series(options.seed)
    )
    each = max(1, options.instruments // options.engines)
    sizes = sorted({*(options.size or (1, 10, 100, 1_000)), each})
    with Work("engines") as work:
        engines = measured.engines(
            sizes, options.events, options.rounds, lambda done: work.report("engines", done)
        )
    with tempfile.TemporaryDirectory(prefix="emp-scale-") as scratch:
        rows = market_rows(measured.WARM + measured.SHAPED, Path(scratch))
    found = Found(
        engines,
        next(one for one in engines if one.instruments == each),
        series,
        measured.shape_of_cost(rows),
        measured.record_bytes(rows),
        measured.renewals_per_s(),
        Lease().term_s,
    )
    with Work("fleet"):
        result = fleet_of(options, found)
    show(result)
    if options.as_json:
        print(json.dumps(result))


class Found(NamedTuple):
    """What was measured."""

    engines: "list[Measured]"
    like: "Measured"  # the engine that those of the fleet are like
    series: "list[Series]"
    shape: Any  # float64[n], cost of an event over the mean
    record_bytes: float
    renewals_per_s: float | None
    term_s: float


def fleet_of(options: Options, found: Found) -> dict[str, Any]:
    """Simulate, and put together what is printed."""
    import msgspec
    import numpy as np

    from emp.app.bench.scaling.fleet import Load, Span, bearable, drawn_rates, lose, placed, run_fleet
    from emp.app.bench.scaling.measured import memory_of
    from emp.app.bench.scaling.plan import Unit, cost_of, first_full
    from emp.engine.lease_keeper import RENEWALS

    like, span = found.like, Span(options.seconds, options.seed)
    event_s = like.cpu_s / like.events
    rates = drawn_rates([one.rate for one in found.series], options.instruments, options.seed)
    load = Load(rates, np.array(found.series[0].bursts), found.shape * event_s)
    where = placed(rates, options.engines)
    busiest = int(np.argmax(np.bincount(where, rates)))
    fleet, at_once = (run_fleet(one, where, span) for one in (load, load._replace(together=True)))
    lost = lose(load, where, span, found.term_s)
    fixed, each = memory_of(found.engines)
    unit = Unit(
        event_s,
        fixed,
        each,
        like.written / like.events,
        found.record_bytes,
        RENEWALS / found.term_s,
        bearable(load._replace(rates=rates[where == busiest]), span, options.p99_ms / 1e3),
        options.core_gb * 1e9,
        options.core_hour,
    )
    resources = resources_of(options, found, unit, rates, fleet)
    full = first_full(resources)
    mean = float(rates.mean())
    return {
        "engines": [
            msgspec.to_builtins(one)
            | {"us_per_event": 1e6 * one.cpu_s / one.events, "events_per_core_s": one.events / one.cpu_s}
            for one in found.engines
        ],
        "series": [{"name": one.name, "events": one.events, "rate": one.rate} for one in found.series],
        "unit": unit._asdict(),
        "rates": {"mean": mean, "median": float(np.median(rates)), "largest": float(rates.max())},
        "hottest_load": float(rates.max()) * event_s,
        "fleet": told(fleet),
        "bursts_together": told(at_once),
        "lost": lost._asdict(),
        "resources": [one._asdict() | {"load": _finite(one.load)} for one in resources],
        "first_full": full.name if full else None,
        "costs": [cost_of(n, mean, unit)._asdict() for n in (options.instruments, options.internet)],
        "asked": {k: v for k, v in options._asdict().items() if k != "as_json"},
        "price_source": PRICE_SOURCE,
    }


def _finite(x: float | None) -> float | None:
    """JSON knows no infinity."""
    return None if x is None or math.isinf(x) else x


def _number(x: float | None, how: str, none: str = "") -> str:
    return none if x is None else format(x, how)


def told(fleet: "list[Engine]") -> dict[str, float]:
    """The engines of a fleet in a line: the mean of them and the worst."""
    events = sum(one.events for one in fleet)
    return {
        "events": events,
        "utilisation": sum(one.utilisation for one in fleet) / len(fleet),
        "utilisation_worst": max(one.utilisation for one in fleet),
        "wait_p50_ms": 1e3 * sum(one.wait_p50_s for one in fleet) / len(fleet),
        "wait_p99_ms": 1e3 * sum(one.wait_p99_s for one in fleet) / len(fleet),
        "wait_p99_ms_worst": 1e3 * max(one.wait_p99_s for one in fleet),
    }


def resources_of(
    options: Options, found: Found, unit: "Unit", rates: Any, fleet: "list[Engine]"
) -> "list[Resource]":
    """What the fleet uses of everything that it may run out of."""
    from emp.app.bench.scaling.plan import Resource

    each, total = options.instruments / options.engines, float(rates.sum())
    memory = unit.fixed_bytes + each * unit.instrument_bytes
    wire = total / options.engines * unit.record_bytes * 8.0 / 1e6
    renewals = options.engines * unit.renewals_per_s
    busiest = max(one.utilisation for one in fleet)
    return [
        Resource("core of the busiest engine", busiest, unit.bearable, "utilisation", "--p99-ms, simulated"),
        Resource("memory of an engine", memory / 1e9, unit.core_bytes / 1e9, "GB", "--core-gb"),
        Resource("wire of an engine", wire, options.link_mbit, "Mbit/s", "--link-mbit"),
        Resource("Kafka, market data", total, options.kafka_per_s or None, "records/s", "emp bench mirrors"),
        Resource(
            "Redis, renewals of leases", renewals, found.renewals_per_s, "renewals/s", "one client, in turn"
        ),
    ]


def _table(title: str, *heads: str, words: tuple[str, ...] = ()) -> Any:
    """A table of numbers but for the columns that hold `words`."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, justify="left" if head in words else "right")
    return table


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    console = make_console()
    table = _table(
        "one engine, one core, measured",
        "instruments",
        "events/s a core",
        "CPU, us an event",
        "memory, MB",
        "bytes an event",
        "start, CPU s",
    )
    for one in result["engines"]:
        table.add_row(
            f"{one['instruments']:,}",
            f"{one['events_per_core_s']:,.0f}",
            f"{one['us_per_event']:,.0f}",
            f"{one['rss'] / 1e6:,.0f}",
            f"{one['written'] / one['events']:,.0f}",
            f"{one['starts_cpu_s']:.1f}",
        )
    print_table(console, table)
    for line in lines_of(result):
        console.print(line, highlight=False)
    table = _table("what is used", "of", "used", "there", "share", "known from", words=("of", "known from"))
    for one in result["resources"]:
        there = "not known" if one["there"] is None else f"{one['there']:,.2f} {one['unit']}"
        share = _number(one["load"], ".1%", "" if one["there"] is None else "none there")
        table.add_row(one["name"], f"{one['used']:,.2f} {one['unit']}", there, share, one["source"])
    print_table(console, table)
    table = _table(
        "what it costs, as many engines as it takes",
        "instruments",
        "events/s",
        "engines",
        "by",
        "EUR a month",
        "EUR an instrument",
        "renewals/s",
        "TB a day",
        words=("by",),
    )
    for one in result["costs"]:
        table.add_row(
            f"{one['instruments']:,}",
            f"{one['events_per_s']:,.0f}",
            _number(one["engines"], ",", "none fits"),
            one["by"],
            _number(one["per_month"], ",.2f"),
            _number(one["per_instrument_month"], ".4f"),
            _number(one["renewals_per_s"], ",.0f"),
            f"{one['bytes_per_day'] / 1e12:,.3f}",
        )
    print_table(console, table)


def lines_of(result: dict[str, Any]) -> list[str]:
    """What was simulated, and what was assumed."""
    asked, unit, rates, lost = (result[k] for k in ("asked", "unit", "rates", "lost"))

    priced = max(1, asked["instruments"] // asked["engines"])
    known = ", ".join(f"{one['name']} {one['rate']:.1f}/s" for one in result["series"])

    def waited(of: dict[str, float]) -> str:
        return (
            f"utilisation {of['utilisation']:.1%}, {of['utilisation_worst']:.1%} at worst; wait p50"
            f" {of['wait_p50_ms']:.2f}, p99 {of['wait_p99_ms']:.2f} ms, {of['wait_p99_ms_worst']:.2f} at worst"
        )

    return [
        f"memory: {unit['fixed_bytes'] / 1e6:,.0f} MB an engine and {unit['instrument_bytes'] / 1e3:,.0f} kB for each"
        " instrument",
        f"rates: {known}; drawn of the log-normal law with their mean and spread: median"
        f" {rates['median']:.1f}, mean {rates['mean']:.1f}, largest"
        f" {rates['largest']:.1f}/s, which is {result['hottest_load']:.1%} of a core: one instrument has one engine",
        f"{asked['instruments']:,} instruments, {asked['engines']:,} engines, {asked['seconds']} s, seed"
        f" {asked['seed']}: {waited(result['fleet'])}",
        f"bursts of all at once: {waited(result['bursts_together'])}",
        f"busiest engine lost: {lost['instruments']} instruments to {lost['takers']} engines; {lost['delayed']:,}"
        f" events waited for them, {lost['longest_s']:.2f} s at most; calm {1e3 * lost['calm_after_s']:.1f} ms after"
        f" the take-over, {lost['utilisation']:.1%} at worst; {lost['served']:,} of {lost['asked']:,} events served",
        f"within {asked['p99_ms']:g} ms at p99 an engine bears a utilisation of {unit['bearable']:.0%}",
        f"full first: {result['first_full']}",
        f"assumed: a core for each engine, alike instruments, a core of this machine, and an event's cost as with"
        f" {priced} instruments an engine, whatever the cost table makes of it; EUR {asked['core_hour']:g} an hour"
        f" a core ({result['price_source']}); orders, Kafka, Redis and disks cost what they cost beside",
    ]
