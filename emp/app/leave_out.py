"""`emp evaluate --leave-out`: train without a group of markets, judge on it, in turn, and print one table; or judge
models that are there on the markets that they were not trained on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import typer

from emp.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from emp.engine.load import LoadedModel
    from emp.train.data.markets import Market, Skipped
    from emp.train.judge.apart import Cell, Networks
    from emp.train.judge.leave_out import Budget

K_SIGMA = 0.5
"""The k of the model that is served."""

BY = ("group", "class")


class Asked(NamedTuple):
    """What was asked for."""

    catalogue: Path | None
    by: str
    single: Sequence[str]
    events: int
    epochs: int
    own: bool
    seed: int
    markdown: bool
    as_json: bool
    artifacts: Sequence[str] = ()
    evidence: Path | None = None
    peers: Sequence[str] = ()
    peer_windows: int = 0
    judged: int | None = None

    @property
    def networks(self) -> "Networks | None":
        """Published networks to stand beside the models."""
        from emp.train.judge.apart import Networks
        from emp.train.judge.peer import known_peers

        return Networks(known_peers(self.peers), self.peer_windows) if self.peers else None


class Found(NamedTuple):
    """What was judged, and how it came about."""

    cells: "list[Cell]"
    facts: list[dict[str, Any]]
    by: str


def leave_out(asked: Asked) -> None:
    """Make the table and print it in the form that was asked for.

    Raises:
        UsageError: there is no such grouping or market, or markets are named of which evidence is asked for.
        ConfigError: the catalogue is not one.
        DataError: fewer than two markets, or nothing to train on when some are left out.
    """
    from emp.train.judge.leave_out import Budget
    from emp.train.judge.leave_out_table import summary_of, table_of

    if asked.by not in BY:
        raise UsageError(f"--by {asked.by}: must be one of {', '.join(BY)}")
    if asked.artifacts and asked.single and asked.evidence is not None:
        raise UsageError(
            "--market: evidence of skill outside of training is of all markets: leave out --market, or --evidence"
            " (EMP_REGISTRY)"
        )
    markets, skipped = _markets(asked)
    budget = Budget(events=asked.events, epochs=asked.epochs)
    if asked.judged is not None:
        budget = msgspec.structs.replace(budget, judged=asked.judged)
    found = (
        _judge_artifacts(asked, markets, budget)
        if asked.artifacts
        else _train_without(asked, markets, budget)
    )
    rows = table_of(found.cells)
    judged = {cell.market for cell in found.cells}
    left = [
        m.name for fold in found.facts for m in markets if m.name in fold["left_out"] and m.name not in judged
    ]
    result = {
        "by": found.by,
        "budget": _budget(budget) | ({"peer_windows": asked.peer_windows} if asked.peers else {}),
        "thresholds": "own" if asked.own else "head",
        "seed": asked.seed,
        "folds": found.facts,
        "skipped": [one._asdict() for one in skipped],
        "too_short": left,
        "summary": summary_of(rows),
        "table": rows,
    }
    if asked.evidence is not None:
        gone = {"too_short": left, "skipped": [one.market for one in skipped]}
        result["evidence"] = _evidence(asked, asked.evidence, markets, found, gone)
    for name in left:
        typer.echo(f"{name}: too short to be judged", err=True)
    if asked.as_json:
        print(json.dumps(result))
    else:
        _show(result, asked.markdown)


def _train_without(asked: Asked, markets: "Sequence[Market]", budget: "Budget") -> Found:
    """Train without every group, in turn, and judge on it."""
    from emp.app.terminal.progress import Work
    from emp.train.judge.leave_out import folds, judge_fold

    cells, facts = [], []
    for fold in folds(markets, asked.by, asked.single):
        with Work(f"without {fold.name}") as work:
            found, told = judge_fold(
                fold, K_SIGMA, budget, asked.seed, asked.own, work.report, asked.networks
            )
        cells += found
        facts.append({"name": fold.name, **told})
    return Found(cells, facts, "market" if asked.single else asked.by)


def _judge_artifacts(asked: Asked, markets: "Sequence[Market]", budget: "Budget") -> Found:
    """Judge models that are there on every market of whose instrument none of them was trained on anything.

    Raises:
        UsageError: nobody knows what one of them was trained on.
        DataError: there is no such market.
    """
    from emp.app.terminal.progress import Work
    from emp.model.artifact import saw_in_training, tells_training
    from emp.train.judge.apart import judge_market

    models = _models(asked.artifacts)
    silent = [name for name, model in models.items() if not tells_training(model.artifact.manifest)]
    if silent:
        raise UsageError(
            f"--leave-out: {silent[0]} does not say what it and its depth encoder were trained on (trained_on):"
            " every market may have been"
        )
    known = {name for model in models.values() for name in saw_in_training(model.artifact.manifest)}
    outside = [m for m in markets if m.data.instrument.name not in known]
    if asked.single:
        outside = [m for m in outside if m.name in asked.single]
    if not outside:
        raise DataError("--leave-out: the models were trained on every market that can be read")
    cells = []
    with Work("judge what was not trained on") as work:
        for k, market in enumerate(outside):
            work.report(market.name, k / len(outside))

            def tick(text: str, share: float, k: int = k, name: str = market.name) -> None:
                work.report(f"{name}: {text}", (k + share) / len(outside))

            cells += judge_market(
                market, models, budget.trees, budget.judged, asked.seed, asked.networks, tick
            )
    facts = {
        "name": "outside the training",
        "left_out": [market.name for market in outside],
        "trained_on": sorted(known),
        "trained_on_by": {
            name: sorted(saw_in_training(one.artifact.manifest)) for name, one in models.items()
        },
        "models": {name: model.artifact.hash for name, model in models.items()},
    }
    return Found(cells, [facts], "artifact")


def _models(artifacts: Sequence[str]) -> "dict[str, LoadedModel]":
    """Models by name, the linear one that the others are compared with among them."""
    from emp.engine.choose import load_model
    from emp.train.judge.contenders import parse_contenders
    from emp.train.judge.leave_out_table import LINEAR, OF_THE_MARKET

    found = {one.name: one.seeds[0] for one in parse_contenders(artifacts) if len(one.seeds) == 1}
    if len(found) < len(artifacts):
        raise UsageError("--leave-out: give each --artifact a name of its own (NAME=FOLDER)")
    taken = sorted(set(found) & set(OF_THE_MARKET))
    if taken:
        raise UsageError(f"--leave-out: {taken[0]} is a baseline: give the artifact another name")
    return {LINEAR: load_model(LINEAR), **found}


def _evidence(
    asked: Asked, home: Path, markets: "Sequence[Market]", found: Found, gone: dict[str, list[str]]
) -> list[str]:
    """Write evidence of every model that was judged, but for a linear one that only stands beside them, with what is
    `gone` of the catalogue; the names of what was written.
    """
    from emp.app.wiring.examples import examples
    from emp.governance.evidence import Store
    from emp.governance.outside import Judged, of_outside
    from emp.journal.files import file_sha256
    from emp.train.judge.contenders import parse_contenders
    from emp.train.judge.leave_out_table import LINEAR

    store = Store(home)
    config = {
        "leave_out": found.by,
        "catalogue_sha256": file_sha256(asked.catalogue or examples()["markets"]),
        "chosen": list(asked.single),
        **gone,
    }
    made = []
    named = [one.name for one in parse_contenders(asked.artifacts)]
    for fold in found.facts:
        mine = [m for m in markets if m.name in fold["left_out"]]
        cells = [cell for cell in found.cells if cell.market in fold["left_out"]]
        for name, model in fold["models"].items():
            beside = name == LINEAR and bool(named) and LINEAR not in named
            if cells and not beside:
                judged = Judged(name, model, fold["models"][LINEAR])
                of = {**config, "passed_over": _passed_over(fold, name, markets)}
                made.append(store.add(of_outside(judged, mine, cells, of, asked.seed)))
    return made


def _passed_over(fold: dict[str, Any], name: str, markets: "Sequence[Market]") -> list[str]:
    """Markets that neither a model nor the linear one beside it was trained on, and that it was not judged on: another
    model that was named was trained on them. None in a fold, all of whose models were trained on the same.
    """
    from emp.train.judge.leave_out_table import LINEAR

    trained = fold.get("trained_on_by")
    if trained is None:
        return []
    own = {*trained[name], *trained[LINEAR]}
    return [m.name for m in markets if m.data.instrument.name in set(fold["trained_on"]) - own]


def _markets(asked: Asked) -> "tuple[list[Market], list[Skipped]]":
    from emp.app.terminal.progress import Work
    from emp.app.wiring.examples import examples
    from emp.train.data.markets import load_markets, read_catalogue
    from emp.train.data.recipe import recorded_markets

    entries = read_catalogue(asked.catalogue or examples()["markets"])
    unknown = sorted(set(asked.single) - set(entries))
    if unknown:
        raise UsageError(f"--market {unknown[0]}: not in the catalogue: {', '.join(entries)}")
    with Work("see the markets") as work:
        markets, skipped = load_markets(
            entries, recorded_markets(), K_SIGMA, lambda name: _told(work, f"see {name}")
        )
    for one in skipped:
        typer.echo(f"{one.market}: left out of the table: {one.why}", err=True)
    if len(markets) < 2:
        raise DataError("--leave-out needs at least two markets that can be read")
    gone = sorted(set(asked.single) - {market.name for market in markets})
    if gone:
        raise DataError(f"--market {gone[0]}: cannot be read")
    return markets, skipped


def _told(work: Any, text: str) -> Any:
    def tell(done: int, total: int) -> None:
        work.report(text, done / max(1, total))

    return tell


def _budget(budget: "Budget") -> dict[str, int]:
    return dict(msgspec.to_builtins(budget))


def _show(result: dict[str, Any], markdown: bool) -> None:
    from emp.train.judge.leave_out_table import lines_of, markdown_lines

    typer.echo(f"budget: {', '.join(f'{name} {value:,}' for name, value in result['budget'].items())}")
    for model, found in result["summary"].items():
        typer.echo("")
        if markdown:
            typer.echo(f"**{model}**\n")
        for line in (markdown_lines if markdown else lines_of)(result["table"], model):
            typer.echo(line)
        typer.echo("")
        verdicts = "; ".join(
            f"against {other} " + ", ".join(f"{n} {verdict}" for verdict, n in said.items())
            for other, said in found["against"].items()
        )
        typer.echo(
            f"{model}, {found['pairs']} pairs of market and horizon, corrected together (Holm): {verdicts}"
        )
        typer.echo(
            f"of {found['enough_rows']} pairs with enough rows {found['skill_above_shares']} have skill above the "
            f"market's own past class shares, {found['ece_over_limit']} have an ECE over 0.08"
        )
