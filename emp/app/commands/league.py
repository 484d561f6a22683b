"""Self-play: generations of a main agent, its exploiter and the champion, in reactive markets."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import Jobs, Ray, takes_options

if TYPE_CHECKING:
    from emp.league.generations import SeedResult, Setting
    from emp.league.model_gap import Measured

app = typer.Typer()


@app.callback()
def _root() -> None:
    """Self-play: generations of a main agent, its exploiter and the champion, in reactive markets."""


CHOSEN = ("generations", "rounds", "pairs", "episodes", "held_out", "policy")
"""What of the options belongs to the setting of a league."""


class Options(NamedTuple):
    """What `emp league run` takes."""

    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the results, a file a market; goes on with what is there. None: keep nothing."
        ),
    ] = None
    market: Annotated[
        list[str] | None, typer.Option(help="small-tick or large-tick; may be repeated. Both by default.")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Leagues in each market.")] = 8
    first: Annotated[int, typer.Option("--from", min=0, help="The first seed.")] = 1
    generations: Annotated[int, typer.Option(min=1, help="Of a league.")] = 3
    rounds: Annotated[int, typer.Option(min=2, help="Of a training.")] = 40
    pairs: Annotated[int, typer.Option(min=2, help="Antithetic pairs of candidates in a round.")] = 12
    episodes: Annotated[int, typer.Option(min=4, help="Of a candidate in a round.")] = 16
    held_out: Annotated[int, typer.Option(min=20, help="Episodes of a comparison.")] = 300
    policy: Annotated[
        str, typer.Option(help="Artifact that forecasts for the engine's rule, or the kind of a shipped one.")
    ] = "linear"
    jobs: Jobs = 0
    ray: Ray = ""
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def run(options: Options) -> None:
    """Play leagues from seeds: train, exploit, promote. The same seeds and options give the same results."""
    import msgspec

    from emp.app.terminal.progress import Work
    from emp.core.spread import Workers
    from emp.engine.choose import load_model
    from emp.league.markets import sweep

    load_model(options.policy)  # what cannot be read is said now, not after a training
    chosen = {k: getattr(options, k) for k in CHOSEN}
    settings = {one.name: msgspec.structs.replace(one, **chosen) for one in _markets(options.market)}
    wanted, out = range(options.first, options.first + options.seeds), options.out
    kept = {n: _kept(out, s) if out else {} for n, s in settings.items()}
    todo = [(s, seed) for seed in wanted for n, s in settings.items() if seed not in kept[n]]
    with Work("leagues") as work:
        for n, one in enumerate(sweep(todo, Workers(options.jobs, options.ray)), 1):
            kept[one.market][one.seed] = one
            if out:
                _write(out, settings[one.market], kept[one.market])
            work.report(f"{n} of {len(todo)} leagues", n / len(todo))
    played = [(s, [kept[n][seed] for seed in wanted]) for n, s in settings.items()]
    _show(played)
    if out:
        print(
            f"{out}: {', '.join(f'{n}.json' for n in settings)}; `emp league report {out}`", file=sys.stderr
        )
    if options.as_json:
        print(json.dumps(_summaries(played)))


class GapOptions(NamedTuple):
    """What `emp league gap` takes."""

    artifact: Annotated[
        str, typer.Argument(help="Model whose rule is measured: a folder, or a shipped kind.")
    ]
    reference: Annotated[str, typer.Option(help="Model that it is held to.")] = "linear"
    market: Annotated[
        list[str] | None, typer.Option(help="small-tick or large-tick; may be repeated. Both by default.")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="In each market; a gate wants five or more.")] = 8
    first: Annotated[int, typer.Option("--from", min=0, help="The first seed.")] = 1
    rounds: Annotated[int, typer.Option(min=2, help="Of the exploiter's training.")] = 20
    pairs: Annotated[int, typer.Option(min=2, help="Antithetic pairs of candidates in a round.")] = 6
    episodes: Annotated[int, typer.Option(min=4, help="Of a candidate in a round.")] = 8
    held_out: Annotated[int, typer.Option(min=20, help="Episodes of a comparison.")] = 200
    jobs: Jobs = 0
    ray: Ray = ""
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="Registry that is to have evidence for the gate of the gap: with the usual options."
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(GapOptions)
def gap(options: GapOptions) -> None:
    """How exploitable the engine's rule is on a model's forecasts, beside another model's, seed by seed."""
    import msgspec

    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError
    from emp.core.spread import Workers
    from emp.engine.choose import load_model
    from emp.governance.collect import LEAGUE_TERMS, of_league
    from emp.league.model_gap import Job, Measured, deltas, measure_all

    model, reference = (load_model(one).artifact.hash for one in (options.artifact, options.reference))
    chosen = {k: getattr(options, k) for k in ("rounds", "pairs", "episodes", "held_out")}
    settings = [msgspec.structs.replace(one, **chosen) for one in _markets(options.market)]
    terms = {
        **chosen,
        "seeds": options.seeds,
        "first": options.first,
        "markets": sorted(s.name for s in settings),
    }
    if options.evidence is not None and terms != LEAGUE_TERMS:
        raise UsageError("evidence of the gap is of every market and the usual options: leave the others out")
    jobs = [
        Job(s, options.first + k, options.artifact, options.reference)
        for s in settings
        for k in range(options.seeds)
    ]
    found: list[Measured] = []
    with Work("gaps") as work:
        for one in measure_all(jobs, Workers(options.jobs, options.ray)):
            found.append(one)
            work.report(f"{len(found)} of {len(jobs)} seeds", len(found) / len(jobs))
    found.sort(key=lambda m: (m.market, m.seed))
    if any((one.model.model, one.reference.model) != (model, reference) for one in found):
        raise UsageError("a model was changed while it was measured: once more")
    _show_gaps(found)
    told = deltas(found)
    known = {name: [d for d in row if d is not None] for name, row in told.items() if None not in row}
    for name in sorted(set(told) - set(known)):
        print(f"{name}: no figure: a seed has no challenger at a matched turnover", file=sys.stderr)
    said: dict[str, Any] = {"model": model, "reference": reference, "deltas": told}
    said["seeds"] = [msgspec.to_builtins(one) | {"delta": one.delta} for one in found]
    if options.evidence is not None and len(known) == len(told):
        from emp.governance.evidence import Store

        said["evidence"] = Store(options.evidence).add(of_league(model, reference, known))
    if options.as_json:
        print(json.dumps(said))


def _markets(names: list[str] | None) -> "list[Setting]":
    """The settings of the markets named, each once; of all where none is."""
    from emp.core.errors import UsageError
    from emp.league.markets import MARKETS

    for name in names or ():
        if name not in MARKETS:
            raise UsageError(f"no market {name}: choose from {', '.join(MARKETS)}")
    return [MARKETS[name] for name in dict.fromkeys(names or MARKETS)]


def _show_gaps(found: "list[Measured]") -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    def shown(value: float | None) -> str:
        return "unmatched" if value is None else f"{value:+.3f}"

    table = Table(
        title="gap of the rule over a copy of itself, Sharpe ratio per episode", title_justify="left"
    )
    for head in ("market", "seed", "model", "reference", "model less reference", "lots", "exploiter's"):
        table.add_column(head, justify="left" if head == "market" else "right")
    for one in found:
        lots = one.model.beside[-1].lots
        theirs = lots * (1.0 + (one.model.exploit.turnover or 0.0))
        gaps = one.model.gap, one.reference.gap, one.delta
        table.add_row(one.market, str(one.seed), *map(shown, gaps), f"{lots:.1f}", f"{theirs:.1f}")
    print_table(make_console(), table)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Folder that `emp league run` has written.")],
    out: Annotated[Path | None, typer.Option(help="The page; league.html in that folder by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Write the page of leagues that were played: curves, opponents, seeds."""
    from emp.app.report.league import render_league
    from emp.core.errors import DataError

    files = sorted(results.glob("*.json"))
    if not files:
        raise DataError(
            f"{results}: no results of leagues there; `emp league run --out {results}` writes them"
        )
    played = [(setting, list(seeds.values())) for setting, seeds in map(_read, files)]
    page = out or results / "league.html"
    try:
        page.write_text(render_league(played), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{page}: cannot be written: {error.strerror}") from error
    print(page, file=sys.stderr)
    if as_json:
        print(json.dumps(_summaries(played) | {"page": str(page)}))


def _read(path: Path) -> "tuple[Setting, dict[int, SeedResult]]":
    import msgspec

    from emp.core.errors import DataError
    from emp.league.generations import SeedResult, Setting

    class File(msgspec.Struct):
        setting: Setting
        seeds: list[SeedResult]

    try:
        found = msgspec.json.decode(path.read_bytes(), type=File)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: no results of a league: {error}") from error
    if not found.seeds:
        raise DataError(f"{path}: no results of a league: it has no seeds")
    return found.setting, {one.seed: one for one in found.seeds}


def _kept(out: Path, setting: "Setting") -> "dict[int, SeedResult]":
    """What an earlier call with the same setting has left."""
    from emp.core.errors import UsageError

    path = out / f"{setting.name}.json"
    if not path.exists():
        return {}
    before, seeds = _read(path)
    if before != setting:
        raise UsageError(f"{path}: played with other options: name another --out, or remove it")
    return seeds


def _write(out: Path, setting: "Setting", seeds: "dict[int, SeedResult]") -> None:
    import msgspec

    from emp.core.errors import DataError

    path = out / f"{setting.name}.json"
    body = {"setting": setting, "seeds": [seeds[k] for k in sorted(seeds)]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_bytes(msgspec.json.encode(body))
        path.with_suffix(".part").replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _summaries(played: "list[tuple[Setting, list[SeedResult]]]") -> dict[str, Any]:
    import msgspec

    from emp.league.summary import summarise

    return {
        "markets": [
            {"market": setting.name, **msgspec.to_builtins(summarise(seeds))} for setting, seeds in played
        ]
    }


def _show(played: "list[tuple[Setting, list[SeedResult]]]") -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.league.summary import summarise

    for setting, seeds in played:
        s = summarise(seeds)
        table = Table(title=f"{setting.name}: {s.seeds} seeds, per episode", title_justify="left")
        for head in ("in the other seat", "PnL", "Sharpe", "lots", "queue ahead", "Best's PnL"):
            table.add_column(head, justify="left" if head == "in the other seat" else "right")
        for r in s.table:
            ahead = "-" if r.queue_ahead is None else f"{r.queue_ahead:,.1f}"
            table.add_row(
                r.player, f"{r.pnl:+,.1f}", f"{r.sharpe:+.3f}", f"{r.lots:,.1f}", ahead, f"{r.against:+,.1f}"
            )
        console = make_console()
        print_table(console, table)
        gaps = ", ".join("unmatched" if g is None else f"{g:.3f}" for g in s.gaps)
        rule = s.rule
        of_rule = "unmatched" if rule.gap is None else f"{rule.gap:.3f}"
        console.print(
            f"the engine's rule: median gap {of_rule}, its exploiter over a copy of it {rule.exploit:+.3f}",
            highlight=False,
        )
        console.print(
            f"median gap by generation: {gaps}; champion over untrained {s.headline:+.3f}", highlight=False
        )
