"""Judge models on later data than they were trained on, beside baselines; or compare their inputs across markets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE, takes_options

if TYPE_CHECKING:
    from emp.app.report.evaluation import Curves
    from emp.model.artifact import Manifest
    from emp.train.data.data import Dataset, Series
    from emp.train.judge.evaluate import Contender, Evaluation
    from emp.train.judge.peer import PeerForecast
    from emp.train.judge.psi import Cell

app = typer.Typer()

MATRIX_WIDTH = 120
"""Columns that the PSI matrix needs, also where the output is no terminal."""

PEER_WINDOWS = 120_000
"""Windows that a peer is trained on unless told otherwise: some minutes on one core for each series."""


class Options(NamedTuple):
    """What `emp evaluate` can be told."""

    artifact: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]FOLDER of a model artifact, or of several that are seeds of one model, or the kind of a "
            "shipped one; may be given often. Those of one name are its seeds; unnamed ones go by their kind. "
            "Without it: the default."
        ),
    ] = None
    against: Annotated[
        str | None,
        typer.Option(
            help="Linear artifact that the others are compared with; the shipped one where it fits."
        ),
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A series, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often. "
            "Without it: the recordings of the shipped model (with --psi: of four markets), below EMP_DATA."
        ),
    ] = None
    psi: Annotated[bool, typer.Option("--psi", help="Compare the inputs between the series instead.")] = False
    walk: Annotated[
        bool,
        typer.Option(
            "--walk",
            help="Walk forward day by day instead: the linear model and the baselines, fitted anew for every test "
            "day of each series of several days.",
        ),
    ] = False
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out",
            help="Instead: train without a group of recorded markets, judge on it, in turn; with --artifact: judge "
            "that one on all markets of whose instruments it has seen nothing (docs/evaluation.md).",
        ),
    ] = False
    integrity: Annotated[
        bool,
        typer.Option(
            "--integrity",
            help="Instead: mask the future and see that nothing known before changes; hold the compiled step against "
            "its definition, and a live run against its replay and the forecasts judged here (docs/gates.md). Exit "
            "code 1 where anything differs.",
        ),
    ] = False
    catalogue: Annotated[
        Path | None,
        typer.Option(
            help="With --leave-out: YAML of markets; the shipped examples/markets.yaml where not given."
        ),
    ] = None
    by: Annotated[str, typer.Option(help="With --leave-out: what is left out together: group or class.")] = (
        "group"
    )
    market: Annotated[
        list[str] | None,
        typer.Option(
            help="With --leave-out: leave out this market alone; may be given often. Not where evidence of an "
            "--artifact is written."
        ),
    ] = None
    events: Annotated[
        int, typer.Option(min=2_000, help="With --leave-out: events of each market to train on.")
    ] = 20_000
    epochs: Annotated[
        int, typer.Option(min=1, help="With --leave-out: how often the state-space model sees them.")
    ] = 2
    judged: Annotated[
        int | None,
        typer.Option(
            min=1_000,
            help="With --leave-out: rows of each market that are judged at most, evenly spaced; 40,000 where not "
            "given.",
        ),
    ] = None
    head_thresholds: Annotated[
        bool,
        typer.Option(
            "--head-thresholds",
            help="With --leave-out: train by class thresholds that the series of a head share, not each by its own.",
        ),
    ] = False
    trees: Annotated[
        bool, typer.Option(help="Also grow gradient-boosted trees as a baseline (slow the first time).")
    ] = False
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="Also train this published network on the first part of every series (very slow the first time): "
            "deeplob, tlob or binlob; may be given often."
        ),
    ] = None
    peer_windows: Annotated[int, typer.Option(min=64, help="Windows that each --peer is trained on.")] = (
        PEER_WINDOWS
    )
    as_trained: Annotated[
        bool, typer.Option("--as-trained", help="Also judge what models say before outcomes correct it.")
    ] = False
    trade: Annotated[
        bool | None,
        typer.Option(
            help="With --trade the unseen parts are traded on paper and nothing is judged: what lots were expected "
            "to bring beside what they brought, in one table, without --data also of three days of which nothing was "
            "trained on; then what each part of the decision rule is worth before the test parts "
            "(docs/decisions.md). With neither the test parts are judged and traded; with --no-trade judged only.",
            show_default=False,
        ),
    ] = None
    parts: Annotated[bool, typer.Option(help="With --trade: also the rule without each of its parts.")] = True
    page: Annotated[Path | None, typer.Option(help="Also write a page of plots to this HTML file.")] = None
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def evaluate(options: Options) -> None:
    """Judge models on the test part of each series, beside baselines, with block-bootstrap intervals.

    The parts are those of `emp train`: nothing of the test part may have been trained on, or the command refuses.
    What takes long is kept under the hash of what it was made from. With --psi: exit code 1 where an input drifts
    between series without a measured reason.
    """
    if options.leave_out:
        _leave_out(options)
        return
    if options.catalogue is not None or options.market:
        from emp.core.errors import UsageError

        raise UsageError(
            "--catalogue and --market name what --leave-out leaves out: add it, or leave them away"
        )
    if options.integrity:
        _integrity(options)
        return
    if options.trade:
        _trade_only(options)
        return
    import numpy as np

    from emp.app.terminal.progress import Work
    from emp.core.config.config import DEFAULT_IMPL
    from emp.train.data.data import load_dataset, parse_series
    from emp.train.data.recipe import ALIGNED, SHIPPED, recipe
    from emp.train.judge import evaluate as judging
    from emp.train.judge.contenders import parse_contenders, with_reference
    from emp.train.judge.folds import LEAST_DAYS

    contenders = [] if options.psi else parse_contenders(options.artifact or [DEFAULT_IMPL])
    series = (
        [parse_series(text) for text in options.data]
        if options.data
        else recipe(ALIGNED if options.psi else SHIPPED)
    )
    k_sigma = contenders[0].seeds[0].artifact.manifest.k_sigma if contenders else 0.0
    datasets = []
    for one in series:
        with Work(f"see {one.name}") as work:
            datasets.append(load_dataset(one, k_sigma, work.bytes_read))
    if options.psi:
        _psi(datasets, options.as_json)
        return
    if options.walk:
        chosen = [
            one for one in datasets if options.data or len(np.unique(one.seen.rows["day"])) >= LEAST_DAYS
        ]
        _walk(chosen, k_sigma, options)
        return

    contenders = with_reference(contenders, options.against, datasets)
    peers = _peers(contenders, series, datasets, options)
    with Work("evaluate") as work:
        found = judging.evaluate(
            contenders, datasets, options.seed, options.trees, work.report, peers, options.as_trained
        )
    traded = _trade(contenders, series, datasets, found.table, options.seed) if options.trade is None else []
    result = _result(contenders, found, traded)
    if options.evidence is not None:
        from emp.governance.evaluated import of_evaluation
        from emp.governance.evidence import Store

        store = Store(options.evidence)
        config = {"k_sigma": k_sigma, "trade": options.trade is None}
        made = of_evaluation(contenders, datasets, found, traded, config, options.seed)
        result["evidence"] = [store.add(one) for one in made]
    _show(result, found.curves, options)


def _leave_out(options: Options) -> None:
    from emp.app.leave_out import Asked, leave_out

    asked = Asked(
        options.catalogue,
        options.by,
        options.market or (),
        options.events,
        options.epochs,
        not options.head_thresholds,
        options.seed,
        options.markdown,
        options.as_json,
        options.artifact or (),
        options.evidence,
        options.peer or (),
        options.peer_windows,
        options.judged,
    )
    leave_out(asked)


def _integrity(options: Options) -> None:
    from emp.app.integrity import Asked, integrity
    from emp.core.config.config import DEFAULT_IMPL

    artifacts = options.artifact or [DEFAULT_IMPL]
    integrity(Asked(artifacts, options.data or (), options.seed, options.as_json, options.evidence))


def _trade_only(options: Options) -> None:
    from emp.app.traded import Asked, trade
    from emp.core.config.config import DEFAULT_IMPL
    from emp.core.errors import UsageError

    artifacts = options.artifact or [DEFAULT_IMPL]
    if len(artifacts) > 1:
        raise UsageError("--trade trades one model: give one --artifact")
    asked = Asked(artifacts[0], options.data or (), options.parts, options.seed, options.as_json)
    trade(asked)


def _show(result: dict[str, Any], curves: "Curves", options: Options) -> None:
    """Write the page and print the result in the form that was asked for."""
    from emp.app.report import evaluation_text

    if options.page is not None:
        from emp.app.report.evaluation import write_page

        write_page(options.page, result, curves)
    if options.as_json:
        print(json.dumps(result))
    elif options.markdown:
        print(evaluation_text.markdown(result))
    else:
        evaluation_text.show(result)
        _show_trading(result["trading"])


def _show_trading(traded: list[dict[str, Any]]) -> None:
    """Print what the traders earned, and what had been expected of their lots."""
    from emp.app.report import evaluation_text

    if traded:
        tables = (evaluation_text.trading_lines, evaluation_text.value_lines, evaluation_text.kind_lines)
        for line in (line for table in tables for line in table(traded)):
            typer.echo(line)


def _walk(datasets: "Sequence[Dataset]", k_sigma: float, options: Options) -> None:
    """Walk forward over every series and print what came of it."""
    from emp.app.report import evaluation_text
    from emp.app.terminal.progress import Work
    from emp.train.judge.folds import walk_forward

    result: dict[str, Any] = {"table": [], "folds": [], "parts": {}, "latency_us": {}}
    for data in datasets:
        with Work(f"walk {data.series}") as work:
            found = walk_forward(data, k_sigma, options.seed, options.trees, work.report)
        result["table"] += found.table
        result["folds"] += found.folds
        result["parts"][data.series] = found.parts
        result["latency_us"][data.series] = {}
    if options.as_json:
        print(json.dumps(result))
    elif options.markdown:
        print(evaluation_text.markdown(result))
        print("\n".join(evaluation_text.fold_lines(result["folds"])))
    else:
        evaluation_text.show(result)


def _result(
    contenders: "Sequence[Contender]", found: "Evaluation", traded: list[dict[str, Any]]
) -> dict[str, Any]:
    from emp.model.artifact import ENCODER, tells_training

    manifest = contenders[0].seeds[0].artifact.manifest
    return {
        "model_hash": manifest.hash,
        "models": {c.name: [model.artifact.hash for model in c.seeds] for c in contenders},
        "train_span": _train_spans(manifest),
        "encoder_train_span": _train_spans(manifest, ENCODER),
        "training_not_known": [
            c.name for c in contenders if not all(tells_training(m.artifact.manifest) for m in c.seeds)
        ],
        "test_span": {name: parts["test"] for name, parts in found.spans.items()},
        "parts": found.parts,
        "thresholds": dict(zip(manifest.domains, manifest.thresholds, strict=True)),
        "table": found.table,
        "intervals": found.intervals,
        "latency_us": found.latency,
        "peers": found.peers,
        "trading": traded,
    }


def _train_spans(manifest: "Manifest", of: str = "series") -> dict[str, list[Any]]:
    """The span of each series in an entry of a provenance, [from, to] in ns; a list of them where a model names
    several.
    """
    trained: dict[str, list[Any]] = {}
    for one in manifest.provenance.get(of, []):
        trained.setdefault(one["series"], []).append(one["train_ns"])
    return {name: one[0] if len(one) == 1 else one for name, one in trained.items()}


def _peers(
    contenders: "Sequence[Contender]",
    series: "Sequence[Series]",
    datasets: "Sequence[Dataset]",
    options: Options,
) -> "dict[str, dict[str, PeerForecast]]":
    """Forecasts of every --peer by series; where one level is all there is, a network has nothing to look at."""
    from emp.app.terminal.progress import Work
    from emp.train.data.books import read_books
    from emp.train.judge.evaluate import common_thresholds
    from emp.train.judge.peer import forecast_peer, known_peers

    found: dict[str, dict[str, PeerForecast]] = {}
    names = known_peers(options.peer or ())
    for one, data in zip(series, datasets, strict=True):
        if not names or not data.seen.states["has_depth"].any():
            continue
        threshold = common_thresholds(contenders, data)
        with Work(f"{', '.join(names)} {one.name}") as work:
            books = read_books(one, data, work.bytes_read)
            found[data.series] = {
                name: forecast_peer(
                    name, data, books, threshold, options.seed, options.peer_windows, work.report
                )
                for name in names
            }
    return found


def _trade(
    contenders: "Sequence[Contender]",
    series: "Sequence[Series]",
    datasets: "Sequence[Dataset]",
    table: list[dict[str, Any]],
    seed: int,
) -> list[dict[str, Any]]:
    """Trade every test part on paper, by every model and by the dumb trader; write alpha into the table."""
    from emp.app.terminal.progress import Work
    from emp.app.wiring.assembly import engine_limits
    from emp.engine.reversion import NAME, reversion_model
    from emp.train.judge.alpha import mark_rows, trade_test_part

    manifest = contenders[0].seeds[0].artifact.manifest
    found = []
    for one, data in zip(series, datasets, strict=True):
        dumb = reversion_model([data.instrument], manifest.k_sigma, manifest.warmup_events)
        for name, seeds in [*((c.name, c.seeds) for c in contenders), (NAME, (dumb,))]:
            results = []
            for model in seeds:
                with Work(f"trade {one.name}, {name}") as work:
                    result = trade_test_part(model, one, data, engine_limits(), seed, work.bytes_read)
                results.append({**result, "model": name, "model_hash": model.artifact.hash})
            found += results
            mark_rows([r for r in table if r["series"] == data.series and r["model"] == name], results)
    return found


def _psi(datasets: "list[Dataset]", as_json: bool) -> None:
    from emp.train.judge.psi import compare, measured, verdict

    if len(datasets) < 2:
        from emp.core.errors import UsageError

        raise UsageError("--psi compares series: give at least two with --data")
    cells = compare(datasets)
    said = verdict(cells)
    reasons = measured(datasets)
    if as_json:
        print(json.dumps({**said, "table": [cell._asdict() for cell in cells], "reasons": reasons}))
    else:
        _show_psi(cells, said, reasons)
    if not said["passed"]:
        raise typer.Exit(1)


def _show_psi(cells: "list[Cell]", said: dict[str, Any], reasons: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console

    console = make_console(stderr=False)
    console.width = max(console.width, MATRIX_WIDTH)
    names = list(dict.fromkeys(cell.reference for cell in cells))
    kinds = sorted({cell.exception for cell in cells if cell.exception})
    table = Table(
        title=f"PSI, limit {said['limit']}; a>b: deciles of a, shares of b; chance: highest 95 % point by chance alone",
        caption=", ".join(f"{kind[0]} {kind}" for kind in kinds) + ", ! over the limit without a reason",
        box=None,
    )
    table.add_column("input")
    for i, reference in enumerate(names):
        console.print(f"{i + 1}  {reference}")
        for j in range(len(names)):
            if i != j:
                table.add_column(f"{i + 1}>{j + 1}", justify="right")
    table.add_column("chance", justify="right")
    for name in dict.fromkeys(cell.input for cell in cells):
        mine = [cell for cell in cells if cell.input == name]
        marks = [c.exception[0] if c.exception else "!" if c.psi > said["limit"] else " " for c in mine]
        shown = (f"{c.psi:.2f}{mark}" for c, mark in zip(mine, marks, strict=True))
        table.add_row(name, *shown, f"{max(c.chance for c in mine):.2f}")
    console.print(table)
    for row in reasons:
        if row["holds"]:
            found = f"{row['series']}: {row['input']}: {row['measured']} >= {row['at_least']}"
            console.print(f"{row['reason']}: {found}: {row['why']}")
    console.print(
        f"{said['over']} of {said['cells']} over the limit, {said['excused']} of them for a measured reason"
    )
    for line in said["failed"]:
        console.print(f"not excused: {line}")
