"""Train and judge the model without parts of its inputs, and hold the whole against the gates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.governed import GatesFile, Json
from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE

if TYPE_CHECKING:
    from emp.governance.evidence import Evidence
    from emp.train.data.data import Dataset
    from emp.train.judge.ablations import Variant

app = typer.Typer()

SHOWN = ("f1_macro", "ece", "brier", "log_loss")
DOUBT = 0.05
"""Probability of saying of any part of the inputs that it does harm where it does not, all comparisons together."""

HORIZONS = ("1ev", "5ev", "20ev")
"""At which the gates ask for F1."""


@app.command()
def ablate(
    data: Annotated[
        list[str] | None,
        typer.Option(help="A series, [INSTRUMENT=]PATH[,PATH...]; else those of the shipped model."),
    ] = None,
    gates: GatesFile = None,
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: as many as there are cores.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0,
    as_json: Json = False,
) -> None:
    """Train the linear model whole, without depth, without order-flow imbalance, and with k of 0.3 and 0.7; judge each
    on the test parts, beside the whole one. Exit code 1 where the whole one fails the gates, or where it is better for
    the lack of an input, beyond doubt.
    """
    from emp.app.governed import print_judgement, shown
    from emp.governance.gates import read_gates
    from emp.governance.judge import Case, judge
    from emp.journal.run import code_version
    from emp.train.judge.ablations import MISSING

    limits = read_gates(gates)
    found = _measured(data, jobs, seed)
    stored = [] if evidence is None else _stored(evidence, found)
    rows = [row for one in found for row in one.rows()]
    verdicts = worth(found)
    _show(rows, verdicts)
    whole = found[0]
    case = Case(whole.manifest, {"ablation": whole.evidence}, whole.manifest.hash, code_version())
    judgement = judge(limits, case)
    print_judgement(judgement, as_json=False)
    harmful = sorted(name for name, said in verdicts.items() if said == HARMFUL)
    if as_json:
        told = {"table": rows, "inputs": verdicts | MISSING, "evidence": stored, **shown(judgement)}
        print(json.dumps(told))
    if judgement.verdict != "pass" or harmful:
        raise typer.Exit(1)


class Judged(NamedTuple):
    """A variant with what was measured of it."""

    variant: "Variant"
    manifest: Any
    evidence: "Evidence"

    def rows(self) -> list[dict[str, Any]]:
        """Measures that are shown, by series and horizon: mean of the blocks."""
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self.evidence.records:
            if record.measure in SHOWN:
                cell = cells.setdefault((record.series, record.horizon), {})
                cell[record.measure] = sum(record.blocks) / len(record.blocks)
        return [
            {"variant": self.variant.name, "series": series, "horizon": horizon, **cell}
            for (series, horizon), cell in cells.items()
        ]


def _measured(data: list[str] | None, jobs: int, seed: int) -> list[Judged]:
    """Every variant, the whole one first."""
    import tempfile

    from emp.app.terminal.progress import Work
    from emp.core.platform import usable_cores
    from emp.engine.load import load_folder
    from emp.governance.evaluated import of_evaluation
    from emp.train.judge.ablations import MATRIX, judge_variants

    with tempfile.TemporaryDirectory(prefix="emp-ablate-") as scratch:
        _train_all(data, Path(scratch), jobs or usable_cores(), seed)
        models = {one: load_folder(Path(scratch) / one.name) for one in MATRIX}
    made: dict[str, Judged] = {}
    for k_sigma in dict.fromkeys(one.k_sigma for one in MATRIX):
        mine = [(one, model) for one, model in models.items() if one.k_sigma == k_sigma]
        datasets = _datasets(data, k_sigma)
        with Work(f"judge at k = {k_sigma}") as work:
            contenders, found = judge_variants(mine, datasets, seed, work.report)
        config = {"k_sigma": k_sigma, "ablation": True}
        measured = of_evaluation(contenders, datasets, found, [], config, seed)
        for (variant, model), one in zip(mine, measured, strict=True):
            made[variant.name] = Judged(variant, model.artifact.manifest, one)
    return [made[one.name] for one in MATRIX]


def _datasets(data: list[str] | None, k_sigma: float) -> "list[Dataset]":
    from emp.train.data.data import load_dataset, parse_series
    from emp.train.data.recipe import SHIPPED, recipe

    series = [parse_series(text) for text in data] if data else recipe(SHIPPED)
    return [load_dataset(one, k_sigma, lambda done, total: None) for one in series]


def _train_all(data: list[str] | None, folder: Path, jobs: int, seed: int) -> None:
    """Train every variant into a folder of its name, over processes; features are extracted once, before."""
    import concurrent.futures
    import multiprocessing

    from emp.app.terminal.progress import Work
    from emp.train.judge.ablations import MATRIX, WHOLE

    with Work("see the recordings") as work:
        _datasets(data, WHOLE.k_sigma)
        work.report("see the recordings", 1.0)
    context = multiprocessing.get_context("spawn")
    with (
        Work("train") as work,
        concurrent.futures.ProcessPoolExecutor(min(jobs, len(MATRIX)), mp_context=context) as pool,
    ):
        waiting = {pool.submit(_train, one, data, folder / one.name, seed): one for one in MATRIX}
        for n, future in enumerate(concurrent.futures.as_completed(waiting), 1):
            future.result()
            work.report(f"train {waiting[future].name}", n / len(MATRIX))


def _train(variant: "Variant", data: list[str] | None, into: Path, seed: int) -> None:
    """What a process does."""
    from emp.model.artifact import save
    from emp.train.judge.ablations import train_variant

    trained = train_variant(variant, _datasets(data, variant.k_sigma), seed, lambda what, share: None)
    save(into, trained.manifest, trained.tensors)


def _stored(home: Path, found: Sequence[Judged]) -> list[str]:
    from emp.governance.evidence import Store

    store = Store(home)
    return [store.add(one.evidence) for one in found]


NEEDED, HARMFUL, UNDECIDED = "needed", "harmful", "undecided"


def worth(found: Sequence[Judged]) -> dict[str, str]:
    """Of every part of the inputs whether the model is worse without it (NEEDED), better (HARMFUL), or neither beyond
    doubt: by the bounds of F1 against the whole model, over all series and HORIZONS.
    """
    from emp.governance.bounds import bounds

    gains = {
        one.variant.name: [
            record.blocks
            for record in one.evidence.records
            if record.measure == "f1_gain_pct" and record.horizon in HORIZONS
        ]
        for one in found
        if one.variant.without
    }
    comparisons = max(1, sum(len(one) for one in gains.values()))
    said = {}
    for name, blocks in gains.items():
        ends = [bounds(one, 1.0 - DOUBT / comparisons) for one in blocks]
        known = [one for one in ends if one is not None]
        harmful = any(one.low > 0.0 for one in known)
        said[name] = HARMFUL if harmful else NEEDED if any(one.high < 0.0 for one in known) else UNDECIDED
    return said


def _show(rows: list[dict[str, Any]], verdicts: dict[str, str]) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.train.judge.ablations import MISSING

    table = Table(box=None)
    for column in ("variant", "series", "horizon", *SHOWN):
        table.add_column(column, justify="right" if column in SHOWN else "left")
    for row in rows:
        figures = [f"{row[name]:.4f}" if name in row else "" for name in SHOWN]
        table.add_row(row["variant"], row["series"], row["horizon"], *figures)
    console = make_console()
    print_table(console, table)
    for name, said in (verdicts | MISSING).items():
        console.print(f"{name}: {said}", highlight=False)
