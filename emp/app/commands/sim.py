"""The market simulator: generate, calibrate, verify against recordings, check stylised facts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE

START_PX = 58_000
"""Ticks at which sessions of `emp sim trade` begin."""

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Model = Annotated[str, typer.Option(help="zi, goog, tsla, or a file that `emp sim calibrate` wrote.")]


@app.command()
def generate(
    out: Annotated[
        Path,
        typer.Argument(
            help="Parquet file to write EVENT rows to, or a LOBSTER message file like XYZ_2024-01-02_message_10.csv,"
            " which gets its orderbook file beside it."
        ),
    ],
    model: Model = "zi",
    events: Annotated[int, typer.Option(min=1, help="How many events.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    start_px: Annotated[int, typer.Option(min=1000, help="First mid price, in ticks.")] = 100_000,
    instrument: Annotated[
        str | None,
        typer.Option(help="Write a recording of this instrument, within its hours, for `emp replay`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a simulated market run and write what it shows."""
    import hashlib

    if out.suffix == ".csv":
        result = _generate_lobster(out, model, events, seed, start_px, instrument)
        if as_json:
            print(json.dumps(result))
        return
    if instrument is not None:
        from emp.app.library.market import simulate

        recorded = simulate(model, instrument, events=events, seed=seed, start_px=start_px)
        recorded.save(out)
        _say(f"{events} events of {instrument} -> {out}")
        if as_json:
            print(json.dumps({"model": model, "events": events, "seed": seed, "instrument": instrument}))
        return
    from emp.core.records import empty_events
    from emp.sim.book.check import check_book
    from emp.sim.flow.shipped import named_flow
    from emp.sim.world.market import Market

    market = Market(named_flow(model), seed, start_px)
    rows = empty_events(events)
    with _bar("events") as step:
        done = 0
        while done < events:
            done += market.run(2**62, min(50_000, events - done), rows=rows[done : done + 50_000])
            step(done / events)
    check_book(market.book)
    _write_rows(rows, out)
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    result = {
        "model": model,
        "events": events,
        "seed": seed,
        "seconds_simulated": round((market.now_ns) / 1e9, 3),
        "sha256": digest,
        "file": str(out),
    }
    _say(f"{events} events, {result['seconds_simulated']} simulated seconds, sha256 {digest[:16]} -> {out}")
    if as_json:
        print(json.dumps(result))


def _generate_lobster(
    out: Path, model: str, events: int, seed: int, start_px: int, instrument: str | None
) -> dict[str, Any]:
    """Write a pair of LOBSTER files of `events` messages, from half past nine in New York on."""
    from emp.core.errors import UsageError
    from emp.sim.flow.shipped import named_flow
    from emp.sim.tape.lobster_files import opening_ns, save_lobster
    from emp.sim.world.market import Market
    from emp.sim.world.printed import printed

    if instrument is not None:
        raise UsageError("LOBSTER files name no instrument: leave out --instrument, or write .parquet")
    market = Market(named_flow(model), seed, start_px, start_ns=opening_ns(out))
    made = printed(market, events, Path(model).stem)
    book = save_lobster(made, out)
    seconds = round(int(made.msgs["ts"][-1] - made.msgs["ts"][0]) / 1e9, 3)
    _say(f"{events} messages, {seconds} simulated seconds -> {out}, {book}")
    return {
        "model": model,
        "events": events,
        "seed": seed,
        "seconds_simulated": seconds,
        "file": str(out),
        "orderbook": str(book),
    }


@app.command()
def judge(
    model: Annotated[str, typer.Argument(help="zi, goog, tsla, or a file that `emp sim calibrate` wrote.")],
    recording: Annotated[
        Path, typer.Argument(help="LOBSTER message file with its ten-level orderbook file beside it.")
    ],
    sequences: Annotated[
        int, typer.Option(min=1, help="Sequences of 500 messages of each side, the recording's last.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    as_json: Json = False,
) -> None:
    """Score a flow by LOB-Bench against a recording it was not fitted to, beside the recording against itself.

    Twenty-one distances and three conditional ones, each as L1 over bins (0 to 1) and as Wasserstein-1 in standard
    deviations, and the difference of the mid's response to events at the touch, in ticks; smaller is nearer.
    """
    from emp.app.terminal.judged import judged_json, show_judged
    from emp.sim.facts.judge import judge as judged
    from emp.sim.facts.study import named_source
    from emp.sim.flow.shipped import named_flow
    from emp.sim.tape.recording import load_recording

    with _bar("judging") as step:
        params, source = named_flow(model), named_source(model)
        found = judged(params, source, Path(model).stem, load_recording(recording), sequences, seed, step)
    show_judged(_console(), found)
    if as_json:
        print(json.dumps(judged_json(found)))


@app.command()
def verify(
    recording: Annotated[
        Path,
        typer.Argument(
            help="LOBSTER message file with its orderbook file beside it, or a Databento MBO file."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Rebuild a recording's book from its messages and compare with what the recording says, at every event."""
    import msgspec

    from emp.sim.tape.recording import load_recording

    with _bar("replaying") as step:
        made = load_recording(recording)
        step(0.3)
        result = _verify_orders(made) if made.after is not None else _verify_levels(made)
        step(1.0)
    if as_json:
        print(json.dumps(msgspec.to_builtins(result)))


def _verify_levels(made: Any) -> dict[str, Any]:
    import msgspec

    from emp.sim.tape.verify import verify as hold

    report, whole = hold(made)
    _show_report(report)
    result: dict[str, Any] = msgspec.to_builtins(report)
    result["rates"] = [round(x, 6) for x in report.rates()]
    result["messages"] = len(whole.msgs)
    return result


def _verify_orders(made: Any) -> dict[str, Any]:
    import msgspec
    from rich.table import Table

    from emp.sim.tape.mbo import MISFITS
    from emp.sim.tape.verify_orders import verify_orders

    report = verify_orders(made)
    out = Table(title=f"{report.name}: {report.records} rows, {report.events} events of the exchange")
    for column in ("what a row did", "rows", ""):
        out.add_column(column)
    bad = {m.name.lower() for m in MISFITS}
    for name, n in sorted(report.meaning.items(), key=lambda x: -x[1]):
        out.add_row(name.replace("_", " "), str(n), "[red]fits no order[/]" if name in bad else "")
    console = _console()
    _print(console, out)
    console.print(
        f"{report.messages} messages of the book: {report.fits}; orders as the feed says at the end of an event: "
        f"{report.matched} of {report.compared}; {report.crossed_events} events with a crossed book; "
        f"{report.misfits} rows or messages that fit no order",
        highlight=False,
    )
    result: dict[str, Any] = msgspec.to_builtins(report)
    result["misfits"] = report.misfits
    return result


@app.command()
def calibrate(
    recording: Annotated[Path, typer.Argument(help="Order-by-order recording to estimate from.")],
    out: Annotated[Path, typer.Option(help="File to write the model to.")] = Path("flow.npz"),
    model: Annotated[str, typer.Option(help="zi, hawkes or qr.")] = "qr",
    share: Annotated[float, typer.Option(min=0.1, max=1.0, help="Use this first part of its events.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulated moments.")] = 1,
    as_json: Json = False,
) -> None:
    """Estimate a flow model from one recording."""
    from emp.sim.facts.study import FIT_STEPS, fit, fit_part, study
    from emp.sim.flow.params import Source, params_hash, save_params
    from emp.sim.tape.recording import utc

    with _bar("calibrating") as step:
        made = study(recording)
        done = 0

        def progress() -> None:
            nonlocal done
            done += 1
            step(done / FIT_STEPS)

        used = fit_part(made.tape.obs, share)
        p = fit(used, model, seed, progress)
        step(1.0)
    first, last = utc(int(used["ts"][0])), utc(int(used["ts"][-1]))
    note = f"{model} from {made.recording.name} {first} to {last}"
    source = Source(made.recording.name, int(used["ts"][0]), int(used["ts"][-1]), note, made.recording.levels)
    save_params(out, p, source)
    result = {
        "model": model,
        "events": len(used),
        "file": str(out),
        "hash": params_hash(p),
        "note": note,
    }
    _say(f"{note}: {len(used)} events -> {out}")
    if as_json:
        print(json.dumps(result))


@app.command()
def facts(
    held_out: Annotated[
        list[Path] | None, typer.Argument(help="Recordings the model was not fitted to.")
    ] = None,
    model: Model = "zi",
    events: Annotated[int, typer.Option(min=50_000, help="Simulated events.")] = 1_500_000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    plots: Annotated[Path | None, typer.Option(help="Folder to write plots to.")] = None,
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    as_json: Json = False,
) -> None:
    """Hold a flow model against twenty stylised facts and against recordings it has not seen.

    What the model was fitted to is left out of its own instrument's recording: only later events are held out.
    """
    from emp.sim.facts.study import fact_table, named_source, study, without_fitted
    from emp.sim.flow.shipped import named_flow

    with _bar("facts") as step:
        params = named_flow(model)
        source = named_source(model)
        others = [without_fitted(study(path), source) for path in held_out or []]
        step(0.5)
        stages = iter((0.6, 0.7, 0.8, 0.9, 0.95))
        table = fact_table(
            params,
            Path(model).stem,
            others,
            events,
            seed,
            lambda _: step(next(stages, 1.0)),
            source.levels,
        )
    _show_facts(table)
    if evidence is not None:
        from emp.governance.collect import of_facts
        from emp.governance.evidence import Store

        config = {"model": table.model, "events": events, "held_out": [path.name for path in held_out or []]}
        Store(evidence).add(of_facts(len(table.passed), len(table.failed), config, seed))
    if plots is not None:
        from emp.sim.facts.plots import plot_facts

        for path in plot_facts(table, [o.tape for o in others], plots):
            _say(f"plot: {path}")
    if as_json:
        print(json.dumps(_facts_json(table)))


@app.command()
def maker(
    model: Annotated[str, typer.Option(help="goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Annotated[str, typer.Option(help="Name in the catalogue; its fees are charged.")],
    sessions: Annotated[
        int, typer.Option(min=10, help="Sessions of 10,000 events, each with its seed.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Let a naive two-sided maker quote in zero-intelligence flow and in a calibrated flow.

    It must earn where nobody knows anything, and lose or break even after fees where flow knows something.
    """
    import msgspec

    from emp.core.instrument import find
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.maker_study import study_maker

    facts = find(instrument)
    flows = {"zi": named_flow("zi"), Path(model).stem: named_flow(model)}
    with _bar("sessions") as step:
        done = [
            study_maker(
                name,
                params,
                facts.maker_fee,
                facts.taker_fee,
                sessions,
                seed=seed,
                progress=lambda share, k=k: step((k + share) / len(flows)),  # type: ignore[misc]
            )
            for k, (name, params) in enumerate(flows.items())
        ]
    _show_makers(done, instrument)
    if as_json:
        print(
            json.dumps(
                {
                    "instrument": instrument,
                    "markets": [msgspec.to_builtins(m) | {"verdict": m.verdict} for m in done],
                }
            )
        )


@app.command()
def trade(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Annotated[str, typer.Option(help="Name in the catalogue; its fees are charged.")],
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 200,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    misled: Annotated[bool, typer.Option("--misled", help="Turn every forecast around.")] = False,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Let the engine's own policy trade a calibrated flow: what its lots were expected to bring, and brought.

    Also how many sessions were stopped because lots brought less than was believed of them.
    """
    import msgspec

    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.trade_study import study_trading

    facts = find(instrument)
    with _bar("sessions") as step:
        found = study_trading(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            sessions=sessions,
            events=events,
            start_px=START_PX,
            seed=seed,
            misled=misled,
            progress=step,
        )
    typer.echo(
        f"{found.sessions:,} sessions of {found.events:,} events, {found.lots:,} lots closed,"
        f" {found.pnl_ticks:+,.1f} ticks a session"
    )
    typer.echo(
        f"ticks a lot: expected {found.expected:+.2f}, realised {found.realised:+.2f} +- {found.realised_half:.2f},"
        f" realised less expected {found.missed:+.2f} +- {found.missed_half:.2f}"
    )
    after = "" if found.trips_to_stop is None else f", after {found.trips_to_stop:.0f} round trips (median)"
    typer.echo(f"stopped: {found.stopped:,} of {found.sessions:,}{after}")
    if as_json:
        print(json.dumps({"instrument": instrument, "misled": misled, **msgspec.to_builtins(found)}))


@app.command()
def ablate(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Annotated[str, typer.Option(help="Name in the catalogue; its fees are charged.")],
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 200,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Leave out one part of the decision rule at a time: each action, each rule that withdraws, terms of the value.

    Trades the same sessions of a calibrated flow with it and without it: what it brings a session, with intervals that
    hold for all parts together.
    """
    import msgspec

    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.ablation import ablation_lines, study_ablation

    facts = find(instrument)
    with _bar("sessions") as step:
        found = study_ablation(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            sessions=sessions,
            events=events,
            start_px=START_PX,
            seed=seed,
            progress=step,
        )
    for line in ablation_lines(found):
        typer.echo(line)
    if as_json:
        verdicts = {one.part: one.verdict for one in found.parts}
        print(json.dumps({"instrument": instrument, **msgspec.to_builtins(found), "verdicts": verdicts}))


@app.command()
def fills(
    recordings: Annotated[list[Path] | None, typer.Argument(help="Order-by-order recordings.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Flows: zi, goog, tsla, or a file of `emp sim calibrate`.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1_000, help="Virtual orders in each flow.")] = 20_000,
    rest: Annotated[
        int,
        typer.Option(min=1, help="Events that an order has rested where models of the queue are compared."),
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    as_json: Json = False,
) -> None:
    """Hold models of the fill probability against fills: in flows, whose queues are known, and in recordings.

    A virtual lot joins the best queue and is watched for 200 events; a second table is of lots that have rested for a
    while, where models of the queue say how many are ahead, beside the count that is known. Fitted on the first 60 %
    of the orders, scored on the later part: the Brier score over 10, 25, 50, 100 and 200 events, its distance from what
    the rule uses with a 95 % interval, and mean forecast less share filled.
    """
    from emp.sim.facts.study import study
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.fill_models import (
        BY_QUEUE,
        MODELS,
        queue_errors,
        score,
        watched_market,
        watched_plan,
    )
    from emp.sim.world.market import Market

    names = model or ([] if recordings else ["goog", "tsla"])
    watched, rested = {}, {}
    with _bar("fills") as step:
        for name in names:
            market = Market(named_flow(name), seed, 100_000)
            market.run(2**62, 20_000)
            watched[f"flow {Path(name).stem}"] = watched_market(market, probes)
            rested[f"flow {Path(name).stem}"] = watched_market(market, probes, rest)
            step(len(watched) / (len(names) + len(recordings or [])))
        for path in recordings or []:
            plan = study(path).plan
            watched[path.name], rested[path.name] = watched_plan(plan), watched_plan(plan, rest)
            step(len(watched) / (len(names) + len(recordings or [])))
    done = {name: (len(rows), score(rows)) for name, rows in watched.items()}
    later = {name: (len(rows), score(rows, MODELS | BY_QUEUE)) for name, rows in rested.items()}
    errors = {name: queue_errors(rows) for name, rows in rested.items()}
    _show_fills(done, "orders that join the touch")
    _show_fills(later, f"orders that have rested {rest} events")
    for name, found in errors.items():
        off = ", ".join(f"{model} {mean:+.1f} ({size:.1f})" for model, (mean, size) in found.items())
        typer.echo(f"{name}: lots ahead by model less those that are, mean (mean size): {off}")
    if as_json:
        print(
            json.dumps(
                {
                    name: {"orders": n, "models": [m._asdict() for m in found]}
                    | {"rested": later[name][0], "rested_models": [m._asdict() for m in later[name][1]]}
                    | {"queue_errors": errors[name]}
                    for name, (n, found) in done.items()
                }
            )
        )


def _show_fills(done: dict[str, Any], of: str) -> None:
    from rich.table import Table

    out = Table(title=f"fill models of {of}, on the later part; 95 % over blocks")
    for column in (
        "where",
        "orders",
        "model",
        "Brier",
        "less the rule's",
        "bias 10",
        "50",
        "200 events",
        "ns an order",
    ):
        out.add_column(column, justify="left" if column in ("where", "model") else "right")
    for name, (n, found) in done.items():
        for m in found:
            out.add_row(
                name,
                str(n),
                m.name,
                f"{m.brier:.4f}",
                f"{m.less:+.4f} +- {m.less_half:.4f}",
                *(f"{m.bias[h]:+.3f}" for h in (10, 50, 200)),
                f"{m.ns:.0f}",
            )
    _print(_console(), out)


def _show_makers(done: list[Any], instrument: str) -> None:
    from rich.table import Table

    from emp.sim.measure.maker_study import LEVEL

    fee = done[0].maker_fee
    out = Table(title=f"naive maker, ticks per lot ({LEVEL:.0%}); {instrument} maker fee {fee:g} ticks")
    horizons = list(done[0].markouts)
    out.add_column("market")
    for column in ("lots", "before fees", "after fees", *(f"markout {h} events" for h in horizons)):
        out.add_column(column, justify="right")
    out.add_column("after fees it")

    def known(x: Any) -> str:
        return f"{x.value:.3f} ({x.low:.3f} .. {x.high:.3f})"

    for m in done:
        marks = [known(m.markouts[h]) for h in horizons]
        out.add_row(m.market, str(m.lots), known(m.per_lot_before_fees), known(m.per_lot), *marks, m.verdict)
    _print(_console(), out)


def _facts_json(table: Any) -> dict[str, Any]:
    import math

    def number(x: float | None) -> float | None:
        return round(float(x), 5) if x is not None and math.isfinite(x) else None

    rows = [
        {
            "fact": r.fact,
            "name": r.name,
            "target": r.target,
            "source": r.source,
            "real": {k: number(v) for k, v in r.real.items()},
            "simulated": number(r.simulated),
            "band": [number(r.low), number(r.high)],
            "pass": r.passed,
            "minimum": r.minimum,
        }
        for r in table.rows
    ]
    return {
        "model": table.model,
        "passed": table.passed,
        "failed": table.failed,
        "minimum_passed": table.minimum_passed,
        "impact_exponent": number(table.impact.exponent),
        "impact_exponent_90": [number(table.impact.low), number(table.impact.high)],
        "impact_reversion": number(table.impact.reversion),
        "table": rows,
    }


def _show_facts(table: Any) -> None:
    from rich.table import Table

    out = Table(title=f"stylised facts: {table.model}")
    names = sorted({k for r in table.rows for k in r.real})
    for column in ("#", "fact", *names, "simulated", "band", "", "source"):
        out.add_column(column)
    for r in table.rows:
        real = ["" if r.real.get(n) is None else f"{r.real[n]:.3g}" for n in names]
        verdict = "[green]pass[/]" if r.passed else "[red]fail[/]"
        star = "*" if r.minimum else ""
        band = f"{r.low:.3g} .. {r.high:.3g}"
        out.add_row(f"{r.fact}{star}", r.name, *real, f"{r.simulated:.3g}", band, verdict, r.source)
    console = _console()
    _print(console, out)
    console.print(f"passed {table.passed}; failed {table.failed}; * is the minimum set", highlight=False)


def _show_report(report: Any) -> None:
    from rich.table import Table

    out = Table(title=f"{report.name}: {report.events} events")
    for column in ("level", "match rate", "mismatches", *report.causes, "without accounting"):
        out.add_column(column, justify="right")
    for k, rate in enumerate(report.rates()):
        causes = [str(v[k]) for v in report.causes.values()]
        bare = report.matched_without_accounting[k] / max(1, report.compared[k])
        missed = report.compared[k] - report.matched[k]
        out.add_row(str(k + 1), f"{rate:.5%}", str(missed), *causes, f"{bare:.2%}")
    console = _console()
    _print(console, out)
    console.print(
        f"unseen orders placed {report.unseen_orders}, nameless {report.nameless_orders}, "
        f"forgotten {report.forgotten_orders}, messages that fit no order {report.misfits}"
    )


def _write_rows(rows: Any, out: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {}
    for name in rows.dtype.names:
        column = rows[name]
        if column.ndim == 1:
            columns[name] = pa.array(column)
        else:
            flat = pa.array(column.reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        parquet.write_table(pa.table(columns), file)


class _bar:  # noqa: N801  used as a function: `with _bar("events") as step`
    """Progress on stderr; yields a function that takes the share done."""

    def __init__(self, name: str) -> None:
        from emp.app.terminal.progress import Work

        self._name = name
        self._work = Work(name)

    def __enter__(self) -> Callable[[float], None]:
        self._work.__enter__()
        return lambda share: self._work.report(self._name, share)

    def __exit__(self, *error: Any) -> None:
        self._work.__exit__(*error)


def _console() -> Any:

    from emp.app.terminal.console import make_console

    return make_console()


def _print(console: Any, table: Any) -> None:
    from emp.app.terminal.table import print_table

    print_table(console, table)


def _say(text: str) -> None:
    _console().print(text, highlight=False, soft_wrap=True)
