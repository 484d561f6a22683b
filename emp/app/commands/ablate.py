"""Train and judge the model without parts of its inputs, and hold the whole against the gates."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.governed import GatesFile, Json
from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE, Jobs, Ray

if TYPE_CHECKING:
    from emp.app.finetune.against_head import AgainstHead
    from emp.core.spread import Workers
    from emp.governance.evidence import Evidence
    from emp.governance.gates import Gates
    from emp.model.artifact import Manifest
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
    adapt: Annotated[
        str | None,
        typer.Option(
            help="A market that the shipped model was not trained on, [INSTRUMENT=]PATH[,PATH...]: to it the model is "
            "adapted by LoRA and by a head alone. Else, without --data, GBPJPY."
        ),
    ] = None,
    gates: GatesFile = None,
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    jobs: Jobs = 0,
    ray: Ray = "",
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0,
    as_json: Json = False,
) -> None:
    """Train the linear model whole, without depth, without order-flow imbalance, and with k of 0.3 and 0.7; judge each
    on the test parts, beside the whole one; and adapt the shipped state-space model to a new market by LoRA and by a
    head alone. Exit code 1 where the whole one fails the gates, where it is better for the lack of an input, beyond
    doubt, or where LoRA was not shown to stay within the caps of retention, beside the head and on old markets.
    """
    import tempfile

    from emp.app.governed import print_judgement, shown
    from emp.core.code_version import code_version
    from emp.core.spread import Workers
    from emp.governance.gates import read_gates
    from emp.governance.judge import Case, judge

    limits = read_gates(gates)
    asked = Asked(data, adapt, seed)
    with tempfile.TemporaryDirectory(prefix="emp-ablate-") as scratch:
        _train_all(asked, Path(scratch), Workers(jobs, ray))
        found, lora = _measured(asked, Path(scratch)), _compared(asked, Path(scratch), limits)
    stored = [] if evidence is None else _stored(evidence, found)
    rows = [row for one in found for row in one.rows()]
    verdicts = worth(found)
    _show(rows, verdicts)
    whole = found[0]
    case = Case(whole.manifest, {"ablation": whole.evidence}, whole.manifest.hash, code_version())
    judgement = judge(limits, case)
    print_judgement(judgement, as_json=False)
    harmful = sorted(name for name, said in verdicts.items() if said == HARMFUL)
    for line in lora.lines() if lora else ():
        typer.echo(line)
    if as_json:
        told = {"table": rows, "inputs": verdicts, "lora": lora and lora.told(), "evidence": stored}
        print(json.dumps(told | shown(judgement)))
    if judgement.verdict != "pass" or harmful or (lora and not lora.holds):
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


class Asked(NamedTuple):
    """What is ablated; processes are told of it."""

    data: list[str] | None
    adapt: str | None
    seed: int

    def datasets(self, k_sigma: float) -> "list[Dataset]":
        """The series that models are trained on, or were."""
        from emp.train.data.data import load_dataset, parse_series
        from emp.train.data.recipe import SHIPPED, recipe

        series = [parse_series(text) for text in self.data] if self.data else recipe(SHIPPED)
        return [load_dataset(one, k_sigma, lambda done, total: None) for one in series]

    def market(self) -> "Dataset | None":
        """The new market."""
        from emp.train.data.data import load_dataset, parse_series
        from emp.train.data.recipe import NEW, recipe
        from emp.train.judge.ablations import K_SIGMA

        if self.adapt is None and self.data:
            return None
        series = parse_series(self.adapt) if self.adapt else recipe(NEW)[0]
        return load_dataset(series, K_SIGMA, lambda done, total: None)


def _measured(asked: Asked, folder: Path) -> list[Judged]:
    """Every variant, the whole one first."""
    from emp.app.terminal.progress import Work
    from emp.engine.load import load_folder
    from emp.governance.evaluated import of_evaluation
    from emp.train.judge.ablations import MATRIX, judge_variants

    models = {one: load_folder(folder / one.name) for one in MATRIX}
    made: dict[str, Judged] = {}
    for k_sigma in dict.fromkeys(one.k_sigma for one in MATRIX):
        mine = [(one, model) for one, model in models.items() if one.k_sigma == k_sigma]
        datasets = asked.datasets(k_sigma)
        with Work(f"judge at k = {k_sigma}") as work:
            contenders, found = judge_variants(mine, datasets, asked.seed, work.report)
        config = {"k_sigma": k_sigma, "ablation": True}
        measured = of_evaluation(contenders, datasets, found, [], config, asked.seed)
        for (variant, model), one in zip(mine, measured, strict=True):
            made[variant.name] = Judged(variant, model.artifact.manifest, one)
    return [made[one.name] for one in MATRIX]


def _compared(asked: Asked, folder: Path, limits: "Gates") -> "AgainstHead | None":
    """LoRA beside a head alone; None where no new market is asked for."""
    from emp.app.finetune.against_head import ADAPTER, HEAD, against_head
    from emp.app.terminal.progress import Work
    from emp.engine.choose import load_model
    from emp.engine.load import load_folder
    from emp.train.judge.ablations import K_SIGMA

    new = asked.market()
    if new is None:
        return None
    head, adapter = (load_folder(folder / way) for way in (HEAD, ADAPTER))
    with Work(f"judge {ADAPTER} beside {HEAD}"):
        return against_head(load_model(), head, adapter, new, asked.datasets(K_SIGMA), limits)


def _train_all(asked: Asked, folder: Path, workers: "Workers") -> None:
    """Train and adapt every model into a folder of its name; features are extracted once on this machine, before."""
    from emp.app.finetune.against_head import ADAPTER, HEAD
    from emp.app.terminal.progress import Work
    from emp.core.spread import spread
    from emp.model.artifact import save
    from emp.train.judge.ablations import MATRIX, WHOLE

    with Work("see the recordings") as work:
        asked.datasets(WHOLE.k_sigma)
        ways = (ADAPTER, HEAD) if asked.market() is not None else ()
        work.report("see the recordings", 1.0)
    parts: list[str | Variant] = [*ways, *MATRIX]
    make = partial(_make, asked=asked)
    with Work("train") as work:
        for n, (what, made) in enumerate(spread(make, parts, workers, most=len(MATRIX)), 1):
            name = what if isinstance(what, str) else what.name
            save(folder / name, made.manifest, made.tensors)
            work.report(f"train {name}", n / len(parts))


class Made(NamedTuple):
    """A model as a worker hands it over: the folder that it belongs to is on another machine perhaps."""

    manifest: "Manifest"
    tensors: dict[str, Any]


def _make(what: "str | Variant", asked: Asked) -> Made:
    """Train a variant, or adapt in the way of a name."""
    return _adapt(what, asked) if isinstance(what, str) else _train(what, asked)


def _train(variant: "Variant", asked: Asked) -> Made:
    """What a worker does for a variant of the linear model."""
    from emp.train.judge.ablations import train_variant

    trained = train_variant(variant, asked.datasets(variant.k_sigma), asked.seed, lambda what, share: None)
    return Made(trained.manifest, trained.tensors)


def _adapt(way: str, asked: Asked) -> Made:
    """What a worker does for a way to adapt the shipped model."""
    import torch

    from emp.app.finetune.against_head import adapt_by
    from emp.engine.choose import load_model
    from emp.train.judge.ablations import K_SIGMA

    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    new = asked.market()
    assert new is not None
    adapted = adapt_by(way, load_model().artifact, new, asked.datasets(K_SIGMA), asked.seed)
    return Made(adapted.manifest, adapted.network.tensors() | adapted.calibration | adapted.extra)


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

    table = Table(box=None)
    for column in ("variant", "series", "horizon", *SHOWN):
        table.add_column(column, justify="right" if column in SHOWN else "left")
    for row in rows:
        figures = [f"{row[name]:.4f}" if name in row else "" for name in SHOWN]
        table.add_row(row["variant"], row["series"], row["horizon"], *figures)
    console = make_console()
    print_table(console, table)
    for name, said in verdicts.items():
        console.print(f"{name}: {said}", highlight=False)
