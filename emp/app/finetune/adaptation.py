"""One adaptation: made, judged beside the model that it came from, kept or refused."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
import typer
import yaml

from emp.app.finetune.verdicts import Gain, Retention, gains, retentions
from emp.app.terminal.progress import Work
from emp.core.errors import ConfigError, UsageError
from emp.core.records import Array
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml
from emp.engine.choose import load_model
from emp.engine.load import LoadedModel, load_folder
from emp.governance.gates import read_gates
from emp.model.artifact import save
from emp.train.data.data import Dataset, Series, load_dataset, parse_series
from emp.train.fit.adapt import Adapted, adapt_model, head_name
from emp.train.fit.arms import ARMS, DEFAULT, AdaptSettings
from emp.train.fit.export import export
from emp.train.fit.loop import Step
from emp.train.fit.run import parity_inputs, run_folder, write_adaptation
from emp.train.judge.adaptations import untrained
from emp.train.judge.adapted import EVENT_HORIZONS, Pair, compare, f1_of, forecasts_of, transfer
from emp.train.judge.blocks import BlockMeasure, blocks_of, trade_measures
from emp.train.judge.evaluate import refuse_overlap

CANDIDATE = "candidate"
"""Where in the folder of the run an artifact lies until it is accepted, and where one that was refused stays."""


class Side(NamedTuple):
    """Series of one kind, as they were given and as they are seen."""

    series: list[Series]
    data: list[Dataset]


class Found(NamedTuple):
    """What was judged of one series."""

    data: Dataset
    edges: Array  # class thresholds by which both models are judged
    kind: str  # of its blocks
    pairs: list[Pair]
    traded: list[BlockMeasure]

    @property
    def measures(self) -> list[BlockMeasure]:
        """All of it, as evidence holds it."""
        return [measure for pair in self.pairs for measure in pair.measures] + self.traded


def adapt(options: Any) -> None:
    """Adapt, judge, and write the artifact where nothing is lost beyond the caps.

    Raises:
        UsageError: what is asked for cannot be done with these series or this model.
    """
    began = time.perf_counter()
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    name = _arm(options.arm)
    limits = read_gates(options.gates)
    settings = read_settings(options.settings, options.seed)
    base = load_model(options.artifact)
    if base.artifact.manifest.kind == "linear":
        raise UsageError(f"--artifact {options.artifact}: a linear model has nothing to adapt: train it anew")
    new, old = _side("--data", options.data, base), _side("--keep", options.keep, base)
    for data in (*new.data, *old.data):
        refuse_overlap(base, data)
    adapted, folder = _adapted(options, base, new.data, old.data, name, settings)
    artifact = export(
        folder / CANDIDATE,
        adapted.network,
        adapted.manifest,
        adapted.calibration,
        adapted.extra,
        parity_inputs([*new.data, *old.data], base.artifact.tensors, adapted.network.domains),
    )
    mine = load_folder(folder / CANDIDATE)
    found = [_judge(base, mine, side, k, options) for side in (new, old) for k in range(len(side.data))]
    fresh, kept = found[: len(new.data)], found[len(new.data) :]
    lost = [one for f in kept for one in retentions(f.data.series, f.pairs, limits)]
    gained = [one for f in fresh for one in gains(f.data.series, f.pairs, f.traded, limits)]
    accepted = all(one.verdict == "kept" for one in lost)
    result = {
        "model_hash": artifact.hash,
        "base": base.artifact.hash,
        "arm": name,
        "accepted": accepted,
        "out": str(options.out) if accepted else str(folder / CANDIDATE),
        "retention": [one._asdict() for one in lost],
        "gain": [one._asdict() for one in gained],
        "transfer": _transfer(base, fresh, kept, options.seed),
        "facts": adapted.facts,
        "evidence": _evidence(options, base, artifact.hash, found, name),
        "seconds": round(time.perf_counter() - began, 1),
    }
    if accepted:
        save(options.out, msgspec.structs.replace(artifact.manifest, hash=""), artifact.tensors)
        shutil.rmtree(folder / CANDIDATE)
    (folder / "verdict.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _show(result, lost, gained)
    if options.as_json:
        print(json.dumps(result))
    if not accepted:
        raise typer.Exit(1)


def read_settings(path: Path | None, seed: int) -> AdaptSettings:
    """How much to adapt; the defaults where there is no file.

    Raises:
        ConfigError: the file cannot be read, or names something that does not exist.
    """
    if path is None:
        return AdaptSettings(seed=seed)
    try:
        values = load_yaml(read_small(path)) or {}
        return msgspec.convert({**values, "seed": seed}, AdaptSettings)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _arm(names: Sequence[str] | None) -> str:
    if names is None or not names:
        return DEFAULT
    if len(names) > 1:
        raise UsageError("--arm: one at a time, or several with --ablate")
    if names[0] not in ARMS:
        raise UsageError(f"--arm {names[0]}: must be one of {', '.join(ARMS)}")
    return names[0]


def _side(option: str, texts: Sequence[str] | None, base: LoadedModel) -> Side:
    if not texts:
        raise UsageError(f"{option} is needed: a series, [INSTRUMENT=]PATH[,PATH...]")
    series = [parse_series(text) for text in texts]
    found = []
    for one in series:
        with Work(f"see {one.name}") as work:
            found.append(load_dataset(one, base.artifact.manifest.k_sigma, work.bytes_read))
    return Side(series, found)


def _adapted(
    options: Any,
    base: LoadedModel,
    new: list[Dataset],
    old: list[Dataset],
    name: str,
    settings: AdaptSettings,
) -> tuple[Adapted, Path]:
    folder = run_folder(options.out)
    with Work(f"adapt by {name}") as work:

        def tick(step: Step) -> None:
            work.report(f"adapt by {name}, loss {step.losses['total']:.3f}", step.done / max(1, step.total))

        adapted = adapt_model(base.artifact, new, old, ARMS[name], settings, tick)
    told = {
        "base": base.artifact.hash,
        "arm": name,
        "settings": msgspec.to_builtins(settings),
        **adapted.facts,
    }
    write_adaptation(folder, told, adapted.losses, adapted.history)
    return adapted, folder


def _judge(base: LoadedModel, mine: LoadedModel, side: Side, k: int, options: Any) -> Found:
    """Both models on one series; on a new one the classes are those of its own head."""
    data = side.data[k]
    manifest = mine.artifact.manifest
    edges = np.array(manifest.thresholds[_head(mine, data)])
    with Work(f"judge {data.series}") as work:
        theirs, ours = (forecasts_of(model, data, edges) for model in (base, mine))
        work.report(f"judge {data.series}", 0.7)
        blocks = blocks_of(data)
        pairs = compare(theirs, ours, data, edges, blocks)
    traded = _traded(base, mine, side, k, options) if options.trade else []
    return Found(data, edges, blocks.kind, pairs, traded)


def _head(model: LoadedModel, data: Dataset) -> int:
    domains = model.artifact.manifest.domains
    return next((domains.index(name) for name in (head_name(data), data.domain) if name in domains), 0)


def _traded(base: LoadedModel, mine: LoadedModel, side: Side, k: int, options: Any) -> list[BlockMeasure]:
    """Turnover on paper of the adapted model against the base's, and alpha."""
    from emp.app.wiring.assembly import engine_limits
    from emp.train.judge.alpha import trade_test_part

    results = []
    for model in (base, mine):
        with Work(f"trade {side.series[k].name}") as work:
            traded = trade_test_part(
                model, side.series[k], side.data[k], engine_limits(), options.seed, work.bytes_read
            )
        results.append(traded["by_block"])
    return trade_measures(results[1], results[0])


def _transfer(
    base: LoadedModel, fresh: Sequence[Found], kept: Sequence[Found], seed: int
) -> dict[str, float]:
    def scores(found: Sequence[Found], of: str) -> list[float]:
        return [
            f1_of(getattr(pair, of)) for one in found for pair in one.pairs if pair.horizon in EVENT_HORIZONS
        ]

    nothing = untrained(base, seed)
    chance = []
    for one in fresh:
        said = forecasts_of(nothing, one.data, one.edges)
        pairs = compare(said, said, one.data, one.edges, blocks_of(one.data))
        chance += [f1_of(pair.mine) for pair in pairs if pair.horizon in EVENT_HORIZONS]
    found = transfer(
        scores(kept, "base"), scores(fresh, "base"), scores(kept, "mine"), scores(fresh, "mine"), chance
    )
    return {name: round(value, 6) for name, value in found._asdict().items()}


def _evidence(options: Any, base: LoadedModel, model: str, found: Sequence[Found], arm: str) -> list[str]:
    if options.evidence is None:
        return []
    from emp.governance.evaluated import of_comparison
    from emp.governance.evidence import Store

    judged = [(one.data, one.kind, one.measures) for one in found]
    config = {"k_sigma": base.artifact.manifest.k_sigma, "trade": options.trade, "adaptation": arm}
    made = of_comparison(model, base.artifact.hash, judged, config, options.seed)
    return [Store(options.evidence).add(made)]


def _show(result: dict[str, Any], lost: Sequence[Retention], gained: Sequence[Gain]) -> None:
    for line in [*(one.line() for one in lost), *(one.line() for one in gained)]:
        typer.echo(line, err=True)
    told = ", ".join(f"{name} {value:+.4f}" for name, value in result["transfer"].items())
    typer.echo(f"macro-F1 over both: {told}", err=True)
    if result["accepted"]:
        typer.echo(f"{result['model_hash']}  {result['out']}", err=True)
    else:
        over = [one for one in lost if one.verdict != "kept"]
        typer.echo(
            f"refused: {len(over)} of {len(lost)} caps on what an old market may lose are not kept; "
            f"what was refused lies in {result['out']}",
            err=True,
        )
